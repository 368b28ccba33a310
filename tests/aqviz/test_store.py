import contextvars
import json
import threading
import time
from dataclasses import replace

import pytest
from documents import FakeRun, document, engine, experiment, opening

from aqviz.engine import Engine
from aqviz.jobs import Job, State
from aqviz.limits import Limits
from aqviz.store import JobStore, Place
from quantcore.errors import Cancelled, InputError, ProblemError
from quantcore.experiment import Experiment
from quantcore.progress import Progress


@pytest.fixture
def open_store(tmp_path):
    """Stores on one folder, closed at the end; called again it is the restarted program."""
    stores = []

    def make(made: Engine | None = None) -> JobStore:
        stores.append(JobStore(tmp_path / "jobs", made or engine()))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def wait(store: JobStore, job: Job, *states: State, seconds: float = 5.0) -> Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = store.get(job.id)
        if now.state in states:
            return now
        time.sleep(0.005)
    raise AssertionError(f"still {now.state} after {seconds} s")


def wait_for_steps(store: JobStore, job: Job, steps: int) -> Job:
    while True:
        now = store.get(job.id)
        if now.document and now.document["runs"] and len(now.document["runs"][0]["trace"]) >= steps:
            return now
        time.sleep(0.005)


def running_with(run) -> Engine:
    return Engine(run=run, estimate=lambda *_: 1.0, layers=lambda _: {}, models=list)


def test_a_job_ends_with_the_runners_document(open_store):
    store = open_store()
    job = wait(store, store.submit(experiment()), State.DONE)
    assert job.document == document()
    assert job.error is None


def test_progress_and_the_partial_document_can_be_seen_while_it_runs(open_store):
    store = open_store(engine(pause=0.02))
    job = wait_for_steps(store, store.submit(experiment()), 3)
    assert job.state is State.RUNNING
    assert job.progress.stage.startswith("greedy seed 0")
    assert not job.document["runs"][0]["complete"]


def test_a_snapshot_tells_whether_more_than_its_progress_is_new(open_store):
    told, heard = threading.Semaphore(0), threading.Semaphore(0)

    def run(config, observe, previous):
        made = opening(config)
        for done, shape in ((0.1, [1, 2]), (0.2, [1, 2]), (0.3, [1, 3])):
            made["shape"] = shape
            observe(Progress("run", done, 1.0, None), made)
            told.release()
            heard.acquire(timeout=5)
        return made

    store, seen = open_store(running_with(run)), []
    job = store.submit(experiment())
    for _ in range(3):
        assert told.acquire(timeout=5)
        seen.append(store.get(job.id))
        heard.release()
    seen.append(wait(store, job, State.DONE))
    first, moved, grown, ended = seen
    assert first.version < moved.version < grown.version < ended.version
    assert first.grown == moved.grown == first.version
    assert (grown.grown, ended.grown) == (grown.version, ended.version)


def test_a_snapshot_does_not_change_when_the_run_goes_on(open_store):
    store = open_store(engine(pause=0.02))
    job = wait_for_steps(store, store.submit(experiment()), 2)
    before = json.dumps(job.document)
    wait(store, job, State.DONE)
    assert json.dumps(job.document) == before


def test_cancel_stops_within_a_second_and_keeps_the_partial_result(open_store):
    store = open_store(engine(pause=0.3))  # the runner reports every 0.3 s
    job = wait_for_steps(store, store.submit(experiment()), 1)
    asked = time.monotonic()
    store.cancel(job.id)
    job = wait(store, job, State.CANCELLED)
    assert time.monotonic() - asked < 1
    assert job.document["runs"][0]["trace"]


def test_what_runs_is_told_to_stop_at_once_and_nothing_else_is(open_store):
    told = threading.Event()

    def run(config, observe, previous):
        assert told.wait(5)  # without a report, at which the observer could say so
        raise Cancelled

    store = open_store(replace(running_with(run), stop=told.set))
    job, waiting = store.submit(experiment()), store.submit(experiment(beam=2))
    wait(store, job, State.RUNNING)
    store.cancel(waiting.id)
    assert not told.is_set()
    store.cancel(job.id)
    wait(store, job, State.CANCELLED)


def test_a_queued_job_is_cancelled_at_once_and_the_next_still_runs(open_store):
    store = open_store(engine(pause=0.01))
    first = store.submit(experiment())
    waiting, last = store.submit(experiment(beam=2)), store.submit(experiment(beam=3))
    assert store.cancel(waiting.id).state is State.CANCELLED
    wait(store, first, State.DONE)
    wait(store, last, State.DONE)
    assert store.get(waiting.id).document is None


