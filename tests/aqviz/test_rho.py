import math
from itertools import product

import pytest
from documents import engine
from surveys import SCHEMES, SHAPES, rho_survey

from aqviz import app, permalink, shapes
from aqviz.evidence import gaps
from aqviz.figures.regimes import draw_regimes, view_regimes
from aqviz.figures.rho import draw_rho, view_rho
from aqviz.shapes import DEFAULT, LAYERS, MODELS, nearest, shape
from aqviz.shown import rho as shown
from aqviz.shown.rho import RhoState
from aqviz.tabs import rho as tab
from quantcore.errors import InputError, QuantcoreError, SchemeError
from quantcore.weight import Scheme

BEAM = [gap for gap in gaps(rho_survey()) if gap.case.search == "beam"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Llama 3.2 3B", (18, 6, 48, 48)),
        ("Llama 3.1 8B", (32, 8, 112, 112)),
        ("Qwen 2.5 3B", (8, 1, 43, 43)),
        ("Llama 3.2 1B", (8, 2, 32, 32)),
        (DEFAULT, (0.6328125, 0.2109375, 1.6875, 1.6875)),
    ],
)
def test_rho_of_known_models_at_two_bits(model, expected):
    assert tuple(Scheme(2, 8, 8).rho(*shape(model, layer)) for layer in LAYERS) == expected


def test_the_default_models_shapes_are_those_of_the_recordings():
    assert shape(DEFAULT, "q, o") == SHAPES["model.layers.10.self_attn.q_proj"]
    assert shape(DEFAULT, "down") == SHAPES["model.layers.10.mlp.down_proj"]
    assert shape(DEFAULT, "k, v") == SHAPES["model.layers.20.self_attn.k_proj"]


@pytest.mark.parametrize("rho", [0.003, 0.7, 18.0, 112.0, 1e9])
def test_nearest_is_the_best_of_all_schemes_that_fit(rho):
    layer = shape(DEFAULT, "k, v")
    found = nearest(layer, rho, Scheme(2, 8, 8), count=5)
    every = []
    for parts in product(range(1, 5), range(1, 11), (4, 8, 16)):
        scheme = Scheme(*parts)
        try:
            scheme.check(*layer)
        except SchemeError:
            continue
        every.append(abs(math.log(scheme.rho(*layer) / rho)))
    far = [abs(math.log(choice.ratio)) for choice in found]
    assert far == pytest.approx(sorted(every)[:5])
    assert all(choice.rho == choice.scheme.rho(*layer) for choice in found)


def test_of_equally_near_schemes_the_likest_comes_first():
    layer = shape(DEFAULT, "q, o")
    rho = Scheme(2, 6, 8).rho(*layer)  # 3x4 and 4x3 have the same
    assert nearest(layer, rho, Scheme(2, 8, 8))[0].scheme == Scheme(2, 6, 8)
    assert nearest(layer, rho, Scheme(3, 8, 8))[0].scheme == Scheme(3, 4, 8)


def test_marks_are_the_gaps_and_their_errors():
    view = view_rho(BEAM, shown.references())
    mark = view.marks[0]
    assert (mark.rho, mark.scheme, mark.seeds) == (BEAM[0].case.rho, "1x8 g8", 3)
    assert (mark.start, mark.end) == (BEAM[0].start.mean, BEAM[0].end.mean)
    assert mark.end_error == BEAM[0].end.error
    assert len(view.marks) == len(SHAPES) * len(SCHEMES)
    assert "15 combinations" in view.alt
    assert "95 % interval" in view.alt


def test_too_few_marks_have_no_correlation():
    assert "no correlation with ρ is given: fewer than" in view_rho(BEAM[:2], []).alt


def test_the_papers_points_are_ratios_of_perplexities_at_the_rho_of_square_layers():
    found = {point.name: point for point in shown.references()}
    assert found["Llama 3B, 2 bits"].rho == 18
    assert found["Llama 3B, 2 bits"].ratio == pytest.approx(60.61 / 17.39)
    assert found["Llama 3B, 3 bits"].rho == pytest.approx(0.0703, abs=1e-4)
    assert found["Qwen 3B, 2 bits"].ratio == pytest.approx(12.50 / 12.30)
    assert len(found) == 4


