"""What is taken away: Python lines, tables, notebooks that run."""

import io
import json
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import cases
import models
import pandas as pd
import pytest
from documents import document, experiment
from grounds import landscape, starts

from aqviz import bundle, metrics, notebook, recordings, uploads
from aqviz.engine import STUDIES, kind_of
from aqviz.shown.basins import Basins
from quantcore import files, study
from quantcore.experiment import Experiment
from quantcore.grid import Survey
from quantcore.landscape import Landscape
from quantcore.starts import Starts
from quantcore.trial import Trial
from quantcore.weight import Scheme

CONFIGS = (
    experiment(seeds=(0, 3), scheme=Scheme(2, 6, 8), shrinkage=0.1),
    Survey(layers=("a",), schemes=(Scheme(1, 8, 8), Scheme(2, 6, 8))),
    Basins().landscape,
    Basins(noise=0.0).many,
)
SCHEME = Scheme(2, 3, 4)
ONE = Experiment(
    problem=uploads.FILE, layer="one", scheme=SCHEME, sweeps=1, seeds=(0, 1), perplexity_windows=0
)
TINY = {  # of a problem file, a moment each
    "experiment": ONE,
    "survey": Survey(problem=uploads.FILE, schemes=(SCHEME, Scheme(1, 3, 4)), sweeps=1),
    "facts": Survey(problem=uploads.FILE, schemes=(SCHEME,), inits=()),
    "landscape": Landscape(replace(ONE, seeds=(0,), sweeps=2), rows=6, resolution=2, points=3),
    "starts": Starts(ONE, (0.0, 0.5)),
}
LINES = {"experiment": 4, "survey": 4, "facts": 1, "landscape": 18, "starts": 8}


@pytest.mark.parametrize("config", CONFIGS, ids=kind_of)
def test_the_lines_make_the_same_study(config):
    lines = notebook.python(config)
    made: dict = {}
    exec(lines.partition("document =")[0], made)
    assert made["config"] == config
    assert f"document = {STUDIES[kind_of(config)][1].__name__.split('.')[1]}.run(" in lines


@pytest.mark.parametrize("config", CONFIGS, ids=kind_of)
def test_a_config_comes_back_from_json(config):
    values = json.loads(json.dumps(asdict(config)))
    assert recordings.config_of(kind_of(config), values) == config
    assert recordings.config_of(kind_of(config), values | {"of": "later"}) == config


@pytest.mark.parametrize("config", CONFIGS, ids=kind_of)
def test_the_default_model_is_named_and_no_other(config):
    told = notebook.python(recordings.named(config, {"model": {"name": "the-default"}}))
    assert "model='the-default'" in told
    chosen = recordings.named(recordings.named(config, {"model": {"name": "a"}}), {})
    assert "model='a'" in notebook.python(chosen)
    assert recordings.named(config, {"model": None}) == config


