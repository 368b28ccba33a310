"""Models and texts that someone brings: GGUF files, folders, quantized folders, results, texts."""

import json
import shutil
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import quantized
import torch
from harness import many, tried
from hostile import JSONS, WORDS, altered
from hypothesis import example, given
from hypothesis import strategies as st
from models import save_model, write_gguf

from aqviz import recordings
from quantcore import checkpoints, conversion, corpora, entries, repair, report, sources, store
from quantcore.export import export
from quantcore.shards import INDEX

HUGE = st.sampled_from(
    [0, 1, -1, 7, 10**5, 10**9, 10**12, 1 << 62, 1 << 64, 10**30, 1.5, "16", None, [], {}]
)
NUMBERS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "pad_token_id"),
)
TYPES = ("llama", "bert", "gpt2", "mixtral", "nobody", "", 3, None, "../x")
KINDS = ([], ["X"], "X", [3], None, ["LlamaForCausalLM"] * 3)
CODE = ({"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}, {"AutoConfig": "evil"})
METHODS = (*({"quant_method": name} for name in ("aqlm", "gptq", "quantcore", None)), {}, "aqlm")
WORDED = st.fixed_dictionaries(
    {},
    optional={
        "model_type": st.sampled_from(TYPES),
        "architectures": st.sampled_from(KINDS) | JSONS,
        "auto_map": st.sampled_from([*CODE, "evil", {"AutoConfig": None}]),
        "quantization_config": st.sampled_from(METHODS) | JSONS,
        "rope_parameters": JSONS,
        "rope_scaling": st.just({"rope_type": "yarn", "factor": 1e300}) | JSONS,
        "hidden_act": st.sampled_from(["silu", "nothing", None, 3]),
        "rms_norm_eps": HUGE,
        "layer_types": JSONS,
        "dtype": st.sampled_from(["float64", "complex64", "nothing", 3]),
        "tie_word_embeddings": JSONS,
        "text_config": JSONS,
        "num_labels": HUGE,
        "id2label": JSONS,
    },
)
CHANGES = st.dictionaries(st.sampled_from(NUMBERS), HUGE, max_size=3) | WORDED
FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", INDEX),
    *("generation_config.json", "special_tokens_map.json", "chat_template.jinja"),
)
SHARDS = st.sampled_from(
    [
        "model.safetensors",
        "../../x",
        "/etc/passwd",
        "gone.safetensors",
        "",
        ".",
        "a\x00b",
        "x" * 300,
    ]
)
RESULTS = {name: recordings.read(name) for name in ("first", "rho", "models-2x8g8")}
for found in RESULTS.values():
    found |= {part: found[part][:3] for part in ("runs", "candidates") if part in found}
PARTS = (
    *("format", "key", "plan", "ledger", "model", "config", "blocks", "layers", "tuning"),
    *("complete", "evaluation", "text"),
)
EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """A quantized model's folder, with a manifest."""
    made = quantized.model(torch.Generator().manual_seed(0))
    place = quantized.save(tmp_path_factory.mktemp("codes") / "tiny", made)
    manifest = store.begin("key", {"init": "oa-em", "search": "beam", "seed": 0})
    manifest |= {"model": {"name": "tiny"}, "complete": True, "plan": [{"scheme": None}]}
    (place / store.MANIFEST).write_text(json.dumps(manifest))
    return place


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@contextmanager
def copied(folder: Path):
    with tempfile.TemporaryDirectory() as name:
        yield Path(shutil.copytree(folder, Path(name) / "m"))


def changed(path: Path, changes: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def looked_at(folder: Path, target: str) -> None:
    """All that asks a folder what it is; whatever code lies in it is not run."""
    before = sorted(folder.rglob("*"))
    source = tried(f"{target}: named", lambda: sources.resolve(str(folder)))
    if source is not None:
        tried(f"{target}: shapes", lambda: sources.linear_layers(sources.skeleton(source)))
        tried(f"{target}: read", lambda: sources.load(source))
    assert sorted(folder.rglob("*")) == before


@many(80)
@given(CHANGES)
@example({"num_hidden_layers": 10**9})
@example({"hidden_size": 10**12})
@example({"vocab_size": 10**9})
@example({"num_attention_heads": 0})
@example({"architectures": True})
@example({"architectures": ["a\nb"]})
@example({"quantization_config": {"quant_method": "a\nb"}})
@example({"auto_map": {"AutoConfig": "evil.Evil"}, "model_type": "nobody"})
def test_any_config(folder, changes):
    with copied(folder) as place:
        (place / "evil.py").write_text(EVIL)
        changed(place / "config.json", changes)
        looked_at(place, "folder, config")


@many(30)
@given(CHANGES)
@example({"num_hidden_layers": 10**9})
@example({"hidden_size": 1 << 62})
def test_any_config_without_weights(folder, changes):
    with copied(folder) as place:
        (place / "model.safetensors").unlink()
        changed(place / "config.json", changes)
        looked_at(place, "folder, config alone")


@many(60)
@given(
    st.sampled_from(FILES),
    st.binary(max_size=40) | JSONS.map(lambda one: json.dumps(one).encode()) | st.none(),
)
def test_any_file_of_a_folder(folder, name, content):
    with copied(folder) as place:
        if content is None:
            (place / name).unlink(missing_ok=True)
        else:
            (place / name).write_bytes(content)
        looked_at(place, "folder, files")


@many(30)
@given(st.dictionaries(WORDS, SHARDS | JSONS, max_size=3) | JSONS)
@example({"model.norm.weight": "../../x"})
def test_any_index(folder, places):
    with copied(folder) as place:
        (place / INDEX).write_text(json.dumps({"weight_map": places}))
        (place.parent / "x").write_bytes((place / "model.safetensors").read_bytes())
        looked_at(place, "folder, index")


@st.composite
def broken(draw, size: int) -> list[tuple[int, bytes]]:
    """Where a file is overwritten, mostly at its start, and with what."""
    spots = st.integers(0, min(size, 600) - 1) | st.integers(0, size - 9)
    number = st.sampled_from([0, 1, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1])
    words = number.map(lambda value: struct.pack("<Q", value)) | st.binary(min_size=1, max_size=8)
    return draw(st.lists(st.tuples(spots, words), max_size=3))


@many(60)
@given(st.data())
def test_a_gguf_file_with_some_bytes_changed(gguf, data):
    content = bytearray(gguf)
    for place, words in data.draw(broken(len(gguf))):
        content[place : place + len(words)] = words
    length = data.draw(st.none() | st.integers(0, len(gguf)))
    read_gguf(bytes(content[:length]), "gguf, bytes changed")


@many(60)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"GGUF", b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"])
)
@example(b"\xff" * 16, b"GGUF\x03\0\0\0")
@example(struct.pack("<QQ", 1 << 40, 0), b"GGUF\x03\0\0\0")
@example(struct.pack("<QQ", 0, 1 << 40), b"GGUF\x03\0\0\0")
@example(struct.pack("<QQQ", 0, 1, 1 << 62) + b"x" * 40, b"GGUF\x03\0\0\0")
def test_any_gguf_file(content, start):
    read_gguf(start + content, "gguf, any bytes")


def read_gguf(content: bytes, target: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m.gguf"
        path.write_bytes(content)
        source = tried(f"{target}: named", lambda: sources.resolve(str(path)))
        if source is not None:
            made = tried(f"{target}: converted", lambda: conversion.converted(path))
            if made is not None:
                tried(f"{target}: read", lambda: sources.load(source))


@many(40)
@given(st.data())
def test_a_quantized_folder_with_something_changed(codes, data):
    with copied(codes) as place:
        file = data.draw(st.sampled_from(sorted(one.name for one in place.glob("*.safetensors"))))
        content = bytearray((place / file).read_bytes())
        for spot, words in data.draw(broken(len(content))):
            content[spot : spot + len(words)] = words
        (place / file).write_bytes(
            bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
        )
        changed(place / "config.json", data.draw(st.just({}) | CHANGES))
        tried("quantized: read", lambda: checkpoints.read(place, "m"))
        tried("quantized: repair", lambda: repair.repair(str(place)))
        out = place.parent / "out"
        tried("quantized: export", lambda: export(str(place), out, "dense"))
        assert {one.name for one in place.parent.iterdir()} <= {"m", "out"}


@many(80)
@given(st.dictionaries(st.sampled_from(PARTS), JSONS, max_size=3) | JSONS)
def test_any_manifest(codes, changes):
    with copied(codes) as place:
        path = place / store.MANIFEST
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | changes if isinstance(changes, dict) else changes))
        source = sources.resolve(str(place))
        tried("manifest: made from", lambda: entries.made(source))
        tried("manifest: report", lambda: report.markdown(report.table({"m": report.read(place)})))
        tried("manifest: export", lambda: export(str(place), place.parent / "out"))


