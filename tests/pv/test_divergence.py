import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from quantcore.pv import divergence

TOKENS, CHANNELS, OTHER, WORDS = 13, 6, 5, 11


@pytest.fixture(params=[1, 4 * WORDS, 1 << 20], ids=["token by token", "four", "all"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(divergence, "CHUNK", request.param)


@pytest.fixture
def sides(rng):
    """Student's hidden states and head, the teacher's of another width."""
    hidden, target = (3 * torch.randn(TOKENS, n, generator=rng) for n in (CHANNELS, OTHER))
    heads = [nn.Linear(n, WORDS, bias) for n, bias in ((CHANNELS, True), (OTHER, False))]
    for head in heads:
        for value in head.parameters():
            value.data = torch.randn(value.shape, generator=rng)
    return hidden.requires_grad_(), heads[0], target, heads[1].requires_grad_(False)


def whole(hidden, head, target, target_head):
    """From all logits at once, in float64."""
    mine = (hidden.double() @ head.weight.double().T + head.bias.double()).log_softmax(-1)
    theirs = (target.double() @ target_head.weight.double().T).log_softmax(-1)
    return kl_div(mine, theirs, log_target=True, reduction="batchmean")


def test_the_divergence_and_its_gradients_are_those_of_all_logits(sides, chunk):
    hidden, head = sides[:2]
    learning = [hidden, head.weight, head.bias]
    expected = whole(*sides)
    wanted = torch.autograd.grad(3 * expected, learning)
    loss = divergence.kl(*sides)
    torch.testing.assert_close(loss, expected.float())
    found = torch.autograd.grad(3 * loss, learning)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs.float())


def test_a_head_that_does_not_learn_gets_no_gradient(sides, chunk):
    sides[1].requires_grad_(False)
    divergence.kl(*sides).backward()
    assert sides[1].weight.grad is None
    wanted = torch.autograd.grad(whole(*sides), sides[0])[0]
    torch.testing.assert_close(sides[0].grad, wanted.float())


def test_a_model_is_at_no_distance_from_itself(sides, chunk):
    hidden, head = sides[:2]
    loss = divergence.kl(hidden, head, hidden.detach(), head)
    loss.backward()
    assert loss.item() == 0
    assert not hidden.grad.any()


def test_sums_are_those_of_the_divergence_and_of_the_next_tokens(sides, chunk, rng):
    ids = torch.randint(WORDS, (TOKENS,), generator=rng)
    found = divergence.sums(*sides, ids)
    assert found.kl == pytest.approx(TOKENS * whole(*sides).item(), rel=1e-5)
    nll = cross_entropy(sides[1](sides[0])[:-1], ids[1:], reduction="sum")
    assert found.nll == pytest.approx(nll.item(), rel=1e-5)
