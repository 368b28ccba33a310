import json

import pytest
import torch

from quantcore import files
from quantcore.errors import SourceError


def test_what_is_written_is_read_back(tmp_path, rng):
    path = tmp_path / "deep" / "some.safetensors"
    tensors = {"a": torch.randn(3, 4, generator=rng).T, "b": torch.arange(5)}
    files.write_tensors(path, tensors)
    back = files.read_tensors(path)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert list(files.read_tensors(path, {"b": True, "c": False})) == ["b"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "one.json"
    files.write_json(path, {"kept": 1})

    def fail(place):
        place.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, fail)
    assert json.loads(path.read_text()) == {"kept": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_they_may_read_elsewhere(tmp_path):
    (tmp_path / "plain").touch()
    files.write_json(tmp_path / "one.json", {})
    files.write_tensors(tmp_path / "one.safetensors", {"a": torch.ones(1)})
    for name in ("one.json", "one.safetensors"):
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_file_and_a_missing_tensor_are_named(tmp_path):
    path = tmp_path / "some.safetensors"
    with pytest.raises(SourceError, match=r"there is no file .*some.safetensors"):
        files.read_tensors(path)
    files.write_tensors(path, {"a": torch.ones(1)})
    with pytest.raises(SourceError, match=r"some.safetensors has no tensor 'b'; it has a"):
        files.read_tensors(path, {"b": True})


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "some.safetensors"
    files.write_tensors(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match="is cut short or is no safetensors file"):
        files.read_tensors(path)


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "one.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_digest_names_facts_in_any_order():
    assert files.digest({"b": [1, None], "a": "x"}) == files.digest({"a": "x", "b": [1, None]})
    assert files.digest({"a": "x"}) != files.digest({"a": "y"})
    # echo -n '["starts", 0.5]' | sha256sum
    assert files.digest(["starts", 0.5]) == "b7e5ee33180f99a7"
