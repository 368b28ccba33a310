"""Files in the folder of jobs, whoever wrote them: the store starts, and serves what it can."""

import json
from dataclasses import asdict

import pytest
from documents import document, engine, experiment
from harness import many, tried
from hostile import JSONS, WORDS, altered
from hypothesis import example, given
from hypothesis import strategies as st

from aqviz import metrics
from aqviz.core import Core
from aqviz.engine import kind_of
from aqviz.jobs import Job, State
from aqviz.parts.board import board_values
from aqviz.recordings import config_of
from aqviz.shown.basins import Basins
from aqviz.shown.bundles import zip_of
from aqviz.shown.map import MapState
from aqviz.shown.race import show_pins, visit
from aqviz.shown.search import SearchState
from aqviz.shown.tune import TuneState
from aqviz.store import JobStore
from quantcore.progress import Progress

NAME = "Ab-_9"
CONFIGS = {
    "experiment": experiment(),
    "survey": MapState().survey,
    "search": SearchState().survey,
    "landscape": Basins().landscape,
    "starts": Basins().many,
    "trial": TuneState().trial,
}


def held(config) -> dict:
    """What a job's file holds of a study that ran."""
    found = document(config) if config == CONFIGS["experiment"] else None
    progress = Progress("greedy", 1, 2, 3.0)
    job = Job(
        NAME, config.key(), config, State.RUNNING, progress, found, "a word", 3, owner=(1, 0.0)
    )
    return json.loads(job.to_json())


HELD = {name: held(config) for name, config in CONFIGS.items()}


def served(folder, content: bytes) -> bool:
    """Whether a store on this folder serves the file; all that the page does with it is done."""
    (folder / f"{NAME}.json").write_bytes(content)
    store = JobStore(folder, engine())
    try:
        core = Core(engine(), store, None)
        core.ready.set()
        job = store.get(NAME)
        if job is None:
            return False
        states = (MapState(), SearchState(), Basins(), TuneState())
        for look in (
            lambda: visit(core, {"job": NAME}),
            lambda: board_values(core, core.race(NAME)),
            lambda: show_pins(core, [NAME]),
            lambda: store.place(job),
            lambda: metrics.there(core.document(NAME)) and metrics.table(core.document(NAME)),
            lambda: zip_of(core, {"view": "race", "job": NAME}, ""),
            *(lambda state=state: [store.find(one) for one in studies(state)] for state in states),
        ):
            tried("job files: what is served", look)
        return True
    finally:
        store.close()


def studies(state) -> list:
    return [
        getattr(state, name)
        for name in ("survey", "landscape", "many", "trial")
        if hasattr(state, name)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("jobs")


@many(120)
@given(st.sampled_from(sorted(HELD)).flatmap(lambda name: altered(HELD[name])))
@example(HELD["landscape"])  # a link to the race may name another study's job
@example(HELD["experiment"] | {"id": "../elsewhere"})
@example(None)
def test_a_jobs_file_with_values_changed(folder, uncompressed, found):
    text = json.dumps(found)
    tried(
        "job files: values changed", lambda: served(folder, text.encode("utf-8", "surrogatepass"))
    )


@many(60)
@given(st.binary(max_size=60) | JSONS.map(lambda value: json.dumps(value).encode()))
def test_any_job_file(folder, content):
    tried("job files: any", lambda: served(folder, content))


@many(60)
@given(st.sampled_from(sorted(CONFIGS)), st.dictionaries(WORDS, JSONS, max_size=3), st.data())
def test_any_config(name, more, data):
    """A config of a file is one that a run could have, or is refused as what cannot be read."""
    config = CONFIGS[name]
    values = json.loads(json.dumps(asdict(config))) | more
    if values and data.draw(st.booleans()):
        values[data.draw(st.sampled_from(sorted(values)))] = data.draw(JSONS)

    def read():
        try:
            return config_of(kind_of(config), values)
        except (ValueError, TypeError, KeyError):
            return None

    tried("job files: configs", read)