@many(100)
@given(st.sampled_from(sorted(RESULTS)).flatmap(lambda name: altered(RESULTS[name])))
def test_any_result(found):
    """What `quantcore report` is given: a recorded document with some values changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.json"
        path.write_text(json.dumps(found))
        tried("report: table", lambda: report.markdown(report.table({"r": report.read(path)})))
        tried("report: pairs", lambda: report.markdown(report.pairs({"r": report.read(path)})))


@many(60)
@given(
    st.sampled_from([".txt", ".json", ".jsonl", ".md", ".parquet"]),
    st.binary(max_size=60) | JSONS.map(lambda one: json.dumps(one).encode()),
)
@example(".json", b'{"text": [1, {"a": 2}]}')
@example(".jsonl", b'{"text": "a"}\n{"text": 3}\nnot json')
@example(".json", b"null")  # on both pyarrow ends the process
@example(".json", b'[null, {"text": "a"}]')
@example(".txt", b"\xff\xfe\x00")
def test_any_text(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        tried("texts: files", lambda: corpora.load_text(str(path), "evaluation"))


@many(60)
@given(WORDS)
@example("/dev/stdin")
def test_any_name(name):
    """Names of models and texts, which are taken from links too."""
    tried("names: model", lambda: sources.resolve(name))
    tried("names: text", lambda: corpora.load_text(name, "calibration"))
