"""How far a piece of work is, in expected seconds, and how long it will still take.

A meter is given its stages with the seconds each should take. It passes progress and the growing
document on to an observer; the observer may raise to stop the work.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

TICK_SECONDS = 0.05  # the observer is called no more often than that inside a stage
WAIT_SECONDS = 0.2  # between calls of the observer while something silent is waited for
TRUSTED_SHARE = 0.02  # of the work must be done before its own pace is believed


T = TypeVar("T")


class Progress(NamedTuple):
    """How far an experiment is.

    Attributes:
        stage: What is being done, in words.
        done: Expected seconds of what is done.
        total: Expected seconds in all.
        eta: Seconds left, from the pace so far; None before there is one.
    """

    stage: str
    done: float
    total: float
    eta: float | None


Observe = Callable[[Progress, dict[str, Any]], None]


class Meter:
    """Turns what happens into progress, and passes it on with the document."""

    def __init__(self, observe: Observe, document: dict[str, Any]) -> None:
        self.document = document
        self._observe = observe
        self._expected: dict[str, float] = {}
        self._finished: set[str] = set()
        self._stage, self._share, self._words = "start", 0.0, "start"
        self._begun, self._told = time.monotonic(), 0.0

    def plan(self, stage: str, seconds: float) -> None:
        """A stage that is still to come and the seconds it should take."""
        self._expected[stage] = seconds

    def begin(self, stage: str) -> None:
        """A stage begins; the one before is done."""
        self._finished.add(self._stage)
        self._stage, self._share, self._words = stage, 0.0, stage
        self.report()

    def part(self, share: float, words: str) -> None:
        """So much of the present stage is done."""
        self._share, self._words = share, words
        if time.monotonic() - self._told >= TICK_SECONDS:
            self.report()

    def counted(self, stage: str) -> Callable[[int, int], None]:
        """An observer for a stage that counts windows of text."""
        return lambda done, total: self.part(done / total, f"{stage}, window {done} of {total}")

    def patiently(self, work: Callable[[], T]) -> T:
        """Do work that tells nothing itself; the observer is called meanwhile and may stop it all.

        Work that is no longer waited for goes on to its end in its own thread.
        """
        with _letting_go(ThreadPoolExecutor(1)) as worker:
            result = worker.submit(work)
            while not wait([result], WAIT_SECONDS).done:
                self.report()
            return result.result()

    def skip(self, stage: str) -> None:
        """A stage that was done before."""
        self._finished.add(stage)

    def end(self) -> None:
        """Everything is done."""
        self._finished.update(self._expected)
        self._stage = self._words = "done"
        self.report()

    def report(self) -> None:
        """Tell the observer now."""
        self._told = time.monotonic()
        total = sum(self._expected.values())
        done = sum(seconds for name, seconds in self._expected.items() if name in self._finished)
        if self._stage not in self._finished:
            done += self._share * self._expected.get(self._stage, 0.0)
        pace = (self._told - self._begun) / done if done > TRUSTED_SHARE * total else 1.0
        eta = (total - done) * pace if total else None
        self._observe(Progress(self._words, done, total, eta), self.document)


@contextmanager
def _letting_go(worker: Executor) -> Iterator[Executor]:
    """A worker that is not waited for at the end."""
    try:
        yield worker
    finally:
        worker.shutdown(wait=False)
