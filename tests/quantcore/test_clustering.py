from dataclasses import replace

import oracles
import pytest
import torch
from safetensors.torch import load_file

from quantcore import clustering
from quantcore.clustering import Adam, EMConfig, EMProblem, EMState
from quantcore.errors import InputError

EXACT = EMConfig(rounds=10, rtol=0.0)


@pytest.fixture
def problem(rng):
    half = torch.randn(4, 3, 3, generator=rng)
    return EMProblem(
        vectors=torch.randn(15, 4, 3, generator=rng),
        metrics=half @ half.mT + 0.1 * torch.eye(3),
        row_weights=0.2 + torch.rand(15, generator=rng),
    )


def trace(problem, state, config):
    seen = []
    return clustering.run(problem, state, config, seen.append), [info.objective for info in seen]


def test_assign_equals_exhaustive_search(problem, rng):
    state = clustering.start(problem, 5, rng)
    for o in range(15):
        for j in range(4):
            costs = [oracles.em_cost(problem, o, j, word) for word in state.codebook]
            assert costs[state.codes[o, j]] == pytest.approx(min(costs), rel=1e-5, abs=1e-5)
            assert float(state.costs[o, j]) == pytest.approx(min(costs), rel=1e-4, abs=1e-5)


def test_objective_equals_loops(problem, rng):
    state = clustering.start(problem, 5, rng)
    want = oracles.em_objective(problem, state.codebook, state.codes)
    assert clustering.objective(problem, state) == pytest.approx(want, rel=1e-5)


def test_refit_leaves_no_gradient(problem, rng):
    state = clustering.start(problem, 5, rng)
    words = clustering.refit(problem, state.codes, state.codebook).double().requires_grad_()
    delta = problem.vectors.double() - words[state.codes.long()]
    bent = torch.einsum("ojg,jgh->ojh", delta, problem.metrics.double())
    (problem.row_weights[:, None, None] * bent * delta).sum().backward()
    torch.testing.assert_close(words.grad, torch.zeros_like(words), atol=1e-3, rtol=0)


@pytest.mark.parametrize("strength", [1.0, 1e-8])
def test_adam_equals_torch_adam_on_the_written_out_loss(problem, rng, strength):
    # the released loop: one optimiser and one cosine schedule over the mean weighted error; where
    # inputs are weak, Adam's epsilon swamps the gradient, so the loss's scale counts
    problem = replace(problem, metrics=strength * problem.metrics)
    state = clustering.start(problem, 5, rng)
    config = Adam(steps=40, rate=1e-2)
    words = state.codebook.double().requires_grad_()
    optimiser = torch.optim.Adam([words], lr=config.rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, config.steps, config.rate * config.floor
    )
    for _ in range(config.steps):
        optimiser.zero_grad()
        delta = problem.vectors.double() - words[state.codes.long()]
        bent = torch.einsum("ojg,jgh->ojh", delta, problem.metrics.double())
        (problem.row_weights[:, None, None] * bent * delta).sum().div(60).backward()
        optimiser.step()
        cosine.step()
    got = clustering.refit_adam(problem, state.codes, state.codebook, config)
    torch.testing.assert_close(got.double(), words.detach(), atol=1e-6, rtol=0)


def test_objective_never_rises(problem, rng):
    state = clustering.start(problem, 5, rng)
    _, seen = trace(problem, state, EXACT)
    assert len(seen) > 2
    assert sorted(seen, reverse=True) == pytest.approx(seen)
    assert seen[-1] < clustering.objective(problem, state)


def test_identity_metric_is_kmeans(problem, rng):
    plain = EMProblem.euclidean(problem.vectors)
    state = clustering.start(plain, 5, rng)
    after, _ = clustering.step(plain, state, EXACT)
    for k in range(5):
        want = plain.vectors[state.codes == k].mean(0)
        torch.testing.assert_close(after.codebook[k], want, rtol=1e-4, atol=1e-5)


