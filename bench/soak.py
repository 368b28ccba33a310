"""Many visitors at once, for minutes: is every answer right, how long does it take, what is left?

    python -m bench.soak [--clients 40] [--seconds 300] [--periods 3] [--json FILE] [--port 7879]

Starts the app as a public server on a cache folder of its own that already has the model. Every
client is a visitor of its own and does, at random: open the page, redraw a view, download a view,
ask a function, run a comparison with a seed that nobody else has and wait for its result. An answer
is right if it is what was asked for: the client's own layer, scheme and seed, or one of the
sentences in which a busy server refuses. After every period the visitors go, and others come.

The memory of the server's process is read when nobody is there: after some rounds by one visitor,
after a minute of as many as will come (the start), and after every period. What is made once is
made by the start; what grows with the time or with the visitors that there were rises after it.
"""

import argparse
import json
import math
import random
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from gradio_client import Client
from gradio_client.exceptions import AppError

from bench.page import served
from quantcore import files, machine

LAYERS = [f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1, 2) for p in ("k", "v")]
BUSY = ("runs are waiting already", "you have a run under way")
VIEWS = ("race", "map", "search", "rho", "perplexity", "inside", "paper")
KINDS = {"page": 3, "redraw": 10, "zip": 1, "function": 4, "race": 3}  # and their weights
PAUSE = 1.0  # seconds that a visitor looks at what came, at the mean
PATIENCE = 60.0  # seconds for any one answer
WARM = 20  # rounds of one visitor before memory is measured first
FILLED = 60.0  # seconds of all clients before it is measured again: this is the start
LEFT = 20.0  # seconds until the server has seen that a visitor is gone: it looks every 15
TURN = 900.0  # seconds for a run: the queue before it is long


@dataclass
class Tally:
    """What all clients met, by kind of request."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def did(self, kind: str, seconds: float, wrong: str = "", busy: bool = False) -> None:
        """Enter one answer."""
        with self.lock:
            self.seconds[kind].append(seconds)
            self.busy += busy
            if wrong:
                self.wrong.append(f"{kind}: {wrong}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """A line for each kind."""
        for kind, taken in sorted(self.seconds.items()):
            ranked = sorted(taken)
            yield {
                "kind": kind,
                "answers": len(ranked),
                "median_s": statistics.median(ranked),
                "p95_s": ranked[math.ceil(0.95 * len(ranked)) - 1],
                "longest_s": ranked[-1],
            }


class Redraws:
    """The page's own events that redraw a view: sliders anywhere, other controls as at first."""

    def __init__(self, address: str, names: tuple[str, ...] = ("redraw", "draw")) -> None:
        config = httpx.get(f"{address}/config", timeout=PATIENCE).json()
        controls = {one["id"]: one for one in config["components"]}
        self.events = [
            (event["id"], [controls[one] for one in event["inputs"]])
            for event in config["dependencies"]
            if event["api_name"].rstrip("_0123456789") in names and event["inputs"]
        ]

    def ask(self, visitor: httpx.Client, session: str, which: random.Random) -> str:
        """Redraw one view of this page; what is wrong with the answer."""
        number, controls = which.choice(self.events)
        data = [self.value(one, which) for one in controls]
        body = {"fn_index": number, "data": data, "session_hash": session}
        answer = visitor.post("/gradio_api/run/predict", json=body)
        return "" if answer.status_code == 200 and answer.json()["data"] else answer.text[:200]

    @staticmethod
    def value(control: dict[str, Any], which: random.Random) -> Any:
        """What a visitor sets a control to."""
        props = control["props"]
        if control["type"] != "slider":
            return props.get("value")
        low, high, step = props["minimum"], props["maximum"], props["step"]
        return min(high, low + step * which.randint(0, round((high - low) / step)))


