"""Links: their parameters as any text, what opens them, and the routes that take them."""

from dataclasses import fields
from urllib.parse import urlencode

import pytest
import torch
from harness import many, tried
from hostile import NAMES, NUMBERS, SCHEMES, WORDS, queries, strings_of
from hypothesis import example, given
from hypothesis import strategies as st

from aqviz import commands, permalink
from aqviz.first_paint import sketch
from aqviz.parts.board import start
from aqviz.parts.links import asked_of
from aqviz.shown.basins import Basins
from aqviz.shown.bundles import VIEWS, zip_of
from aqviz.shown.form import Form
from aqviz.shown.inside import Inside
from aqviz.shown.learn import Learn
from aqviz.shown.map import MapState
from aqviz.shown.paper import PaperState
from aqviz.shown.perplexity import Perplexity
from aqviz.shown.race import check, visit
from aqviz.shown.rho import RhoState
from aqviz.shown.search import SearchState
from aqviz.shown.tune import TuneState
from quantcore import study
from quantcore.experiment import Experiment

STATES = {
    "map": MapState,
    "search": SearchState,
    "basins": Basins,
    "rho": RhoState,
    "perplexity": Perplexity,
    "tune": TuneState,
    "inside": Inside,
    "learn": Learn,
    "paper": PaperState,
}
RACE = {
    *("v", "view", "job", "problem", "layer", "model", "scheme", "inits", "search", "beam"),
    *("seed", "seeds"),
    *(setting.query for setting in permalink.OPTIONAL),
}
LAYER = "model.layers.0.self_attn.k_proj"
VALUES = (
    WORDS | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(WORDS, max_size=3)
)


def marked(values) -> list[str]:
    """HTML that holds a stranger's markup as it came; in a control's value it is but text."""
    html = (text for text in strings_of(values) if text.startswith("<") and text not in NAMES)
    return [text for text in html if "<script>alert(1)" in text or "<img src=x" in text]


def seconds(experiment) -> list[float]:
    """What a run on a small layer would take; asked for whenever a link is opened."""
    configs = (experiment.config(init) for init in experiment.inits)
    return [study.seconds_of(one, 64, 64, torch.device("cpu")) for one in configs]


@pytest.fixture(scope="module")
def measured():
    """This machine, once: on a busy one the first estimate takes longer than any input may."""
    seconds(Experiment(layer=LAYER))


@pytest.mark.usefixtures("measured")
@many(300)
@given(queries(RACE), st.booleans())
@example({"sweeps": "999999999999"}, True)
@example({"beam": "9" * 400}, True)
@example({"scheme": "9" * 5000 + "x8g8"}, True)
@example({"beam": "9" * 5000}, True)
@example({"seed": "9" * 30}, True)
def test_a_link_to_the_race(query, named):
    query = {"layer": "a"} | query if named else query
    found = tried("link: race", lambda: permalink.from_query(query))
    if found and found.experiment:
        again = tried("link: race, written again", lambda: permalink.to_query(found.experiment))
        assert permalink.from_query(asked_of(again)).experiment == found.experiment
        tried("link: race, its command", lambda: commands.of(found.experiment))
        tried("link: race, its seconds", lambda: seconds(found.experiment))


@pytest.mark.parametrize("view", STATES)
def test_a_link_to_a_view(view):
    kind = STATES[view]
    names = [field.name for field in fields(kind)]

    @many(80)
    @given(queries([*names, "v"]))
    def read(query):
        state = tried("link: views", lambda: permalink.decode(kind, query))
        if state is not None:
            told = permalink.encode(view, state)
            assert permalink.decode(kind, asked_of(told)) == state

    read()


@pytest.mark.parametrize("view", STATES)
def test_the_controls_of_a_view(view):
    kind = STATES[view]
    count = len(fields(kind))

    @many(40)
    @given(st.dictionaries(st.integers(0, count - 1), VALUES, max_size=3))
    def read(changes):
        first = [getattr(kind(), field.name) for field in fields(kind)]
        values = tuple(changes.get(n, value) for n, value in enumerate(first))
        tried("controls: views", lambda: permalink.from_values(kind, values))

    read()


@many(200)
@given(st.text(max_size=200) | queries(RACE).map(lambda q: urlencode(q, errors="replace")))
@example("layer=a&layer=b&seed=1&seed=2")
@example("&".join(["layer=a"] * 5000))
@example("=&=&&&;;==")
@example("%ff%fe=%00&layer=%f0%28")
def test_any_query_string(text):
    tried("link: any query string", lambda: permalink.from_query(asked_of(text)))


@many(150)
@given(queries({*RACE, *(field.name for kind in STATES.values() for field in fields(kind))}))
@example({"view": "race", "job": "<script>alert(1)</script>"})
@example({"view": "learn", "lesson": "nan"})
def test_the_first_paint_of_any_address(page, query):
    def made():
        found = sketch(page, urlencode(query, errors="replace"))
        assert not marked([found])
        return found

    tried("first paint", made)


@many(150)
@given(queries(RACE), st.booleans())
def test_a_visit_to_the_race(core, query, named):
    query = {"layer": LAYER} | query if named else query

    def visited():
        found = visit(core, {name: word for name, word in query.items() if name != "view"})
        assert not marked(found[0])
        return found

    tried("opened: race", visited)


@pytest.mark.parametrize("view", STATES)
def test_the_opened_handler_of_a_view(opened, view):
    """What the page does with an address: an answer for every output, an alert if it is wrong."""
    if view not in opened:
        pytest.skip("nothing was recorded for this view")
    handler, first = opened[view]
    names = [field.name for field in fields(STATES[view])]

    @many(25)
    @given(queries([*names, "v"], most=3))
    def read(query):
        asked = urlencode({"view": view, **query}, errors="replace")

        def answered():
            found = handler(asked, *first)
            assert not marked(found)
            return found

        tried(f"opened: {view}", answered)

    read()


@many(150)
@given(
    st.dictionaries(st.sampled_from(Form._fields), VALUES, max_size=3),
    st.just("2") | st.sampled_from(["own", "nan", "", "9" * 400]),
)
def test_the_controls_of_the_race(core, changes, preset):
    form = (
        Form.of(Experiment(layer=LAYER), core.layers(None))
        ._replace(preset=preset)
        ._replace(**changes)
    )

    def asked():
        found = check(core, form)
        assert not marked(found)
        return found

    tried("controls: race", asked)
    tried("controls: race, run", lambda: start(core, form))


@pytest.mark.parametrize("view", VIEWS)
def test_the_zip_of_a_view(core, view, uncompressed):
    kind = STATES.get(view)
    names = RACE if kind is None else {field.name for field in fields(kind)}

    @many(12)
    @given(queries(names, st.sampled_from(NUMBERS + SCHEMES) | WORDS, most=2))
    def read(query):
        tried(
            "zip", lambda: zip_of(core, {**query, "view": view}, urlencode(query, errors="replace"))
        )

    read()


@many(60)
@given(queries(RACE | {"view"}))
def test_the_zip_of_any_view(core, query):
    tried("zip, any view", lambda: zip_of(core, query, "x"))
