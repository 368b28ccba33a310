import json

import pytest
import torch
from models import save_model, tiny_llama, tiny_qwen, tiny_tokenizer, windows
from safetensors.torch import load_file, save_file
from transformers import BertConfig, T5Config, modeling_gguf_pytorch_utils
from transformers.utils import logging

from quantcore import checkpoints, machine, shards
from quantcore.errors import ResourceError, SourceError


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "tiny")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen])
def test_a_folder_is_read_as_it_was_saved(tmp_path, make):
    model = make()
    read, _ = checkpoints.read(save_model(tmp_path, model), "tiny")
    torch.testing.assert_close(read(windows()).logits, model(windows()).logits, rtol=0, atol=0)
    tied = read.get_output_embeddings().weight is read.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings


def test_a_tokenizer_is_read_as_it_was_saved(folder):
    _, tokenizer = checkpoints.read(folder, "tiny")
    text = "the cat\nsat."
    assert tokenizer(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]


def test_sixteen_bits_are_read_as_float32(tmp_path):
    model = tiny_llama().bfloat16()
    read, _ = checkpoints.read(save_model(tmp_path, model), "tiny")
    weight = read.get_submodule("model.layers.1.mlp.up_proj").weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.model.layers[1].mlp.up_proj.weight.float())


def test_a_read_model_is_ready_to_be_measured(folder):
    model, tokenizer = checkpoints.read(folder, "tiny")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.model_max_length == 64


def test_reading_prints_nothing(folder, capfd):
    checkpoints.read(folder, "tiny")
    assert capfd.readouterr() == ("", "")


def test_a_skeleton_has_the_models_shapes_and_no_weights(folder):
    (folder / "model.safetensors").unlink()
    skeleton = checkpoints.read_skeleton(folder, "tiny")
    shapes = {name: value.shape for name, value in tiny_llama().state_dict().items()}
    assert {name: value.shape for name, value in skeleton.state_dict().items()} == shapes
    assert all(value.is_meta for value in skeleton.state_dict().values())


def test_a_skeleton_of_another_kind_of_model_is_refused(folder):
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(folder)
    with pytest.raises(SourceError, match="model tiny is no causal language model"):
        checkpoints.read_skeleton(folder, "tiny")


@pytest.fixture
def info_level():
    before = logging.get_verbosity()
    logging.set_verbosity_info()
    yield logging.INFO
    logging.set_verbosity(before)


def test_silence_ends(info_level):
    bar = modeling_gguf_pytorch_utils.tqdm
    with checkpoints.quiet():
        assert logging.get_verbosity() == logging.ERROR
        assert modeling_gguf_pytorch_utils.tqdm is not bar
    assert modeling_gguf_pytorch_utils.tqdm is bar
    assert logging.get_verbosity() == info_level
    assert logging.is_progress_bar_enabled()


def test_parameters_are_counted_from_the_files(folder):
    model = tiny_llama()
    assert checkpoints.count_parameters(folder, "tiny") == sum(
        p.numel() for p in model.parameters()
    )


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 4 * 1000)
    monkeypatch.setattr(checkpoints, "_read_weights", lambda *_: 1 / 0)
    with pytest.raises(ResourceError, match="loading model tiny needs about"):
        checkpoints.read(folder, "tiny")


def refused(folder, message):
    with pytest.raises(SourceError, match=message) as refusal:
        checkpoints.read(folder, "tiny")
    assert "\n" not in str(refusal.value)


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    refused(folder, r"model tiny has no config\.json; give the folder that holds it")


def test_a_damaged_config_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "lla')
    refused(folder, r"config\.json of model tiny cannot be used: ")


def test_an_unknown_kind_of_model_is_refused(folder):
    edit_config(folder, model_type="llamax", architectures=["LlamaxForCausalLM"])
    refused(folder, r"config\.json of model tiny cannot be used: .*llamax")


def test_a_models_own_code_is_never_run(folder, tmp_path):
    sign = tmp_path / "ran"
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(sign)!r}).touch()\n")
    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    edit_config(folder, model_type="own", auto_map=names)
    refused(folder, "brings its own code, which is never run here")
    assert not sign.exists()


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (T5Config(architectures=["T5ForConditionalGeneration"]), "T5ForConditionalGeneration"),
        (BertConfig(architectures=["BertForMaskedLM"]), "BertForMaskedLM"),
    ],
)
def test_a_model_that_does_not_predict_text_is_refused(folder, config, kind):
    config.save_pretrained(folder)
    refused(folder, rf"model tiny is no causal language model \({kind}\)")


def test_a_quantized_model_is_refused(folder):
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    refused(folder, r"already quantized \(gptq\); give its original weights")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_weights_cut_short_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, r"model\.safetensors of model tiny is cut short or not a safetensors file")


def test_something_else_under_the_name_of_weights_is_refused(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(folder, r"model\.safetensors of model tiny is cut short or not a safetensors file")


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "has no safetensors file; convert its weights")


def test_missing_weights_are_not_made_up(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, {"format": "pt"})
    refused(folder, r"weights of model tiny lack model\.layers\.1\.mlp\.up_proj\.weight \(1 are")


def test_weights_of_another_size_are_refused(folder):
    edit_config(folder, intermediate_size=25)
    refused(folder, "the weights of model tiny cannot be used: ")


def shard(folder):
    """Two files and an index, as large models have."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / checkpoints.INDEX).write_text(json.dumps({"metadata": {}, **index}))
    return sum(weight.numel() for weight in weights.values())


def test_a_model_in_several_files_is_read(folder):
    assert checkpoints.count_parameters(folder, "tiny") == shard(folder)
    read, _ = checkpoints.read(folder, "tiny")
    torch.testing.assert_close(read(windows()).logits, tiny_llama()(windows()).logits)


def test_a_missing_file_of_several_is_named(folder):
    shard(folder)
    (folder / "model-2.safetensors").unlink()
    refused(folder, r"model tiny lacks model-2\.safetensors")


def test_a_damaged_index_is_refused(folder):
    shard(folder)
    (folder / checkpoints.INDEX).write_text('{"weight_map": 3}')
    refused(folder, r"model\.safetensors\.index\.json of model tiny is damaged")


def test_a_folder_without_tokenizer_is_refused(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refused(folder, "the tokenizer of model tiny cannot be used: ")


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "the tokenizer of model tiny cannot be used: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1024"),
        ({"text_config": {"num_local_experts": 10**9}}, "num_local_experts must be at most"),
        ({"hidden_size": "wide"}, "config.json of model tiny cannot be used: Validation error"),
        ({"num_attention_heads": 7}, "config.json of model tiny cannot be used"),
        ({"intermediate_size": -8}, "config.json of model tiny cannot be used"),
        ({"architectures": [["LlamaForCausalLM"]]}, "is no causal language model"),
        ({"quantization_config": "aqlm"}, "tiny"),
    ],
)
def test_what_no_model_has_is_refused_before_it_is_made(folder, changes, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(SourceError, match=message) as refusal:
        checkpoints.read_skeleton(folder, "tiny")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "a\0b", "", 3, ["a"]])
def test_an_index_names_files_beside_it(folder, shard):
    (folder.parent / "other.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / shards.INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(folder, "model tiny (is damaged|names files that are not beside it)")
