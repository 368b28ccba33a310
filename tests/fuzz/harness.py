"""Inputs of strangers: thousands of them, counted, timed and held to one property.

Whatever comes in, work ends in a value or in a QuantcoreError whose text is one line; it ends
within `SECONDS`, takes no more than `ROOM` bytes of address space and says nothing of our code.

`AQVIZ_FUZZ` multiplies the inputs: at 1 they are few and the same every time, for the suite; above
it they are drawn anew each time, for a search that may find something (`make fuzz`).
"""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from hypothesis import HealthCheck, settings

from quantcore.errors import QuantcoreError

TIMES = float(os.environ.get("AQVIZ_FUZZ", "1"))
SECONDS = 10  # a guard against what hangs, no measure of speed
ROOM = 3 << 30
LONGEST = 2000  # letters of a sentence: what was given is quoted, not repeated whole
TRACES = ("Traceback", 'File "', "site-packages")


@dataclass
class Tally:
    """What became of a target's inputs."""

    inputs: int = 0
    seconds: float = 0.0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0


class HangError(BaseException):
    """Raised by the watchdog; no `except Exception` may take it for an answer."""


TALLIES: dict[str, Tally] = {}


def many(inputs: int) -> Any:
    """So many inputs, times `AQVIZ_FUZZ`."""
    return settings(
        max_examples=max(1, round(inputs * TIMES)),
        deadline=None,
        derandomize=TIMES <= 1,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def tried(target: str, work: Callable[[], Any]) -> Any:
    """What `work` gives, or None where it refuses; anything else fails the test."""
    tally = TALLIES.setdefault(target, Tally())
    begun = time.perf_counter()
    try:
        with watched(), bounded():
            found = work()
    except QuantcoreError as error:
        tally.refused += 1
        check_sentence(str(error))
        return None
    except HangError:
        raise AssertionError(f"{target}: no answer after {SECONDS} s") from None
    else:
        tally.accepted += 1
        return found
    finally:
        spent = time.perf_counter() - begun
        tally.inputs += 1
        tally.seconds += spent
        tally.slowest = max(tally.slowest, spent)


def check_sentence(words: str) -> None:
    """One line that a person can read."""
    assert words.strip(), "a refusal says nothing"
    assert len(words.splitlines()) == 1, f"a refusal of several lines: {words!r}"
    assert len(words) <= LONGEST, f"a refusal of {len(words)} letters: {words[:300]!r}"
    assert words.isprintable(), f"a refusal with control characters: {words!r}"
    assert not any(trace in words for trace in TRACES), words


@contextmanager
def watched() -> Iterator[None]:
    """Ends what takes too long, as soon as Python is asked again."""

    def ring(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded() -> Iterator[None]:
    """No more than `ROOM` bytes of address space beyond those held now."""
    held = psutil.Process().memory_info().vms
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
