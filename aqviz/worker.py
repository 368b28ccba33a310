"""Studies in a process of their own: if the system ends it, the app goes on.

A run that takes more memory than there is costs the process that makes it, and with it nothing but
that run's last step. The process is started once, keeps the model warm, and is started anew after
it died. Both sides speak in lines of JSON over its pipes:

    to it    {"run": KIND, "config": ..., "previous": ...}    {"stop": true}
    from it  {"progress": [...], "document": ...} any number of times, then one of
             {"done": document}   {"cancelled": true}   {"refused": "one sentence"}

It ends by itself when its input ends, which is when the app does, however that came about.
"""

import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from aqviz import engine, inside
from aqviz.engine import Document, Engine, Observe, kind_of, nothing, unexpected
from aqviz.recordings import config_of
from aqviz.uploads import Uploads
from quantcore.errors import Cancelled, QuantcoreError
from quantcore.experiment import Experiment
from quantcore.progress import Progress

Message = dict[str, Any]
Asked = queue.Queue[tuple[Message, threading.Event]]  # runs, and what stops each
STOPPED = "the run was asked to stop"
ZERO_GPU = "SPACES_ZERO_GPU"  # which Hugging Face sets there
START_SECONDS, MOST_GPU_SECONDS = 30.0, 120  # ZeroGPU lends no visitor more at a time
NICE = 5  # the app answers first where both want the processor
ROOT = Path(__file__).resolve().parents[1]
log = logging.getLogger(__name__)


class Worker:
    """The process, from outside."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] = nothing
        self._sending = threading.Lock()

    def run(self, config: Any, observe: Observe, previous: Document | None) -> Document:
        """Run a study in the process.

        Raises:
            QuantcoreError: the study refused, was stopped, or the process died.
        """
        process = self._alive()
        asked = {"run": kind_of(config), "config": asdict(config), "previous": previous}
        return follow(self._answers(process, asked), observe, self.stop)

    def stop(self) -> None:
        """Have the run under way stop before its next report; from any thread."""
        if self._process is not None:
            self._send(self._process, {"stop": True})

    def start(self) -> None:
        """Have the process ready for the first run."""
        self._alive()

    def close(self) -> None:
        """End the process, and with it what it runs."""
        self._end()
        self._process = None

    def _alive(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            here = os.environ | {"PYTHONPATH": _with_root(os.environ.get("PYTHONPATH", ""))}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aqviz.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=here,
                encoding="utf-8",
            )
            # it does not outlive who asks it; what is called back is done once
            self._end = weakref.finalize(self, _kill, self._process)
        return self._process

    def _answers(self, process: "subprocess.Popen[str]", asked: Message) -> Iterator[str]:
        self._send(process, asked)
        assert process.stdout is not None
        for line in process.stdout:  # noqa: UP028 - which would close it when this run ends
            yield line
        raise QuantcoreError(_death(process.wait()))

    def _send(self, process: "subprocess.Popen[str]", message: Message) -> None:
        assert process.stdin is not None
        try:
            with self._sending:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it died, or was closed; its reader finds that out
            log.warning("the process of the runs is gone")


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process, if it has not ended, and close its pipes."""
    process.kill()
    with process:
        pass


def hosted() -> Engine:
    """The engine whose studies run in a process of their own, or on ZeroGPU where that is."""
    if ZERO_GPU in os.environ:
        return Engine(run=_on_zero_gpu())
    worker = Worker()
    return Engine(run=worker.run, prepare=worker.start, stop=worker.stop)


