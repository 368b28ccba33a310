"""What breaks around the program: files, memory, processes. Nothing finished may be lost."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aqviz import engine
from aqviz.engine import Engine
from aqviz.jobs import State
from aqviz.store import JobStore
from aqviz.uploads import Uploads
from aqviz.worker import Worker
from quantcore import files
from quantcore.errors import QuantcoreError
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

PATIENCE = 60.0  # seconds


def bring(folder: Path) -> Experiment:
    """An experiment on an uploaded layer; the environment says that the cache is `folder`."""
    rng = torch.Generator().manual_seed(0)
    tensors = {"layer.weight": torch.randn(64, 64, generator=rng), "layer.hessian": torch.eye(64)}
    files.write_tensors(folder / "mine.safetensors", tensors)
    name = Uploads.here().keep(folder / "mine.safetensors").name
    return Experiment(problem=name, layer="layer", scheme=Scheme(1, 4, 8), sweeps=2, seeds=(0, 1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    return tmp_path


def end_of(store: JobStore, config: Experiment):
    """Submit a study and wait for its end."""
    job = store.submit(config)
    until = time.monotonic() + PATIENCE
    while not store.get(job.id).state.ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    return store.get(job.id)


def numbers(document: dict) -> list:
    return [(run["init"], run["seed"], run["error"]) for run in document["runs"]]


def run_once(cache: Path, config: Experiment):
    """A program's life: start, run, end."""
    store = JobStore(cache / "jobs", Engine())
    job = end_of(store, config)
    store.close()
    return job


def empty(data: bytes) -> bytes:
    return b""


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return (
        data[:middle] + bytes(255 - byte for byte in data[middle : middle + 8]) + data[middle + 8 :]
    )


def noise(data: bytes) -> bytes:
    return random.Random(0).randbytes(len(data))


@pytest.mark.parametrize("damage", [empty, cut, flipped, noise])
@pytest.mark.parametrize("kind", ["jobs", "weights", "uploads"])
def test_a_damaged_file_of_the_cache_costs_at_most_its_own_work(cache, kind, damage):
    config = bring(cache)
    first = run_once(cache, config)
    assert first.state is State.DONE
    for file in (cache / kind).rglob("*.*"):
        file.write_bytes(damage(file.read_bytes()))
    if kind == "weights":  # which only a run that goes on reads
        whole = json.loads((cache / "jobs" / f"{first.id}.json").read_text())
        cut_off = whole | {"state": "cancelled"}
        (cache / "jobs" / f"{first.id}.json").write_text(json.dumps(cut_off))
    again = run_once(cache, config)
    if kind == "uploads" and again.state is State.FAILED:
        assert "was damaged here since it was kept; choose it again" in again.error
        bring(cache)
        again = run_once(cache, config)
    assert again.state is State.DONE, again.error
    assert numbers(again.document) == numbers(first.document)


def test_a_damaged_upload_is_not_taken_for_what_its_name_says(cache):
    config = bring(cache)
    (file,) = (cache / "uploads").iterdir()
    file.write_bytes(flipped(file.read_bytes()))
    with pytest.raises(QuantcoreError, match="was damaged here since it was kept"):
        engine.run(config, lambda *_: None, None)
    assert not file.exists()


def test_a_killed_program_loses_only_the_run_it_was_in(cache):
    config = bring(cache)
    slow = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from aqviz import engine\n"
        "from aqviz.engine import Engine\n"
        "from aqviz.store import JobStore\n"
        "from quantcore.experiment import Experiment\n"
        "from quantcore.weight import Scheme\n"
        "def run(config, observe, previous):\n"
        "    def watched(progress, document):\n"
        "        observe(progress, document)\n"
        "        if sum(run['complete'] for run in document['runs']) == 2:\n"
        "            print('two', flush=True)\n"
        "            time.sleep(600)\n"
        "    return engine.run(config, watched, previous)\n"
        f"config = {config!r}\n"
        f"JobStore(Path({str(cache / 'jobs')!r}), Engine(run=run)).submit(config)\n"
        "time.sleep(600)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE)
    with program:
        assert program.stdout.readline() == b"two\n"
        program.send_signal(signal.SIGKILL)
    store = JobStore(cache / "jobs", Engine())
    found = store.find(config)
    assert found.state is State.INTERRUPTED
    assert [run["complete"] for run in found.document["runs"]][:2] == [True, True]
    kept = numbers({"runs": found.document["runs"][:2]})
    done = end_of(store, config)
    store.close()
    assert done.state is State.DONE
    assert done.id == found.id
    assert numbers(done.document)[:2] == kept
    fresh = engine.run(config, lambda *_: None, None)
    assert numbers(done.document) == numbers(fresh)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="there is no prlimit on this system")
def test_a_run_without_memory_is_a_sentence_and_the_next_one_works(cache):
    rng = torch.Generator().manual_seed(0)
    wide = {"layer.weight": torch.randn(64, 2048, generator=rng), "layer.hessian": torch.eye(2048)}
    files.write_tensors(cache / "wide.safetensors", wide)
    name = Uploads.here().keep(cache / "wide.safetensors").name
    config = Experiment(problem=name, layer="layer", scheme=Scheme(1, 4, 8), sweeps=1)
    small, worker = bring(cache), Worker()
    worker.run(small, lambda *_: None, None)
    number = worker._process.pid
    held = int(Path(f"/proc/{number}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(number, resource.RLIMIT_AS, (held + (8 << 20), resource.RLIM_INFINITY))
    with pytest.raises(
        QuantcoreError, match=r"not enough memory|ended this run|ended unexpectedly"
    ):
        worker.run(config, lambda *_: None, None)
    if worker._process.poll() is None:
        resource.prlimit(number, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    assert len(worker.run(small, lambda *_: None, None)["runs"]) == 4
    worker.close()
