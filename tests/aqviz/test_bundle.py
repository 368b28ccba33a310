"""What is taken away: Python lines, a notebook, a zip."""

import io
import json
import zipfile
from dataclasses import asdict

import pytest
from documents import document, experiment
from grounds import landscape

from aqviz import notebook, recordings
from aqviz.engine import STUDIES, kind_of
from aqviz.tabs.basins import Basins
from aqviz.tabs.show import race_bundle
from quantcore.grid import Survey
from quantcore.weight import Scheme

CONFIGS = (
    experiment(seeds=(0, 3), scheme=Scheme(2, 6, 8), shrinkage=0.1),
    Survey(layers=("a",), schemes=(Scheme(1, 8, 8), Scheme(2, 6, 8))),
    Basins().landscape,
    Basins(noise=0.0).many,
)


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


def test_the_notebook_compares_and_fails_where_numbers_differ():
    made = document(experiment(seeds=(0, 1)))
    cells = notebook.notebook(experiment(seeds=(0, 1)), made, "It ended.")["cells"]
    assert "It ended." in cells[0]["source"]
    compare = cells[-1]["source"]
    exec(compare, {"document": made, "print": lambda *_: None})
    made["runs"][0]["relative_error"] *= 1.1
    with pytest.raises(AssertionError, match="greedy"):
        exec(compare, {"document": made, "print": lambda *_: None})


def test_a_study_without_runs_has_a_notebook_too():
    cells = notebook.notebook(Basins().landscape, landscape(), "A plane.")["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]


def test_the_zip_holds_everything_and_is_the_same_every_time():
    made = document()
    held = race_bundle(made)
    assert held == race_bundle(made)
    archive = zipfile.ZipFile(io.BytesIO(held))
    assert json.loads(archive.read("trace.json")) == made
    assert json.loads(archive.read("config.json"))["study"] == "experiment"
    assert archive.read("metrics.csv").decode().count("\n") == 1 + len(made["runs"])
    page = archive.read("figures.html").decode()
    assert page.count("<h2>") == 5
    assert '<script src="plotly.min.js">' in page
    assert "https://" not in page.replace("https://plotly.com", "")
    assert b"plotly.js" in archive.read("plotly.min.js")[:200]
    assert "quantcore layer" in archive.read("README.txt").decode()
