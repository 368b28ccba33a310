import models
import pytest
import quantized
import torch
from transformers import AutoModelForCausalLM

from quantcore import blocks, streams
from quantcore.errors import SourceError


def tiny(kind):
    config, own = quantized.KINDS[kind]
    torch.manual_seed(0)
    own = own | ({"sliding_window": 8} if kind.startswith("gemma") else {})
    made = AutoModelForCausalLM.from_config(config(**{**models.SIZES, **own}))
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_block_by_block_is_the_model(kind):
    model, windows = tiny(kind), models.windows(4, 20)
    _, chain = blocks.find_blocks(model)
    seen = []
    hook = chain[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    model(input_ids=windows, use_cache=False)
    hook.remove()
    begin = streams.start(model, windows)
    hidden = begin.hidden
    for block, arguments in zip(chain, begin.arguments, strict=True):
        hidden = streams.through(block, hidden, arguments)
    torch.testing.assert_close(hidden, seen[0])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("llama", [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down"]]),
        ("phi3", [["qkv_proj"], ["o_proj"], ["gate_up_proj"], ["down_proj"]]),
    ],
)
def test_layers_with_one_input_are_one_stage(kind, wanted):
    model = tiny(kind)
    begin = streams.start(model, models.windows(1, 8))
    _, chain = blocks.find_blocks(model)
    stages = streams.stages(chain[0], begin.hidden, begin.arguments[0])
    assert [len(stage) for stage in stages] == [len(stage) for stage in wanted]
    for stage, names in zip(stages, wanted, strict=True):
        assert all(name in found for found, name in zip(stage, names, strict=True))


def test_a_hessian_is_that_of_the_layers_inputs():
    model, windows = models.tiny_llama(), models.windows(5, 12)
    inputs = []
    layer = model.model.layers[1].mlp.down_proj
    hook = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(0, 1)))
    model(input_ids=windows, use_cache=False)
    hook.remove()
    begin = streams.start(model, windows)
    hidden = streams.through(model.model.layers[0], begin.hidden, begin.arguments[0])
    ticks = []
    found = streams.hessian(
        model.model.layers[1], "mlp.down_proj", hidden, begin.arguments[1], lambda: ticks.append(1)
    )
    rows = inputs[0].double()
    torch.testing.assert_close(found, (rows.T @ rows / len(rows)).float())
    assert ticks


def test_hessians_of_several_layers_and_beginnings_are_those_of_each_alone():
    model, windows = models.tiny_llama(), models.windows(7, 12)
    begin = streams.start(model, windows)
    block, arguments = model.model.layers[0], begin.arguments[0]
    names, counts = ["mlp.down_proj", "self_attn.q_proj", "self_attn.o_proj"], [2, 3, 7]
    found = streams.hessians(block, names, begin.hidden, arguments, counts)
    assert list(found) == names
    for name in names:
        for count, hessian in zip(counts, found[name], strict=True):
            alone = streams.hessian(block, name, begin.hidden[:count], arguments)
            torch.testing.assert_close(hessian, alone)
        assert not torch.allclose(found[name][0], found[name][2])


def test_the_blocks_are_as_they_were():
    model = models.tiny_llama()
    windows = models.windows(2, 8)
    before = model(input_ids=windows).logits
    streams.start(model, windows)
    assert torch.equal(model(input_ids=windows).logits, before)
    assert "forward" not in vars(model.model.layers[0])


def test_a_model_in_halves_starts_in_float32():
    model = models.tiny_llama().to(torch.bfloat16)
    begin = streams.start(model, models.windows(2, 8))
    assert begin.hidden.dtype == torch.float32
    cosine, _ = begin.arguments[0]["position_embeddings"]
    assert cosine.dtype == torch.float32
    assert not torch.equal(cosine, cosine.bfloat16().float())  # computed so, not only stored
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_a_model_that_changes_hidden_states_between_blocks_is_refused():
    model = models.tiny_llama()
    first = model.model.layers[0]
    first.register_forward_hook(lambda _, __, output: 2 * output)
    with pytest.raises(SourceError, match="changes hidden states between its blocks"):
        streams.start(model, models.windows(1, 8))


def test_a_model_that_leaves_blocks_out_is_refused():
    model = models.tiny_llama()
    model.config.num_hidden_layers = 2
    with pytest.raises(SourceError, match="does not call each of its blocks once"):
        streams.start(model, models.windows(1, 8))


def test_a_model_that_tells_its_blocks_more_of_the_text_is_refused():
    model = models.tiny_llama()

    def tell(_, arguments, named):
        return arguments, named | {"per_layer_input": arguments[0].mean()}

    model.model.layers[1].register_forward_pre_hook(tell, with_kwargs=True)
    with pytest.raises(SourceError, match="more of the text than hidden states"):
        streams.start(model, models.windows(2, 8))


def test_a_layer_that_text_does_not_reach_is_named():
    model = models.tiny_llama()
    begin = streams.start(model, models.windows(1, 8))
    block = model.model.layers[0]
    block.spare = torch.nn.Linear(4, 4)
    with pytest.raises(SourceError, match="linear layer spare"):
        streams.stages(block, begin.hidden, begin.arguments[0])
