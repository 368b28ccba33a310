import shlex
from dataclasses import dataclass
from importlib import import_module
from urllib.parse import parse_qsl

import pytest
from documents import experiment
from hypothesis import given
from hypothesis import strategies as st

from aqviz import commands, permalink
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.grid import Survey
from quantcore.landscape import Landscape
from quantcore.search import DEFAULT_WIDTHS, SEARCHES
from quantcore.starts import Starts
from quantcore.trial import Trial
from quantcore.weight import Scheme

SCHEMES = st.tuples(st.integers(1, 4), st.integers(1, 16), st.integers(1, 64))
SEEDS = st.tuples(st.integers(0, 10**6), st.integers(1, 5))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30)
SETTINGS = st.fixed_dictionaries(
    {
        "model": st.none() | WORDS,
        "layer": WORDS,
        "inits": st.lists(
            st.sampled_from(["greedy", "oa-em", "oa-em-adam"]), min_size=1, max_size=3, unique=True
        ).map(tuple),
        "search": st.sampled_from(SEARCHES),
        "beam": st.integers(1, 32),
        "sweeps": st.integers(1, 10),
        "shrinkage": st.floats(0, 1),
        "damping": st.floats(0, 10),
        "calibration_tokens": st.integers(512, 10**6),
        "perplexity_windows": st.integers(0, 100),
        "text": st.sampled_from(["default", "wikitext2", "my text.md"]),
        "device": st.sampled_from(["auto", "cpu"]),
    }
)


def read(query: str) -> permalink.Link:
    return permalink.from_query(dict(parse_qsl(query)))


@given(SETTINGS, SCHEMES, SEEDS, st.none() | st.just("Ab-_9"))
def test_a_link_brings_back_the_experiment_and_the_job(settings, scheme, seeds, job):
    first, count = seeds
    seeds = tuple(range(first, first + count))
    config = Experiment(**settings, scheme=Scheme(*scheme), seeds=seeds)
    assert read(permalink.to_query(config, job)) == permalink.Link(config, job)


def test_a_link_says_what_people_change_and_leaves_out_defaults():
    link = permalink.to_query(experiment(model="SmolLM2"), "j1")
    layer = "model.layers.0.self_attn.k_proj"
    assert link == (
        f"v=1&view=race&model=SmolLM2&layer={layer}&scheme=2x8g8&seed=0&search=feedback-descent"
        "&beam=1&job=j1"
    )


@pytest.mark.parametrize("search", SEARCHES)
def test_a_searchs_own_width_is_written_out(search):
    config = experiment(search=search)
    width = DEFAULT_WIDTHS[search]
    assert f"search={search}&beam={width}" in permalink.to_query(config)
    assert f"--search {search} --beam {width} " in commands.of(config)
    assert read(f"layer=a&search={search}").experiment == Experiment(
        layer="a", search=search, beam=width
    )


def test_a_link_without_a_search_has_the_default_one():
    config = read("layer=a&beam=4").experiment
    assert (config.search, config.beam) == (Experiment.search, 4)


def test_several_seeds_are_a_first_and_a_number():
    assert "seed=3&seeds=2" in permalink.to_query(experiment(seeds=(3, 4)))


def test_other_peoples_parameters_are_left_alone():
    assert read("__theme=dark&job=x") == permalink.Link(None, "x")
    assert read("") == permalink.Link(None, None)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("beam=wide", "the link's beam must be a whole number, got 'wide'"),
        ("damping=much", "the link's damping must be a number, got 'much'"),
        ("scheme=2by8", "a scheme is written like 2x8g8, got '2by8'"),
        ("scheme=9x8g8", "codebooks must be 1 to 4, got 9"),
        ("seeds=0", "the number of seeds must be 1 to 5, got 0"),
        ("seeds=1000000000", "the number of seeds must be 1 to 5, got 1000000000"),
        ("shrinkage=nan", "the link's shrinkage must be a number, got 'nan'"),
        ("text=" + "x" * 3000, "the link's 'text' must have at most 2000 letters, got 3000"),
        ("beam=" + "9" * 2000, "width must be at most 65536"),
        ("sweeps=1000000000000", "sweeps must be at most 1000, got 1000000000000"),
        ("tokens=" + "9" * 30, "calibration_tokens must be at most 1000000000 tokens"),
        ("windows=" + "9" * 30, "perplexity windows must be at least 0 and at most 1000000"),
        ("damping=1e300", "damping must be at least 0 and at most 1e.06"),
        ("seed=" + "9" * 400, "a seed must fit into 64 bits"),
        ("model=\ud800", "the link's 'model' is no text"),
        ("v=2", "this link is of version '2' and this program reads version 1"),
        ("beam=0", "at least 1, got 0"),
        ("search=magic", "there is no search 'magic'; choose one of feedback-descent, feedback, "),
        ("search=magic&beam=8", "there is no search 'magic'"),
        ("search=feedback&beam=0", "at least 1, got 0"),
    ],
)
def test_a_link_that_cannot_be_is_refused_in_a_sentence(query, message):
    with pytest.raises(InputError, match=message):
        read("layer=a&" + query)


def test_an_empty_search_is_not_the_default_one():
    with pytest.raises(InputError, match="there is no search ''"):
        permalink.from_query({"layer": "a", "search": ""})