def test_kmeans_by_hand():
    # two pairs on a line, started on the left pair: one round moves a word to each pair
    vectors = torch.tensor([[[0.0]], [[1.0]], [[10.0]], [[11.0]]])
    plain = EMProblem.euclidean(vectors)
    state = clustering.state_of(plain, torch.tensor([[0.0], [1.0]]))
    assert state.codes.flatten().tolist() == [0, 1, 1, 1]
    state, infos = clustering.run(plain, state, EXACT), []
    clustering.run(plain, state, EXACT, infos.append)
    assert state.codebook.flatten().tolist() == pytest.approx([0.5, 10.5], rel=1e-4)
    assert state.codes.flatten().tolist() == [0, 0, 1, 1]
    assert clustering.objective(plain, state) == pytest.approx(1.0, rel=1e-4)
    assert infos[-1].moved == 0


def test_row_weights_pull_the_codeword():
    # one word, two rows: the minimum of 3 (0 - c)^2 + (4 - c)^2 is at 1
    vectors = torch.tensor([[[0.0]], [[4.0]]])
    weighted = EMProblem(vectors, torch.ones(1, 1, 1), torch.tensor([3.0, 1.0]))
    word = clustering.refit(weighted, torch.zeros(2, 1, dtype=torch.int32), torch.zeros(1, 1))
    assert word.item() == pytest.approx(1.0, rel=1e-4)


def test_scaling_the_metric_moves_no_code(problem, rng):
    state = clustering.start(problem, 5, rng)
    scaled = replace(problem, metrics=16 * problem.metrics)
    one = clustering.run(problem, state, EXACT)
    other = clustering.run(scaled, clustering.state_of(scaled, state.codebook), EXACT)
    assert torch.equal(one.codes, other.codes)
    assert clustering.objective(scaled, other) == pytest.approx(
        16 * clustering.objective(problem, one), rel=1e-4
    )


def test_dead_codewords_are_reseeded(problem, rng):
    far = torch.full((2, 3), 1e3)
    words = torch.cat([clustering.start(problem, 3, rng).codebook, far])
    state = clustering.state_of(problem, words)
    after, info = clustering.step(problem, state, EXACT)
    assert info.reseeded == 2
    assert (torch.bincount(after.codes.flatten(), minlength=5) > 0).all()
    assert info.objective < clustering.objective(problem, state)
    _, info = clustering.step(problem, state, replace(EXACT, reseed=False))
    assert info.reseeded == 0


def test_the_worst_vectors_are_the_worst_in_chunks_too(problem, rng, monkeypatch):
    state = clustering.start(problem, 4, rng)
    weighted = (problem.row_weights[:, None] * state.costs).flatten()
    for size in (3, 10, 10_000):
        monkeypatch.setattr(clustering, "SLICE", size)
        for count in (1, 4, weighted.numel(), 2 * weighted.numel()):
            found = clustering._worst(problem, state, count)
            want = weighted.sort(descending=True).values[:count]
            torch.testing.assert_close(weighted[found], want)


def test_unused_codewords_stay_without_reseeding(problem):
    codes = torch.zeros(15, 4, dtype=torch.int32)
    words = torch.arange(6.0).view(2, 3)
    torch.testing.assert_close(clustering.refit(problem, codes, words)[1], words[1])


def test_refining_equals_the_released_code(shared):
    golden = load_file(shared / "golden" / "oaem_refine.safetensors")
    out = len(golden["row_scales"])
    vectors = (golden["weight"] / golden["row_scales"][:, None]).unflatten(1, (-1, 8))
    problem = EMProblem(vectors, golden["hessian_blocks"], torch.ones(out))
    codes = golden["assignments"].view(out, -1)
    state = EMState(golden["centroids"], codes, torch.full(codes.shape, torch.inf))
    released = EMConfig(rounds=3, rtol=float("-inf"), adam=Adam(), reseed=False)
    state = clustering.run(problem, state, released)
    assert state.codes.flatten().tolist() == golden["refined_assignments"].tolist()
    torch.testing.assert_close(state.codebook, golden["refined_centroids"], atol=1e-6, rtol=0)


def test_rounds_must_not_be_negative():
    with pytest.raises(InputError, match="rounds must be at least 0, got -1"):
        EMConfig(rounds=-1)
