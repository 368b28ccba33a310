import json
import os
import subprocess
import sys
from importlib.util import find_spec

import models
import pytest
import quantized
import torch
import typer
from models import windows
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from quantcore import checkpoints, export, linear, repair, shards, store
from quantcore.commands import console
from quantcore.commands import export as commands
from quantcore.errors import InputError, SchemeError, SourceError
from quantcore.linear import QuantizedLinear, quantized_layers
from quantcore.weight import Scheme


@pytest.fixture
def model(rng):
    """With a head and biases, every tensor exact in float16."""
    made = quantized.model(rng, "qwen2")
    for parameter in made.parameters():
        parameter.data = parameter.data.half().float()
    return made


@pytest.fixture
def folder(tmp_path, model):
    return quantized.save(tmp_path / "made", model)


def read(folder):
    return checkpoints.read(folder, "tiny")[0]


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def note(folder, **manifest):
    document = {"format": store.FORMAT, "key": "one", **manifest}
    (folder / store.MANIFEST).write_text(json.dumps(document))


def test_aqlms_checkpoint_is_all_in_sixteen_bits_and_the_same_model(folder, model, tmp_path):
    out = tmp_path / "deep" / "out"
    export.export(str(folder), out)
    for path in out.glob("*.safetensors"):
        kinds = {name: value.dtype for name, value in load_file(path).items()}
        assert all(
            kind == (torch.int8 if name.endswith(".codes") else torch.float16)
            for name, kind in kinds.items()
        )
    assert torch.equal(read(out)(windows()).logits, model(windows()).logits)
    config = read_config(out)
    assert (config["dtype"], config["torch_dtype"]) == ("float16", "float16")
    assert config["quantization_config"] == shards.quantization_config(model)
    assert json.loads((out / "generation_config.json").read_text())
    assert AutoTokenizer.from_pretrained(out)("the cat")["input_ids"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("dtype", export.TYPES)
@pytest.mark.parametrize("kind", ["qwen2", "llama", "phi3"])
def test_dense_weights_are_the_decoded_ones_and_load_anywhere(tmp_path, rng, kind, dtype):
    made = quantized.model(rng, kind)
    export.export(str(quantized.save(tmp_path / "made", made)), tmp_path / "out", "dense", dtype)
    assert "quantization_config" not in read_config(tmp_path / "out")
    with checkpoints.quiet():
        dense = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert dense.dtype == export.TYPES[dtype]
    layers = quantized_layers(made)
    for name, module in dense.named_modules():
        if isinstance(module, torch.nn.Linear):
            own = made.get_submodule(name)
            want = own.to_weight().dense() if name in layers else own.weight
            assert torch.equal(module.weight, want.to(dense.dtype))
            if own.bias is not None:
                assert torch.equal(module.bias, own.bias.to(dense.dtype))
    assert torch.equal(dense.model.norm.weight, made.model.norm.weight.to(dense.dtype))


def test_layers_of_several_schemes_go_into_dense_weights_only(tmp_path, rng, model):
    other = QuantizedLinear.from_weight(quantized.weight(rng, 16, 24, Scheme(1, 3, 4)))
    linear.replace(model, "model.layers.1.mlp.down_proj", other)
    folder = quantized.save(tmp_path / "made", model)
    with pytest.raises(SchemeError, match=r"scheme \(1x3 g4, 2x4 g8\).*use --format dense"):
        export.export(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export.export(str(folder), tmp_path / "out", "dense")
    assert "1x3 g4, 2x4 g8" in (tmp_path / "out" / "README.md").read_text()
    weight = read(tmp_path / "out").get_submodule("model.layers.1.mlp.down_proj").weight
    assert torch.equal(weight, other.to_weight().dense().half().float())


@pytest.mark.parametrize("form", export.FORMATS)
def test_a_value_beyond_sixteen_bits_is_refused_by_name_and_nothing_is_left(tmp_path, model, form):
    model.model.norm.weight[3] = 1e5
    folder = quantized.save(tmp_path / "made", model)
    with pytest.raises(InputError, match=r"model\.norm\.weight holds .* 1e\+05.* float16; choose"):
        export.export(str(folder), tmp_path / "out", form)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    export.export(str(folder), tmp_path / "out", "dense", "bfloat16")


def test_what_is_there_is_never_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export.export(str(folder), out)  # an empty folder is as good as none
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="out is there and not empty; name a new folder"):
        export.export(str(folder), out, "dense")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(InputError, match="is there and not empty"):
        export.export(str(folder), out / "README.md")


def test_an_interrupted_export_leaves_nothing(folder, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_index", stop)
    with pytest.raises(KeyboardInterrupt):
        export.export(str(folder), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("form", "dtype", "message"),
    [
        ("gguf", "float16", "there is no format 'gguf'; choose one of aqlm, dense"),
        ("dense", "int8", "there is no type 'int8'; choose one of float16, bfloat16"),
        ("aqlm", "bfloat16", "AQLM's checkpoints are float16; --dtype goes with --format dense"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, tmp_path, form, dtype, message):
    with pytest.raises(InputError, match=message):
        export.export(str(folder), tmp_path / "out", form, dtype)


def test_a_model_that_is_not_quantized_is_refused(tmp_path):
    folder = models.save_model(tmp_path / "dense")
    for form in export.FORMATS:
        with pytest.raises(InputError, match="dense has no quantized layers; give one that has"):
            export.export(str(folder), tmp_path / "out", form)


def test_an_unfinished_model_is_refused(folder, tmp_path):
    note(folder, complete=False)
    with pytest.raises(InputError, match="is not finished"):
        export.export(str(folder), tmp_path / "out")
    (folder / store.MANIFEST).write_text("{")
    with pytest.raises(SourceError, match=r"quantcore\.json is damaged"):
        export.export(str(folder), tmp_path / "out")


def test_the_card_says_what_is_known_and_no_more(folder, tmp_path, model):
    export.export(str(folder), tmp_path / "bare")
    bare = (tmp_path / "bare" / "README.md").read_text()
    layers = quantized_layers(model).values()
    weights = sum(layer.out * layer.columns for layer in layers)
    stored = sum(
        layer.codes.numel() * 4 + (layer.codebooks.numel() + layer.scales.numel()) * 16
        for layer in layers
    )
    assert f"{len(layers)} linear layers with {weights:,} weights" in bare
    assert f"in scheme 2x4 g8 (codebooks x bits, group): {stored / weights:.3f} bits" in bare
    assert "measured" not in bare
    assert "calibrated" not in bare
    assert "base_model" not in bare
    note(
        folder,
        complete=True,
        model={"kind": "hub", "name": "some/model"},
        text={"spec": "wikitext2", "sha256": "abc", "windows": 5, "length": 40},
        config={"seed": 7, "samples": 64},
        layers={
            "a": {"relative_error": 0.25, "heldout_relative_error": None},
            "b": {"relative_error": 0.75},
        },
        ledger={"whole": {"bits": 3.25}, "rows": [1, 2]},
        tuning={"config": {"batch": 3}, "best_validation_kl": 0.5},
    )
    export.export(str(folder), tmp_path / "noted")
    noted = (tmp_path / "noted" / "README.md").read_text()
    assert noted.startswith("---\nbase_model: some/model\nlibrary_name: transformers\n")
    assert (
        "The original model was some/model.\nIt was calibrated on wikitext2 (sha256 abc).\n"
        "Calibration took 5 windows of 40 tokens.\nThe seed was 7.\n"
    ) in noted
    assert "| relative_error, mean of 2 layers before tuning | 0.5 |" in noted
    assert "heldout" not in noted
    assert "| ledger whole bits | 3.25 |" in noted
    assert "| tuning best_validation_kl | 0.5 |" in noted
    assert "batch" not in noted


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(commands.export)
    app.command()(commands.repair)
    return lambda *arguments: CliRunner().invoke(app, [str(part) for part in arguments])


def test_the_command_exports(run, folder, tmp_path):
    done = run(
        "export", folder, "--format", "dense", "--dtype", "bfloat16", "--out", tmp_path / "o"
    )
    assert done.exit_code == 0, done.output
    assert read_config(tmp_path / "o")["dtype"] == "bfloat16"
    assert run("export", folder, "--out", tmp_path / "a").exit_code == 0
    assert read_config(tmp_path / "a")["quantization_config"]["quant_method"] == "aqlm"
    assert isinstance(run("export", folder, "--out", tmp_path / "a").exception, InputError)


def test_the_command_mends_and_says_what(run, folder, monkeypatch):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"lm_head",', ""))
    said = []
    monkeypatch.setattr(console.out, "print", lambda text, **_: said.append(text))
    for options in ([], ["--in-place"], []):
        assert run("repair", folder, *options).exit_code == 0
    change = f"lm_head came to {repair.SKIPPED}"
    assert said == [
        change,
        "Nothing was written: give --out DIR or --in-place.",
        change,
        f"Written to {folder}",
        "Nothing to mend: config.json agrees with the tensors.",
    ]
    assert read_config(folder)["quantization_config"][repair.SKIPPED] == [
        "lm_head.weight",
        "lm_head",
    ]


CODE = """
import sys, torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging
logging.disable_progress_bar()
windows = torch.load("windows.pt")
for name in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    kinds = {type(module).__module__ for module in model.model.layers.modules()}
    assert "aqlm.inference" in kinds and "torch.nn.modules.linear" not in kinds, kinds
    with torch.no_grad():
        torch.save(model(windows).logits, name + ".pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("aqlm") is None, reason="the package aqlm is not installed")
def test_transformers_and_aqlm_give_the_same_logits(tmp_path, rng):
    # one shape for all layers: aqlm compiles for each; one thread: with more its sums are wrong
    sizes = {"num_key_value_heads": 2, "intermediate_size": 16}
    made = {
        "tied": quantized.model(rng, "llama", Scheme(2, 8, 8), **sizes),
        "untied": quantized.model(rng, "llama-untied", Scheme(2, 8, 8), **sizes),
        "biased": quantized.model(rng, "qwen2", Scheme(2, 8, 8), **sizes),
        "wide": quantized.model(rng, "llama", Scheme(1, 10, 4), **sizes),  # int16 codes
    }
    for name, model in made.items():
        folder = quantized.save(tmp_path / "made" / name, model)
        export.export(str(folder), tmp_path / name)
    torch.save(windows(2, 6), tmp_path / "windows.pt")
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", CODE, *made]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for name in made:
        ours = read(tmp_path / name)(windows(2, 6)).logits
        assert ours.std() > 0.1
        theirs = torch.load(tmp_path / f"{name}.pt")
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
