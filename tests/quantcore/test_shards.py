import json
import re

import pytest
import quantized
import torch
from models import windows
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from quantcore import checkpoints, linear, machine, shards
from quantcore.errors import InputError, ResourceError, SourceError
from quantcore.linear import QuantizedLinear, quantized_layers
from quantcore.weight import Scheme


@pytest.fixture
def folder(tmp_path, rng):
    return quantized.save(tmp_path / "tiny", quantized.model(rng, "qwen2"))


def edit(folder, change, file="block-001.safetensors"):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file, {"format": "pt"})
    shards.write_index(folder)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder, message):
    with pytest.raises(SourceError, match=message) as refusal:
        checkpoints.read(folder, "tiny")
    assert "\n" not in str(refusal.value)


# there and back


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, rng, kind):
    model = quantized.model(rng, kind)
    read, _ = checkpoints.read(quantized.save(tmp_path, model), "tiny")
    layers = quantized_layers(read)
    assert layers.keys() == quantized_layers(model).keys()
    assert all(f"layers.{block}." in " ".join(layers) for block in range(3))
    wanted = model(windows()).logits
    assert wanted.isfinite().all()
    assert torch.equal(read(windows()).logits, wanted)


def test_a_read_model_is_an_ordinary_one(folder, capfd):
    model, _ = checkpoints.read(folder, "tiny")
    assert capfd.readouterr() == ("", "")
    assert not model.training
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not any(value.requires_grad or value.is_meta for value in model.parameters())
    assert not any(value.is_meta for value in model.buffers())
    assert not hasattr(model.config, "quantization_config")
    assert not model.is_quantized


def test_layers_may_differ_in_their_scheme(tmp_path, rng):
    model = quantized.model(rng)
    own = Scheme(1, 9, 4)  # codes of 16 bits
    name = "model.layers.1.mlp.down_proj"
    linear.replace(model, name, QuantizedLinear.from_weight(quantized.weight(rng, 16, 24, own)))
    read, _ = checkpoints.read(quantized.save(tmp_path, model), "tiny")
    assert quantized_layers(read)[name].scheme == own
    assert quantized_layers(read)[name].codes.dtype == torch.int16
    assert torch.equal(read(windows()).logits, model(windows()).logits)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


@pytest.mark.parametrize("tied", [True, False])
def test_ties_are_kept_and_stored_once(tmp_path, rng, tied):
    model = quantized.model(rng, tie_word_embeddings=tied)
    read, _ = checkpoints.read(quantized.save(tmp_path, model), "tiny")
    assert (read.lm_head.weight is read.model.embed_tokens.weight) == tied
    assert ("lm_head.weight" in load_file(tmp_path / shards.REST)) != tied


def test_a_skeleton_has_the_quantized_layers(folder):
    skeleton = checkpoints.read_skeleton(folder, "tiny")
    model, _ = checkpoints.read(folder, "tiny")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in skeleton.state_dict().items()} == shapes
    assert all(value.is_meta for value in skeleton.state_dict().values())
    assert quantized_layers(skeleton).keys() == quantized_layers(model).keys()


@pytest.mark.parametrize(
    "skipped", [["lm_head.weight", "model.norm.weight"], [], ["model.layers", "lm_head"], None]
)
@pytest.mark.parametrize("kind", ["llama", "llama-untied"])
def test_the_tensors_say_what_is_quantized_not_the_skip_list(tmp_path, rng, kind, skipped):
    # AQLM's converter lists weights; transformers takes the head for a quantized layer then
    model = quantized.model(rng, kind)
    quantized.save(tmp_path, model)
    config = shards.quantization_config(model)
    edit_config(tmp_path, quantization_config={**config, "linear_weights_not_to_quantize": skipped})
    read, _ = checkpoints.read(tmp_path, "tiny")
    assert torch.equal(read(windows()).logits, model(windows()).logits)


def test_a_model_written_block_by_block_is_the_one_written_whole(tmp_path, rng):
    model = quantized.model(rng)
    parts = shards.parts(model)
    for number in (2, 0, 1):
        file = shards.block_file(number)
        shards.write_part(tmp_path / "apart", file, shards.as_held(parts[file]))
    shards.write_part(tmp_path / "apart", shards.REST, shards.as_held(parts[shards.REST]))
    shards.write_index(tmp_path / "apart")
    whole = quantized.save(tmp_path / "whole", model)
    for path in (tmp_path / "apart").iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()


# what is stored