def test_the_command_names_what_the_run_depends_on():
    words = shlex.split(commands.of(experiment(model="my model", seeds=(3, 4), sweeps=2)))
    assert words[:2] == ["quantcore", "layer"]
    assert " ".join(words[2:]) == (
        "--model my model --layer model.layers.0.self_attn.k_proj --codebooks 2 --bits 8 --group 8 "
        "--init greedy --init oa-em --search feedback-descent --beam 1 --seed 3 --seeds 2 "
        "--sweeps 2 --device auto --json result.json"
    )


def test_the_command_adds_what_differs_from_the_defaults():
    words = commands.of(experiment(shrinkage=0.1, perplexity_windows=0, text="a b.txt"))
    assert "--shrinkage 0.1" in words
    assert "--windows 0" in words
    assert "--text 'a b.txt'" in words
    assert "--damping" not in words


STUDIES = {
    "landscape": Landscape(experiment(seeds=(0, 1), shrinkage=0.1), rows=20, resolution=5),
    "starts": Starts(experiment(sweeps=2), noises=(0.0, 0.5)),
    "survey": Survey(
        layers=("a", "b c"),
        schemes=(Scheme(1, 8, 8), Scheme(2, 6, 8)),
        inits=("greedy",),
        searches=("beam",),
        beams=(1, 8),
        seeds=(0, 2),
        sweeps=1,
    ),
    "trial": Trial(
        model="my model",
        blocks=(0, 2),
        scheme=Scheme(1, 6, 8),
        inits=("oa-em", "oa-em-adam"),
        search="beam",
        beam=4,
        sweeps=1,
        window=64,
        samples=9,
        heldout_samples=2,
        steps=5,
        every=2,
        prompt="-- say 'hello' & go",
        reply_tokens=7,
        seed=3,
        device="cpu",
    ),
    "timed trial": Trial(seconds=7.5),
    "layer": experiment(shrinkage=0.1),
    "facts": Survey(inits=()),
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_study_s_command_is_understood_and_means_the_same_study(
    case, command_line, monkeypatch, tmp_path
):
    config, seen = STUDIES[case], []
    name = {"facts": "survey", "timed trial": "trial"}.get(case, case)
    module = "experiment" if name == "layer" else name

    def run(given, *_):
        seen.append(given)
        raise InputError("seen")

    monkeypatch.setattr(import_module(f"quantcore.{module}"), "run", run)
    monkeypatch.chdir(tmp_path)  # the command writes a result
    words = shlex.split(commands.of(config))
    assert words[:2] == ["quantcore", name]
    _, _, told = command_line(*words[1:])
    assert [one.key() for one in seen] == [config.key()], told


@dataclass(frozen=True)
class View:
    name: str = "a"
    count: int = 3
    share: float = 0.5
    on: bool = False
    picked: tuple[str, ...] = ("x",)
    rows: tuple[int, ...] = ()
    most: int | None = None

    def __post_init__(self):
        if self.count < 0:
            raise InputError(f"count must be at least 0, got {self.count}")


PART = st.text(st.characters(codec="utf-8", exclude_characters="\x00,"), min_size=1, max_size=9)
VIEWS = st.builds(
    View,
    name=WORDS,
    count=st.integers(0, 10**9),
    share=st.floats(allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    picked=st.lists(PART, max_size=3).map(tuple),
    rows=st.lists(st.integers(), max_size=3).map(tuple),
    most=st.none() | st.integers(),
)


@given(VIEWS)
def test_a_views_state_goes_round(state):
    query = dict(parse_qsl(permalink.encode("toy", state), keep_blank_values=True))
    assert (query["v"], query["view"]) == ("1", "toy")
    assert permalink.decode(View, query) == state


def test_a_view_at_its_defaults_has_a_short_link():
    assert permalink.encode("toy", View()) == "v=1&view=toy"
    assert permalink.encode("toy", View(rows=(1, 2))) == "v=1&view=toy&rows=1%2C2"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"count": "many"}, "the link's count must be a whole number, got 'many'"),
        ({"count": "-1"}, "count must be at least 0, got -1"),
        ({"share": "inf"}, "the link's share must be a number, got 'inf'"),
        ({"on": "yes"}, "the link's on must be 0 or 1, got 'yes'"),
        ({"rows": "1,x"}, "the link's rows must be a whole number, got 'x'"),
        ({"v": "0"}, "this link is of version '0'"),
    ],
)
def test_a_views_link_that_cannot_be_is_refused(query, message):
    with pytest.raises(InputError, match=message):
        permalink.decode(View, query)


def test_controls_give_a_state():
    values = ("b", 4.0, 1, True, ["x", "y"], [1.0], None)
    assert permalink.from_values(View, values) == View("b", 4, 1.0, True, ("x", "y"), (1,), None)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, None, "the count is empty; enter a value"),
        (1, 2.5, "the count must be a whole number, got 2.5"),
        (1, "two", "the count must be a whole number, got 'two'"),
        (2, "much", "the share must be a number, got 'much'"),
        (1, float("inf"), "the count must be a whole number, got inf"),
        (1, float("nan"), "the count must be a whole number, got nan"),
        (4, 3.5, "must be several, got 3.5"),
        (0, "\ud800", "is no text"),
    ],
)
def test_a_control_without_a_possible_value_is_refused(place, value, message):
    values = ["b", 4, 1, True, ["x"], [], None]
    values[place] = value
    with pytest.raises(InputError, match=message):
        permalink.from_values(View, tuple(values))
