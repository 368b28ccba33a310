from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from quantcore.kernels import cpu_assign, naive

SIZES = (1, 3, 4, 8)  # group sizes; each is compiled once


def draw(rng, out, groups, group, size, shared=False):
    """Random vectors, codebook, weights and metrics, some of those singular."""
    half = torch.randn(groups, group, max(1, group - 1), generator=rng)
    metrics = half @ half.mT
    if shared:
        metrics = metrics[:1].expand(groups, -1, -1)
    return (
        torch.randn(out, groups, group, generator=rng),
        metrics,
        torch.randn(size, group, generator=rng),
        torch.rand(out, generator=rng),
    )


def odd_cases(count):
    rng = torch.Generator().manual_seed(0)

    def below(high):
        return 1 + int(torch.randint(high, (), generator=rng))

    for case in range(count):
        group = SIZES[below(len(SIZES)) - 1]
        yield draw(rng, below(40), below(9), group, below(70), shared=case % 3 == 0)


def exact_costs(vectors, metrics, codebook):
    """Every word's cost in float64, [out, groups, size], and what float32 may make of it."""
    delta = (vectors[:, :, None] - codebook).double()
    costs = torch.einsum("ojkg,jgh,ojkh->ojk", delta, metrics.double(), delta)
    own = torch.einsum("ojg,jgh,ojh->oj", vectors, metrics, vectors)
    words = torch.einsum("kg,jgh,kh->jk", codebook, metrics, codebook).amax(1)
    return costs, 1e-5 * (own + words + 1e-3)


