import json
from dataclasses import replace
from urllib.parse import parse_qsl

import grids
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqviz import permalink, studies
from aqviz.effort import Point, Setting, cheapest, points, undominated, widening
from aqviz.figures.frontier import draw_frontier, view_frontier
from aqviz.figures.search_grid import draw_search_grid, view_search_grid
from aqviz.shown.search import SearchState, asymmetry, end_table, show
from quantcore.errors import InputError

SMALL = replace(studies.FRONTIER, inits=("greedy", "oa-em"), beams=(4, 8), seeds=(0, 1), sweeps=3)
NUMBERS = st.floats(0.01, 100)


@pytest.fixture
def document():
    return grids.survey(SMALL)


def point(seconds, heldout, *, init="greedy", beam=1, sweep=1):
    seconds, heldout = float(seconds), float(heldout)
    return Point(Setting(init, "beam", beam), sweep, 1, seconds, heldout / 2, heldout, 0.0)


def entry(phase, sweep, heldout, seconds):
    return {
        "phase": phase,
        "sweep": sweep,
        "seconds": seconds,
        "relative_error": heldout / 2,
        "heldout_relative_error": heldout,
    }


def run(seed, entries, end, seconds, **changes):
    return {
        "init": "greedy",
        "search": "feedback-descent",
        "beam": 1,
        "seed": seed,
        "complete": True,
        "trace": entries,
        "seconds": {"total": seconds},
        "relative_error": end / 2,
        "heldout_relative_error": end,
        **changes,
    }


def test_the_default_state_is_the_recorded_survey_in_any_order_of_choices():
    assert SearchState().survey.key() == studies.FRONTIER.key()
    clicked = SearchState(
        inits=("oa-em", "oa-em-adam", "greedy"),
        searches=("beam", "feedback-descent"),
        beams=(16, 1, 8, 2, 4),
    )
    assert clicked.survey.key() == studies.FRONTIER.key()


def test_a_sweep_ends_with_its_last_search_and_the_end_with_the_last_refit():
    first = [
        entry("init", 0, 9.0, 1),
        *(entry("refit", 1, 8.0, 2), entry("feedback", 1, 7.0, 3)),
        *(entry("refit", 1, 6.5, 4), entry("descent", 1, 6.0, 5)),
        *(entry("refit", 2, 5.5, 6), entry("descent", 2, 5.0, 7), entry("refit", 3, 4.5, 8)),
    ]
    # stopped after one sweep, so the second sweep is no point of this setting
    second = [entry("init", 0, 9.0, 1), entry("descent", 1, 8.0, 3), entry("refit", 2, 7.5, 4)]
    (one, end) = points({"runs": [run(0, first, 4.5, 8), run(1, second, 7.5, 4)]})
    assert (one.sweep, one.seeds) == (1, 2)
    assert (one.heldout, one.calibration, one.seconds) == (7.0, 3.5, 4.0)
    assert one.spread == pytest.approx(2**0.5)
    assert (end.sweep, end.heldout, end.seconds) == (None, 6.0, 6.0)
    assert one.when == "after sweep 1"
    assert end.when == "at the end"


def test_runs_that_are_not_finished_are_no_points():
    assert points(None) == []
    assert points({"runs": [run(0, [], 1.0, 1.0, complete=False)]}) == []
    unheld = run(0, [], 1.0, 1.0, heldout_relative_error=None)
    assert points({"runs": [unheld]}) == []


def test_one_seed_has_no_spread():
    (end,) = points({"runs": [run(0, [], 2.0, 1.0)]})
    assert end.spread == 0


def test_a_frontier_worked_by_hand():
    slow_best, fast, beaten, twin = point(9, 1), point(1, 5), point(2, 6), point(1, 5.5)
    assert undominated([slow_best, beaten, twin, fast]) == [fast, slow_best]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_the_frontier_is_what_no_other_point_beats(pairs):
    found = [point(*pair) for pair in pairs]
    wanted = {
        (one.seconds, one.heldout)
        for one in found
        if not any(
            other.seconds <= one.seconds
            and other.heldout <= one.heldout
            and (other.seconds, other.heldout) != (one.seconds, one.heldout)
            for other in found
        )
    }
    kept = undominated(found)
    assert [(one.seconds, one.heldout) for one in kept] == sorted(wanted)


def test_the_cheapest_way_is_within_one_percent():
    best, near, far = point(9, 1.0), point(3, 1.0099), point(1, 1.0101)
    assert cheapest([best, near, far]) == near
    assert cheapest([best]) == best


def test_widening_is_a_ratio_seed_by_seed(document):
    ratios = widening(document, 4, 8)
    end = {
        (run["init"], run["beam"], run["seed"]): run["heldout_relative_error"]
        for run in document["runs"]
        if run["search"] == "beam"
    }
    for init in ("greedy", "oa-em"):
        values = [end[init, 8, seed] / end[init, 4, seed] for seed in (0, 1)]
        assert ratios[init].mean == pytest.approx(sum(values) / 2)
    assert widening(document, 8, 16) == {}
    assert widening(None, 4, 8) == {}


