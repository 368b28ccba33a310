import json
import math
import shlex
import threading
from dataclasses import replace
from html import escape

import grids
import numpy as np
import pytest
from documents import engine
from gradio import EventData
from scipy import stats
from typer.testing import CliRunner

from aqviz import app, atlas, commands, permalink, recordings, studies
from aqviz.figures.layer_map import draw_layer_map, short_names, view_layer_map
from aqviz.parts import study
from aqviz.shown.map import MapState, chosen_layer, layer_table, show
from aqviz.tabs.map import picked
from quantcore import __main__ as quantcore_main
from quantcore import grid, sources
from quantcore.blocks import LayerInfo
from quantcore.errors import InputError, SourceError
from quantcore.weight import Scheme

SCHEME = Scheme(2, 8, 8)
LAYERS = list(grids.layers(4).values())
MAP = replace(studies.MAP, layers=tuple(info.name for info in LAYERS))
DOCUMENT = grids.survey(MAP)


@pytest.fixture
def found():
    return atlas.places(LAYERS, SCHEME, DOCUMENT["layers"], DOCUMENT)


@pytest.fixture
def recorded(monkeypatch):
    """The whole map as if it had been recorded."""
    made = grids.survey(studies.MAP)
    monkeypatch.setattr(recordings, "every", lambda kind: {"map": made})
    return made


def test_the_default_views_state_is_the_recorded_survey():
    assert MapState().survey.key() == studies.MAP.key()
    assert studies.RECORDED["map"] is studies.MAP
    assert MapState(runs=False).survey.inits == ()
    assert MapState(scheme="1x8g8").survey.key() != studies.MAP.key()


def test_rho_of_every_layer_is_that_of_its_shape_without_a_run():
    places = atlas.places(LAYERS, Scheme(1, 4, 8), {})
    for place in places:
        assert place.values["rho"] == place.info.out * place.info.columns / 8 / 16
        assert {value for key, value in place.values.items() if key != "rho"} == {None}


def test_a_scheme_that_does_not_fit_has_no_rho():
    info = LayerInfo("a", 0, "a", 6, 20)
    assert atlas.places([info], SCHEME, {})[0].values["rho"] is None


def test_errors_are_means_over_seeds_and_ratios_are_taken_seed_by_seed():
    name = LAYERS[0].name
    runs = [
        (init, seed, start, end)
        for seed, values in enumerate((((0.4, 0.1), (0.3, 0.2)), ((0.8, 0.2), (0.2, 0.4))))
        for init, start, end in (
            ("greedy", values[0][0], values[1][0]),
            ("oa-em", values[0][1], values[1][1]),
        )
    ]
    document = {
        "config": {},
        "runs": [
            {
                "layer": name,
                "scheme": "2x8g8",
                "rho": 1.0,
                "init": init,
                "seed": seed,
                "search": "beam",
                "beam": 8,
                "calibration_tokens": 1,
                "shrinkage": 0.0,
                "complete": True,
                "seconds": {"total": 1.0},
                "init_heldout_relative_error": start,
                "heldout_relative_error": end,
            }
            for init, seed, start, end in runs
        ],
    }
    values = atlas.places(LAYERS[:1], SCHEME, {}, document)[0].values
    assert values["greedy_start"] == pytest.approx(0.6)
    assert values["oa-em_end"] == pytest.approx(0.3)
    assert values["start_ratio"] == pytest.approx(4)  # 4 and 4
    assert values["end_ratio"] == pytest.approx(1)  # 1.5 and 0.5
    assert atlas.places(LAYERS[:1], Scheme(1, 8, 8), {}, document)[0].values["end_ratio"] is None


def test_facts_are_those_of_the_scheme_s_group(found):
    wanted = DOCUMENT["layers"][LAYERS[5].name]
    values = found[5].values
    assert values["kurtosis"] == wanted["kurtosis"]
    assert values["block_share"] == wanted["block_share"]["8"]
    other = atlas.places(LAYERS, Scheme(2, 8, 4), DOCUMENT["layers"], DOCUMENT)[5].values
    assert other["kurtosis"] == wanted["kurtosis"]
    assert other["block_share"] is other["block_condition"] is other["greedy_end"] is None


def test_the_correlation_is_spearman_s(found):
    ends = [place.values["end_ratio"] for place in found]
    for name in atlas.CAUSES:
        values = [place.values[name] for place in found]
        wanted = stats.spearmanr(values, ends).statistic
        assert atlas.goes_with(found, name)["spearman"] == pytest.approx(wanted)
    told, causes = atlas.summary(found)
    assert f"Over {len(LAYERS)} layers" in told
    assert f"ahead in {sum(end > 1 for end in ends)}" in told
    assert "kurtosis of the weights" in causes
    assert "-" not in causes  # a minus, not a hyphen


def test_the_summary_says_what_is_not_measured():
    told, causes = atlas.summary(atlas.places(LAYERS, SCHEME, DOCUMENT["layers"]))
    assert told.startswith("No errors are measured")
    assert causes == ""