@dataclass
class Visitor:
    """One client."""

    number: int
    address: str
    redraws: Redraws
    tally: Tally

    def __post_init__(self) -> None:
        self.which = random.Random(self.number)
        # not to ask over a connection that the server is closing, as browsers do not either
        brief = httpx.Limits(keepalive_expiry=1.0)
        self.http = httpx.Client(base_url=self.address, timeout=PATIENCE, limits=brief)
        self.api = Client(self.address, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        self.runs = 0

    def stay(self, until: float) -> None:
        """Do one thing after another; of as many visitors as kinds, each begins with another."""
        self.do(list(KINDS)[self.number % len(KINDS)])
        while time.monotonic() < until:
            self.do(self.which.choices(list(KINDS), list(KINDS.values()))[0])
            time.sleep(self.which.expovariate(1 / PAUSE))
        self.http.close()
        self.api.close()

    def do(self, kind: str) -> None:
        """One thing, timed and judged."""
        acts: dict[str, Callable[[], str]] = {
            "page": self.page,
            "redraw": lambda: self.redraws.ask(self.http, self.api.session_hash, self.which),
            "zip": self.zip,
            "function": self.function,
            "race": self.race,
        }
        begun, busy, wrong = time.perf_counter(), False, ""
        try:
            wrong = acts[kind]()
        except AppError as error:
            busy = any(words in str(error) for words in BUSY)
            wrong = "" if busy else str(error)
        except (httpx.HTTPError, OSError, ValueError, TimeoutError) as error:
            wrong = f"{type(error).__name__} {error}"
        self.tally.did(kind, time.perf_counter() - begun, wrong, busy)

    def page(self) -> str:
        """The page itself."""
        answer = self.http.get("/")
        return "" if answer.status_code == 200 and "aqviz" in answer.text else answer.text[:200]

    def zip(self) -> str:
        """A view's download."""
        answer = self.http.get(f"/gradio_api/aqviz/zip?v=1&view={self.which.choice(VIEWS)}")
        return "" if answer.content[:2] == b"PK" else answer.text[:200]

    def function(self) -> str:
        """A small question with a known answer."""
        rows = 8 * self.which.randint(1, 999)
        told = self.api.predict(rows, 512, "2x8g8", api_name="/regime")
        return "" if told["groups"] == rows * 64 else f"{rows} rows: {told}"

    def race(self) -> str:
        """A comparison that nobody else asks for, to its end."""
        self.runs += 1
        layer, seed = self.which.choice(LAYERS), 10_000 * self.number + self.runs
        settings = {"seed": seed, "windows": 0, "tokens": 1024, "heldout": 1024}
        job = self.api.predict(layer, "1x6g8", settings=settings, api_name="/race")
        until = time.monotonic() + TURN
        while job["state"] in {"queued", "running"}:
            if time.monotonic() > until:
                return f"still {job['state']} after {TURN:g} s"
            time.sleep(0.5)
            job = self.api.predict(job["id"], api_name="/job")
        if job["state"] != "done":
            return f"{job['state']}: {job['error']}"
        job = self.api.predict(job["id"], api_name="/job")
        mine = (job["document"]["layer"], job["document"]["config"]["seeds"])
        return "" if mine == (layer, [seed]) else f"asked {layer}, {seed} and got {mine}"


def load(address: str, numbers: Iterable[int], seconds: float, tally: Tally) -> None:
    """Let the clients of these numbers stay for so long; what they met is entered."""
    redraws = Redraws(address)
    visitors = [Visitor(number, address, redraws, tally) for number in numbers]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=one.stay, args=(until,)) for one in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(LEFT)


def warm(address: str) -> None:
    """Rounds of everything, so that what is loaded or held once is there."""
    visitor = Visitor(0, address, Redraws(address), Tally())
    for _ in range(WARM):
        for kind in KINDS:
            visitor.do(kind)
    assert not visitor.tally.wrong, visitor.tally.wrong


def memory(pid: int) -> float:
    """MiB of the server's own process, not of the one that runs studies."""
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def main() -> None:
    """Measure, print, and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--periods", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--port", type=int, default=7879)
    chosen = parser.parse_args()
    tally, held = Tally(), []
    with served(chosen.port, {"AQVIZ_PUBLIC": "1"}) as (address, pid):
        warm(address)
        held.append(memory(pid))
        for n, seconds in enumerate([FILLED, *[chosen.seconds] * chosen.periods]):
            numbers = range(1 + n * chosen.clients, 1 + (n + 1) * chosen.clients)
            load(address, numbers, seconds, tally if n else Tally())
            held.append(memory(pid))
    one, start, *after = held
    rows = list(tally.rows())
    found = {
        "clients": chosen.clients,
        "seconds": chosen.seconds,
        "periods": chosen.periods,
        "rows": rows,
        "refused_as_busy": tally.busy,
        "wrong": tally.wrong,
        "memory_one_visitor_mib": one,
        "memory_start_mib": start,
        "memory_after_periods_mib": after,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(json.dumps({**found, "machine": "", "versions": ""}, indent=1))  # noqa: T201
    if chosen.json:
        files.write_json(chosen.json, found)


if __name__ == "__main__":
    main()
