"""The basins: views against numbers worked by hand, states that cannot be."""

import math
from dataclasses import replace

import pytest
from grounds import landscape, starts

from aqviz import permalink
from aqviz.figures.line import draw_line, view_line
from aqviz.figures.plane import CODES, draw_plane, view_plane
from aqviz.figures.starts import draw_starts, view_starts
from aqviz.shown.basins import Basins, show_landscape, show_starts
from quantcore.errors import InputError, QuantcoreError


def test_the_plane_holds_the_logarithm_of_percent_and_both_ways():
    view = view_plane(landscape(), "reassigned", "calibration")
    assert view.surface[0] == pytest.approx((0.0, math.log10(2), math.log10(5)))
    a, b = view.ways
    assert (a.x, a.y) == ((0.0, 0.0, 0.0), (4.0, 1.0, 0.0))
    assert a.names == ("initialise", "refit 1", "feedback 1")
    assert b.errors == pytest.approx((8.0, 2.0, 1.0))
    assert view.alt == (
        "A (greedy, seed 0) goes from 8 % to 1 %, of whose movement the plane shows 75 % and B "
        "(OA-EM, seed 0) goes from 8 % to 1 %, of whose movement the plane shows 50 %; the surface "
        "is measured on 48 of 96 rows."
    )


def test_the_text_is_a_choice():
    view = view_plane(landscape(), "reassigned", "heldout")
    assert view.ways[0].errors == pytest.approx((12.0, 3.0, 1.5))
    assert view.surface[0][0] == pytest.approx(math.log10(2))


def test_a_plane_under_way_has_the_rows_there_are():
    document = landscape()
    document["plane"]["errors"]["reassigned"] = {"calibration": [[0.01, 0.02, 0.05]]}
    view = view_plane(document, "reassigned", "calibration")
    assert len(view.surface) == len(view.b) == 1
    assert draw_plane(view).data


def test_frames_play_both_runs_phase_by_phase():
    drawing = draw_plane(view_plane(landscape(), "reassigned", "calibration"))
    assert [len(frame.data[1].x) for frame in drawing.frames] == [1, 2, 3]
    assert [step.label for step in drawing.layout.sliders[0].steps] == [
        *("initialise", "refit 1", "feedback 1")
    ]
    played = {place for frame in drawing.frames for place in frame.traces}
    assert {drawing.data[place].type for place in played} == {"scatter"}


def test_the_line_says_whether_there_is_a_barrier():
    view = view_line(landscape())
    assert view.sections[0].errors["calibration"] == pytest.approx((1.0, 3.0, 2.0))
    assert view.alt == (
        "With codes found anew, the line from greedy, seed 0 to OA-EM, seed 0: on calibration text "
        "it rises 50.0 % above its higher end and on held-out text it has no barrier."
    )
    assert view.table.rows[1][:2] == pytest.approx((0.5, 3.0))


def test_starts_are_told_apart_by_initialiser_and_noise():
    view = view_starts(starts(), "heldout")
    assert [(c.init, c.noise) for c in view.clouds] == [
        *(("greedy", 0.0), ("greedy", 0.2), ("oa-em", 0.0))
    ]
    assert [last for c in view.clouds for last in c.last] == pytest.approx([2.2, 2.4, 2.0])
    assert view.alt == (
        "Rank correlation of first and last error: over all 8 starts −0.25 (95 % interval −0.90 to "
        "0.70), so none is shown; within greedy none (fewer than 4 runs)."
    )


@pytest.mark.parametrize("document", [None, {"plane": None, "line": None, "starts": []}])
def test_every_figure_draws_without_data(document):
    assert draw_plane(view_plane(document, "reassigned", "heldout")).to_json()
    assert draw_line(view_line(document)).to_json()
    assert draw_starts(view_starts(document, "heldout")).to_json()


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("text", ["calibration", "heldout"])
def test_every_choice_draws(codes, text):
    state = Basins(codes=codes, text=text)
    plane, line, command, python = show_landscape(state, landscape())
    assert '"heatmap"' in plane
    assert '"scatter"' in line
    assert command.startswith("quantcore landscape --layer model.layers.10.self_attn.q_proj ")
    assert "landscape.run(config" in python
    assert '"scatter"' in show_starts(state, starts())[0]


def test_a_and_b_are_the_first_and_the_last():
    config = Basins(a="greedy", b="greedy", seed_b=3).landscape
    assert (config.run_of("A"), config.run_of("B")) == (("greedy", 0), ("greedy", 3))
    config = Basins(a="oa-em", b="greedy", seed_a=1, seed_b=1).landscape
    assert (config.run_of("A"), config.run_of("B")) == (("oa-em", 1), ("greedy", 1))


def test_what_is_only_looked_at_is_one_study():
    state = Basins()
    other = replace(state, codes="fixed_a", text="heldout")
    assert other.landscape.key() == state.landscape.key()
    assert replace(state, starts=5).landscape.key() == state.landscape.key()
    assert replace(state, starts=5).many.key() != state.many.key()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": "greedy"}, "A and B are the same run; give them other initialisers or seeds"),
        ({"a": "magic"}, "magic"),
        ({"scheme": "2by8"}, "a scheme is written like 2x8g8"),
        ({"codes": "mine"}, "there is no codes 'mine'; choose one of reassigned, fixed_a, fixed_b"),
        ({"text": "novel"}, "there is no text 'novel'"),
        ({"sweeps": 0}, "sweeps must be at least 1, got 0"),
        ({"starts": 9}, "the seeds of many starts must be 1 to 8, got 9"),
        ({"noise": -1.0}, "noise must be finite and at least 0, got -1.0"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change, message):
    with pytest.raises(QuantcoreError, match=message):
        Basins(**change)


def test_a_link_is_refused_in_the_same_words():
    with pytest.raises(InputError, match="the seeds of many starts"):
        permalink.decode(Basins, {"starts": "99"})