def test_layers_come_back_from_a_survey():
    assert atlas.surveyed(DOCUMENT["layers"]) == LAYERS


def test_values_read_as_people_write_them():
    assert atlas.written("greedy_end", 0.01234) == "1.23 %"
    assert atlas.written("end_ratio", 1.0) == "1.000"
    assert atlas.written("rho", 1234.5) == "1.23e+03"
    assert atlas.written("kurtosis", None) == "not measured"


def test_the_view_lays_blocks_down_and_projections_across(found):
    view = view_layer_map(found, "greedy_end", LAYERS[9].name)
    assert view.colours.shape == (4, 7)
    assert view.chosen == (2, 1)  # the third projection of block 1
    assert view.names[1, 2] == LAYERS[9].name
    value = found[9].values["greedy_end"]
    assert view.colours[1, 2] == pytest.approx(math.log10(value))
    assert view.words[1, 2] == atlas.written("greedy_end", value)
    assert view.projections == ("q", "k", "v", "o", "gate", "up", "down")
    assert len(view.table.rows) == len(LAYERS)


def test_ratios_are_centred_on_one(found):
    view = view_layer_map(found, "end_ratio", "")
    low, high = view.limits
    assert low == -high
    assert view.ticks[0][2] == 0
    assert view.ticks[1][2] == "1.000"
    assert view.diverging
    assert view.chosen is None


def test_the_scale_s_ticks_are_values_at_their_places(found):
    linear = view_layer_map(found, "block_share", "")
    assert linear.ticks[1][0] == atlas.written(
        "block_share", min(place.values["block_share"] for place in found)
    )
    log = view_layer_map(found, "kurtosis", "")
    assert log.ticks[1][-1] == atlas.written(
        "kurtosis", max(place.values["kurtosis"] for place in found)
    )


def test_the_alt_names_the_extremes(found):
    ends = {place.info.name: place.values["end_ratio"] for place in found}
    alt = view_layer_map(found, "end_ratio", "").alt
    for pick in (min, max):
        name = pick(ends, key=ends.get)
        assert f"{ends[name]:.3f} ({name})" in alt


def test_a_hole_in_the_grid_is_not_drawn(found):
    view = view_layer_map(found[1:], "rho", "")
    assert np.isnan(view.colours[0, -1])  # q_proj comes last now, and block 0 lacks it
    assert view.names[0, -1] == ""


def test_names_stay_different():
    assert short_names(["attn.c_proj", "mlp.c_proj", "mlp.c_fc"]) == (
        "attn.c_proj",
        "mlp.c_proj",
        "c_fc",
    )


@pytest.mark.parametrize("measure", atlas.MEASURES)
def test_every_measure_draws(found, measure):
    drawing = draw_layer_map(view_layer_map(found, measure, LAYERS[0].name))
    made = json.loads(drawing.to_json())
    assert made["layout"]["meta"]["alt"]
    assert len(made["layout"]["shapes"]) == 2
    assert made["data"][0]["customdata"][0][0] == LAYERS[0].name


def test_nothing_measured_is_said_in_words():
    bare = atlas.places(LAYERS, SCHEME, {})
    view = view_layer_map(bare, "end_ratio", "")
    assert "Not measured" in draw_layer_map(view).layout.meta["alt"]
    assert draw_layer_map(view_layer_map(bare, "rho", "")).data
    assert not draw_layer_map(view_layer_map([], "rho", "")).data


def test_one_value_everywhere_has_a_scale():
    info = LAYERS[0]
    low, high = view_layer_map(atlas.places([info], SCHEME, {}), "rho", "").limits
    assert low < high


def test_the_chosen_layer_s_numbers_ranks_and_links(found):
    state = MapState(layer=LAYERS[3].name, scheme="2x8g8")
    made = chosen_layer(state, found)
    for view in ("race", "basins", "search"):
        assert f"view={view}" in made
    every = sorted((place.values["kurtosis"] for place in found), reverse=True)
    rank = 1 + every.index(found[3].values["kurtosis"])
    assert f"{rank} of {len(LAYERS)} from the largest" in made
    assert f"layer={LAYERS[3].name}" in made


def test_words_from_outside_are_escaped(found):
    made = chosen_layer(MapState(layer="<script>"), found)
    assert "<script>" not in made
    assert "no layer of that name" in made
    odd = found[0]._replace(info=replace(found[0].info, name="<b>"))
    assert "<b>" not in layer_table(MapState(), [odd])


def test_the_table_has_every_layer_and_measure(found):
    made = layer_table(MapState(), found)
    assert made.count('<th scope="row"') == len(LAYERS)
    assert all(escape(measure.label) in made for measure in atlas.MEASURES.values())


def test_the_first_paint_is_the_recording_s_without_the_engine(core, recorded):
    waiting = replace(core, engine=replace(core.engine, layers=lambda model: 1 / 0))
    told, figure, *_ = show(waiting, MapState(), recorded)
    assert "Over 210 layers" in told
    assert np.array(json.loads(figure)["data"][0]["customdata"]).shape == (30, 7)