@pytest.fixture(params=TINY)
def taken(request, tmp_path, monkeypatch, rng):
    """A tiny study, unpacked where the test is; its notebook's code and the number of its lines."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    problem = cases.make(rng, 12, 6, SCHEME).problem
    parts = ("weight", "hessian", "heldout_hessian")
    tensors = {f"one.{name}": getattr(problem, name) for name in parts}
    files.write_tensors(tmp_path / uploads.FILE, tensors)
    return unpacked(TINY[request.param]), LINES[request.param]


def unpacked(config) -> list[str]:
    """The code of the notebook of a study that is run and unpacked here."""
    made = STUDIES[kind_of(config)][1].run(config, lambda progress, so_far: None)
    held = bundle.zipped({"": bundle.of_study(config, made, {}, "It ended.")}, "v=1")
    zipfile.ZipFile(io.BytesIO(held)).extractall()
    return check(json.loads(Path("notebook.ipynb").read_text()))


def check(opened: dict) -> list[str]:
    """The code of a notebook that is one."""
    assert (opened["nbformat"], opened["nbformat_minor"]) == (4, 4)  # 5 would want ids of cells
    first, *cells = opened["cells"]
    assert first["cell_type"] == "markdown"
    for cell in cells:
        assert set(cell) == {"cell_type", "metadata", "source", "execution_count", "outputs"}
        assert cell["cell_type"] == "code"
    return [cell["source"] for cell in cells]


def execute(code: list[str]) -> dict:
    names: dict = {}
    for source in code:
        exec(source, names)
    return names


def test_a_study_s_notebook_runs_and_finds_the_same(taken):
    code, lines = taken
    made = execute(code)
    assert made["gaps"].shape == (lines, len(made["checked"]))
    assert made["checked"]
    assert made["there"].index.is_unique
    assert made["gaps"].max(axis=None) == 0  # on the same machine


@pytest.mark.slow
def test_the_notebook_of_a_trial_runs_and_finds_the_same_before_tuning(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny = models.tiny_llama(vocab_size=len(models.tiny_tokenizer()))
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    config = Trial(
        model=str(models.save_model(tmp_path / "source", tiny)),
        blocks=(1,),
        scheme=SCHEME,
        sweeps=1,
        text="text.txt",
        window=16,
        samples=8,
        heldout_samples=3,
        steps=1,
        every=1,
        reply_tokens=2,
    )
    code = unpacked(config)
    shutil.rmtree("cache")  # or the blocks would be those that were kept
    study.loaded.cache_clear()
    gaps = execute(code)["gaps"]
    assert gaps.shape == (2, 1)
    assert gaps.max(axis=None) < notebook.RTOL
    study.loaded.cache_clear()


def test_a_study_s_notebook_fails_where_a_number_differs_or_is_missing(taken):
    code, _ = taken
    table = pd.read_csv("metrics.csv")
    column = metrics.checked(table)[-1]
    names = {"document": json.loads(Path("trace.json").read_text())}
    compare = code[-2:]
    for factor, fails in ((1.0005, False), (1.002, True)):
        changed = table.copy()
        changed.loc[len(table) - 1, column] *= factor
        changed.to_csv("metrics.csv", index=False)
        assert failed(compare, names) is fails
    more = table.iloc[[0]].assign(**{metrics.keys(table)[0]: "another"})
    pd.concat([table, more]).to_csv("metrics.csv", index=False)
    assert failed(compare, names)


def failed(code: list[str], names: dict) -> bool:
    try:
        for source in code:
            exec(source, names)
    except AssertionError:
        return True
    return False


def test_tables_have_a_line_a_run_a_start_and_a_point():
    line = metrics.table(landscape()).set_index(["codes", "text", "position"])["relative_error"]
    assert line["reassigned", "calibration", 0.5] == 0.03  # worked by hand
    assert line["fixed_b", "heldout", 1.0] == 0.04
    assert len(line) == 3 * 2 * 3
    clouds = metrics.table(starts()).set_index(["init", "seed", "noise"])
    assert clouds.loc[("greedy", 0, 0.2), "heldout_relative_error"] == 0.024
    runs = metrics.table(document(experiment(seeds=(0, 1))))
    assert runs.iloc[0]["relative_error"] == pytest.approx(0.026325, abs=1e-6)
    assert list(runs["init"]) == ["greedy", "oa-em"] * 2


def test_runs_that_did_not_finish_are_in_no_table():
    made = document(experiment(seeds=(0, 1)))
    made["runs"][-1]["complete"] = False
    assert len(metrics.table(made)) == 3
    assert "complete" not in metrics.table(made)


def test_only_what_found_something_is_there():
    unfinished = document()
    for run in unfinished["runs"]:
        run["complete"] = False
    nothing = (None, unfinished, landscape() | {"line": None}, {"kind": "starts", "starts": []})
    assert not any(map(metrics.there, nothing))
    assert all(map(metrics.there, (document(), landscape(), starts())))


def test_the_words_tell_the_sentence_the_link_and_the_command():
    made = document()
    held = bundle.of_study(experiment(), made, {}, "It <ended>.").files("v=1&view=race")
    assert next(iter(held)) == "README.txt"
    assert "It <ended>." in held["README.txt"]
    assert "?v=1&view=race" in held["README.txt"]
    assert "quantcore layer --model SmolLM2-135M" in held["README.txt"]
    assert "plotly.js" in held["plotly.min.js"][:200]