def test_a_queued_job_knows_how_many_are_before_it(open_store):
    store = open_store(engine(pause=0.05))
    wait(store, first := store.submit(experiment()), State.RUNNING)
    second, third = store.submit(experiment(beam=2)), store.submit(experiment(beam=3))
    assert [store.place(second).ahead, store.place(third).ahead] == [1, 2]
    store.cancel(second.id)
    assert store.place(third).ahead == 1
    store.cancel(first.id)


def test_the_same_experiment_is_one_job(open_store):
    run = FakeRun(pause=0.01)
    store = open_store(running_with(run))
    first = store.submit(experiment())
    assert store.submit(experiment()).id == first.id  # while it runs
    wait(store, first, State.DONE)
    assert store.submit(experiment()).id == first.id  # and after
    assert store.submit(experiment(beam=2)).id != first.id
    assert store.find(experiment()).id == first.id
    assert run.calls <= 2


def test_a_finished_job_is_found_after_a_restart(open_store):
    first = open_store()
    job = wait(first, first.submit(experiment()), State.DONE)
    first.close()
    second = open_store(running_with(FakeRun(pause=9)))
    assert second.get(job.id) == job
    assert second.submit(experiment()) == job


def test_a_job_cut_off_by_a_restart_is_interrupted_and_goes_on_when_submitted(open_store):
    first = open_store(engine(pause=0.05))
    job = wait_for_steps(first, first.submit(experiment()), 2)
    first.close()

    given = []
    second = open_store(
        running_with(lambda e, observe, previous: given.append(previous) or document(e))
    )
    found = second.get(job.id)
    assert found.state is State.INTERRUPTED
    assert found.document["runs"][0]["trace"]
    assert second.submit(experiment()).id == job.id
    done = wait(second, job, State.DONE)
    assert given == [found.document]
    assert done.document == document()


def test_a_killed_programs_running_job_is_interrupted(open_store, tmp_path):
    store = open_store()
    job = wait(store, store.submit(experiment()), State.DONE)
    store.close()
    path = tmp_path / "jobs" / f"{job.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "running"}))
    assert open_store().get(job.id).state is State.INTERRUPTED


def test_a_job_of_another_living_program_is_not_taken_from_it(open_store, tmp_path):
    import psutil

    parent = psutil.Process().parent()
    store = open_store()
    job = wait(store, store.submit(experiment()), State.DONE)
    store.close()
    path = tmp_path / "jobs" / f"{job.id}.json"
    living = {"state": "running", "owner": [parent.pid, parent.create_time()]}
    path.write_text(json.dumps(json.loads(path.read_text()) | living))
    store = open_store()
    assert store.get(job.id).state is State.RUNNING
    assert store.find(experiment()) is None


def test_our_own_errors_reach_the_user_word_for_word(open_store):
    def run(config, observe, previous):
        raise ProblemError("row 3 of the weight is all zeros")

    store = open_store(running_with(run))
    job = wait(store, store.submit(experiment()), State.FAILED)
    assert job.error == "row 3 of the weight is all zeros"


def test_an_unexpected_error_is_named_logged_and_does_not_stop_the_next_job(open_store, caplog):
    fail = threading.Event()
    fail.set()

    def run(config, observe, previous):
        if fail.is_set():
            raise ZeroDivisionError("secret path /home/x")
        return document(config)

    store = open_store(running_with(run))
    job = wait(store, store.submit(experiment()), State.FAILED)
    assert "ZeroDivisionError" in job.error
    assert "secret" not in job.error
    assert "secret path" in caplog.text
    fail.clear()
    wait(store, store.submit(experiment(beam=2)), State.DONE)
    wait(store, store.submit(experiment()), State.DONE)  # and the failed one can be tried again


def test_files_are_written_when_something_is_finished_and_seldom_between(open_store, monkeypatch):
    writes = []
    whole = Job.to_json
    monkeypatch.setattr(Job, "to_json", lambda self: writes.append(self.state) or whole(self))
    store = open_store(engine(pause=0.002))
    wait(store, store.submit(experiment()), State.DONE)
    finished = [State.RUNNING] * len(experiment().inits)
    assert writes == [State.QUEUED, State.RUNNING, *finished, State.DONE]


