import pytest
import torch
from models import tiny_llama, tiny_qwen
from torch import nn

from quantcore import blocks
from quantcore.errors import InputError, SourceError

PROJECTIONS = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (8, 16),
    "self_attn.v_proj": (8, 16),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (24, 16),
    "mlp.up_proj": (24, 16),
    "mlp.down_proj": (16, 24),
}


class Experts(nn.Module):
    """Two blocks, each with more experts than there are blocks."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(9))
        self.h = nn.ModuleList(
            nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(4, 8) for _ in range(5))})
            for _ in range(2)
        )
        self.head = nn.Linear(4, 100)


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen])
def test_layers_are_those_of_the_blocks_in_order(make):
    layers = blocks.linear_layers(make())
    assert [info.block for info in layers.values()] == sorted([0, 1, 2] * 7)
    assert {info.projection: (info.out, info.columns) for info in layers.values()} == PROJECTIONS
    assert "lm_head" not in layers
    assert layers["model.layers.2.mlp.down_proj"].block == 2


def test_experts_are_no_blocks():
    layers = blocks.linear_layers(Experts())
    assert len(layers) == 10
    assert layers["h.1.experts.4"] == blocks.LayerInfo("h.1.experts.4", 1, "experts.4", 8, 4)


@pytest.mark.parametrize("name", ["model.layers.1.self_attn.q_proj", "1.self_attn.q_proj"])
def test_a_layer_is_found_by_its_full_or_short_name(name):
    model = tiny_llama()
    assert blocks.find_layer(model, name) is model.model.layers[1].self_attn.q_proj
    assert blocks.layer_info(model, name).name == "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model.layers.1.self_attn.q_porj", r"did you mean model\.layers\.1\.self_attn\.q_proj"),
        ("1.mlp.upproj", r"did you mean 1\.mlp\.up_proj"),
        ("model.layers.7.mlp.up_proj", r"did you mean model\.layers\.\d\.mlp\.up_proj"),
        ("lm_head", r"one of them is model\.layers\.0\.self_attn\.q_proj"),
        ("", r"one of them is model\.layers\.0"),
    ],
)
def test_an_unknown_layer_offers_the_nearest(name, hint):
    with pytest.raises(
        SourceError, match=f"no linear layer '{name}' in the model's blocks; {hint}"
    ):
        blocks.find_layer(tiny_llama(), name)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(SourceError, match="no blocks with linear layers"):
        blocks.linear_layers(nn.Sequential(nn.Linear(2, 2)))


def test_blocks_before_a_layer():
    model = tiny_llama()
    before = blocks.before(model, "model.layers.2.mlp.up_proj")
    assert before == list(model.model.layers)[:2]
    assert blocks.before(Experts(), "h.1.experts.4") != []
    assert blocks.before(model, "lm_head") == []
    assert torch.is_tensor(before[0].mlp.up_proj.weight)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [("3", (3,)), ("0-2", (0, 1, 2)), ("5, 0-1", (0, 1, 5)), ("2-1", ()), ("1,1", (1,))],
)
def test_block_numbers(words, numbers):
    assert blocks.parse_numbers(words) == numbers


@pytest.mark.parametrize("words", ["", "x", "1-", "-1", "1,,2", "²", "0-99999999999"])
def test_block_numbers_that_are_none(words):
    with pytest.raises(InputError, match="blocks are numbers such as 0-3 or 0,2,5-7, got "):
        blocks.parse_numbers(words)
