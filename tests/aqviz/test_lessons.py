import numpy as np
import pytest
import torch
from test_figures import contrast

from aqviz import theme, toy
from aqviz.figures.lesson_beam import WIDTHS, view_beam
from aqviz.figures.lesson_greedy import view_greedy
from aqviz.figures.lesson_metric import view_metric
from aqviz.figures.lesson_plane import BEST, cell_borders, enlarge, percent, segments
from aqviz.figures.lesson_rounding import view_rounding
from aqviz.figures.lesson_sums import view_sums
from aqviz.figures.lesson_tuning import STEPS, view_tuning
from aqviz.figures.lesson_vectors import view_vectors
from aqviz.shown.learn import LESSONS, Choice, Learn

EYE = np.eye(2)


def ends(dial):
    return list(dial.options) if isinstance(dial, Choice) else [dial.low, dial.high]


CORNERS = [
    (number, name, value)
    for number, lesson in LESSONS.items()
    for name, dial in lesson.dials.items()
    for value in ends(dial)
]


@pytest.mark.parametrize(("number", "name", "value"), CORNERS)
def test_every_lesson_draws_at_the_ends_of_its_dials(number, name, value):
    kind = type(getattr(Learn(), name))
    figure = Learn(lesson=number, **{name: kind(value)}).figure()
    meta = figure.layout.meta
    assert len(figure.to_json()) < 150_000
    assert meta["alt"].endswith(".")
    assert "nan" not in meta["alt"]
    assert all(len(row) == len(meta["table"]["columns"]) for row in meta["table"]["rows"])
    assert figure.layout.height >= 300


def test_a_lecture_has_larger_type():
    small, large = Learn(lesson=2).figure(), Learn(lesson=2, full=True).figure()
    assert large.layout.font.size > 13
    assert small.layout.font.size is None
    assert enlarge(small).to_json() == large.to_json()


def test_borders_of_two_words_are_the_line_between_them():
    (border,) = cell_borders(np.array([[-1.0, 0.0], [1.0, 0.0]]), EYE)
    assert border[:, 0].tolist() == pytest.approx([0, 0])
    assert sorted(np.sign(border[:, 1])) == [-1, 1]


def test_borders_of_a_square_of_words_are_a_cross():
    words = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    found = cell_borders(words, EYE)
    assert len(found) == 4  # cells that meet in one point have no border
    assert all(np.isclose(np.abs(border).min(1), 0).all() for border in found)


def test_borders_lie_between_the_two_nearest_words_of_the_metric():
    words = toy.points(12, seed=4).numpy()
    metric = toy.metric(40.0, 8.0).numpy()
    found = cell_borders(words, metric)
    for border in found:
        middle = border.mean(0)
        delta = words - middle
        distances = np.sort(np.einsum("kd,de,ke->k", delta, metric, delta))
        assert distances[0] == pytest.approx(distances[1])
    assert len(found) <= 3 * 12 - 6  # a planar graph


def test_equal_words_have_no_border_between_them():
    words = np.array([[0.0, 0], [0, 0], [1, 0]])
    assert {tuple(np.round(border[:, 0], 9)) for border in cell_borders(words, EYE)} == {(0.5, 0.5)}


def test_words_in_a_row_border_only_on_their_neighbours():
    found = cell_borders(np.array([[-1.0, 0], [0, 0], [1, 0]]), EYE)
    assert sorted(float(border[0, 0]) for border in found) == pytest.approx([-0.5, 0.5])


def test_segments_have_gaps_between_them():
    line = segments(np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], float))
    assert line["x"][[0, 1, 3, 4]].tolist() == [0, 2, 4, 6]
    assert np.isnan(line["y"][[2, 5]]).all()
    assert line["x"].dtype == np.float32


@pytest.mark.parametrize("page", [theme.PAGE_LIGHT, theme.PAGE_DARK])
def test_the_colour_of_the_best_stands_out(page):
    assert contrast(BEST, page) >= 3


def test_shares_are_said_in_three_digits():
    assert percent(0.123456) == "12.3 %"


@pytest.mark.parametrize("spacing", ["even", "fitted"])
def test_numbers_go_to_their_nearest_level_and_the_error_says_what_that_loses(spacing):
    view = view_rounding(2, spacing, 0.0)
    nearest = [min(view.levels, key=lambda level, n=n: abs(level - n)) for n in view.numbers]
    assert view.rounded.tolist() == pytest.approx(nearest)
    lost = ((view.numbers - view.rounded) ** 2).sum() / (view.numbers**2).sum()
    assert view.errors[spacing][1] == pytest.approx(lost)
    assert len(view.levels) == 4


def test_fitted_levels_lose_less_and_an_outlier_hurts_even_ones_more():
    plain, far = view_rounding(3, "even", 0.0), view_rounding(3, "even", 12.0)
    for view in (plain, far):
        for even, fitted in zip(view.errors["even"], view.errors["fitted"], strict=True):
            assert fitted <= even
    assert 12.0 in far.numbers
    ratios = [view.errors["even"][2] / view.errors["fitted"][2] for view in (plain, far)]
    assert ratios[1] > 3 * ratios[0]