@pytest.fixture
def threads():
    """Sets torch's number of threads, for this test only."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def divided(monkeypatch):
    """Gives threads work however small it is."""
    monkeypatch.setattr(cpu_assign, "PRODUCTS", 1)
    monkeypatch.setattr(cpu_assign, "VECTORS", 1)


def test_assign_finds_a_nearest_word_on_odd_shapes(divided):
    differ = total = 0
    for vectors, metrics, codebook, _ in odd_cases(300):
        codes, costs = cpu_assign.assign(vectors, metrics, codebook)
        exact, rounding = exact_costs(vectors, metrics, codebook)
        chosen = exact.gather(2, codes.long()[..., None])[..., 0]
        assert (chosen <= exact.amin(2) + rounding).all()
        assert ((costs - chosen).abs() <= rounding).all()
        assert (costs >= 0).all()
        differ += int((codes != naive.assign(vectors, metrics, codebook)[0]).sum())
        total += codes.numel()
    assert differ <= 1e-3 * total  # near ties only


def test_a_small_cost_keeps_its_digits(rng):
    # the score of a vector beside its word is the difference of two large numbers
    codebook = 100 * torch.randn(9, 4, generator=rng)
    vectors = codebook[None] + 1e-2 * torch.randn(5, 9, 4, generator=rng)
    metrics = torch.eye(4).repeat(9, 1, 1)
    codes, costs = cpu_assign.assign(vectors, metrics, codebook)
    assert (codes == torch.arange(9)).all()
    want = (vectors - codebook).double().square().sum(2)
    torch.testing.assert_close(costs.double(), want, rtol=1e-5, atol=0)


def test_no_cost_is_negative(rng):
    # H sees one direction, the vectors have none of it: only rounding is left
    seen = torch.nn.functional.normalize(torch.randn(8, generator=rng), dim=0)
    vectors = torch.randn(50, 6, 8, generator=rng)
    vectors -= (vectors @ seen)[..., None] * seen
    _, costs = cpu_assign.assign(vectors, (seen[:, None] * seen).repeat(6, 1, 1), torch.zeros(1, 8))
    assert (costs >= 0).all()
    assert costs.max() < 1e-6


@pytest.mark.parametrize("size", [4, 5])
def test_ties_go_to_the_lowest_word(rng, size):
    vectors, metrics, words, _ = draw(rng, 600, 3, 4, size)
    once, _ = cpu_assign.assign(vectors, metrics, words)
    thrice, _ = cpu_assign.assign(vectors, metrics, words.repeat(3, 1))
    assert torch.equal(once, thrice)
    nowhere, costs = cpu_assign.assign(vectors, torch.zeros_like(metrics), words)
    assert not nowhere.any()
    assert not costs.any()


def test_sums_equal_naive_on_odd_shapes(rng, divided):
    for vectors, metrics, codebook, weights in odd_cases(300):
        size = len(codebook)
        codes = torch.randint(size, vectors.shape[:2], generator=rng, dtype=torch.int32)
        got = cpu_assign.codeword_sums(vectors, metrics, weights, codes, size)
        want = naive.codeword_sums(vectors, metrics, weights, codes, size)
        for one, other in zip(got, want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_sums_of_unused_codes_and_weightless_rows_are_zero(rng):
    vectors, metrics, _, weights = draw(rng, 20, 3, 4, 1)
    weights[10:] = 0
    codes = (torch.arange(20)[:, None] % 20 * 50).expand(20, 3).int()
    curvature, target = cpu_assign.codeword_sums(vectors, metrics, weights, codes, 1001)
    used = curvature.flatten(1).any(1)
    assert used.nonzero()[:, 0].tolist() == list(range(0, 500, 50))
    assert torch.equal(target.any(1), used)


@pytest.mark.parametrize("shared", [False, True])
def test_the_number_of_threads_changes_nothing(rng, threads, divided, shared):
    # more rows than a tile, so that threads begin inside groups and inside tiles
    vectors, metrics, codebook, weights = draw(rng, 1100, 5, 8, 67, shared)
    found = []
    for count in (1, 2, 3, 7):
        threads(count)
        codes, costs = cpu_assign.assign(vectors, metrics, codebook)
        sums = cpu_assign.codeword_sums(vectors, metrics, weights, codes, 67)
        found.append((codes, costs, *sums))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_one_metric_expanded_is_the_same_as_repeated(rng):
    vectors, metrics, codebook, weights = draw(rng, 600, 4, 8, 31, shared=True)
    copied = metrics.contiguous()
    codes, costs = cpu_assign.assign(vectors, metrics, codebook)
    again = cpu_assign.assign(vectors, copied, codebook)
    assert torch.equal(codes, again[0])
    assert torch.equal(costs, again[1])
    once = cpu_assign.codeword_sums(vectors, metrics, weights, codes, 31)
    each = cpu_assign.codeword_sums(vectors, copied, weights, codes, 31)
    for one, other in zip(once, each, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_any_layout_in_memory_will_do(rng):
    vectors, metrics, codebook, weights = draw(rng, 33, 6, 4, 12)
    codes, costs = cpu_assign.assign(vectors, metrics, codebook)
    spread = cpu_assign.assign(
        vectors.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        torch.stack([metrics, metrics], 1)[:, 0],
        codebook.repeat_interleave(2, 0)[::2],
    )
    assert torch.equal(spread[0], codes)
    assert torch.equal(spread[1], costs)
    wide = torch.stack([codes, codes], -1).long()
    got = cpu_assign.codeword_sums(vectors, metrics, weights.repeat(2, 1).T[:, 0], wide[..., 1], 12)
    want = cpu_assign.codeword_sums(vectors, metrics, weights, codes, 12)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("group", SIZES)
def test_solve_equals_lapack_and_changes_no_argument(rng, threads, group):
    half = torch.randn(9000, group, group + 2, generator=rng, dtype=torch.float64)
    matrices = half @ half.mT
    matrices[0] *= 1e-9
    right = torch.randn(9000, group, generator=rng, dtype=torch.float64)
    kept = matrices.clone(), right.clone()
    threads(2)
    got = cpu_assign.solve(matrices, right)
    torch.testing.assert_close(got, torch.linalg.solve(matrices, right), rtol=1e-6, atol=1e-9)
    assert torch.equal(matrices, kept[0])
    assert torch.equal(right, kept[1])


def test_callers_may_run_side_by_side(rng, divided):
    cases = [draw(rng, 50, 4, 4, 20) for _ in range(8)]
    alone = [cpu_assign.assign(*case[:3])[0] for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: cpu_assign.assign(*case[:3])[0], cases))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