def test_the_ruler_counts_layers_above_one():
    view = view_regimes(Scheme(2, 8, 8), "Llama 3.2 3B", "k, v", "small", [])
    rhos = [Scheme(2, 8, 8).rho(*shape(model, layer)) for model in MODELS for layer in LAYERS]
    assert f"above 1 in {sum(rho > 1 for rho in rhos)} of {len(rhos)}" in view.alt
    assert view.chosen.rho == 6
    assert view.rows[-1] == "small"


@pytest.mark.parametrize(
    "drawing",
    [
        lambda: draw_rho(view_rho(BEAM, shown.references())),
        lambda: draw_rho(view_rho(BEAM[:1], shown.references())),
        lambda: draw_rho(view_rho([], [])),
        lambda: draw_regimes(view_regimes(Scheme(), DEFAULT, "down", "small", [])),
        lambda: draw_regimes(
            view_regimes(Scheme(), DEFAULT, "down", "small", RhoState().choices())
        ),
    ],
)
def test_every_figure_draws_and_says_what_it_shows(drawing):
    made = drawing()
    assert made.to_json()
    assert len(made.layout.meta["alt"]) > 20


def test_without_a_survey_the_figure_says_so():
    assert "No survey" in view_rho([], shown.references()).alt


def test_the_arithmetic_of_rho_is_spelled_out():
    told = shown.sums(RhoState())
    for words in ("3,072 × 3,072 / 8", "1,179,648", "2^8", "65,536", "<dd>18</dd>"):
        assert words in told
    assert "no more groups than sums" in shown.sums(RhoState(codebooks=3))


def test_stand_ins_link_to_races_on_the_small_layer():
    state = RhoState(small="down", search="descent")
    made = shown.miniature(state, state.choices())
    assert "layer=model.layers.10.mlp.down_proj" in made
    assert "search=descent" in made
    assert made.count("<a href") == len(state.choices())


def test_the_table_of_layers_has_the_chosen_model_and_the_default_one():
    assert shown.layer_table(RhoState()).count("<tr>") == 1 + 8
    assert shown.layer_table(RhoState(model=DEFAULT)).count("<tr>") == 1 + 4


def test_a_clicked_mark_gives_its_race():
    data = {"customdata": ["model.layers.10.self_attn.q_proj", "2x6 g8", "10.q_proj"], "x": 10.1}
    made = shown.picked_case("beam", data)
    assert "scheme=2x6g8" in made
    assert "ρ 10.1" in made
    assert "no layer of ours" in shown.picked_case("beam", {"customdata": None, "x": 1})


def test_show_gives_a_value_for_every_output():
    values = shown.show(RhoState(), BEAM)
    assert len(values) == 7
    assert "--codebooks 2 --bits 6 --group 4" in values[5]


def test_the_link_round_trips():
    state = RhoState("descent", "Llama 3.1 8B", "k, v", 3, 10, 16, "down")
    query = dict(part.split("=") for part in permalink.encode("rho", state).split("&"))
    plain = {name: value.replace("+", " ").replace("%2C", ",") for name, value in query.items()}
    assert permalink.decode(RhoState, plain) == state


@pytest.mark.parametrize(
    "change",
    [{"search": "x"}, {"model": "x"}, {"layer": "x"}, {"small": "x"}, {"group": 5}],
)
def test_what_is_not_offered_is_refused(change):
    with pytest.raises(InputError, match="must be one of"):
        RhoState(**change)


@pytest.mark.parametrize("change", [{"codebooks": 9}, {"bits": 0}])
def test_a_scheme_that_does_not_exist_is_refused(change):
    with pytest.raises(QuantcoreError, match="must be 1 to"):
        RhoState(**change)


def test_the_tab_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "TABS", {"rho": ("ρ", tab.draw_rho)})
    core = app.make_core(engine(), tmp_path)
    try:
        ids = {block.elem_id for block in app.build(core).blocks.values()}
    finally:
        core.store.close()
    assert {"plot-rho", "plot-rho_regimes", "rho-facts", "rho-mini", "rho-link"} <= ids
    assert set(shapes.COUNT) == set(LAYERS)
