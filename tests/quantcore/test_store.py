import errno
import json
import os

import pytest
import quantized
import torch
from filelock import FileLock

from quantcore import files, shards, store
from quantcore.errors import InputError, ResourceError, SourceError

CONFIG = {"seed": 0, "init": "oa-em"}


def begun(key="one", **changes):
    return store.begin(key, CONFIG | changes)


@pytest.fixture
def weight(rng):
    return quantized.weight(rng, 4, 16)


def test_a_layer_is_found_again(tmp_path, weight):
    with store.opened(tmp_path / "q", begun()) as kept:
        assert kept.layer("a.b") is None
        kept.keep_layer("a.b", weight, {"error": 0.5})
    with store.opened(tmp_path / "q", begun()) as kept:
        found = kept.layer("a.b")
        assert kept.manifest["layers"]["a.b"]["error"] == 0.5
    for name, value in vars(weight).items():
        assert torch.equal(getattr(found, name), value)


def test_a_block_is_kept_in_the_checkpoints_types_and_replaces_its_layers(tmp_path, weight):
    tensors = {"a.codes": weight.codes.char(), "a.codebooks": weight.codebooks[:, :, None]}
    tensors |= {"norm": torch.tensor([1 / 3])}
    with store.opened(tmp_path, begun()) as kept:
        kept.keep_layer("a", weight, {})
        kept.keep_block(2, tensors, {"layers": ["a"]})
        found = kept.block(2)
    assert not (tmp_path / "layers" / "a.safetensors").exists()
    assert (tmp_path / "block-002.safetensors").exists()
    assert found["a.codebooks"].dtype == torch.float16
    assert found["norm"].dtype == torch.float32  # no narrower type holds it


def test_other_settings_are_refused_and_named(tmp_path):
    with store.opened(tmp_path, begun()) as kept:
        kept.save()
    with (
        pytest.raises(InputError, match="other seed"),
        store.opened(tmp_path, begun("two", seed=1)),
    ):
        pass
    with pytest.raises(InputError, match="versions or model"), store.opened(tmp_path, begun("two")):
        pass


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"thesis\.tex"), store.opened(tmp_path, begun()):
        pass


def test_a_damaged_layer_is_named_and_others_are_kept(tmp_path, weight):
    with store.opened(tmp_path, begun()) as kept:
        kept.keep_layer("a", weight, {})
        kept.keep_layer("b", weight, {})
        path = tmp_path / "layers" / "a.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(SourceError, match=r"a\.safetensors is damaged .* remove it"):
            kept.layer("a")
        assert kept.layer("b") is not None
        path.unlink()
        assert kept.layer("a") is None


def test_a_damaged_manifest_is_refused(tmp_path):
    (tmp_path / store.MANIFEST).write_text("{")
    with pytest.raises(SourceError, match="damaged"), store.opened(tmp_path, begun()):
        pass


def test_one_process_at_a_time(tmp_path):
    refused = pytest.raises(ResourceError, match="another process")
    with FileLock(tmp_path / ".lock"), refused, store.opened(tmp_path, begun()):
        pass


def test_a_killed_processs_halves_are_cleared(tmp_path, weight):
    with store.opened(tmp_path, begun()) as kept:
        kept.keep_layer("a", weight, {})
    halves = [tmp_path / "layers" / ".b.safetensors.x1", tmp_path / ".quantcore.json.y2"]
    for half in halves:
        half.touch()
    with store.opened(tmp_path, begun()):
        assert not any(half.exists() for half in halves)


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, weight, monkeypatch):
    with store.opened(tmp_path, begun()) as kept:
        kept.keep_layer("a", weight, {})

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(shards, "save_file", full)
            with pytest.raises(ResourceError, match=r"No space left.*make room"):
                kept.keep_layer("b", weight, {})
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_whole", full)
            with pytest.raises(ResourceError, match="No space left"):
                kept.save()
    with store.opened(tmp_path, begun()) as kept:
        assert kept.layer("a") is not None
        assert "b" not in json.loads((tmp_path / store.MANIFEST).read_text())["layers"]


def test_finishing_is_entered(tmp_path, weight):
    with store.opened(tmp_path, begun()) as kept:
        kept.keep_layer("a", weight, {})
        kept.keep_block(0, {"a.codes": weight.codes}, {"layers": ["a"]})
        kept.finish()
    assert not (tmp_path / "layers").exists()
    assert store.read_manifest(tmp_path)["complete"]
    assert store.read_manifest(tmp_path / "nowhere") is None


def test_the_folders_that_were_changed_last_stay_and_those_in_use(tmp_path):
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        os.utime(folder, (number, number))
    (tmp_path / "file").touch()
    with FileLock(tmp_path / "1" / ".lock"):
        os.utime(tmp_path / "1", (1, 1))
        store.keep_latest(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3", "4", "file"}
    store.keep_latest(tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("part", [{"plan": {}}, {"config": []}, {"layers": {"a": 3}}, {"model": 3}])
def test_a_manifest_with_parts_of_other_kinds_is_damaged(tmp_path, part):
    manifest = store.begin("key", {}) | part
    (tmp_path / store.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SourceError, match="is damaged or of another version"):
        store.read_manifest(tmp_path)