def test_another_scheme_keeps_the_facts_and_says_that_errors_are_missing(core, recorded):
    told, figure, facts, *_ = show(core, MapState(scheme="1x8g8", colour="kurtosis"), None)
    assert "No errors are measured" in told
    assert json.loads(figure)["data"]
    assert "not measured" in facts


def test_without_a_recording_rho_is_there_for_all_layers(core):
    _, figure, *_ = show(core, MapState(colour="rho"), None)
    assert np.array(json.loads(figure)["data"][0]["customdata"]).shape == (4, 7)


def test_the_page_does_not_wait_for_the_model(core):
    unready = replace(core, ready=threading.Event())
    _, figure, *_ = show(unready, MapState(), None)
    assert "being prepared" in json.loads(figure)["layout"]["meta"]["alt"]


def test_a_run_again_keeps_the_recorded_facts_while_it_grows(core, recorded):
    growing = {**recorded, "layers": {}, "runs": []}
    told, figure, *_ = show(core, MapState(colour="kurtosis"), growing)
    assert "No errors are measured" in told
    (drawn,) = json.loads(figure)["data"]
    assert all("not measured" not in row for row in drawn["text"])


def test_a_survey_that_grows_shows_all_layers(core):
    growing = grids.survey(replace(MAP, layers=MAP.layers[:2]))
    _, figure, *_ = show(core, MapState(), growing)
    (drawn,) = json.loads(figure)["data"]
    assert np.array(drawn["customdata"]).shape == (4, 7)
    assert sum(words != "not measured" for row in drawn["text"] for words in row) == 2


def test_a_model_that_is_not_there_is_one_sentence(core):
    def missing(model):
        raise SourceError("there is no such model")

    with pytest.raises(SourceError, match="no such model"):
        show(replace(core, engine=replace(core.engine, layers=missing)), MapState("none"), None)


@pytest.mark.parametrize(("there", "chosen"), [("a.b", "a.b"), ("", "c"), (None, "c")])
def test_a_click_chooses_the_layer_of_a_cell(there, chosen):
    assert picked("c", EventData(None, {"customdata": there})) == chosen


@pytest.mark.parametrize(
    "state",
    [MapState(), MapState("m", "a.b", "rho", "1x8g8", False), MapState(colour="kurtosis")],
)
def test_a_link_brings_the_state_back(state):
    query = dict(pair.split("=") for pair in permalink.encode("map", state).split("&"))
    assert permalink.decode(MapState, query) == state


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"colour": "taste"}, "coloured by 'taste'"), ({"scheme": "2by8"}, "2by8")],
)
def test_states_that_cannot_be_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        MapState(**changes)


def test_a_run_ends_as_a_recording_would(core, monkeypatch):
    monkeypatch.setattr(grids, "layers", lambda blocks=4: {info.name: info for info in LAYERS})
    fake = replace(engine(), run=lambda config, observe, previous=None: grids.survey(config))
    made = app.make_core(fake, core.store._folder / "other")
    state = MapState(scheme="1x8g8")
    job = made.store.submit(state.survey)
    while not made.store.get(job.id).state.ended:
        pass
    view = study.StudyView("map", MapState, lambda state: state.survey, lambda *given: given)
    *_, shown, document = study.values(made, view, state)
    assert shown == state
    assert document["key"] == state.survey.key()
    made.store.close()


def test_a_recording_is_drawn_once_for_a_state_and_what_was_run_whenever_it_is_asked_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(grids, "layers", lambda blocks=4: {info.name: info for info in LAYERS})
    fake = replace(engine(), run=lambda config, observe, previous=None: grids.survey(config))
    made, calls = app.make_core(fake, tmp_path), []
    view = study.StudyView(
        "map", MapState, lambda state: state.survey, lambda *given: calls.append(given) or given
    )
    state, other = MapState(), MapState(colour="rho")
    shown = [study.values(made, view, one)[-2:] for one in (state, other, state, other)]
    document = made.recorded(state.survey)
    assert shown == [[state, document], [other, document]] * 2
    assert calls == [(state, document), (other, document)]
    job = made.store.submit(state.survey)
    while not made.store.get(job.id).state.ended:
        pass
    for _ in range(2):
        *_, document = study.values(made, view, state)
        assert document == made.store.get(job.id).document
    assert len(calls) == 4
    made.store.close()


@pytest.mark.parametrize("name", studies.RECORDED)
def test_the_command_of_a_recording_makes_the_same_survey(name, monkeypatch):
    seen = []
    monkeypatch.setattr(grid, "plan", lambda survey: seen.append(survey) or _empty())
    monkeypatch.setattr(sources, "resolve", lambda spec=None: None)
    words = shlex.split(commands.of(studies.RECORDED[name]))
    assert words[:2] == ["quantcore", "survey"]
    result = CliRunner().invoke(quantcore_main.app, [*words[1 : words.index("--json")], "--plan"])
    assert result.exit_code == 0, result.output
    assert seen[0].key() == studies.RECORDED[name].key()


def _empty():
    return grid.Plan((), {}, [], {})
