import os
import shutil
import struct
import time

import pytest
import torch
from gguf import GGUFValueType
from models import windows, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from quantcore import checkpoints, conversion, machine
from quantcore.errors import ResourceError, SourceError

TEXT = "the other three, they said: {thatch}\n  x = 1"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def file(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def no_conversion(monkeypatch):
    """Switched on, a second conversion fails the test."""

    def forbid():
        monkeypatch.setattr(conversion, "_read_gguf", lambda path: 1 / 0)

    return forbid


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_converted_model_is_what_transformers_reads_from_the_file(cache, file):
    with checkpoints.quiet():
        direct = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model, read_tokenizer = checkpoints.read(conversion.converted(file), "tiny")
    for name, value in direct.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    ids = windows() % 50
    torch.testing.assert_close(model(ids).logits, direct(ids).logits)
    assert read_tokenizer(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert read_tokenizer.decode(read_tokenizer(TEXT)["input_ids"]) == TEXT


def test_tied_embeddings_stay_tied(cache, file):
    model, _ = checkpoints.read(conversion.converted(file), "tiny")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert checkpoints.count_parameters(conversion.converted(file), "tiny") == sum(
        parameter.numel() for parameter in model.parameters()
    )


def test_conversion_happens_once_and_silently(cache, file, no_conversion, capfd):
    folder = conversion.converted(file)
    no_conversion()
    assert conversion.converted(file) == folder
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert conversion.origins() == {folder: file}
    assert capfd.readouterr() == ("", "")


def test_another_file_is_another_model(cache, file, tmp_path):
    other = write_gguf(tmp_path / "other.gguf", seed=1)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    assert other.stat().st_size == file.stat().st_size
    assert conversion.converted(other) != conversion.converted(file)


def test_a_file_that_is_gone_is_no_origin(cache, file):
    conversion.converted(file)
    file.unlink()
    assert conversion.origins() == {}


def test_a_killed_writer_leaves_nothing_that_counts(cache, file, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion.shutil, "rmtree", lambda *_, **__: None)  # no time to clean up
        patch.setattr(conversion.Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            conversion.converted(file)
    (left,) = cache.iterdir()
    assert left.name.startswith(conversion.PARTIAL)
    assert conversion.origins() == {}
    checkpoints.read(conversion.converted(file), "tiny")
    assert left.exists()  # for all we know it is still being written


def test_old_leftovers_are_cleared(cache, file):
    left = cache / f"{conversion.PARTIAL}abc"
    left.mkdir(parents=True)
    day_ago = time.time() - conversion.LEFTOVER_SECONDS - 1
    os.utime(left, (day_ago, day_ago))
    conversion.converted(file)
    assert not left.exists()


def test_of_two_writers_at_once_one_folder_remains(cache, file, monkeypatch, tmp_path):
    folder = conversion.converted(file)
    content = files(folder)
    shutil.move(folder, tmp_path / "other")
    rename = conversion.Path.rename

    def late(path, target):
        shutil.move(tmp_path / "other", target)  # the other process has just finished
        return rename(path, target)

    monkeypatch.setattr(conversion.Path, "rename", late)
    assert conversion.converted(file) == folder
    assert files(folder) == content
    assert [path.name for path in cache.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["cut", "lost", "unmarked"])
def test_a_damaged_folder_is_made_again(cache, file, damage):
    folder = conversion.converted(file)
    content = files(folder)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "lost":
        weights.unlink()
    else:
        (folder / conversion.ORIGIN).unlink()
    assert conversion.converted(file) == folder
    assert files(folder) == content


@pytest.mark.parametrize("keep", [4, 7, 24, 100, 2000, 20_000, -1])
def test_a_file_cut_short_is_refused(cache, file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"tiny\.gguf is cut short or damaged \(.*fetch it"):
        conversion.converted(file)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip", b"\x00" * 100])
def test_a_file_of_another_kind_is_refused(cache, file, content):
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"tiny\.gguf is not a GGUF file; give a GGUF file or"):
        conversion.converted(file)


def test_an_unknown_architecture_is_refused(cache, file):
    file.write_bytes(file.read_bytes().replace(b"llama", b"lIama"))
    with pytest.raises(SourceError, match=r"tiny\.gguf cannot be converted: .*lIama"):
        conversion.converted(file)


def test_a_conversion_that_does_not_fit_is_refused_before_it_starts(
    cache, file, monkeypatch, no_conversion
):
    monkeypatch.setattr(machine, "available_memory", lambda device: 1000)
    no_conversion()
    with pytest.raises(ResourceError, match=r"converting tiny\.gguf needs about"):
        conversion.converted(file)


def test_a_cache_that_cannot_be_written_is_named(file, monkeypatch, tmp_path):
    (tmp_path / "taken").touch()
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "taken"))
    with pytest.raises(ResourceError, match=r"cannot be written to .*taken.* set QUANTCORE_CACHE"):
        conversion.converted(file)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(cache, file, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(ResourceError, match=r"No space left on device.*free space there or set"):
        conversion.converted(file)
    assert list(cache.iterdir()) == []


def test_a_file_that_speaks_of_more_than_it_holds_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "long.gguf"
    entries = struct.pack("<QcIIQ", 1, b"a", GGUFValueType.ARRAY, GGUFValueType.UINT32, 10**5)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entries)
    with pytest.raises(SourceError, match="it ends before what it speaks of"):
        conversion.check_gguf(path)
