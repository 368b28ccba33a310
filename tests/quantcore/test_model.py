import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import models
import pytest
import quantized
import torch
from transformers import AutoModelForCausalLM

from quantcore import evaluate, linear, model, sources
from quantcore.block_tuning import TuningConfig
from quantcore.errors import Cancelled, InputError, SourceError
from quantcore.model import ModelConfig
from quantcore.weight import Scheme

TEXT = "the quick brown fox jumps over the lazy dog. it was not amused by any of this. " * 60
TUNING = {"epochs": 1}


@pytest.fixture
def settings(tmp_path):
    """A tiny model and text -> the settings of a small run."""
    (tmp_path / "text.txt").write_text(TEXT)

    def settings(source=None, **changes):
        folder = models.save_model(tmp_path / "source", source)
        plain = {
            "model": str(folder),
            "bpp": None,
            "scheme": Scheme(2, 4, 4),
            "text": str(tmp_path / "text.txt"),
            "samples": 10,
            "heldout_samples": 4,
            "length": 16,
            "sweeps": 1,
            "tuning": TuningConfig(**TUNING),
        }
        return ModelConfig(**(plain | changes))

    return settings


def silent(progress, manifest):
    pass


def digests(folder):
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")
    }


@pytest.mark.parametrize("kind", quantized.KINDS)
def test_every_architecture_is_quantized_and_read_again(settings, tmp_path, kind):
    config, own = quantized.KINDS[kind]
    torch.manual_seed(0)
    source = AutoModelForCausalLM.from_config(
        config(**{**models.SIZES, **own, "initializer_range": 0.3})
    )
    config = settings(source.eval())
    manifest = model.run(config, tmp_path / "q", silent)
    assert manifest["complete"]
    found = sources.load(sources.resolve(str(tmp_path / "q"))).model
    layers = linear.quantized_layers(found)
    assert set(layers) == set(manifest["layers"]) == {entry["name"] for entry in manifest["plan"]}
    assert {layer.scheme for layer in layers.values()} == {Scheme(2, 4, 4)}
    for name, layer in layers.items():  # near the original, as far as inputs and tuning let it
        dense = source.get_submodule(name).weight
        assert (layer.to_weight().dense() - dense).norm() < 0.7 * dense.norm()
        assert 0 < manifest["layers"][name]["heldout_relative_error"] < 0.3
    windows = models.windows(4, 16)
    original, after = (evaluate.perplexity(m, windows).value for m in (source, found))
    assert after == pytest.approx(original, rel=0.5)
    assert after != original


def test_what_was_measured_is_what_is_stored(settings, tmp_path):
    config = settings(tuning=TuningConfig(epochs=0), correction=0.0)
    manifest = model.run(config, tmp_path / "q", silent)
    found = sources.load(sources.resolve(str(tmp_path / "q"))).model
    loaded = sources.load(sources.resolve(config.model))
    heldout = model._windows(config, loaded)[0].heldout
    inputs = []
    layer = found.model.layers[2].mlp.down_proj
    layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(0, 1)))
    found(input_ids=heldout)
    rows = inputs[0].double()
    dense = loaded.model.model.layers[2].mlp.down_proj.weight.double()
    delta = dense - layer.to_weight().dense().double()
    error = (rows @ delta.T).square().sum() / (rows @ dense.T).square().sum()
    facts = manifest["layers"]["model.layers.2.mlp.down_proj"]
    assert facts["heldout_relative_error"] == pytest.approx(error.item(), rel=1e-4)


def test_tuning_brings_the_last_block_closer_to_the_original(settings, tmp_path):
    manifest = model.run(settings(tuning=TuningConfig(epochs=4)), tmp_path / "q", silent)
    errors = [info["heldout"] for info in manifest["blocks"]["2"]["tuning"]]
    assert min(errors) < errors[0]


def test_some_blocks_only(settings, tmp_path):
    config = settings(blocks=(1,))
    manifest = model.run(config, tmp_path / "q", silent)
    assert set(manifest["blocks"]) == {"1"}
    found = sources.load(sources.resolve(str(tmp_path / "q"))).model
    assert {name.split(".")[2] for name in linear.quantized_layers(found)} == {"1"}
    original = sources.load(sources.resolve(config.model)).model
    for n in (0, 2):
        theirs = original.model.layers[n].state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in found.model.layers[n].state_dict().items())


def test_layers_that_do_not_divide_stay_dense_and_are_named(settings, tmp_path):
    manifest = model.run(settings(scheme=Scheme(1, 3, 16)), tmp_path / "q", silent)
    dense = [entry for entry in manifest["plan"] if entry["scheme"] is None]
    assert {entry["projection"] for entry in dense} == {"mlp.down_proj"}
    assert "groups of 16" in dense[0]["why"]
    found = sources.load(sources.resolve(str(tmp_path / "q"))).model
    assert isinstance(found.model.layers[0].mlp.down_proj, torch.nn.Linear)


def test_mixed_schemes_are_read_again(settings, tmp_path):
    config = settings(scheme=None, bpp=12.0, mixed=True)
    model.run(config, tmp_path / "q", silent)
    found = sources.load(sources.resolve(str(tmp_path / "q"))).model
    assert len({layer.scheme for layer in linear.quantized_layers(found).values()}) > 1
    assert "quantization_config" not in json.loads((tmp_path / "q" / "config.json").read_text())


