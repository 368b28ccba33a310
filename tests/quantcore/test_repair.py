import json

import models
import pytest
import quantized
import torch
from models import windows
from transformers.quantizers.quantizers_utils import should_convert_module

from quantcore import checkpoints, linear, repair, shards, sources
from quantcore.errors import InputError, SourceError
from quantcore.linear import QuantizedLinear
from quantcore.repair import BACKUP, SKIPPED
from quantcore.weight import Scheme


@pytest.fixture(params=["llama", "llama-untied"])
def model(request, rng):
    return quantized.model(rng, request.param)


@pytest.fixture
def folder(tmp_path, model):
    """As AQLM's converter writes it: every weight that is not quantized, no module."""
    folder = quantized.save(tmp_path / "published", model)
    names = ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]
    change(folder, lambda found: found.update({SKIPPED: names}))
    return folder


def change(folder, edit):
    config = json.loads((folder / "config.json").read_text())
    edit(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


def settings(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.json"}


def test_in_place_the_module_is_named_and_the_old_file_kept(folder, model):
    before, tensors = (folder / "config.json").read_text(), contents(folder)
    assert should_convert_module("lm_head", settings(folder)[SKIPPED])  # what goes wrong
    assert repair.repair(str(folder), in_place=True) == [f"lm_head came to {SKIPPED}"]
    listed = settings(folder)[SKIPPED]
    assert "lm_head.weight" in listed
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear | torch.nn.Linear):
            assert should_convert_module(name, listed) == isinstance(module, QuantizedLinear)
    assert (folder / BACKUP).read_text() == before
    assert contents(folder) == {**tensors, BACKUP: before.encode()}
    old, new = json.loads(before), json.loads((folder / "config.json").read_text())
    old["quantization_config"][SKIPPED] = new["quantization_config"][SKIPPED]
    assert new == old
    assert repair.repair(str(folder), in_place=True) == []


def test_the_first_backup_is_kept(folder):
    (folder / BACKUP).write_text("the first")
    repair.repair(str(folder), in_place=True)
    assert (folder / BACKUP).read_text() == "the first"


def test_a_mended_copy_leaves_the_original(folder, model, tmp_path):
    before, tensors = (folder / "config.json").read_text(), contents(folder)
    repair.repair(str(folder), tmp_path / "copy")
    assert (folder / "config.json").read_text() == before
    assert contents(folder) == contents(tmp_path / "copy") == tensors
    assert "lm_head" in settings(tmp_path / "copy")[SKIPPED]
    read, _ = checkpoints.read(tmp_path / "copy", "tiny")
    assert torch.equal(read(windows()).logits, model(windows()).logits)


def test_without_a_place_nothing_is_written(folder, tmp_path):
    before = (folder / "config.json").read_text()
    assert repair.repair(str(folder)) == [f"lm_head came to {SKIPPED}"]
    assert (folder / "config.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_everything_that_contradicts_the_tensors_is_mended(folder):
    def edit(found):
        found.update(nbits_per_codebook=16, extra=1)
        found[SKIPPED] += ["model.layers.1", "up_proj"]
        del found["num_codebooks"]

    change(folder, edit)
    assert repair.repair(str(folder), in_place=True) == [
        f"model.layers.1 left {SKIPPED}: it names a quantized layer",
        f"up_proj left {SKIPPED}: it names a quantized layer",
        f"lm_head came to {SKIPPED}",
        "nbits_per_codebook is 4, not 16",
        "num_codebooks is 2, and was not said",
    ]
    assert settings(folder)["nbits_per_codebook"] == 4
    assert settings(folder)["extra"] == 1


def test_what_cannot_be_mended_is_refused(folder, model, rng, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="give either --out DIR or --in-place, not both"):
        repair.repair(str(folder), tmp_path / "copy", in_place=True)
    with pytest.raises(InputError, match="published is there; name a new folder"):
        repair.repair(str(folder), folder)
    with pytest.raises(SourceError, match="has no quantized layers; there is nothing to mend"):
        repair.repair(str(models.save_model(tmp_path / "dense")))
    hub = sources.ModelSource("hub", "some/model", str(folder), "")
    with monkeypatch.context() as patch:
        patch.setattr(sources, "resolve", lambda spec: hub)
        with pytest.raises(InputError, match="lies in a cache and is not changed there; give --ou"):
            repair.repair("some/model", in_place=True)
    other = QuantizedLinear.from_weight(quantized.weight(rng, 16, 24, Scheme(1, 3, 4)))
    linear.replace(model, "model.layers.1.mlp.down_proj", other)
    shards.write(folder, model, models.tiny_tokenizer())
    with pytest.raises(InputError, match="differ in their scheme"):
        repair.repair(str(folder))