def _on_zero_gpu() -> Callable[[Any, Observe, Document | None], Document]:
    """Runs that hold the GPU for as long as they are expected to take.

    ZeroGPU makes the process, so what is run is a generator, which it knows how to follow.
    """
    import spaces

    def duration(_kind: str, _config: Document, _previous: Any, expected: float) -> int:
        return min(MOST_GPU_SECONDS, math.ceil(START_SECONDS + expected))

    @spaces.GPU(duration=duration)  # type: ignore[untyped-decorator]
    def on_gpu(kind: str, config: Document, previous: Any, _expected: float) -> Iterator[str]:
        yield from told(kind, config, previous, threading.Event())

    def run(config: Any, observe: Observe, previous: Document | None) -> Document:
        expected = engine.seconds(config)
        lines = on_gpu(kind_of(config), asdict(config), previous, expected)
        return follow(lines, observe, lines.close)

    return run


def follow(lines: Iterator[str], observe: Observe, stop: Callable[[], None]) -> Document:
    """Pass on what a run tells until it ends; `stop` is called once when the observer says so."""
    stopped = False
    for line in lines:
        message = json.loads(line)
        if "done" in message:
            document: Document = message["done"]
            return document
        if "refused" in message:
            raise QuantcoreError(message["refused"])
        if "cancelled" in message:
            break
        if stopped:
            continue
        try:
            observe(Progress(*message["progress"]), message["document"])
        except Cancelled:
            stopped = True
            stop()
    raise Cancelled(STOPPED)


def told(
    kind: str, config: Document, previous: Document | None, stopped: threading.Event
) -> Iterator[str]:
    """A run as lines, the last of which says how it ended."""
    said: queue.Queue[str | None] = queue.Queue()

    def say(message: Message) -> None:  # as text at once, because documents go on changing
        said.put(json.dumps(message) + "\n")

    def observe(progress: Progress, document: Document) -> None:
        if stopped.is_set():
            raise Cancelled(STOPPED)
        say({"progress": progress, "document": document})

    def work() -> None:
        say(_ended(kind, config, previous, observe))
        said.put(None)

    threading.Thread(target=work, daemon=True).start()
    try:
        yield from iter(said.get, None)
    finally:  # also where nobody listens any more
        stopped.set()


def _ended(kind: str, config: Document, previous: Document | None, observe: Observe) -> Message:
    """Run a study; how it ended."""
    try:
        return {"done": _done(config_of(kind, config), observe, previous)}
    except Cancelled:
        return {"cancelled": True}
    except QuantcoreError as error:
        return {"refused": str(error)}
    except Exception as error:  # the process lives on for the next run
        log.exception("a run failed")
        return {"refused": unexpected(error)}


def _done(config: Any, observe: Observe, previous: Document | None) -> Document:
    """Run a study; what a comparison quantized is kept to be opened."""
    document = engine.run(config, observe, previous)
    if isinstance(config, Experiment):
        inside.keep(config, document, Uploads.here().whole)
    return document


def main() -> None:
    """The process, from inside."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the app, which then closes us
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no message
    asked: Asked = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, asked), daemon=True).start()
    while True:
        run, stopped = asked.get()
        for line in told(run["run"], run["config"], run["previous"], stopped):
            answers.write(line)
            answers.flush()


def _listen(given: IO[str], asked: Asked) -> None:
    """Take in what is asked for; the end of the input is the end of the process."""
    stopped = threading.Event()
    for line in given:
        message = json.loads(line)
        if "stop" in message:
            stopped.set()
        else:
            stopped = threading.Event()  # its own: the run before it may be ending still
            asked.put((message, stopped))
    os._exit(0)


def _death(status: int) -> str:
    """What a dead process means to the reader."""
    kept = "what was finished is kept, and Resume goes on from there"
    if status == -signal.SIGKILL:
        return (
            "the system ended this run, most likely because memory ran out; choose a smaller layer "
            f"or fewer codebooks, or try when less is running; {kept}"
        )
    return f"the process of this run ended unexpectedly (status {status}); {kept}"


def _with_root(path: str) -> str:
    """The search path of modules, with the folder of these packages on it."""
    return os.pathsep.join(part for part in (str(ROOT), path) if part)


if __name__ == "__main__":
    main()