def test_the_files_are_those_of_the_format(tmp_path, rng):
    place = "model.layers.2.self_attn.k_proj"
    model = quantized.model(rng)
    quantized_layers(model)[place].scales.fill_(1.0)  # exact in bfloat16 too
    quantized.save(tmp_path, model)
    block = load_file(tmp_path / "block-002.safetensors")
    stored = {n: (tuple(v.shape), v.dtype) for n, v in block.items() if n.startswith(place)}
    assert stored == {
        f"{place}.codes": ((8, 2, 2), torch.int8),
        f"{place}.codebooks": ((2, 16, 1, 8), torch.float16),
        f"{place}.scales": ((8, 1, 1, 1), torch.float16),
    }
    assert set(load_file(tmp_path / shards.REST)) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
    }
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}  # transformers 4 refuses others
    index = json.loads((tmp_path / shards.INDEX).read_text())
    assert index["weight_map"][f"{place}.codes"] == "block-002.safetensors"
    assert len(index["weight_map"]) == 3 * (7 * 3 + 2) + 2
    assert index["metadata"]["total_size"] == sum(
        path.stat().st_size for path in tmp_path.glob("*.safetensors")
    )


def test_other_tensors_are_stored_as_narrow_as_they_are(rng):
    exact = torch.randn(50, generator=rng)
    cases = {
        torch.bfloat16: exact.bfloat16().float(),
        torch.float16: exact.half().float(),
        torch.float32: exact,
    }
    for dtype, tensor in cases.items():
        stored = shards.narrowed(tensor)
        assert stored.dtype == dtype
        assert torch.equal(stored.float(), tensor)
    counts = torch.arange(3)
    assert shards.narrowed(counts) is counts


def test_rounding_makes_a_model_what_its_files_hold(tmp_path, rng):
    model = quantized.model(rng)
    for layer in quantized_layers(model).values():
        layer.codebooks.mul_(1.0003)
        layer.scales.mul_(1.0003)
    before = model(windows()).logits
    shards.round_(model)
    rounded = model(windows()).logits
    assert not torch.equal(rounded, before)
    read, _ = checkpoints.read(quantized.save(tmp_path, model), "tiny")
    assert torch.equal(read(windows()).logits, rounded)


def test_codebooks_beyond_float16_are_refused_by_name(tmp_path, rng):
    model = quantized.model(rng)
    place = "model.layers.1.mlp.up_proj"
    quantized_layers(model)[place].codebooks[0, 0] = 70000.0
    for write in (lambda: shards.round_(model), lambda: quantized.save(tmp_path, model)):
        with pytest.raises(
            InputError, match=rf"{re.escape(place)}.* up to 7e\+04, beyond the rang"
        ):
            write()


# the configuration for other readers


def test_the_configuration_has_aqlms_keys(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["quantization_config"] == {
        "quant_method": "aqlm",
        "nbits_per_codebook": 4,
        "num_codebooks": 2,
        "in_group_size": 8,
        "out_group_size": 1,
        "linear_weights_not_to_quantize": ["lm_head", "lm_head.weight"],
    }
    assert config["architectures"] == ["Qwen2ForCausalLM"]


@pytest.mark.parametrize(("stored", "name"), [("bfloat16", "bfloat16"), ("float32", "float32")])
def test_the_configuration_has_the_embeddings_type(tmp_path, rng, stored, name):
    model = quantized.model(rng)
    words = model.model.embed_tokens.weight
    words.copy_(words.to(getattr(torch, stored)).float())
    quantized.save(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == (name, name)


class Odd(nn.Module):
    """Layers whose names lie in each other's way."""

    def __init__(self, rng):
        super().__init__()
        made = QuantizedLinear.from_weight(quantized.weight(rng, 4, 8))
        self.head, self.lm_head = nn.Linear(8, 4), made
        self.layers = nn.ModuleList([nn.ModuleDict({"up": made, "up_proj": nn.Linear(8, 4)})])
        self.up = nn.Linear(8, 4)
        self.layers2 = nn.Linear(8, 4)


def test_the_skip_list_names_exactly_what_is_not_quantized(rng):
    model = Odd(rng)
    listed = shards.quantization_config(model)["linear_weights_not_to_quantize"]
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | QuantizedLinear):
            converted = should_convert_module(name, listed)  # transformers 5
            assert converted == isinstance(module, QuantizedLinear)
            assert (f"{name}.weight" in listed) == isinstance(module, nn.Linear)  # transformers 4
            assert bool(shards.caught(name, ["lm_head"])) != should_convert_module(
                "lm_head", [name]
            )


# damaged and other files


def test_memory_is_counted_in_codes(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "require_memory", lambda need, purpose: asked.append(need))
    model, _ = checkpoints.read(folder, "tiny")
    assert asked == [sum(value.nbytes for value in model.state_dict().values())]
    monkeypatch.undo()
    monkeypatch.setattr(machine, "available_memory", lambda device: asked[0] - 1)
    with pytest.raises(ResourceError, match="loading model tiny needs about"):
        checkpoints.read(folder, "tiny")


PLACE = "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize("part", ["codebooks", "scales", "bias"])
def test_a_missing_part_is_named(folder, part):
    place = "model.layers.1.self_attn.q_proj"
    edit(folder, lambda tensors: tensors.pop(f"{place}.{part}"))
    refused(folder, rf"the weights of model tiny lack {re.escape(place)}\.{part}")


def test_a_missing_layer_is_named(folder):
    edit(
        folder,
        lambda tensors: [tensors.pop(f"{PLACE}.{p}") for p in ("codes", "codebooks", "scales")],
    )
    refused(folder, rf"the weights of model tiny lack {PLACE}\.weight")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("codes", lambda t: t[:, :1]),  # of another layer
        ("codes", lambda t: t[..., :1]),
        ("codes", lambda t: t.short()),
        ("codes", lambda t: t.view(torch.uint8)),
        ("codes", lambda t: t[0]),
        ("codebooks", lambda t: t[:1]),
        ("codebooks", lambda t: t[:, :15]),
        ("codebooks", lambda t: t[:, :, 0]),
        ("codebooks", lambda t: t.char()),
        ("scales", lambda t: t[:1]),
        ("scales", lambda t: t.flatten()),
        ("scales", lambda t: t.expand(-1, 2, -1, -1)),  # a scale for each group
    ],
)
def test_tensors_that_do_not_fit_are_refused(folder, part, change):
    name = f"{PLACE}.{part}"
    edit(folder, lambda tensors: tensors.update({name: change(tensors[name]).contiguous()}))
    refused(folder, rf"(tensors|codes) of {PLACE} in model tiny (do not fit|are those of a 24x8)")


