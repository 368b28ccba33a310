import itertools

import cases
import oracles
import pytest
import torch

from quantcore import feedback
from quantcore.errors import InputError, ProblemError
from quantcore.feedback import FeedbackConfig
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme, decode


def completed(hessian, fixed, error):
    """The least e H e^T when e is given on the fixed columns and free elsewhere."""
    hessian, error = hessian.double(), error.double()
    hessian = hessian + feedback.RIDGES[0] * hessian.diagonal().mean() * torch.eye(len(hessian))
    free = [c for c in range(len(hessian)) if c not in fixed]
    own = hessian[fixed][:, fixed]
    if free:
        across = hessian[fixed][:, free]
        own = own - across @ torch.linalg.solve(hessian[free][:, free], across.T)
    return float(error @ own @ error)


def by_elimination(case, order):
    """Each group in turn gets the words that leave the least, later groups being free."""
    problem, weight = case
    groups, group, books = len(order), weight.codebooks.shape[2], len(weight.codebooks)
    words = list(itertools.product(range(weight.codebooks.shape[1]), repeat=books))
    found = torch.empty_like(weight.codes)
    sums = decode(torch.tensor(words)[None], weight.codebooks)[0]
    for o in range(len(found)):
        fixed, errors = [], torch.empty(0)
        for j in order.tolist():
            fixed += range(j * group, (j + 1) * group)
            target = problem.weight[o].view(groups, group)[j]
            tried = [torch.cat([errors, target - weight.scales[o] * s]) for s in sums]
            costs = [completed(problem.hessian, fixed, error) for error in tried]
            best = min(range(len(words)), key=costs.__getitem__)
            found[o, j], errors = torch.tensor(words[best]), tried[best]
    return found


def run(case, config=FeedbackConfig()):  # noqa: B008  # frozen
    factor = feedback.factor(case.problem, case.weight.codebooks.shape[2])
    return feedback.run(case.problem, case.weight, factor, config)


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("panel", [4, 512])
def test_factor_is_a_block_factorization_of_the_hessian(
    rng, monkeypatch, out, groups, scheme, outliers, panel
):
    monkeypatch.setattr(feedback, "PANEL", panel)
    problem = cases.make(rng, out, groups, scheme, outliers).problem
    found, g = feedback.factor(problem, scheme.group), scheme.group
    columns = (found.order[:, None] * g + torch.arange(g)).flatten()
    upper = found.spread.double()
    middle = torch.block_diag(*found.blocks.double())
    hessian = problem.hessian[columns][:, columns].double()
    hessian += feedback.RIDGES[0] * hessian.diagonal().mean() * torch.eye(len(hessian))
    scale = hessian.diagonal().sqrt()
    got = (upper @ middle @ upper.T) / scale[:, None] / scale
    torch.testing.assert_close(got, hessian / scale[:, None] / scale, rtol=1e-4, atol=1e-4)
    for j in range(groups):
        here = slice(j * g, (j + 1) * g)
        torch.testing.assert_close(upper[here, here], torch.eye(g).double(), rtol=0, atol=1e-4)
        assert upper[here, : j * g].abs().max() < 1e-6 if j else True


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_each_group_leaves_the_least_with_later_groups_free(rng, out, groups, scheme):
    case = cases.make(rng, out, groups, scheme)
    order = feedback.factor(case.problem, scheme.group).order
    every = FeedbackConfig(candidates=scheme.size**scheme.codebooks)
    assert torch.equal(run(case, every).codes, by_elimination(case, order))


def test_full_width_is_exhaustive_search(rng, monkeypatch):
    monkeypatch.setattr(feedback, "RIDGES", (0.0,))
    case = cases.make(rng, 3, 3, Scheme(2, 1, 2))
    found = run(case, FeedbackConfig(width=64))
    assert torch.equal(found.codes, oracles.best_codes(case.problem, case.weight))


def test_without_correlation_every_group_gets_its_nearest_words(rng):
    case = cases.make(rng, 5, 4, Scheme(1, 3, 2))
    plain = LayerProblem.weight_only(case.problem.weight)
    found = run(case._replace(problem=plain))
    target = (plain.weight / case.weight.scales[:, None]).view(5, 4, 2)
    assert torch.equal(found.codes[..., 0], torch.cdist(target, case.weight.codebooks[0]).argmin(2))


def test_loudest_groups_come_first(rng):
    case = cases.make(rng, 2, 4, Scheme(1, 1, 2))
    loud = torch.tensor([1.0, 1.0, 50.0, 50.0, 3.0, 3.0, 9.0, 9.0])
    problem = LayerProblem(case.problem.weight, torch.diag(loud))
    assert feedback.factor(problem, 2).order.tolist() == [1, 3, 2, 0]


def test_beats_descent_from_random_codes(rng):
    case = cases.make(rng, 16, 12, Scheme(2, 4, 4))
    before, after = (case.problem.error(w.dense()) for w in (case.weight, run(case)))
    assert after < 0.5 * before


@pytest.mark.parametrize("dead", [0, 1])
def test_fewer_tokens_than_inputs_and_dead_inputs(rng, dead):
    case = cases.make(rng, 4, 6, Scheme(2, 3, 4))
    inputs = torch.randn(5, 24, generator=rng)
    if dead:
        inputs[:, 3] = 0
    problem = LayerProblem(case.problem.weight, inputs.T @ inputs / 5)
    found = run(case._replace(problem=problem))
    assert torch.isfinite(found.dense()).all()
    assert problem.error(found.dense()) < problem.error(case.weight.dense())


def test_an_indefinite_hessian_is_refused(rng):
    case = cases.make(rng, 2, 2, Scheme(1, 1, 2))
    hessian = torch.eye(4)
    hessian[0, 1] = hessian[1, 0] = 3.0
    with pytest.raises(ProblemError, match="not positive semidefinite"):
        feedback.factor(LayerProblem(case.problem.weight, hessian), 2)


@pytest.mark.parametrize("name", ["width", "candidates"])
def test_settings_must_be_positive(name):
    with pytest.raises(InputError, match=f"feedback {name} must be at least 1, got 0"):
        FeedbackConfig(**{name: 0})
