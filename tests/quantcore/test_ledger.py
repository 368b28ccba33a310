import models
import pytest
import torch
from torch import nn

from quantcore import ledger
from quantcore.errors import InputError, SourceError
from quantcore.weight import Scheme


@pytest.fixture
def model():
    return models.tiny_llama()


def test_every_linear_layer_in_the_blocks_is_planned(model):
    planned = ledger.plan(model, Scheme(2, 2, 4))
    assert len(planned) == 3 * 7
    assert {layer.scheme for layer in planned} == {Scheme(2, 2, 4)}
    assert planned[0].info.name == "model.layers.0.self_attn.q_proj"


def test_some_blocks(model):
    planned = ledger.plan(model, Scheme(2, 2, 4), blocks=[1])
    assert {layer.info.block for layer in planned} == {1}


@pytest.mark.parametrize("blocks", [[3], [-1], []])
def test_blocks_that_are_not_there_are_refused(model, blocks):
    with pytest.raises(InputError, match="blocks must be from 0 to 2"):
        ledger.plan(model, Scheme(2, 2, 4), blocks=blocks)


def test_the_bits_are_those_of_the_parts(model):
    planned = ledger.plan(model, Scheme(2, 2, 4))
    facts = ledger.ledger(model, planned)
    words, norms = 64 * 16, 7 * 16  # the head is tied to the words
    shapes = [(16, 16), (8, 16), (8, 16), (16, 16), (24, 16), (24, 16), (16, 24)]
    weights = 3 * sum(out * columns for out, columns in shapes)
    assert facts.parameters == words + norms + weights
    assert facts.quantized == weights
    assert facts.codes == weights // 4 * 2 * 2
    assert facts.stored == weights // 4 * 2 * 8  # a byte for each code
    assert facts.codebooks == 21 * 2 * 4 * 4 * 16
    assert facts.scales == 3 * sum(out for out, _ in shapes) * 16
    assert facts.dense == 16 * (words + norms)
    assert facts.code_bits == 1.0
    assert facts.layer_bits == (facts.codes + facts.codebooks + facts.scales) / weights
    assert facts.stored_bits == (facts.stored + facts.codebooks + facts.scales) / weights
    everything = facts.stored + facts.codebooks + facts.scales + facts.dense
    assert facts.bits_per_parameter == everything / facts.parameters
    assert facts.facts()["stored_bits"] == facts.stored_bits


def test_codes_beyond_a_byte_take_two():
    model = models.tiny_llama(hidden_size=128, num_attention_heads=2, intermediate_size=512)
    facts = ledger.ledger(model, ledger.plan(model, Scheme(1, 9, 8)))
    assert facts.stored == 2 * 8 * facts.codes // 9


def test_a_layer_that_the_group_does_not_divide_stays_dense(model):
    planned = ledger.plan(model, Scheme(2, 2, 16))
    dense = [layer for layer in planned if layer.scheme is None]
    assert [layer.info.projection for layer in dense] == ["mlp.down_proj"] * 3
    assert "24 inputs do not divide into groups of 16" in dense[0].why
    facts = ledger.ledger(model, planned)
    assert facts.dense == 16 * (64 * 16 + 7 * 16 + 3 * 24 * 16)


def test_a_scheme_that_fits_no_layer_is_refused(model):
    with pytest.raises(InputError, match=r"no layer can be quantized: model\.layers\.0\."):
        ledger.plan(model, Scheme(2, 2, 7))


@pytest.mark.parametrize("budget", [1.5, 2.0, 3.0, 4.0])
def test_a_budget_is_kept_by_what_is_stored(budget):
    model = models.tiny_llama(hidden_size=256, num_attention_heads=4, intermediate_size=512)
    planned = ledger.plan(model, budget)
    facts = ledger.ledger(model, planned)
    assert ledger.one_scheme(planned) is not None
    assert facts.stored_bits <= budget * ledger.TOLERANCE
    best = planned[0].scheme
    for other in ledger._candidates():  # none better keeps it
        if (other.code_bits, other.group) > (best.code_bits, best.group):
            facts = ledger.ledger(model, ledger.plan(model, other))
            assert facts.stored_bits > budget * ledger.TOLERANCE


def test_two_bits_of_a_large_model_are_the_format_of_the_papers():
    with torch.device("meta"):
        model = models.tiny_llama(
            hidden_size=2048, num_attention_heads=16, num_key_value_heads=16, intermediate_size=8192
        )
    assert ledger.one_scheme(ledger.plan(model, 2.0)) == Scheme(2, 8, 8)


def test_mixed_layers_each_keep_the_budget():
    model = models.tiny_llama(hidden_size=256, num_attention_heads=4, intermediate_size=512)
    planned = ledger.plan(model, 2.0, mixed=True)
    assert ledger.one_scheme(planned) is None
    for layer in planned:
        assert ledger.ledger(model, [layer]).stored_bits <= 2.0 * ledger.TOLERANCE


def test_mixed_and_one_scheme_exclude_each_other(model):
    with pytest.raises(InputError, match="not both"):
        ledger.plan(model, Scheme(2, 2, 4), mixed=True)


def test_a_budget_below_every_scheme_is_refused(model):
    with pytest.raises(InputError, match="no scheme fits into the budget"):
        ledger.plan(model, 0.1)


def test_fused_experts_are_refused_by_name(model):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up = nn.Parameter(torch.zeros(4, 16, 16))

    model.model.layers[1].mlp.experts = Experts()
    with pytest.raises(SourceError, match=r"layers\.1\.mlp\.experts\.gate_up \(4, 16, 16\)"):
        ledger.plan(model, Scheme(2, 2, 4))
    assert ledger.plan(model, Scheme(2, 2, 4), blocks=[0])