def test_codewords_of_several_outputs_are_refused(folder):
    def change(tensors):
        tensors[f"{PLACE}.codebooks"] = tensors[f"{PLACE}.codebooks"].repeat(1, 1, 2, 1)

    edit(folder, change)
    refused(folder, "codewords of 2 outputs; only checkpoints with out_group_size 1 are read here")


def test_more_codebooks_than_there_may_be_are_refused(folder):
    def change(tensors):
        tensors[f"{PLACE}.codebooks"] = tensors[f"{PLACE}.codebooks"].repeat(3, 1, 1, 1)
        tensors[f"{PLACE}.codes"] = tensors[f"{PLACE}.codes"].repeat(1, 1, 3)

    edit(folder, change)
    refused(folder, "cannot be read: codebooks must be 1 to 4, got 6")


@pytest.mark.parametrize("part", ["codebooks", "scales"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_values_that_are_no_numbers_are_refused(folder, part, value):
    edit(folder, lambda tensors: tensors[f"{PLACE}.{part}"].view(-1)[:1].fill_(value))
    refused(folder, f"{PLACE} of model tiny has infinite codebooks or scales")


def test_codes_for_what_is_no_layer_are_refused(folder):
    def change(tensors):
        for part in ("codes", "codebooks", "scales"):
            tensors[f"model.layers.9.other.{part}"] = tensors[f"{PLACE}.{part}"].clone()

    edit(folder, change)
    place = r"model\.layers\.9\.other"
    message = f"^model tiny has codes for {place}, which is no linear layer of a Qwen2ForCausalLM"
    refused(folder, message)
    with pytest.raises(SourceError, match=message):
        checkpoints.read_skeleton(folder, "tiny")


def test_codes_of_another_size_than_the_configurations_are_refused(folder):
    edit_config(folder, intermediate_size=32)
    refused(folder, r"down_proj in model tiny are those of a 16x24 layer and it is 16x32; its conf")


def test_a_configuration_that_promises_codes_is_not_believed(folder, tmp_path, rng):
    with checkpoints.quiet():
        checkpoints.read(folder, "tiny")[1].save_pretrained(tmp_path / "dense")
        quantized.model(rng).save_pretrained(tmp_path / "dense")
    tensors = load_file(tmp_path / "dense" / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "_proj" not in name}
    save_file(kept, tmp_path / "dense" / "model.safetensors", {"format": "pt"})
    edit_config(tmp_path / "dense", quantization_config={"quant_method": "aqlm"})
    refused(tmp_path / "dense", "says that it is quantized and none of its tensors are codes")


@pytest.mark.parametrize("method", ["gptq", "vptq"])
def test_other_methods_are_refused(folder, method):
    edit_config(folder, quantization_config={"quant_method": method})
    refused(folder, rf"already quantized \({method}\); give its original weights")