def test_an_unreadable_file_and_an_unknown_id_are_no_jobs(open_store, tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "broken.json").write_text("{")
    (tmp_path / "outside.json").write_text(Job("outside", "", experiment()).to_json())
    store = open_store()
    assert store.get("broken") is None
    assert store.get("nothing") is None
    assert store.get("../outside") is None


def test_ids_cannot_be_guessed(open_store):
    store = open_store()
    ids = {store.submit(experiment(beam=beam)).id for beam in range(1, 9)}
    assert len(ids) == 8
    assert all(len(name) >= 16 for name in ids)


def test_a_job_survives_its_file():
    job = Job("a", experiment().key(), experiment(), document=document())
    assert Job.from_json(job.to_json()) == job


def test_what_is_shown_does_not_go_backwards_when_a_run_resumes(open_store):
    half = document()
    half["runs"][1] |= {"complete": False}

    def first(config, observe, previous):
        observe(Progress("half way", 1.0, 2.0, None), half)
        raise ProblemError("stopped here")

    store = open_store(running_with(first))
    job = wait(store, store.submit(experiment()), State.FAILED)
    store.close()

    seen = threading.Event()

    def second(config, observe, previous):
        observe(Progress("load model", 0.0, 2.0, None), {**half, "runs": []})
        seen.set()
        time.sleep(0.2)
        return document(config)

    store = open_store(running_with(second))
    store.submit(experiment())
    assert seen.wait(5)
    assert len(store.get(job.id).document["runs"]) == 2
    wait(store, job, State.DONE)


def test_a_full_disk_stops_no_job_and_not_the_next_one(open_store, monkeypatch, caplog):
    store = open_store()

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aqviz.store.files.write_whole", full)
    first = wait(store, store.submit(experiment()), State.DONE)
    second = wait(store, store.submit(experiment(seeds=(7,))), State.DONE)
    assert first.document == document()
    assert second.id != first.id
    assert "cannot be kept: [Errno 28] No space left on device" in caplog.text
    assert not second.kept


@pytest.fixture
def public(tmp_path):
    """A store of a public server whose runs wait for `go`, and `go`."""
    go = threading.Event()

    def run(config, observe, previous):
        while not go.wait(0.005):
            observe(Progress("waits", 1.0, 10.0, 9.0), document(config))
        return document(config)

    limits = Limits.here({"AQVIZ_PUBLIC": "1", "AQVIZ_QUEUE": "3"})
    store = JobStore(tmp_path / "jobs", replace(engine(), run=run, admit=lambda _: 20.0), limits)
    yield store, go
    go.set()
    store.close()


def seeds(number: int) -> Experiment:
    return experiment(seeds=(number,))


def test_each_visitor_has_one_run_at_a_time(public):
    store, go = public
    first = store.submit(seeds(1), "ann")
    with pytest.raises(InputError, match="you have a run under way and this server gives"):
        store.submit(seeds(2), "ann")
    store.submit(seeds(3), "bob")
    go.set()
    wait(store, first, State.DONE)
    wait(store, store.submit(seeds(2), "ann"), State.DONE)


def test_a_full_queue_says_so_and_what_is_there_already_is_still_shared(public):
    store, _ = public
    first = wait(store, store.submit(seeds(0), "v0"), State.RUNNING)
    waiting = [store.submit(seeds(number), f"v{number}") for number in (1, 2, 3)]
    with pytest.raises(InputError, match="3 runs are waiting already and this server keeps no"):
        store.submit(seeds(4), "v4")
    assert store.submit(seeds(0), "v4").id == first.id
    assert store.submit(seeds(3), "v5").id == waiting[2].id


def test_the_line_says_how_long_it_is(public):
    store, _ = public
    wait_for_steps(store, store.submit(seeds(0), "v0"), 1)
    second, third = (store.submit(seeds(number), f"v{number}") for number in (1, 2))
    assert store.place(second) == Place(1, 9.0)  # what the running one says is left
    assert store.place(third) == Place(2, 29.0)  # and what was expected of the other


def test_a_run_stops_only_for_the_last_who_asked_for_it(public):
    store, _ = public
    job = wait(store, store.submit(seeds(0), "ann"), State.RUNNING)
    assert store.submit(seeds(0), "bob").id == job.id
    for visitor in ("eve", "ann"):
        with pytest.raises(InputError, match="other visitors asked for this run too"):
            store.cancel(job.id, visitor)
    store.submit(seeds(1), "ann")  # who is free again
    assert store.get(job.id).state is State.RUNNING
    store.cancel(job.id, "bob")
    wait(store, job, State.CANCELLED)


