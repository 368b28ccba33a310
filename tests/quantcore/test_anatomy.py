import json
import math

import cases
import oracles
import pytest
import torch

from quantcore import anatomy, objective
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, Scheme

HESSIAN = torch.tensor(
    [
        [4.0, 0.0, 1.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [1.0, 0.0, 3.0, 1.0],
        [0.0, 0.0, 1.0, 3.0],
    ]
)
WEIGHT = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 15.0, 0.0]])


def by_hand():
    return LayerProblem(WEIGHT, HESSIAN)


def test_a_layer_by_hand():
    facts = anatomy.layer_facts(by_hand(), [2, 2, 3, 4])
    assert facts["row_norm_cv"] == pytest.approx(5 / 10)  # norms 5 and 15
    assert facts["outlier_share"] == pytest.approx(4 / 11)  # of four inputs one is the most
    # squares: 16 + 1, and 9 + 9 + 1 + 1; two ones of four lie outside the blocks
    assert facts["block_share"] == {"2": pytest.approx(37 / 39), "4": pytest.approx(1.0)}
    # conditions 4 / 1 and 4 / 2
    assert facts["block_condition"]["2"] == pytest.approx(3.0)
    values = torch.linalg.eigvalsh(HESSIAN.double())
    assert facts["block_condition"]["4"] == pytest.approx(float(values[-1] / values[0]))
    json.dumps(facts, allow_nan=False)


def test_kurtosis_by_hand():
    # mean 1; moments (3^4 + 3) / 4 and (9 + 3) / 4
    weight = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    assert anatomy.kurtosis(weight) == pytest.approx(21 / 9)
    assert anatomy.kurtosis(torch.ones(3, 5)) is None


def test_kurtosis_is_that_of_all_chunks(rng, monkeypatch):
    weight = torch.randn(40, 30, generator=rng).double()
    centred = weight - weight.mean()
    want = (centred**4).mean() / (centred**2).mean() ** 2
    monkeypatch.setattr(anatomy, "SLICE", 90)
    assert anatomy.kurtosis(weight) == pytest.approx(float(want))
    large = torch.randn(500, 400, generator=rng)
    assert anatomy.kurtosis(large) == pytest.approx(3, abs=0.05)  # a normal distribution


def test_a_hessian_of_blocks_alone_has_share_1(rng):
    block = torch.randn(3, 5, 3, generator=rng)
    hessian = torch.block_diag(*(one.T @ one for one in block))
    problem = LayerProblem(torch.randn(2, 9, generator=rng), hessian)
    assert anatomy.block_share(problem, 3) == pytest.approx(1.0)
    assert anatomy.block_share(problem, 1) < 1


def test_blocks_without_full_rank_count_as_infinite(rng):
    def condition(*blocks):
        hessian = torch.block_diag(*blocks)
        return anatomy.block_condition(LayerProblem(torch.ones(1, len(hessian)), hessian), 2)

    row = torch.tensor([0.37, 1.9])  # rounding leaves its square a little rank
    good, flat = torch.diag(torch.tensor([5.0, 1.0])), torch.outer(row, row)
    assert torch.linalg.eigvalsh(flat.double())[0] != 0
    dead = torch.diag(torch.tensor([1.0, 0.0]))
    assert condition(good, good, flat) == pytest.approx(5.0)
    assert condition(good, flat, dead) is None
    assert condition(good, dead) is None  # the median lies between 5 and infinity
    assert condition(good, good, torch.zeros(2, 2)) == pytest.approx(5.0)


@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_the_error_by_rows_and_groups_is_the_slow_one(rng, monkeypatch, out, groups, scheme):
    problem, weight = cases.make(rng, out, groups, scheme)
    monkeypatch.setattr(anatomy, "CHUNK", 2 * groups * scheme.group)  # two rows at a time
    monkeypatch.setattr(objective, "PANEL", 3)
    monkeypatch.setattr(objective, "CHUNK", 1)
    facts = anatomy.error_facts(problem, weight)
    dense = oracles.decode(weight.codes, weight.codebooks, weight.scales)
    delta = problem.weight.double() - dense
    for row, found in enumerate(facts["row_errors"]):
        error = oracles.row_error(delta[row], problem.hessian)
        energy = oracles.row_error(problem.weight[row], problem.hessian)
        assert found == pytest.approx(error / energy, rel=1e-4)
    shares = torch.zeros(groups, dtype=torch.float64)
    for row in delta:
        for i in range(len(row)):
            for j in range(len(row)):
                shares[i // scheme.group] += row[i] * problem.hessian[i, j].double() * row[j]
    want = shares / shares.sum()
    found = torch.tensor(facts["group_errors"], dtype=torch.float64)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    assert sum(facts["group_errors"]) == pytest.approx(1, abs=1e-4)


def approximation(dense):
    """Two rows of two groups of two, written down exactly: each group is a word of its own."""
    codes = torch.arange(4, dtype=torch.int32).view(2, 2, 1)
    return AdditiveWeight(codes, dense.view(1, 4, 2), torch.ones(2))


def test_an_error_by_hand_with_a_group_that_helps_another():
    hessian = torch.tensor(
        [[1.0, 0.0, -0.6, 0.0], [0.0, 1.0, 0.0, 0.0], [-0.6, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )
    weight = torch.ones(2, 4)
    delta = torch.tensor([[2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = anatomy.error_facts(LayerProblem(weight, hessian), approximation(weight - delta))
    # 4 - 1.2 of the first group, 1 - 1.2 of the second: it makes up for the first
    assert found["group_errors"] == pytest.approx([2.8 / 2.6, -0.2 / 2.6], rel=1e-5)
    assert found["row_errors"] == pytest.approx([2.6 / 2.8, 0.0], rel=1e-5)


def test_no_error_and_no_energy_are_no_nan():
    weight = torch.tensor([[1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    problem = LayerProblem(weight, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))
    facts = anatomy.error_facts(problem, approximation(weight))
    assert facts["row_errors"] == [0.0, None]
    assert facts["group_errors"] == [0.0, 0.0]
    json.dumps(facts, allow_nan=False)


def test_residuals_by_hand():
    weight = torch.tensor([[2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0]])  # rms 2 and 4
    limit = anatomy.RANGE * 2**-1  # 2 bits a code over groups of two
    step = 2 * limit / anatomy.BINS
    off = torch.tensor([[0.0, 0.1 * step, step, -step], [10 * limit, -10 * limit, 0.0, 0.0]])
    rows = torch.tensor([[2.0], [4.0]])
    facts = anatomy.error_facts(
        LayerProblem.weight_only(weight), approximation(weight + off * rows)
    )
    edges, counts = facts["residuals"]["edges"], facts["residuals"]["counts"]
    assert len(edges) == 82
    assert len(counts) == 81
    assert edges[0] == -edges[-1] == -limit
    middle = anatomy.BINS // 2
    filled = {n - middle: count for n, count in enumerate(counts) if count}
    assert filled == {0: 4, 1: 1, -1: 1, middle: 1, -middle: 1}


def test_numbers_have_six_digits(rng):
    problem, weight = cases.make(rng, 9, 4, Scheme(2, 3, 4))
    facts = anatomy.error_facts(problem, weight)
    for value in (*facts["row_errors"], *facts["group_errors"], *facts["residuals"]["edges"]):
        assert math.isfinite(value)
        assert value == float(f"{value:.6g}")
