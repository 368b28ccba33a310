"""The process of the runs: real processes on small problems, killed and stopped."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from aqviz import engine, inside, worker
from aqviz.engine import Engine
from aqviz.jobs import State
from aqviz.store import JobStore
from aqviz.uploads import Uploads
from aqviz.worker import Worker
from quantcore import files
from quantcore.errors import Cancelled, InputError, QuantcoreError
from quantcore.experiment import Experiment
from quantcore.weight import Scheme


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment on an uploaded layer that takes a moment, in a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    rng = torch.Generator().manual_seed(0)
    tensors = {
        "layer.weight": torch.randn(256, 256, generator=rng),
        "layer.hessian": torch.eye(256),
    }
    files.write_tensors(folder / "mine.safetensors", tensors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTCORE_CACHE", str(folder))
        name = Uploads.here().keep(folder / "mine.safetensors").name
        yield Experiment(problem=name, layer="layer", scheme=Scheme(1, 4, 8), sweeps=1)


@pytest.fixture(scope="module")
def process(made):
    """A worker, because a process takes seconds to start."""
    one = Worker()
    yield one
    one.close()


def long(one: Experiment) -> Experiment:
    """It runs until it is stopped, as far as a test is concerned."""
    return replace(one, seeds=tuple(range(400)), sweeps=8, scheme=Scheme(2, 6, 8))


def without_times(document: dict) -> dict:
    """What the same settings give again."""
    runs = [
        {k: v for k, v in run.items() if k not in {"seconds", "trace"}} for run in document["runs"]
    ]
    return {"runs": runs, "key": document["key"], "config": document["config"]}


def test_it_gives_what_the_same_study_gives_here(made, process):
    told = []
    document = process.run(made, lambda progress, document: told.append(progress), None)
    here = engine.run(made, lambda *_: None, None)
    assert without_times(document) == without_times(json.loads(json.dumps(here)))
    assert told[-1].stage == "done"


def test_what_it_quantized_can_be_opened(made, process):
    document = process.run(made, lambda *_: None, None)
    opened = inside.find(document["key"])
    assert (opened.rows, opened.groups, list(opened.versions)) == (
        inside.ROWS,
        32,
        list(made.inits),
    )
    for (
        init,
        totals,
    ) in opened.totals.items():  # under H = I the groups of a row do nothing together
        torch.testing.assert_close(opened.errors(init).sum(1), totals, rtol=2e-2, atol=0)


def test_one_process_makes_many_runs(made, process):
    process.run(made, lambda *_: None, None)
    number = process._process.pid
    process.run(replace(made, seeds=(1,)), lambda *_: None, None)
    assert process._process.pid == number


def test_a_refusal_comes_back_word_for_word(made, process):
    with pytest.raises(QuantcoreError, match="the file upload-0000000000000000 is no longer kept"):
        process.run(replace(made, problem="upload-0000000000000000"), lambda *_: None, None)


def test_it_stops_when_asked_and_makes_the_next_run(made, process):
    def stop(progress, document):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        process.run(long(made), stop, None)
    assert len(process.run(made, lambda *_: None, None)["runs"]) == 2


def test_it_stops_for_others_than_its_observer_and_without_one_it_may_always(made, process):
    process.stop()
    begun = threading.Event()
    other = threading.Thread(target=lambda: begun.wait(60) and process.stop())
    other.start()
    with pytest.raises(Cancelled):
        process.run(long(made), lambda *_: begun.set(), None)
    other.join()
    assert len(process.run(made, lambda *_: None, None)["runs"]) == 2
    process.close()
    process.stop()


def test_a_killed_process_is_a_sentence_and_the_job_goes_on_from_what_it_had(
    made, process, tmp_path
):
    store = JobStore(tmp_path / "jobs", Engine(run=process.run))
    config = replace(made, seeds=(0, 1, 2))
    job = store.submit(long(made))
    until = time.monotonic() + 60
    while not (store.get(job.id).document or {"runs": []})["runs"][1:]:
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process._process.pid, signal.SIGKILL)
    while not store.get(job.id).state.ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    failed = store.get(job.id)
    assert failed.state is State.FAILED
    assert failed.error.startswith("the system ended this run, most likely because memory ran out")
    assert failed.document["runs"][0]["complete"]
    other = store.submit(config)  # the app goes on, with a new process
    while not store.get(other.id).state.ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert store.get(other.id).state is State.DONE
    store.close()


def test_it_ends_with_the_program_that_started_it(made, process):
    process.start()
    process._process.stdin.close()  # as the system does for a program that was killed
    assert process._process.wait(30) == 0


def test_no_memory_is_said_as_such():
    for error in (
        MemoryError(),
        torch.OutOfMemoryError(),
        RuntimeError("can't allocate memory: 9"),
    ):
        assert engine.unexpected(error).startswith("There was not enough memory for this run;")
    assert "(KeyError); the details are in the log" in engine.unexpected(KeyError("x"))


def test_what_a_run_tells_is_a_copy(made, monkeypatch):
    growing = {"runs": []}
    monkeypatch.setattr(inside, "keep", lambda *given: None)

    def run(config, observe, previous):
        for number in range(3):
            observe(worker.Progress("s", 1.0, 2.0, None), growing)
            growing["runs"].append(number)
        return growing

    monkeypatch.setattr(engine, "run", run)
    kind, config = engine.kind_of(made), worker.asdict(made)
    messages = [json.loads(line) for line in worker.told(kind, config, None, threading.Event())]
    assert [one["document"]["runs"] for one in messages[:-1]] == [[], [0], [0, 1]]
    assert messages[-1] == {"done": growing}


def test_an_unforeseen_error_ends_the_run_and_not_the_process(made, monkeypatch, caplog):
    def run(config, observe, previous):
        raise InputError("refused") if previous else KeyError("x")

    monkeypatch.setattr(engine, "run", run)
    config = worker.asdict(made)
    (line,) = worker.told("experiment", config, None, threading.Event())
    assert "(KeyError)" in json.loads(line)["refused"]
    (line,) = worker.told("experiment", config, {"a": 1}, threading.Event())
    assert json.loads(line) == {"refused": "refused"}


@pytest.fixture
def zero_gpu(monkeypatch):
    """As on a Space with ZeroGPU: the durations that were asked for, and the runner."""
    durations = []

    def lend(duration):
        def decorate(task):
            def called(*given):
                durations.append(duration(*given))
                return task(*given)

            return called

        return decorate

    monkeypatch.setenv(worker.ZERO_GPU, "1")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    return durations, worker.hosted().run


@pytest.mark.parametrize(("expected", "lent"), [(0.4, 31), (50.0, 80), (1000.0, 120)])
def test_on_zero_gpu_a_run_holds_it_for_as_long_as_expected(
    zero_gpu, made, monkeypatch, expected, lent
):
    durations, run = zero_gpu
    monkeypatch.setattr(engine, "seconds", lambda config: expected)
    assert len(run(made, lambda *_: None, None)["runs"]) == 2
    assert durations == [lent]


def test_on_zero_gpu_a_stopped_run_lets_go(zero_gpu, made, monkeypatch):
    _, run = zero_gpu
    monkeypatch.setattr(engine, "seconds", lambda config: 1.0)

    def stop(progress, document):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(long(made), stop, None)


def test_a_worker_that_nobody_holds_takes_its_process_along():
    one = Worker()
    one.start()
    process = one._process
    del one
    assert process.poll() is not None
    assert process.stdout.closed
