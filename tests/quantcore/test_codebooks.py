from dataclasses import replace

import cases
import pytest
import torch

from quantcore import codebooks
from quantcore.codebooks import RefitConfig
from quantcore.errors import InputError
from quantcore.weight import Scheme

EXACT = RefitConfig(steps=200, rtol=0.0)


def total(case, weight):
    return float(case.problem.row_errors(weight.dense()).sum())


def normal_equations(case):
    """Least squares over all codewords at once, the design matrix written out."""
    problem, weight = case.problem, case.weight
    books, size, group = weight.codebooks.shape
    out, groups, _ = weight.codes.shape
    half = torch.linalg.cholesky(problem.hessian.double() + 1e-12 * torch.eye(groups * group))
    rows = []
    for o in range(out):
        design = torch.zeros(groups * group, books * size * group, dtype=torch.float64)
        for j in range(groups):
            for m in range(books):
                for i in range(group):
                    column = (m * size + int(weight.codes[o, j, m])) * group + i
                    design[j * group + i, column] = weight.scales[o].double()
        rows.append(half.T @ design)
    target = (problem.weight.double() @ half).flatten()
    words = torch.linalg.lstsq(torch.cat(rows), target[:, None], driver="gelsd").solution
    return replace(weight, codebooks=words.view(books, size, group).float())


@pytest.mark.parametrize("outliers", [False, True])
def test_refit_equals_least_squares(rng, outliers):
    case = cases.make(rng, 12, 4, Scheme(2, 2, 2), outliers)
    want = codebooks.refit_scales(case.problem, normal_equations(case))
    got = codebooks.run(case.problem, case.weight, EXACT)
    assert total(case, got) == pytest.approx(total(case, want), rel=1e-3)


def test_refit_leaves_no_gradient(rng):
    case = cases.make(rng, 12, 4, Scheme(2, 2, 2))
    equations, state = codebooks.start(case.problem, case.weight)
    before = state.residual.norm()
    for _ in range(200):
        state = codebooks.step(equations, state)
    words = state.words.requires_grad_()
    delta = case.problem.weight.double() - replace(case.weight, codebooks=words).dense()
    ((delta @ case.problem.hessian.double()) * delta).sum().backward()
    assert words.grad.norm() < 1e-4 * before  # products on the way are float32


@pytest.mark.parametrize("outliers", [False, True])
def test_the_reported_drop_is_the_errors(rng, outliers):
    case = cases.make(rng, 12, 4, Scheme(2, 2, 2), outliers)
    equations, state = codebooks.start(case.problem, case.weight)
    for _ in range(4):
        state = codebooks.step(equations, state)
    after = replace(equations.weight, codebooks=state.words)
    want = total(case, equations.weight) - total(case, after)
    assert state.drop == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_the_error_never_rises(rng, out, groups, scheme, outliers):
    case = cases.make(rng, out, groups, scheme, outliers)
    weight = case.weight
    for _ in range(3):
        after = codebooks.run(case.problem, weight, RefitConfig(steps=2))
        assert total(case, after) <= total(case, weight)
        weight = after


def test_best_scale_by_hand(rng):
    case = cases.make(rng)
    perfect = replace(case.problem, weight=3 * case.weight.unscaled())
    fitted = codebooks.refit_scales(perfect, case.weight)
    torch.testing.assert_close(fitted.scales, torch.full_like(fitted.scales, 3.0))


def test_codes_stay_and_unused_words_too(rng):
    case = cases.make(rng, 4, 2, Scheme(1, 4, 4))
    unused = case.weight.usage()[0] == 0
    assert unused.any()
    fitted = codebooks.run(case.problem, case.weight, EXACT)
    assert torch.equal(fitted.codes, case.weight.codes)
    torch.testing.assert_close(fitted.codebooks[0, unused], case.weight.codebooks[0, unused])


def test_steps_must_not_be_negative():
    with pytest.raises(InputError, match="steps must be at least 0, got -1"):
        RefitConfig(steps=-1)