def test_grid_and_codebook_have_as_many_words_and_the_codebook_loses_less():
    view = view_vectors(2, 0.8)
    assert view.grid.places.shape == view.free.places.shape == (16, 2)
    assert len(np.unique(view.grid.places[:, 0])) == 4
    assert view.free.error < view.grid.error
    delta = view.points[:, None] - view.grid.places
    lost = (delta**2).sum(2).min(1).sum() / (view.points**2).sum()
    assert view.grid.error == pytest.approx(lost)


def test_sums_are_all_sums_and_each_point_is_told_its_own():
    view = view_sums(2, 4, 64)
    expected = [first + second for first in view.books[0] for second in view.books[1]]
    assert np.allclose(view.sums, expected)
    own = view.books[0][view.codes[:, 0]] + view.books[1][view.codes[:, 1]]
    assert np.allclose(view.sums[view.taken], own)
    assert view.rho == 4
    assert view.used.sum() == len(set(view.taken.tolist()))
    lost = ((view.points - own) ** 2).sum() / (view.points**2).sum()
    assert view.error == pytest.approx(lost)
    assert "16 sums for 64 points, so ρ = 4;" in view.alt


def test_starred_points_are_exactly_those_with_a_nearer_sum():
    view = view_greedy(3, 4, 0)
    distances = ((view.points[:, None] - view.words) ** 2).sum(2)
    own = ((view.points - view.greedy) ** 2).sum(1)
    assert (view.missed == (distances.min(1) < own - 1e-12)).all()
    assert 0 < view.missed.sum() < len(view.points)
    best = ((view.points - view.best) ** 2).sum(1)
    assert best.tolist() == pytest.approx(distances.min(1).tolist())
    assert view.errors.together < view.errors.best < view.errors.greedy


def test_the_stages_of_greedy_fit_together():
    first, second, third = (view_greedy(stage, 4, 2) for stage in (1, 2, 3))
    assert np.allclose(second.points, first.points - first.greedy)
    assert np.allclose(third.greedy, first.greedy + second.greedy)
    assert first.errors == second.errors == third.errors


def test_points_change_sides_exactly_where_the_metrics_disagree():
    view = view_metric(30.0, 10.0, 0)
    metric = toy.metric(30.0, 10.0).numpy()
    delta = view.points[:, None] - view.words
    plain = (delta**2).sum(2).argmin(1)
    aware = np.einsum("nkd,de,nke->nk", delta, metric, delta).argmin(1)
    assert (view.changed == (plain != aware)).all()
    assert view.changed.any()
    assert (view.before == view.words).all()
    assert view.errors[1] == pytest.approx(view.errors[2])


def test_equal_costs_change_nothing():
    view = view_metric(30.0, 1.0, 0)
    assert not view.changed.any()
    assert view.errors[0] == pytest.approx(view.errors[1])


def test_em_lowers_the_output_error_round_by_round():
    errors = [view_metric(30.0, 10.0, rounds).errors for rounds in range(4)]
    assert errors[0][0] > errors[0][1]
    last = [error[2] for error in errors]
    assert last == sorted(last, reverse=True)
    assert last[3] < last[0]


def test_ellipses_are_places_of_one_error():
    view = view_metric(30.0, 10.0, 0)
    delta = view.ellipses[0] - view.words[0]
    costs = np.einsum("pd,de,pe->p", delta, toy.metric(30.0, 10.0).numpy(), delta)
    assert costs.tolist() == pytest.approx([costs[0]] * len(costs))


@pytest.mark.parametrize("width", [1, 4])
def test_the_path_leads_from_the_present_row_to_the_row_found(width):
    nodes = view_beam(width, 0.9, 3).nodes
    path = np.flatnonzero(nodes.path)
    assert nodes.groups[path].tolist() == [1, 2, 3, 4, 5, 6]
    assert nodes.parents[path].tolist() == [0, *path[:-1].tolist()]
    assert nodes.kept[path].all()
    assert nodes.errors[path[-1]] == nodes.errors[nodes.groups == 6].min()
    assert (nodes.groups[nodes.parents[1:]] == nodes.groups[1:] - 1).all()
    assert nodes.kept[nodes.parents].all()
    assert nodes.kept[nodes.groups == 6].sum() == width


def test_no_width_goes_below_the_optimum_and_uncorrelated_groups_need_none():
    view = view_beam(1, 0.9, 3)
    assert view.found > view.optimum
    assert all(excess >= 0 for excess in view.excess)
    assert view.excess[0] > view.excess[-1]
    assert view_beam(1, 0.0, 3).solved == (8,) * len(WIDTHS)


def test_the_tuning_is_told_step_by_step():
    view = view_tuning(STEPS, 1, 2.0)
    early = view_tuning(10, 1, 2.0)
    assert len(view.losses) == len(view.still) == len(view.changes) == STEPS + 1
    assert view.losses[0] == view.still[0]
    assert list(view.changes) == sorted(view.changes)
    assert view.changes[-1] > 0
    assert len(view.buffer) == STEPS + 1
    assert len(early.buffer) == 11
    assert early.losses == view.losses
    assert min(view.losses) < min(view.still)
    assert np.allclose(view.buffer[0], view.words[0])
    assert f"after step {np.argmin(view.losses)}" in view.alt
    assert torch.tensor(view.trail).shape == (STEPS + 1, 8, 2)