def test_on_ones_own_machine_any_page_may_cancel(open_store):
    store = open_store(engine(pause=0.05))
    job = wait(store, store.submit(experiment(), "one tab"), State.RUNNING)
    store.cancel(job.id, "another tab")
    wait(store, job, State.CANCELLED)


def test_what_is_refused_leaves_no_job(open_store, tmp_path):
    def refuse(config):
        raise InputError("not here")

    store = open_store(replace(engine(), admit=refuse))
    with pytest.raises(InputError, match="not here"):
        store.submit(experiment())
    assert store.find(experiment()) is None
    assert list((tmp_path / "jobs").iterdir()) == []


def test_old_jobs_make_room_and_running_ones_never(tmp_path):
    limits = Limits(kept_jobs=2.0)
    store = JobStore(tmp_path / "jobs", engine(), limits)
    jobs = [wait(store, store.submit(seeds(n)), State.DONE) for n in range(4)]
    until = time.monotonic() + 5
    while store.get(jobs[1].id) is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert [store.get(job.id) is not None for job in jobs] == [False, False, True, True]
    assert len(list((tmp_path / "jobs").glob("*.json"))) == 2
    store.close()


def test_weights_and_hessians_of_the_cache_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    for name in (
        "weights/k/greedy-0.safetensors",
        "hessians/h.safetensors",
        "models/m.safetensors",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(2 << 20))
    store = JobStore(tmp_path / "jobs", engine(), Limits(kept_mib=1.0))
    assert (
        len(list(tmp_path.rglob("*.safetensors"))) == 3
    )  # a store that runs nothing removes nothing
    wait(store, store.submit(experiment()), State.DONE)
    store.close()
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["m.safetensors"]


def test_a_run_is_made_in_the_context_it_was_asked_in(open_store):
    asked = contextvars.ContextVar("asked", default="nobody")
    seen = []

    def run(config, observe, previous):
        seen.append(asked.get())
        return document(config)

    store = open_store(running_with(run))
    asked.set("somebody")
    wait(store, store.submit(experiment()), State.DONE)
    assert seen == ["somebody"]


def test_documents_of_ended_jobs_lie_on_disk_and_are_found_whole(open_store):
    store = open_store()
    job = wait(store, store.submit(experiment()), State.DONE)
    assert store._jobs[job.id].document is None
    assert store.get(job.id).document == store.find(experiment()).document == document()


def test_a_job_whose_file_is_gone_is_no_job_and_is_made_again(open_store, tmp_path):
    store = open_store()
    job = wait(store, store.submit(experiment()), State.DONE)
    store._reread.cache_clear()
    (tmp_path / "jobs" / f"{job.id}.json").unlink()
    assert store.get(job.id) is None
    again = wait(store, store.submit(experiment()), State.DONE)
    assert again.document == document()


@pytest.mark.parametrize(
    "change",
    [
        {"document": {"runs": 3}},
        {"config": {"layer": "another"}},
        {"id": "../elsewhere"},
        {"owner": "me"},
        {"created": 3},
        {"state": "somewhere"},
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_no_job(open_store, tmp_path, change):
    job = Job("a", experiment().key(), experiment(), State.DONE, document=document())
    file = tmp_path / "jobs" / "a.json"
    file.parent.mkdir()
    file.write_text(json.dumps(json.loads(job.to_json()) | change))
    assert open_store().get("a") is None
    file.write_text(job.to_json())
    assert open_store().get("a") == job


@pytest.mark.parametrize("text", ["null", "3", "[]", "[" * 100_000, '"', "\ufeff{}"])
def test_any_json_leaves_the_store_standing(open_store, tmp_path, text):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.json").write_text(text)
    (tmp_path / "jobs" / "b.json").mkdir()
    store = open_store()
    assert store.get("a") is store.get("b") is store.get("x" * 300) is None


def test_a_job_under_another_name_is_none(open_store, tmp_path):
    (tmp_path / "jobs").mkdir()
    made = Job("../outside", "", experiment())
    (tmp_path / "jobs" / "a.json").write_text(made.to_json())
    assert open_store().get("a") is None
    assert not (tmp_path / "outside.json").exists()
