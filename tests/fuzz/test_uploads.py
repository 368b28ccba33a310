"""Safetensors files of visitors: `Uploads.keep`, and a race on what it keeps."""

import io
import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import many, tried
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from aqviz.uploads import MIB, Uploads
from quantcore import layer, problems
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem
from quantcore.search import SEARCHES, SearchConfig
from quantcore.weight import Scheme

DTYPES = ("F16", "BF16", "F32", "F64", "I8", "I64", "BOOL", "F8_E4M3", "U16", "C64", "", "PICKLE")
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8, "U16": 2, "C64": 8}
SIZES = st.sampled_from(
    [0, 1, 2, 3, 4, 8, -1, 1 << 16, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**30, 1.5, None, "4", []]
)
PARTS = ("weight", "hessian", "heldout_hessian", "bias", "")
PREFIXES = st.sampled_from(
    [
        *("a", "a.b", "..", "../../x", "a/../b", "<script>alert(1)</script>", "-x", "__proto__"),
        *("a\nb", "a\x00b", "\u202eevil", "x" * 500, "", "é", "a b"),
    ]
)
NAMES = st.builds("{}.{}".format, PREFIXES, st.sampled_from(PARTS)) | st.text(max_size=20)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(DTYPES) | JSONS,
        "shape": st.lists(SIZES, max_size=4) | JSONS,
        "data_offsets": st.lists(SIZES, max_size=3) | JSONS,
    },
)
FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-20, 1e-7, 1e7, 1e19, 3e38, -3e38,
                          float("nan"), float("inf"), float("-inf")])  # fmt: skip


def good(out: int = 4, columns: int = 4) -> dict[str, torch.Tensor]:
    """The tensors of a layer that is taken."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(4 * columns, columns, generator=rng)
    moment = inputs.T @ inputs / len(inputs)
    weight = torch.randn(out, columns, generator=rng)
    return {"a.weight": weight, "a.hessian": moment, "a.heldout_hessian": moment.clone()}


GOOD = save(good())


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of this header, its length as it is or as it is claimed."""
    claimed = len(header) if length is None else length
    return struct.pack("<Q", claimed % (1 << 64)) + header + data


