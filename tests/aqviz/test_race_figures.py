"""Spread and pins: views against numbers worked by hand."""

import pytest
from documents import document, experiment

from aqviz.figures.pins import draw_pins, view_pins
from aqviz.figures.spread import draw_spread, view_spread
from quantcore.weight import Scheme


def with_spread() -> dict:
    made = document(experiment(seeds=(0, 1)))
    for run in made["runs"]:
        more = run["seed"]
        run["row_errors"] = [0.01, 0.03 + 0.02 * more, None]
        run["group_errors"] = [0.2, 0.9, -0.1]
        run["residuals"] = {"edges": [-1.0, 0.0, 1.0], "counts": [30, 10]}
    return made


def test_rows_and_groups_are_ranked_and_averaged_over_seeds():
    one = view_spread(with_spread()).spreads[0]
    assert one.rows == pytest.approx((4.0, 1.0))
    assert one.groups == pytest.approx((90.0, 20.0, -10.0))
    assert one.centres == (-0.5, 0.5)
    assert one.density == pytest.approx((75.0, 25.0))


def test_the_spread_says_what_carries_the_error():
    assert view_spread(with_spread()).alt.startswith(
        "greedy: the worst row loses 4 % of its output, the median row 1 %, and the worst tenth of "
        "the groups makes 90 % of the error; OA-EM: "
    )


def test_a_document_without_spread_draws_and_says_so():
    view = view_spread(document())
    assert not view.spreads
    assert "older recordings lack it" in draw_spread(view).to_json()
    assert draw_spread(view_spread(None)).to_json()
    assert len(draw_spread(view_spread(with_spread())).data) == 6


def test_pins_are_compared_with_the_first_one_initialiser_by_initialiser():
    first = document(experiment())
    other = document(experiment(inits=("greedy",), scheme=Scheme(3, 8, 8)))
    for run in other["runs"]:
        run["heldout_relative_error"] *= 0.5
    view = view_pins({"a": first, "b": other})
    assert view.names[1] == "B: 0.self_attn.k_proj, 3x8g8, feedback-descent 1"
    assert [(dot.pin, dot.init) for dot in view.dots] == [
        (0, "greedy"),
        (0, "oa-em"),
        (1, "greedy"),
    ]
    assert view.dots[2].ratio == pytest.approx(-50.0)
    assert view.alt == "greedy ends 50 % below A in B."
    assert draw_pins(view).data


def test_a_pin_without_the_same_initialiser_has_no_difference():
    view = view_pins({"a": document(experiment(inits=("greedy",))), "b": document()})
    assert {dot.init: dot.ratio for dot in view.dots if dot.pin} == {
        "greedy": pytest.approx(0.0),
        "oa-em": None,
    }


def test_no_pins_draw():
    assert "Pin a finished run" in draw_pins(view_pins({})).to_json()
