"""The short form of `make soak`: several visitors at once, under the rules of a public server."""

import pytest
from browsing import hosted
from documents import engine

from aqviz import app
from aqviz.limits import Limits
from bench import soak


@pytest.fixture(scope="module")
def tally(tmp_path_factory):
    limits = Limits.here({"AQVIZ_PUBLIC": "1", "AQVIZ_QUEUE": "2"})
    core = app.make_core(engine(pause=0.01), tmp_path_factory.mktemp("jobs"), limits)
    assert core.ready.wait(5)
    with hosted(core) as address:
        yield soak.load(address, clients=6, seconds=8)
    core.store.close()


def test_every_answer_is_right_and_nobody_gets_anothers(tally):
    assert tally.wrong == []


def test_everything_was_asked_for(tally):
    rows = {row["kind"]: row for row in tally.rows()}
    assert set(rows) == set(soak.KINDS)
    assert all(row["median_s"] <= row["p95_s"] <= row["longest_s"] for row in rows.values())


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