def kept(content: bytes, target: str) -> None:
    """Keep a file of this content; what is kept is in its folder and nowhere else."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path, folder = root / "in" / "mine.safetensors", root / "kept"
        path.parent.mkdir()
        path.write_bytes(content)
        uploads = Uploads(folder, MIB)
        found = tried(target, lambda: uploads.keep(path))
        there = {one.relative_to(root).as_posix() for one in root.rglob("*") if one.is_file()}
        named = {f"kept/{found.name}.safetensors"} if found else set()
        assert there == {"in/mine.safetensors"} | named
        if found:
            assert uploads.open(found.name) == found


def archived() -> bytes:
    """An npz, which is a zip of pickles or arrays."""
    held = io.BytesIO()
    np.savez(held, **{name: tensor.numpy() for name, tensor in good().items()})
    return held.getvalue()


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("../../a.weight", b"0" * 64)
    return held.getvalue()


@many(200)
@given(st.binary(max_size=400))
@example(b"")
@example(pickle.dumps({"a.weight": [1.0]}))
@example(zipped())
@example(archived())
@example(raw(b"[" * 100_000))
@example(raw(b'{"a":' * 20_000 + b"1" + b"}" * 20_000))
@example(raw(b'{"a.weight": "' + b"x" * 120_000 + b'"}'))
@example(raw(b"\xff\xfe{}"))
def test_any_bytes(content):
    kept(content, "upload: any bytes")


@many(200)
@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(-(1 << 63), 1 << 64))
def test_any_header(header, data, length):
    kept(raw(header, data, length), "upload: any length")
    kept(raw(header, data), "upload: any header")


@st.composite
def headers(draw) -> bytes:
    """JSON as safetensors has it, in every part wrong or right; names may come twice."""
    names = draw(st.lists(NAMES, max_size=4))
    entries, end = [], 0
    for name in names:
        if draw(st.booleans()):
            entries.append((name, draw(ENTRIES | JSONS)))
            continue
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        begin, end = end, end + int(np.prod(shape)) * BYTES.get(dtype, 1)
        entries.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}))
    pairs = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries]
    text = "{" + ", ".join(pairs) + "}"
    return raw(text.encode("utf-8", "surrogatepass"), b"\x3c" * min(end, 4096))


@many(400)
@given(headers())
def test_any_table_of_tensors(content):
    kept(content, "upload: any table of tensors")


@many(400)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(GOOD)) | st.none(),
    st.binary(max_size=8),
)
def test_a_good_file_with_some_bytes_changed(changes, length, more):
    content = bytearray(GOOD)
    for place, byte in changes:
        content[place] = byte
    kept(bytes(content[:length]) + more, "upload: bytes changed")


def _filled(some, value):
    some.copy_(torch.full(some.shape, value))  # beyond float16 it is infinite


def _mirrored(tensor, value):
    if tensor.shape[0] == tensor.shape[1] > 1:
        _filled(tensor[0, 1], value)
        _filled(tensor[1, 0], value)


def _type(kind):
    return lambda tensor, row, value: tensor.to(kind)


CHANGES = {  # tensor, row, number -> another tensor, or None where it is changed in place
    "entry": lambda tensor, row, value: _filled(tensor[row, :1], value),
    "row": lambda tensor, row, value: _filled(tensor[row], value),
    "scale": lambda tensor, row, value: tensor * value,
    "mirror": lambda tensor, row, value: _mirrored(tensor, value),
    "sign": lambda tensor, row, value: -tensor,
    "float16": _type(torch.float16),
    "bfloat16": _type(torch.bfloat16),
    "float64": _type(torch.float64),
}


@st.composite
def layers(draw) -> dict[str, torch.Tensor]:
    """The tensors of a layer, some numbers of them hostile."""
    tensors = good(draw(st.integers(1, 6)), draw(st.sampled_from([1, 2, 4, 6])))
    for name in draw(st.lists(st.sampled_from(sorted(tensors)), max_size=3)):
        change, row = CHANGES[draw(st.sampled_from(sorted(CHANGES)))], draw(st.integers(0, 5))
        other = change(tensors[name], row % len(tensors[name]), draw(FLOATS))
        tensors[name] = tensors[name] if other is None else other
    if draw(st.integers(0, 9)) == 0:
        tensors.pop(draw(st.sampled_from(sorted(tensors))))
    return tensors


@many(400)
@given(layers())
def test_any_numbers(tensors):
    kept(save(tensors), "upload: any numbers")


@pytest.fixture(scope="module")
def compiled():
    """The search's kernels are compiled before any clock runs."""
    weight, hessian, _ = good().values()
    problem, rng = LayerProblem(weight, hessian), torch.Generator().manual_seed(0)
    layer.quantize(problem, LayerConfig(Scheme(1, 1, 1), sweeps=4), rng)


@many(60)
@given(layers(), st.sampled_from(SEARCHES), st.sampled_from(["greedy", "oa-em", "oa-em-adam"]))
def test_a_race_on_any_numbers(compiled, tensors, search, init):
    """What is kept can be run, or says in a sentence why not; its errors are numbers."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "mine.safetensors"
        path.write_bytes(save(tensors))
        if tried("upload: to be raced", lambda: Uploads(Path(name) / "k", MIB).keep(path)) is None:
            return
        config = LayerConfig(Scheme(1, 1, 1), InitConfig(init), SearchConfig(search), sweeps=2)

        def race():
            rng = torch.Generator().manual_seed(0)
            return layer.quantize(problems.from_file(path, "a"), config, rng)

        state = tried("upload: a race on it", race)
        if state is not None:
            assert state.weight.dense().isfinite().all()
