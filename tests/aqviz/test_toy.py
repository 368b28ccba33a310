import itertools
import math
from dataclasses import replace

import pytest
import torch

from aqviz import toy
from quantcore import beam, clustering
from quantcore.beam import BeamConfig
from quantcore.codebooks import RefitConfig
from quantcore.objective import LayerProblem


def cloud(count=40):
    return LayerProblem(toy.points(count, 0.5, seed=3), toy.metric(30.0, 4.0))


def best_sum(problem, books, point):
    """The lowest error of a point over all sums, in loops."""
    errors = []
    for words in itertools.product(*books):
        delta = point - sum(words)
        errors.append(float(delta @ problem.hessian @ delta))
    return min(errors)


def test_points_have_the_correlation_asked_for_and_move_with_it():
    made = toy.points(20_000, 0.8)
    assert torch.corrcoef(made.T)[0, 1] == pytest.approx(0.8, abs=0.01)
    assert made.var(0).tolist() == pytest.approx([1, 1], abs=0.03)
    assert torch.equal(made[:, 0], toy.points(20_000, 0.3)[:, 0])


def test_a_metric_costs_along_its_direction_what_was_asked():
    bent = toy.metric(30.0, 9.0)
    along = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)], dtype=torch.float64)
    across = torch.tensor([-along[1], along[0]], dtype=torch.float64)
    assert float(along @ bent @ along) == pytest.approx(1.8)
    assert float(across @ bent @ across) == pytest.approx(0.2)
    assert torch.allclose(toy.metric(77.0, 1.0), torch.eye(2, dtype=torch.float64))


def test_even_levels_worked_by_hand():
    assert toy.grid(torch.tensor([0.0, 3.0, 8.0]), 2).tolist() == [1, 3, 5, 7]


def test_fitted_words_lose_no_more_than_those_they_began_at():
    points = toy.points(60, 0.7)
    words = toy.points(8, seed=9)
    problem = toy.em_problem(points)
    before = clustering.objective(problem, clustering.state_of(problem, words))
    after = clustering.objective(problem, clustering.state_of(problem, toy.fitted(points, words)))
    assert after < before


@pytest.mark.parametrize("books", [1, 2, 3])
def test_joint_choice_is_the_best_of_all_sums(books):
    problem = cloud()
    greedy = toy.greedy(problem, books, 4)
    found = problem.row_errors(toy.jointly(problem, greedy))
    expected = [best_sum(problem, greedy.codebooks, point) for point in problem.weight]
    assert found.tolist() == pytest.approx(expected)


def test_refitted_words_are_the_least_squares_ones():
    problem = cloud()
    greedy = toy.greedy(problem, 2, 4)
    weight = toy.refit(problem, greedy)
    choice = torch.nn.functional.one_hot(greedy.codes[:, 0].long(), 4).flatten(1).double()
    solved = torch.linalg.lstsq(choice, problem.weight, driver="gelsd").solution
    lowest = problem.error(choice @ solved)
    assert lowest <= problem.error(weight) <= 1.01 * lowest < problem.error(greedy)
    assert torch.equal(weight.scales, torch.ones(40, dtype=torch.float64))


def test_a_refit_s_scale_goes_into_the_words(monkeypatch):
    monkeypatch.setattr(toy, "RefitConfig", lambda: RefitConfig(steps=0))  # scales only
    problem = cloud()
    fitted = toy.greedy(problem, 1, 4)
    double = replace(fitted, codebooks=2 * fitted.codebooks)
    assert problem.error(toy.refit(problem, double)) <= (1 + 1e-9) * problem.error(fitted)


def test_fitting_together_never_gets_worse():
    problem = cloud()
    weight = toy.jointly(problem, toy.greedy(problem, 2, 4))
    errors = [problem.error(toy.together(problem, weight, rounds)) for rounds in range(6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_the_weight_before_its_last_book():
    problem = cloud()
    assert torch.equal(
        toy.without_last(toy.greedy(problem, 2, 4)).dense(), toy.greedy(problem, 1, 4).dense()
    )


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_levels_end_where_the_beam_ends(width):
    problem, weight = toy.layer(0.9, 4, 8, 6)
    found = problem.row_errors(beam.run(problem, weight, BeamConfig(width), torch.Generator()))
    for row in range(8):
        one = LayerProblem(problem.weight[row : row + 1], problem.hessian)
        levels = toy.beam_levels(one, weight[row : row + 1], width)
        assert float(levels[-1].errors[0]) == pytest.approx(float(found[row]))


def test_every_level_is_a_whole_row_with_one_more_word_changed():
    problem, weight = toy.layer(0.9, 4, 8, 6)
    one, weight = LayerProblem(problem.weight[:1], problem.hessian), weight[:1]
    book, kept = weight.codebooks[0], [weight.codes[0, :, 0].tolist()]
    for group, level in enumerate(toy.beam_levels(one, weight, 3)[1:]):
        rows = []
        for parent, word in zip(level.parents.tolist(), level.words.tolist(), strict=True):
            rows.append(kept[parent].copy())
            rows[-1][group] = word
        dense = book[torch.tensor(rows)].flatten(1)
        expected = torch.cat([one.row_errors(row[None]) for row in dense])
        assert torch.allclose(level.errors, expected)
        assert len(rows) == 4 * len(kept)
        assert expected.tolist() == sorted(expected.tolist())
        kept = rows[: level.kept]


def test_trying_everything_finds_the_lowest():
    problem, weight = toy.layer(0.8, 3, 2, 3)
    expected = []
    for row in problem.weight:
        errors = []
        for words in itertools.product(weight.codebooks[0], repeat=3):
            delta = row - torch.cat(words)
            errors.append(float(delta @ problem.hessian @ delta))
        expected.append(min(errors))
    assert toy.exhaustive(problem, weight.codebooks[0]).tolist() == pytest.approx(expected)


def test_tuning_without_changes_keeps_the_codes_and_lowers_the_loss():
    problem, weight = toy.layer(0.9, 8, 8, 4)
    moments = toy.tuned(problem, weight, 20, 0.0, 0.02)
    assert all(torch.equal(moment.codes, weight.codes.flatten()) for moment in moments)
    assert all(moment.buffers is None for moment in moments)
    assert moments[0].loss == pytest.approx(problem.errors(weight).relative)
    assert moments[-1].loss < moments[0].loss
    assert torch.equal(moments[0].book, weight.codebooks[0])  # what was given is as it was


def test_tuning_changes_no_more_codes_a_step_than_allowed_and_each_to_the_word_nearest():
    problem, weight = toy.layer(0.9, 8, 8, 4)
    moments = toy.tuned(problem, weight, 30, 2 / 32, 0.05)
    assert torch.equal(moments[0].buffers, weight.dense().view(-1, 2))
    changed = 0
    for before, after in itertools.pairwise(moments):
        moved = (before.codes != after.codes).nonzero()[:, 0]
        assert len(moved) <= 2
        changed += len(moved)
        for group in moved.tolist():
            distances = (after.book - after.buffers[group]).square().sum(1)
            assert int(after.codes[group]) == int(distances.argmin())
    assert changed > 5