def test_a_stopped_run_goes_on_to_the_same_bits(settings, tmp_path):
    config = settings()
    model.run(config, tmp_path / "whole", silent)
    tries, left = 0, 0

    def stop(progress, manifest):
        nonlocal left
        left -= 1
        if not left:
            raise Cancelled("enough")

    finished = None
    while finished is None:
        tries, left = tries + 1, 9 + tries  # a little further each time, however slow it is
        with suppress(Cancelled):
            finished = model.run(config, tmp_path / "parts", stop)
    assert tries > 5
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_a_finished_run_is_not_done_again(settings, tmp_path):
    config = settings()
    first = model.run(config, tmp_path / "q", silent)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "q").iterdir()}
    assert model.run(config, tmp_path / "q", silent) == first
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "q").iterdir()}
    assert {p: t for p, t in before.items() if p.name != ".lock"} == {
        p: t for p, t in after.items() if p.name != ".lock"
    }


def test_another_seed_gives_other_bits(settings, tmp_path):
    for seed in (0, 1):
        model.run(settings(seed=seed, blocks=(0,)), tmp_path / str(seed), silent)
    assert digests(tmp_path / "0") != digests(tmp_path / "1")


def test_another_command_is_refused(settings, tmp_path):
    model.run(settings(blocks=(0,)), tmp_path / "q", silent)
    with pytest.raises(InputError, match="other sweeps"):
        model.run(settings(blocks=(0,), sweeps=0), tmp_path / "q", silent)


def test_a_damaged_block_is_named_and_made_again(settings, tmp_path):
    config = settings()

    def stop_before_the_end(progress, manifest):
        if "1" in manifest["blocks"]:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        model.run(config, tmp_path / "q", stop_before_the_end)
    path = tmp_path / "q" / "block-000.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(SourceError, match=r"block-000\.safetensors is damaged"):
        model.run(config, tmp_path / "q", silent)
    path.unlink()
    model.run(config, tmp_path / "q", silent)
    assert path.read_bytes() == good


def test_a_quantized_model_is_not_quantized_again(settings, tmp_path):
    model.run(settings(blocks=(0,)), tmp_path / "q", silent)
    config = settings(model=str(tmp_path / "q"))
    with pytest.raises(SourceError, match="already quantized"):
        model.run(config, tmp_path / "twice", silent)


def test_a_shorter_text_gives_what_it_has(settings, tmp_path):
    manifest = model.run(
        settings(samples=900, heldout_samples=100, blocks=(0,)), tmp_path / "q", silent
    )
    text = manifest["text"]
    assert text["windows"] + text["heldout_windows"] == len(TEXT) * 3 // 4 // 16
    assert text["heldout_windows"] == len(TEXT) * 3 // 4 // 16 // 10


def test_a_text_of_one_window_is_refused(settings, tmp_path):
    (tmp_path / "short.txt").write_text("the quick brown fox jumps" * 2)
    config = settings(text=str(tmp_path / "short.txt"), length=24)
    with pytest.raises(InputError, match="1 window of 24 tokens and two are the least"):
        model.run(config, tmp_path / "q", silent)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bpp": 2.0, "scheme": Scheme()}, "either bits"),
        ({"bpp": None}, "either bits"),
        ({"bpp": 0.0}, "above 0"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"init": "magic"}, "magic"),
        ({"search": "magic"}, "magic"),
    ],
)
def test_settings_are_checked(changes, words):
    with pytest.raises(InputError, match=words):
        ModelConfig(**changes)


def test_what_is_expected_counts_every_stage(settings):
    config = settings()
    skeleton, planned = model.plan(config)
    seconds = model.expected_seconds(config, skeleton, planned)
    assert len(seconds) == 1 + 3 * 7 + 3
    assert all(value >= 0 for value in seconds.values())
    assert model.expected_bytes(config, skeleton, planned) > 0


def test_blocks_that_text_only_passes_through_are_expected_too(settings):
    def passing(*blocks):
        config = settings(blocks=blocks)
        return model.expected_seconds(config, *model.plan(config))[model.PREPARE]

    assert passing(0) == passing(0, 1, 2) == 0
    assert passing(2) == 2 * passing(1) == 2 * passing(0, 2) > 0


RUN = """
import sys
from quantcore import __main__
sys.argv = ["quantcore", *sys.argv[1:]]
__main__.main()
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(settings, tmp_path):
    config = settings()
    arguments = [
        "quantize", config.model, "--scheme", "2x4g4", "--text", config.text, "--samples", 10,
        "--heldout-samples", 4, "--length", 16, "--sweeps", 1, "--epochs", 1,
    ]  # fmt: skip
    command = [sys.executable, "-c", RUN, *map(str, arguments), "--out"]
    environment = os.environ | {"PYTHONPATH": str(Path(model.__file__).parents[1])}
    subprocess.run([*command, tmp_path / "whole"], check=True, env=environment)
    rng = random.Random(0)
    killed = 0
    for _ in range(3):
        process = subprocess.Popen([*command, tmp_path / "parts"], env=environment)
        parts = tmp_path / "parts"
        before = len(list(parts.rglob("*.safetensors")))
        while process.poll() is None and len(list(parts.rglob("*.safetensors*"))) <= before:
            time.sleep(0.002)  # until it writes
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 3
    subprocess.run([*command, tmp_path / "parts"], check=True, env=environment)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
