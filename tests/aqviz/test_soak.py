"""The short form of `make soak`: several visitors at once, under the rules of a public server."""

import random

import pytest
from browsing import hosted
from documents import engine

from aqviz import app
from aqviz.limits import Limits
from bench import soak


@pytest.fixture(scope="module")
def tally(tmp_path_factory):
    met = soak.Tally()
    limits = Limits.here({"AQVIZ_PUBLIC": "1", "AQVIZ_QUEUE": "2"})
    core = app.make_core(engine(pause=0.01), tmp_path_factory.mktemp("jobs"), limits)
    assert core.ready.wait(5)
    with hosted(core) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(soak, "LEFT", 0.0)
        soak.load(address, range(1, 7), seconds=8, tally=met)
    yield met
    core.store.close()


def test_every_answer_is_right_and_nobody_gets_anothers(tally):
    assert tally.wrong == []


def test_everything_was_asked_for(tally):
    rows = {row["kind"]: row for row in tally.rows()}
    assert set(rows) == set(soak.KINDS)
    assert all(row["median_s"] <= row["p95_s"] <= row["longest_s"] for row in rows.values())


def test_a_slider_goes_anywhere_and_other_controls_stay_as_they_are_at_first():
    props = {"value": 2, "minimum": 1, "maximum": 3, "step": 0.5}
    moved = {"type": "slider", "props": props}
    which = random.Random(0)
    found = {soak.Redraws.value(moved, which) for _ in range(100)}
    assert found == {1.0, 1.5, 2.0, 2.5, 3.0}
    tenths = {"type": "slider", "props": {"minimum": 0.1, "maximum": 0.3, "step": 0.1}}
    assert max(soak.Redraws.value(tenths, which) for _ in range(100)) == 0.3  # not a bit more
    assert soak.Redraws.value({"type": "number", "props": props}, which) == 2
    assert soak.Redraws.value({"type": "timer", "props": {}}, which) is None


def test_a_wrong_answer_would_be_seen(monkeypatch):
    class Other:
        """A server that answers everyone with one result."""

        def predict(self, *_given, **_named):
            found = {"layer": "another", "config": {"seeds": [1]}}
            return {"id": "x", "state": "done", "document": found}

    visitor = soak.Visitor.__new__(soak.Visitor)
    visitor.number, visitor.runs, visitor.tally = 3, 0, soak.Tally()
    visitor.which, visitor.api = soak.random.Random(0), Other()
    visitor.do("race")
    (wrong,) = visitor.tally.wrong
    assert "30001 and got ('another', [1])" in wrong
