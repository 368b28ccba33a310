import copy

import models
import pytest
import quantized
import torch
from transformers import AutoModelForCausalLM

from quantcore import blocks, drift, streams
from quantcore.drift import Moments

LLAMA = {"self_attn.o_proj": "", "mlp.down_proj": "post_attention_layernorm"}


def first_block(kind):
    config, own = quantized.KINDS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config(**{**models.SIZES, **own, "initializer_range": 0.3})
    )
    model = model.eval().requires_grad_(False)
    begin = streams.start(model, models.windows(6, 20))
    return blocks.find_blocks(model)[1][0], begin.hidden, begin.arguments[0]


@pytest.mark.parametrize(
    ("kind", "added"),
    [("llama", LLAMA), ("qwen2", LLAMA), ("phi3", LLAMA), ("gemma2", {}), ("olmo2", {})],
)
def test_what_a_layer_is_added_to_is_found(kind, added):
    assert drift.added_to(*first_block(kind)) == added  # a norm comes between in the last two


@pytest.fixture
def case(rng):
    """A block whose earlier part has moved, the original, hidden states of both, arguments."""
    original, hidden, arguments = first_block("llama")
    moved = copy.deepcopy(original)
    for name in ("self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj"):
        weight = moved.get_submodule(name).weight
        weight += 0.2 * weight.std() * torch.randn(weight.shape, generator=rng)
    others = hidden + 0.1 * hidden.std() * torch.randn(hidden.shape, generator=rng)
    return moved, original, others, hidden, arguments


def test_the_moments_are_means_over_tokens(case):
    moved, original, others, hidden, arguments = case
    ticks = []
    found = drift.measure(
        (moved, original),
        ("mlp.down_proj", LLAMA["mlp.down_proj"]),
        (others, hidden),
        arguments,
        lambda: ticks.append(1),
    )
    seen = {}
    for who, block, states in (("now", moved, others), ("then", original, hidden)):
        for name in ("mlp.down_proj", "post_attention_layernorm"):
            block.get_submodule(name).register_forward_pre_hook(
                lambda _, given, key=(who, name): seen.update({key: given[0].flatten(0, 1)})
            )
        block(states, **arguments)
    z, x = seen["now", "mlp.down_proj"].double(), seen["then", "mlp.down_proj"].double()
    s, r = (seen[who, "post_attention_layernorm"].double() for who in ("now", "then"))
    torch.testing.assert_close(found.hessian, (z.T @ z / len(z)).float())
    torch.testing.assert_close(found.inputs, (x - z).T @ z / len(z), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.stream, (r - s).T @ z / len(z), rtol=1e-4, atol=1e-5)
    assert ticks


def test_a_layer_added_to_nothing_has_no_stream(case):
    moved, original, others, hidden, arguments = case
    places = ("self_attn.q_proj", None)
    found = drift.measure((moved, original), places, (others, hidden), arguments)
    assert found.stream is None
    assert found.inputs.shape == (16, 16)


def test_nothing_has_drifted_before_the_first_layer(case):
    _, original, _, hidden, arguments = case
    places = ("self_attn.q_proj", None)
    found = drift.measure((original, original), places, (hidden, hidden), arguments)
    weight = original.self_attn.q_proj.weight
    assert torch.equal(drift.target(weight, found, 1.0), weight)


def test_no_step_is_the_weight_itself(rng):
    weight = torch.randn(3, 4, generator=rng)
    moments = Moments(torch.eye(4), torch.randn(4, 4, generator=rng).double(), None)
    assert drift.target(weight, moments, 0.0) is weight


def test_a_whole_step_is_the_least_squares_weight(rng):
    """Against a solver of the ridged problem on rows of data."""
    x, z = torch.randn(2, 50, 6, generator=rng).double()
    z = x + 0.3 * z
    r, s = torch.randn(2, 50, 4, generator=rng).double()
    weight = torch.randn(4, 6, generator=rng)
    wanted = x @ weight.double().T + r - s
    hessian = z.T @ z / 50
    ridge = (drift.RIDGE * hessian.diagonal().mean() * 50).sqrt()
    # the ridge pulls towards W
    rows = torch.cat([z, ridge * torch.eye(6).double()])
    goals = torch.cat([wanted, ridge * weight.double().T])
    solved = torch.linalg.lstsq(rows, goals).solution.T
    moments = Moments(hessian.float(), (x - z).T @ z / 50, (r - s).T @ z / 50)
    torch.testing.assert_close(drift.target(weight, moments, 1.0), solved.float())
    half = drift.target(weight, moments, 0.5)
    torch.testing.assert_close(half, (weight + solved.float()) / 2)
