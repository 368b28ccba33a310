from dataclasses import replace

import cases
import oracles
import pytest
import torch

from quantcore import clustering, codebooks, feedback, init, objective
from quantcore.errors import InputError, ProblemError
from quantcore.init import InitConfig
from quantcore.objective import LayerProblem, Regularisation, regularise
from quantcore.weight import Scheme


def test_error_is_the_mean_squared_output_change(rng):
    inputs = torch.randn(200, 12, generator=rng)
    weight, approx = torch.randn(2, 5, 12, generator=rng)
    problem = LayerProblem(weight, inputs.T @ inputs / len(inputs))
    want = (inputs @ (weight - approx).T).square().mean(0)
    torch.testing.assert_close(problem.row_errors(approx).float(), want, rtol=1e-4, atol=1e-5)
    whole = (inputs @ weight.T).square().mean()
    errors = problem.errors(approx)
    assert errors.error == pytest.approx(float(want.mean()), rel=1e-4)
    assert errors.relative == pytest.approx(float(want.mean() / whole), rel=1e-4)
    assert errors.heldout_relative is None


def test_both_errors_are_measured_on_their_own_hessian(rng):
    problem, weight = cases.make(rng)
    assert problem.heldout_hessian is not None
    errors = problem.errors(weight.dense())
    other = LayerProblem(problem.weight, problem.heldout_hessian).errors(weight.dense())
    assert errors.heldout_relative == pytest.approx(other.relative)
    assert errors.heldout_relative != pytest.approx(errors.relative, rel=1e-3)


@pytest.mark.parametrize("text", ["calibration", "held-out"])
def test_an_output_of_zero_has_no_relative_errors(text):
    """The weight has nothing where the inputs are."""
    weight, silent = torch.tensor([[1.0, 0.0]]), torch.diag(torch.tensor([0.0, 1.0]))
    hessians = (silent, None) if text == "calibration" else (torch.eye(2), silent)
    with pytest.raises(ProblemError, match=f"output is zero on the {text} text"):
        LayerProblem(weight, *hessians).errors(weight)


def test_codes_have_the_errors_of_their_dense_matrix(rng):
    problem, weight = cases.make(rng)
    assert torch.equal(problem.row_errors(weight), problem.row_errors(weight.dense()))
    assert problem.errors(weight) == problem.errors(weight.dense())


def test_a_gain_is_the_difference_of_two_errors(rng):
    problem, weight = cases.make(rng)
    other = cases.make(rng).weight
    want = problem.row_errors(weight) - problem.row_errors(other)
    torch.testing.assert_close(problem.row_gains(weight, other), want, rtol=1e-4, atol=1e-5)
    dense = problem.row_gains(weight.dense(), other.dense())
    assert torch.equal(problem.row_gains(weight, other), dense)


def test_chunks_of_any_size_give_one_result(rng, monkeypatch):
    problem, weight = cases.make(rng, out=40, groups=6)

    def everything():
        start = init.run(
            problem, Scheme(2, 3, 4), InitConfig("oa-em"), torch.Generator().manual_seed(1)
        )
        fitted = codebooks.run(problem, weight, codebooks.RefitConfig())
        factor = feedback.factor(problem, 4)
        return (
            problem.row_errors(weight), problem.row_energies,
            problem.row_gains(weight, 0 * problem.weight), start.codes, start.codebooks,
            fitted.codebooks, fitted.scales, factor.blocks,
        )  # fmt: skip

    whole = everything()
    problem = replace(problem)  # or it remembers
    for module in (objective, clustering, init, codebooks):
        for name in ("CHUNK", "SLICE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 50)
    for module in (objective, feedback):
        monkeypatch.setattr(module, "PANEL", 8)
    for got, want in zip(everything(), whole, strict=True):
        torch.testing.assert_close(got, want)


def test_weight_only_is_the_squared_distance(rng):
    weight, approx = torch.randn(2, 5, 12, generator=rng)
    want = (weight - approx).square().sum(1)
    got = LayerProblem.weight_only(weight).row_errors(approx)
    torch.testing.assert_close(got.float(), want)


def test_blocks_are_the_diagonal_blocks(rng):
    problem = cases.make(rng, groups=3).problem
    for j, block in enumerate(problem.blocks(4)):
        here = slice(4 * j, 4 * j + 4)
        torch.testing.assert_close(block, problem.hessian[here, here])


def test_scaling_the_hessian_scales_the_error(rng):
    problem, weight = cases.make(rng)
    scaled = replace(problem, hessian=4 * problem.hessian)
    one, four = problem.errors(weight.dense()), scaled.errors(weight.dense())
    assert four.error == pytest.approx(4 * one.error)
    assert four.relative == pytest.approx(one.relative)


def test_regularise_by_hand():
    hessian = torch.tensor([[2.0, 1.0], [1.0, 6.0]])
    got = regularise(hessian, Regularisation(damping=0.5, shrinkage=0.25))
    torch.testing.assert_close(got, torch.tensor([[4.0, 0.75], [0.75, 8.0]]))


def test_regularisation_leaves_the_heldout_hessian(rng):
    problem = cases.make(rng).problem
    moved = problem.regularised(Regularisation(shrinkage=0.5))
    assert moved.heldout_hessian is problem.heldout_hessian
    assert not torch.equal(moved.hessian, problem.hessian)
    assert problem.regularised(Regularisation()) is problem


def test_row_error_oracle_agrees(rng):
    problem, weight = cases.make(rng, outliers=True)
    delta = problem.weight - weight.dense()
    want = [oracles.row_error(row, problem.hessian) for row in delta]
    assert problem.row_errors(weight.dense()).tolist() == pytest.approx(want, rel=1e-5)


def good(rng):
    return torch.randn(4, 6, generator=rng), torch.eye(6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(rng, bad):
    weight, hessian = good(rng)
    weight[1, 2] = bad
    with pytest.raises(ProblemError, match="the weight has NaN or infinite entries"):
        LayerProblem(weight, hessian)


def test_an_all_zero_row_is_refused(rng):
    weight, hessian = good(rng)
    weight[2] = 0
    with pytest.raises(ProblemError, match=r"row 2 of the weight is all zeros \(1 such rows\)"):
        LayerProblem(weight, hessian)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h[:, :5], "hessian must be square, got 6x5"),
        (lambda h: torch.eye(5), "hessian is 5x5, but the weight is 4x6; it must be 6x6"),
        (lambda h: h * float("nan"), "hessian has NaN or infinite entries"),
        (lambda h: h + torch.triu(torch.ones(6, 6), 1), "hessian must be symmetric"),
        (lambda h: -h, "hessian must have a diagonal that is nowhere negative"),
        (lambda h: 0 * h, "hessian must have a diagonal that is nowhere negative and not all zero"),
    ],
)
@pytest.mark.parametrize("heldout", [False, True])
def test_unusable_hessians_are_refused(rng, change, message, heldout):
    weight, hessian = good(rng)
    name = "heldout_" if heldout else ""
    given = (hessian, change(hessian)) if heldout else (change(hessian),)
    with pytest.raises(ProblemError, match=f"^{name}{message}"):
        LayerProblem(weight, *given)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"damping": -1.0}, "damping must be at least 0 and at most .*, got -1.0"),
        ({"damping": float("nan")}, "damping must be at least 0 and at most .*, got nan"),
        ({"shrinkage": 1.5}, "shrinkage must be between 0 and 1, got 1.5"),
    ],
)
def test_impossible_regularisation_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Regularisation(**values)
