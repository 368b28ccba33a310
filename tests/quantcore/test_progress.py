import threading
import time

import pytest

from quantcore import progress
from quantcore.errors import Cancelled
from quantcore.progress import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_progress_by_hand(clock):
    seen = []
    meter = Meter(lambda told, document: seen.append((told, dict(document))), {"so": "far"})
    meter.plan("load", 2.0)
    meter.plan("run", 8.0)
    meter.begin("load")
    assert seen[-1] == (progress.Progress("load", 0.0, 10.0, 10.0), {"so": "far"})
    clock[0] += 4  # twice as slow as expected
    meter.begin("run")
    assert seen[-1][0] == progress.Progress("run", 2.0, 10.0, 16.0)
    clock[0] += 8
    meter.part(0.5, "run, half way")
    assert seen[-1][0] == progress.Progress("run, half way", 6.0, 10.0, 8.0)
    meter.end()
    assert seen[-1][0] == progress.Progress("done", 10.0, 10.0, 0.0)


def test_parts_are_not_told_too_often(clock):
    seen = []
    meter = Meter(lambda told, document: seen.append(told.stage), {})
    meter.plan("run", 1.0)
    meter.begin("run")
    for step in range(100):
        clock[0] += progress.TICK_SECONDS / 4
        meter.part(step / 100, f"part {step}")
    assert 20 <= len(seen) <= 30


def test_a_skipped_stage_counts_as_done(clock):
    seen = []
    meter = Meter(lambda told, document: seen.append(told), {})
    meter.plan("one", 3.0)
    meter.plan("two", 1.0)
    meter.skip("one")
    meter.begin("two")
    assert seen[-1].done == 3.0


def test_windows_are_counted(clock):
    seen = []
    meter = Meter(lambda told, document: seen.append(told), {})
    meter.plan("read", 4.0)
    meter.begin("read")
    clock[0] += 1
    meter.counted("read")(1, 4)
    assert seen[-1] == progress.Progress("read, window 1 of 4", 1.0, 4.0, 3.0)


def test_silent_work_is_waited_for_and_its_result_given():
    seen = []
    meter = Meter(lambda told, document: seen.append(told.stage), {})
    meter.begin("load")
    assert meter.patiently(lambda: time.sleep(0.5) or 42) == 42
    assert len(seen) >= 3
    with pytest.raises(ZeroDivisionError):
        meter.patiently(lambda: 1 / 0)


def test_silent_work_can_be_left():
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(10)
        ended.set()

    def stop(told, document):
        raise Cancelled("enough")

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        Meter(stop, {}).patiently(work)
    assert time.monotonic() - begun < 5
    assert not ended.is_set()
    release.set()
    assert ended.wait(10)