def test_the_sentence_on_a_wider_beam(document):
    state = SearchState(inits=SMALL.inits, beams=(8, 4), seeds=2)
    told = asymmetry(state, document)
    assert "at 8 instead of 4" in told
    assert "from greedy 0.9" in told
    assert "(helped)" in told
    assert "not measured" in asymmetry(state, None)
    assert "two widths" in asymmetry(replace(state, beams=(4,)), document)
    assert "two widths" in asymmetry(replace(state, searches=("descent",)), document)
    alone = {**document, "runs": [r for r in document["runs"] if r["seed"] == 0]}
    assert "one seed" in asymmetry(state, alone)


def test_the_grid_s_cells_are_the_points(document):
    found = points(document)
    view = view_search_grid(found, "beam")
    assert view.beams == ("4", "8")
    assert view.sweeps == ("1", "2", "3", "end")
    assert [panel.init for panel in view.panels] == ["greedy", "oa-em"]
    for one in found:
        if one.setting.search == "beam":
            panel = view.panels[("greedy", "oa-em").index(one.setting.init)]
            row = 3 if one.sweep is None else one.sweep - 1
            cell = panel.errors[row, (4, 8).index(one.setting.beam)]
            assert cell == pytest.approx(100 * one.heldout)
    errors = [100 * one.heldout for one in found if one.setting.search == "beam"]
    assert view.limits == (min(errors), max(errors))


def test_the_grid_names_each_initialiser_s_lowest(document):
    view = view_search_grid(points(document), "beam")
    assert view.alt.count("(beam 8, at the end)") == 2
    assert len(view.table.rows) == 2 * 2 * 4


def test_a_sweep_that_not_all_reached_is_an_empty_cell():
    found = [point(1, 0.5, sweep=None), point(2, 0.4, beam=2, sweep=1)]
    (panel,) = view_search_grid(found, "beam").panels
    assert panel.words == [["", "40.0"], ["50.0", ""]]


def test_the_frontier_s_marks_and_sentence(document):
    found = points(document)
    view = view_frontier(found)
    assert sum(len(marks.points) for marks in view.marks) == len(found)
    kept = [one for marks in view.marks if marks.kept for one in marks.points]
    assert set(kept) == set(undominated(found))
    assert view.searches == ("feedback-descent", "beam")
    best = min(found, key=lambda one: one.heldout)
    assert f"of {len(found)} points is {100 * best.heldout:.3f} %" in view.alt
    assert len(view.table.rows) == len(found)


def test_the_cheapest_way_is_told():
    told = view_frontier([point(9, 0.01), point(3, 0.01005, beam=2), point(1, 0.02)]).alt
    assert "is 1.000 % (greedy, beam search (as released), beam 1, after sweep 1) in 9.0 s" in told
    assert told.endswith("beam 2, after sweep 1: 1.005 % in 3.0 s.")


def test_a_best_that_nothing_comes_near_is_said_so():
    assert "nothing faster" in view_frontier([point(1, 5), point(2, 1)]).alt


@pytest.mark.parametrize("empty", [True, False])
def test_the_figures_draw(document, empty):
    found = [] if empty else points(document)
    for drawing in (
        draw_search_grid(view_search_grid(found, "beam")),
        draw_frontier(view_frontier(found)),
    ):
        made = json.loads(drawing.to_json())
        assert bool(made["data"]) is not empty
        assert made["layout"]["meta"]["alt"]
        assert ("table" in made["layout"]["meta"]) is not empty


def test_one_point_draws():
    assert draw_frontier(view_frontier([point(1, 0.5)])).data
    assert draw_search_grid(view_search_grid([point(1, 0.5)], "beam")).data


def test_a_search_that_was_not_run_is_said_so(document):
    view = view_search_grid(points(document), "descent")
    assert not view.panels
    assert "Nothing is measured with coordinate descent" in view.alt


def test_the_table_has_a_row_a_setting(document):
    assert end_table(points(document)).count('<th scope="row"') == 8
    assert "beaten in both" in end_table([])


def test_show_without_a_document_says_so():
    told, grid, frontier, _, command, python, files = show(SearchState(), None)
    assert files == ""
    assert "press Run" in told
    for figure in (grid, frontier):
        assert "press Run" in json.loads(figure)["layout"]["meta"]["alt"]
    assert command.startswith("quantcore survey --layer")
    assert "Survey(" in python


def test_words_from_outside_are_escaped(document):
    document["runs"][0]["init"] = "<b>"
    told, _, _, ends, *_ = show(SearchState(beams=(4, 8)), document)
    assert "<b>" not in told
    assert "<b>" not in ends


@pytest.mark.parametrize(
    "state",
    [
        SearchState(),
        SearchState("m", "a.b", "1x8g8", ("greedy",), ("descent",), (2,), 1, 2, 4096, "descent"),
        SearchState(beams=(1, 32), seeds=5),
    ],
)
def test_a_link_brings_the_state_back(state):

    assert (
        permalink.decode(SearchState, dict(parse_qsl(permalink.encode("search", state)))) == state
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inits": ()}, "at least one initialiser"),
        ({"beams": ()}, "at least one initialiser and beam"),
        ({"beams": (3,)}, "a beam must be one of 1, 2"),
        ({"searches": ("luck",)}, "a search must be one of"),
        ({"searches": ()}, "at least one value of searches"),
        ({"shown": "luck"}, "got 'luck'"),
        ({"seeds": 6}, "1 to 5"),
        ({"sweeps": -1}, "sweeps"),
        ({"scheme": "2by8"}, "2by8"),
        ({"inits": ("magic",)}, "magic"),
    ],
)
def test_states_that_cannot_be_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        SearchState(**changes)
