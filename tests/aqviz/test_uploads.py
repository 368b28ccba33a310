import json
import os
import pickle
import shlex
import struct
import urllib.error
import urllib.request
import zipfile
from urllib.parse import parse_qsl

import gradio as gr
import pytest
import torch
from documents import document, experiment
from safetensors.torch import save_file

from aqviz import app, commands, engine, notebook, permalink, text, uploads
from aqviz.figures.perplexity import view_perplexity
from aqviz.parts.board import start
from aqviz.parts.own_layer import in_use
from aqviz.shown import panels
from aqviz.shown.form import Form
from aqviz.shown.race import check, visit
from aqviz.uploads import KEPT, KEPT_BYTES, MIB, Uploads
from quantcore.errors import InputError, SourceError
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

NAME = "upload-0123456789abcdef"
SCHEME = Scheme(2, 3, 8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """This machine's cache, empty."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept(cache):
    return Uploads.here()


def moment(rng, columns: int) -> torch.Tensor:
    inputs = torch.randn(4 * columns, columns, generator=rng)
    return inputs.T @ inputs / len(inputs)


def layer(rng, prefix: str = "mine", out: int = 12, columns: int = 16) -> dict[str, torch.Tensor]:
    """Tensors of one layer."""
    return {
        f"{prefix}.weight": torch.randn(out, columns, generator=rng),
        f"{prefix}.hessian": moment(rng, columns),
        f"{prefix}.heldout_hessian": moment(rng, columns),
    }


@pytest.fixture
def file(tmp_path, rng):
    path = tmp_path / "mine.safetensors"
    save_file(layer(rng), path)
    return path


def raw(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], end: int, dtype: str = "F32", begin: int = 0) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def zipped(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mine.weight", b"0" * 64)


BYTES = {  # files that are not what their name says -> what the sentence says
    "empty": (b"", "is cut short or is no safetensors file"),
    "shorter than a length": (b"\x10\0\0", "is cut short or is no safetensors file"),
    "text": (b"these are not weights, they are words\n" * 9, "is no safetensors file, or its"),
    "pickle": (pickle.dumps({"mine.weight": [1.0]}), "is no safetensors file, or its header"),
    "huge length": (struct.pack("<Q", 1 << 62) + b"{}", "its header has more than 128 KiB"),
    "length past the end": (struct.pack("<Q", 5000) + b"{}", "is cut short or is no"),
    "no JSON": (raw(b"{'a': 1}"), "is cut short or is no safetensors file"),
    "nested": (raw(b"[" * 60_000), "is cut short or is no safetensors file"),
    "a list": (raw([]), "is cut short or is no safetensors file"),
    "unknown type": (raw({"a.weight": entry([1, 1], 4, "PICKLE")}, b"0" * 4), "is cut short or"),
    "cut short": (raw({"a.weight": entry([2, 2], 16)}, b"0" * 8), "is cut short or is no"),
    "too long": (raw({"a.weight": entry([1, 1], 4)}, b"0" * 8), "is cut short or is no"),
    "offsets of another shape": (raw({"a.weight": entry([4, 4], 4)}, b"0" * 4), "is cut short"),
    "shape beyond counting": (raw({"a.weight": entry([1 << 40, 1 << 40], 4)}, b"0" * 4), "is cut"),
    "overlapping": (
        raw({"a.weight": entry([1, 1], 4), "a.hessian": entry([1, 1], 4)}, b"0" * 4),
        "is cut short or is no safetensors file",
    ),
    "no tensor": (raw({}), "no tensor is in bad.safetensors; store PREFIX.weight"),
    "8-bit floats": (raw({"a.weight": entry([1, 4], 4, "F8_E4M3")}, b"0" * 4), "is F8_E4M3; store"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_layers_are_refused_in_a_sentence(case, kept, tmp_path):
    content, message = BYTES[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        kept.keep(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_an_archive_is_refused(kept, tmp_path):
    path = tmp_path / "bad.safetensors"
    zipped(path)
    with pytest.raises(InputError, match="is no safetensors file"):
        kept.keep(path)


ONE = torch.eye(4)
TENSORS = {  # what differs from a good layer -> what the sentence says
    "integers": ({"mine.weight": torch.ones(4, 4, dtype=torch.int32)}, "mine.weight in .* is I32"),
    "another name": ({"mine.bias": ONE}, "holds 'mine.bias'; its tensors must be PREFIX.weight"),
    "no prefix": ({".weight": ONE}, "holds '.weight'"),
    "a path": ({"../x.weight": ONE}, "holds '../x.weight'"),
    "markup": ({"<b>.weight": ONE}, "holds '<b>.weight'"),
    "a flag": ({"-x.weight": ONE}, "holds '-x.weight'"),
    "a long name": ({"x" * 999 + ".weight": ONE}, "holds 'xxx"),
    "an axis": ({"mine.weight": torch.ones(4)}, "mine.weight in .* must be a matrix"),
    "three axes": ({"mine.hessian": torch.ones(4, 4, 1)}, "mine.hessian in .* must be a matrix"),
    "no rows": ({"mine.weight": torch.ones(0, 4)}, "must be a matrix with rows and columns"),
    "no columns": ({"mine.weight": torch.ones(4, 0)}, "must be a matrix with rows and columns"),
    "oblong": (
        {"mine.hessian": torch.ones(4, 5)},
        "is 4x5, but the weight has 4 columns; it must be 4x4",
    ),
    "other columns": ({"mine.hessian": torch.eye(5)}, "is 5x5, but .*; it must be 4x4"),
    "oblong held-out": ({"mine.heldout_hessian": torch.ones(5, 4)}, "heldout_hessian in .* is 5x4"),
    "only a weight": (
        {"other.weight": ONE},
        "there is no other.hessian in bad.safetensors; store it too",
    ),
    "only a Hessian": (
        {"other.hessian": ONE},
        "there is no other.weight in bad.safetensors; store it too",
    ),
    "NaN": ({"mine.weight": ONE * torch.nan}, "the weight has NaN or infinite entries"),
    "infinite": ({"mine.hessian": ONE / 0}, "hessian has NaN or infinite entries"),
    "too large for float32": ({"mine.weight": ONE.double() * 1e39}, "NaN or infinite entries"),
    "not symmetric": ({"mine.hessian": ONE + torch.ones(4, 4).triu(1)}, "must be symmetric"),
    "held-out not symmetric": (
        {"mine.heldout_hessian": ONE + torch.ones(4, 4).triu(1)},
        "heldout_hessian must be symmetric",
    ),
    "tiny": ({"mine.weight": ONE * 1e-15}, r"norms from 1e-15 to 1e-15; .* 1e-12 and 1e\+12"),
    "huge": ({"mine.weight": ONE * 1e30}, "norms from .* to inf; scale it so that all are between"),
    "no weight": ({"mine.weight": torch.zeros(4, 4)}, "row 0 of the weight is all zeros"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_make_no_problem_are_refused_and_not_kept(case, kept, cache, tmp_path):
    change, message = TENSORS[case]
    path = tmp_path / "bad.safetensors"
    save_file({"mine.weight": ONE.clone(), "mine.hessian": ONE.clone()} | change, path)
    with pytest.raises(InputError, match=message):
        kept.keep(path)
    assert not list(cache.rglob("upload-*"))


def test_a_file_that_is_too_large_is_not_opened(kept, file, monkeypatch):
    monkeypatch.delattr(uploads, "safe_open")
    small = Uploads(file.parent, 1000)
    with pytest.raises(InputError, match=r"has 0\.0 MiB and at most 0\.000953674 MiB are taken"):
        small.keep(file)


def test_no_tensor_is_read_before_all_shapes_are_known(kept, tmp_path, monkeypatch):
    path = tmp_path / "bad.safetensors"
    save_file({"a.weight": ONE.clone(), "a.hessian": ONE.clone(), "b.weight": ONE.clone()}, path)
    monkeypatch.setattr(uploads.problems, "from_file", lambda *_: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"there is no b\.hessian"):
        kept.keep(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_is_taken(dtype, kept, tmp_path, rng):
    path = tmp_path / "mine.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in layer(rng).items()}, path)
    assert kept.keep(path).layers == {"mine": (12, 16)}


def test_a_kept_file_is_named_by_its_bytes_and_kept_once(kept, cache, file, tmp_path, rng):
    one = kept.keep(file)
    assert uploads.NAME.fullmatch(one.name)
    assert one.file.read_bytes() == file.read_bytes()
    assert kept.keep(file.rename(tmp_path / "again.safetensors")) == one
    save_file(layer(rng), file)  # other numbers
    assert kept.keep(file).name != one.name
    assert len(list(cache.rglob("upload-*"))) == 2
    assert kept.open(one.name) == one


def test_layers_are_listed_by_their_prefix(kept, tmp_path, rng):
    path = tmp_path / "two.safetensors"
    save_file(layer(rng, "b.deep") | layer(rng, "a", 3, 8), path, metadata={"made by": "hand"})
    assert list(kept.keep(path).layers.items()) == [("a", (3, 8)), ("b.deep", (12, 16))]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "upload-0123456789ABCDEF", "", NAME + "0"])
def test_nothing_but_an_upload_can_be_named(name, kept):
    with pytest.raises(InputError, match="an uploaded file is named like upload-0123456789abcdef"):
        kept.open(name)


def test_a_file_that_is_gone_is_a_sentence(kept):
    with pytest.raises(SourceError, match=f"the file {NAME} is no longer kept here; choose it"):
        kept.path(NAME)


def made(rng, path) -> None:
    save_file({"a.weight": torch.randn(4, 4, generator=rng), "a.hessian": torch.eye(4)}, path)


def test_only_so_many_are_kept_and_the_one_unused_for_longest_goes(kept, file, rng):
    names = []
    for second in range(KEPT):
        made(rng, file)
        names.append(kept.keep(file).name)
        os.utime(kept.open(names[-1]).file, (second, second))
    kept.path(names[0])  # used, so the next one is the oldest
    made(rng, file)
    newest = kept.keep(file).name
    for name in (names[0], names[2], newest):
        assert kept.path(name)
    with pytest.raises(SourceError, match="no longer kept"):
        kept.path(names[1])


def test_only_so_many_bytes_are_kept(cache, file, rng):
    made(rng, file)
    small = Uploads(cache / "uploads", file.stat().st_size)
    names = []
    for second in range(KEPT_BYTES + 2):
        made(rng, file)
        names.append(small.keep(file).name)
        os.utime(small.path(names[-1]), (second, second))
    there = {path.stem for path in cache.rglob("upload-*")}
    assert there == set(names[2:])


@pytest.mark.parametrize("value", ["0", "-1", "much", "nan", "inf"])
def test_a_cap_that_cannot_be_is_refused(value, monkeypatch):
    monkeypatch.setenv("AQVIZ_LARGEST_UPLOAD", value)
    with pytest.raises(InputError, match="AQVIZ_LARGEST_UPLOAD must be a number above 0"):
        Uploads.here()


def test_the_cap_is_a_setting_and_gradio_has_it_too(cache, core, monkeypatch):
    assert Uploads.here().largest == 64 * MIB
    monkeypatch.setenv("AQVIZ_LARGEST_UPLOAD", "0.5")
    small = app.Core(core.engine, core.store, core.recording, core.ready)
    assert small.uploads.largest == MIB // 2
    seen = {}
    monkeypatch.setattr("gradio.Blocks.launch", lambda _, **given: seen.update(given))
    app.serve(gr.Blocks(), small)
    assert seen["max_file_size"] == MIB // 2


# ----------------------------------------------------------------------- experiments on an upload


def config_of(kept, file, **changes) -> Experiment:
    settings = {"scheme": SCHEME, "seeds": (0, 1), "sweeps": 2, "device": "cpu"}
    return Experiment(problem=kept.keep(file).name, layer="mine", **(settings | changes))


def ignore(progress, document) -> None:
    pass


def numbers(found: dict) -> list[dict]:
    """Runs without what no two runs share."""
    runs = []
    for run in found["runs"]:
        trace = [{**phase, "seconds": None} for phase in run["trace"]]
        runs.append({**run, "seconds": None, "trace": trace})
    return runs


def test_an_upload_gives_what_its_command_and_its_python_lines_give(
    kept, file, tmp_path, monkeypatch, command_line
):
    config = config_of(kept, file)
    found = engine.run(config, ignore, None)
    assert found["config"]["problem"] == config.problem
    assert str(tmp_path) not in json.dumps(found)
    assert {run["complete"] for run in found["runs"]} == {True}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / uploads.FILE)
    monkeypatch.chdir(elsewhere)
    code, told, _ = command_line(*shlex.split(commands.of(config))[1:])
    assert code == 0, told
    lines = notebook.python(config)
    assert "FILE.safetensors stands for the uploaded file, upload-" in lines
    space: dict = {}
    exec(lines, space)
    for again in (json.loads((elsewhere / "result.json").read_text()), space["document"]):
        assert numbers(again) == numbers(found)
        assert (again["shape"], again["rho"]) == (found["shape"], found["rho"])
        assert again["perplexity"] is None


def test_a_run_that_was_stopped_goes_on(kept, file):
    config = config_of(kept, file)
    whole = engine.run(config, ignore, None)
    begun = set()
    engine.run(config, lambda told, _: begun.add(told.stage), whole)
    assert not any("seed" in stage for stage in begun)


def test_the_engine_opens_no_path(cache, file):
    config = Experiment(problem=str(file), layer="mine", scheme=SCHEME)
    with pytest.raises(InputError, match="an uploaded file is named like"):
        engine.run(config, ignore, None)


def query_of(config, job=None) -> dict[str, str]:
    return dict(parse_qsl(permalink.to_query(config, job)))


def test_a_link_brings_back_the_experiment(kept, file):
    config = config_of(kept, file, beam=1)
    query = query_of(config)
    assert (query["problem"], query["layer"]) == (config.problem, "mine")
    assert "model" not in query
    assert permalink.from_query(query).experiment == config


@pytest.mark.parametrize("rest", ["", "&layer=mine"])
@pytest.mark.parametrize("name", ["%2Fetc%2Fpasswd", "upload-..%2F..%2Fetc%2Fpwd", "x", ""])
def test_a_link_can_name_no_path(name, rest):
    query = dict(parse_qsl(f"problem={name}{rest}", keep_blank_values=True))
    with pytest.raises(InputError, match="an uploaded file is named like"):
        permalink.from_query(query)


def test_the_command_names_no_model_and_no_path():
    words = commands.of(Experiment(problem=NAME, layer="mine"))
    assert words.startswith("quantcore layer --problem FILE.safetensors --name mine --codebooks 2")
    assert "--model" not in words
    assert "--layer" not in words


# ----------------------------------------------------------------------------------- on the page


@pytest.fixture
def cored(core, kept):
    """The core of the page over this test's cache."""
    return app.Core(core.engine, core.store, core.recording, core.ready, kept)


def form_of(core, config) -> Form:
    return Form.of(config, core.layers(None, config.problem))


def test_a_form_and_an_experiment_on_an_upload_are_one_thing(cored, kept, file):
    config = config_of(kept, file, beam=1)
    layers = cored.layers("any model", config.problem)
    form = Form.of(config, layers)
    assert (form.upload, form.block, form.projection) == (config.problem, "0", "mine")
    assert form._replace(model="any", text="any.txt").experiment(layers) == config
    assert form._replace(tokens=None, windows=None).experiment(layers) == config


def test_facts_are_known_and_a_run_begins(cored, kept, file):
    form = form_of(cored, config_of(kept, file))
    facts, alert = check(cored, form)
    assert ("12 × 16" in facts, alert) == (True, "")
    assert "do not divide into groups" in check(cored, form._replace(preset="own", group=7))[1]
    assert start(cored, form).config.problem == form.upload


def test_an_upload_that_is_not_kept_is_a_sentence_everywhere(cored, kept, file):
    form = form_of(cored, config_of(kept, file))
    kept.path(form.upload).unlink()
    assert "no longer kept here" in check(cored, form)[1]
    with pytest.raises(SourceError, match="no longer kept here"):
        start(cored, form)
    for name in ("../../etc/passwd", "/etc/passwd"):
        assert "is named like" in check(cored, form._replace(upload=name))[1]


def test_a_link_opens_an_upload_again(cored, kept, file):
    config = config_of(kept, file)
    job = start(cored, form_of(cored, config))
    alert, form, found = visit(cored, query_of(job.config))
    assert (alert, form.upload, form.projection) == ("", config.problem, "mine")
    assert found.id == job.id
    assert "has no layer other" in visit(cored, query_of(config) | {"layer": "other"})[0]


def test_a_result_stays_where_its_file_is_gone(cored, kept, file):
    job = start(cored, form_of(cored, config_of(kept, file)))
    kept.path(job.config.problem).unlink()
    alert, form, found = visit(cored, query_of(job.config, job.id))
    assert "no longer kept here; choose it again under Your own layer" in alert
    assert (form, found.id) == (None, job.id)


def test_a_result_says_where_it_is_from_and_why_there_is_no_perplexity():
    config = experiment(problem=NAME, layer="mine")
    found = document(config) | {"model": None, "text": None, "perplexity": None}
    assert f"from the uploaded file {NAME}, named by" in panels.provenance(found)
    assert "comes from a file of its own" in view_perplexity(found).missing


def test_while_an_upload_is_in_use_there_is_no_model_to_choose():
    used, told, *model_and_block = in_use(NAME)
    assert (used["visible"], [one["visible"] for one in model_and_block]) == (True, [False, False])
    assert NAME in told
    assert in_use("")[0]["visible"] is False
    assert in_use("")[2]["visible"] is True


def asked(url: str, data: object | None = None) -> dict:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_the_page_takes_files_that_were_sent_and_no_others_of_this_machine(
    cored, serve, cache, file, monkeypatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(file.parent / "sent"))
    address = serve(cored)
    events = asked(f"{address}/config")["dependencies"]
    taken = next(event for event in events if "upload" in [name for _, name in event["targets"]])

    def take(path, **more):
        query = {"data": [{"path": str(path), **more}], "fn_index": taken["id"]}
        asked(f"{address}/gradio_api/run/predict", query | {"session_hash": "visitor"})

    meta = {"_type": "gradio.FileData"}
    for more in ({"meta": meta}, {}):
        with pytest.raises(urllib.error.HTTPError, match="500"):
            take(file, **more)
    with pytest.raises(urllib.error.HTTPError) as refused:
        take("http://1.1.1.1/mine.safetensors", meta=meta)
    assert "none is fetched from an address" in refused.value.read().decode()
    assert not list(cache.rglob("upload-*"))
    sent = file.parent / "sent" / "mine.safetensors"
    sent.parent.mkdir(exist_ok=True)
    take(file.rename(sent), meta=meta)
    assert len(list(cache.rglob("upload-*"))) == 1


def test_the_lines_that_write_a_file_write_one_that_is_taken(kept, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = text.read("own_layer").body.partition("```python\n")[2].partition("```")[0]
    inputs = torch.randn(64, 16, generator=rng)
    exec(lines, {"inputs": inputs, "layer": torch.nn.Linear(16, 12)})
    assert kept.keep(tmp_path / "mine.safetensors").layers == {"mine": (12, 16)}


@pytest.mark.parametrize("part", ["hessian", "heldout_hessian"])
def test_a_hessian_that_no_search_can_use_is_refused_at_once(part, kept, tmp_path, rng):
    tensors = layer(rng)
    values, vectors = torch.linalg.eigh(tensors[f"mine.{part}"])
    values[0] = -0.2 * values[-1]
    turned = vectors @ values.diag() @ vectors.T
    tensors[f"mine.{part}"] = (turned + turned.T) / 2
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"mine\.{part} is not positive semidefinite"):
        kept.keep(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("outliers", [1, 30])
def test_a_hessian_that_rounding_made_indefinite_is_kept(dtype, outliers, kept, tmp_path, rng):
    inputs = torch.randn(8, 64, generator=rng)  # fewer tokens than inputs: it is singular
    inputs[:, 0] *= outliers
    rounded = (inputs.T @ inputs / len(inputs)).to(dtype)
    assert torch.linalg.eigvalsh(rounded.double())[0] < 0
    path = tmp_path / "mine.safetensors"
    save_file({"a.weight": torch.randn(4, 64, generator=rng), "a.hessian": rounded}, path)
    assert kept.keep(path).layers == {"a": (4, 64)}
