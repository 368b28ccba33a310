"""The zip of every view: what is in it, and what a link to one may say."""

import io
import json
import re
import zipfile
from dataclasses import asdict, replace
from html import unescape
from urllib.parse import parse_qsl

import evaluated
import grids
import grounds
import pandas as pd
import pytest
import trials
from documents import document, engine, experiment
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_bundle import check, execute

from aqviz import app, inside, permalink, recordings, studies, text
from aqviz.claims import CLAIMS
from aqviz.jobs import State
from aqviz.paper_tables import TABLES
from aqviz.parts import study
from aqviz.shown import bundles, search
from aqviz.shown.basins import Basins
from aqviz.shown.search import SearchState

ALWAYS = {"README.txt", "config.json", "metrics.csv", "figures.html", "plotly.min.js"}
STUDY = ALWAYS | {"trace.json", "notebook.ipynb"}
TITLES = {  # the figures of each folder, by their words
    ("race", ""): ("trace", "ends", "perplexity", "usage", "spread"),
    ("map", ""): ("layer_map",),
    ("search", ""): ("frontier", "search_grid"),
    ("basins", "landscape/"): ("plane", "line"),
    ("basins", "starts/"): ("starts",),
    ("rho", ""): ("rho", "rho_regimes"),
    ("perplexity", ""): ("models", "pairs", "kl", "tuning", "tokens"),
    ("tune", ""): ("trial",),
    ("inside", ""): tuple(
        f"inside_{name}" for name in ("map", "group", "bytes", "tables", "counts")
    ),
    ("paper", ""): ("paper_tuning", "paper_texts", "paper_pareto"),
}
MORE = {  # beside STUDY
    "map": {"layers.csv"},
    "search": {"layers.csv"},
    "rho": {"layers.csv"},
    "perplexity": {"pairs.csv"},
    "inside": {"inside.safetensors"},
}


@pytest.fixture
def kept(core, monkeypatch):
    """A core whose recordings of every kind are invented."""
    evaluation = evaluated.document()
    evaluation["tokens"]["sha256"] = "0123456789"
    evaluation["machine"]["cores"] = 2
    named = {
        "first": document(),
        "models-2x8g8": evaluation,
        "tuning-2x8g8": {"2x8g8-greedy": evaluated.CURVE},
    }
    made = {
        "survey": {name: grids.survey(getattr(studies, name.upper())) for name in SURVEYS},
        "landscape": {"landscape": whole(grounds.landscape(), Basins().landscape)},
        "starts": {"starts": whole(grounds.starts(), Basins().many)},
        "evaluation": {"models-2x8g8": evaluation},
        "trial": {"trial": trials.trial(studies.TRIAL)},
    }
    monkeypatch.setattr(recordings, "read", named.get)
    monkeypatch.setattr(recordings, "every", lambda kind: made.get(kind, {}))
    return core


SURVEYS = ("map", "frontier", "rho")


def whole(made: dict, config) -> dict:
    """A document of the basins, with what every real one has."""
    facts = {"key": config.key(), "config": json.loads(json.dumps(asdict(config)))}
    return {"layer": config.experiment.layer, "date": "2026-09-01T10:00:00+00:00"} | made | facts


def taken(core, query: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(bundles.zip_of(core, dict(parse_qsl(query)), query)))


def table(archive: zipfile.ZipFile, name: str = "metrics.csv") -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(archive.read(name)))


@pytest.mark.parametrize("view", bundles.VIEWS)
def test_a_view_s_zip_holds_everything_and_runs_nothing(kept, view):
    archive = taken(kept, f"v=1&view={view}")
    folders = {folder: names for (of, folder), names in TITLES.items() if of == view}
    needed = STUDY | MORE.get(view, set())
    if view == "paper":
        needed = ALWAYS | {"verdicts.csv", *(f"paper-table-{key}.csv" for key in TABLES)}
    assert set(archive.namelist()) == {folder + name for folder in folders for name in needed}
    for folder, names in folders.items():
        page = archive.read(f"{folder}figures.html").decode()
        titles = re.findall("<h2>(.*?)</h2>", page)
        assert [unescape(one) for one in titles] == [text.read(name).title for name in names]
        assert page.count("Plotly.newPlot") == len(names)
        assert '<script src="plotly.min.js">' in page
        assert "http" not in page
        assert f"?v=1&view={view}" in archive.read(f"{folder}README.txt").decode()
    assert kept.engine.run.calls == 0


@pytest.mark.parametrize("view", bundles.VIEWS)
def test_the_same_view_gives_the_same_bytes(kept, view):
    query = f"v=1&view={view}"
    one, other = (bundles.zip_of(kept, dict(parse_qsl(query)), query) for _ in range(2))
    assert one == other


def test_numbers_are_those_of_the_document(kept):
    race = table(taken(kept, "view=race"))
    assert list(race["relative_error"]) == pytest.approx([0.026325, 0.023170], abs=1e-6)
    grid = table(taken(kept, "view=search"))
    assert len(grid) == 3 * 2 * 5 * 3  # initialisers, searches, beams, seeds
    assert set(grid["rho"]) == {576 * 576 / 8 / 256**2}
    mapped = taken(kept, "view=map")
    assert len(table(mapped)) == 2 * len(table(mapped, "layers.csv")) == 2 * 210
    rho = table(taken(kept, "view=rho")).set_index(["layer", "scheme"])["rho"]
    assert set(rho["model.layers.10.self_attn.q_proj", "1x8g8"]) == {576 * 576 / 8 / 256}
    tuned = table(taken(kept, "view=tune")).set_index("init")
    assert tuned.loc["oa-em", ["start_kl", "best_kl", "steps"]].to_list() == [0.06, 0.04, 4]
    ground = taken(kept, "view=basins")
    line = table(ground, "landscape/metrics.csv")
    assert line.columns.to_list() == ["codes", "text", "position", "relative_error"]
    assert line["relative_error"].max() == 0.06  # of 0.03, twice as much on held-out text
    assert table(ground, "starts/metrics.csv")["noise"].to_list() == [0, 0.2, 0]


def test_the_perplexity_s_differences_are_paired(kept):
    archive = taken(kept, "view=perplexity")
    models = table(archive).set_index("model")["difference"]
    assert models["q-greedy"] == pytest.approx(0.5 + 0.02 / 6)  # the last of 6 windows has more
    pairs = table(archive, "pairs.csv").set_index(["model", "other"])["over_other"]
    assert len(pairs) == 10
    assert pairs["q-greedy", "q-oa-em"] == pytest.approx(0.06 - 0.02 / 6)


def test_the_group_s_numbers_add_up(kept):
    archive = taken(kept, "view=inside&row=3&group=7")
    lines, example = table(archive), inside.read()
    assert lines["input"].to_list() == [*range(56, 64)] * 2
    words = lines["scale"] * (lines["word_1"] + lines["word_2"])
    assert words.to_list() == pytest.approx(lines["q"].to_list(), rel=1e-5)
    assert lines["w"][:8].to_list() == pytest.approx(example.weight[3, 56:64].tolist())
    for init, own in lines.groupby("init")["dHd"].sum().items():
        assert own == pytest.approx(example.errors(init)[3, 7].item(), rel=1e-4)
    assert json.loads(archive.read("config.json"))["view"]["group"] == 7


def test_the_paper_s_verdicts_and_tables(kept):
    archive = taken(kept, "view=paper")
    verdicts = table(archive, "verdicts.csv")
    assert verdicts["title"].to_list() == [claim.title for claim in CLAIMS]
    assert verdicts["status"].notna().all()
    assert 60.61 in table(archive, "paper-table-5.csv").to_numpy()
    assert "There is no notebook" in archive.read("README.txt").decode()


@pytest.mark.parametrize("view", ["perplexity", "inside"])
def test_the_notebook_of_a_recording_runs_and_compares(kept, view, tmp_path, monkeypatch):
    taken(kept, f"view={view}").extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    code = check(json.loads((tmp_path / "notebook.ipynb").read_text()))
    execute([*code, "told = error"])
    place = tmp_path / {"perplexity": "pairs.csv", "inside": "metrics.csv"}[view]
    lines = pd.read_csv(place)
    lines[{"perplexity": "over_other", "inside": "dHd"}[view]] *= 1.001
    lines.to_csv(place, index=False)
    with pytest.raises(AssertionError):
        execute(code)


def test_figures_are_those_of_the_state(kept):
    page = taken(kept, "view=map&colour=kurtosis").read("figures.html").decode()
    assert page != taken(kept, "view=map").read("figures.html").decode()


@pytest.mark.parametrize("view", bundles.VIEWS)
def test_a_view_s_card_links_to_the_zip_of_its_state(kept, view):
    found = [block for block in app.build(kept).blocks.values() if block.elem_id == f"{view}-files"]
    (card,) = found
    query = address(card.value)
    assert query["view"] == view
    read, _ = bundles.VIEWS[view]
    if view == "race":
        assert read(query).experiment.key() == experiment().key()
        assert "results/first.csv" in card.value
    else:
        assert read(query) == read({})


def address(files: str) -> dict[str, str]:
    place = re.search(r'href="gradio_api/aqviz/zip\?([^"]*)" download', files)
    return dict(parse_qsl(unescape(place[1])))


def test_the_link_follows_the_state_and_what_is_known_of_it(kept, monkeypatch):
    state = SearchState(beams=(1, 2), shown="feedback-descent")
    view = study.StudyView("search", SearchState, lambda state: state.survey, search.show)
    assert study.values(kept, view, state)[-1] == ""
    fake = replace(engine(), run=lambda config, *_: grids.survey(config))
    monkeypatch.setattr(kept.store, "_engine", fake)
    done(kept, state.survey)
    query = address(study.values(kept, view, state)[-1])
    assert permalink.decode(SearchState, query) == state
    assert set(table(taken(kept, permalink.encode("search", state)))["beam"]) == {1, 2}


def done(core, config) -> str:
    job = core.store.submit(config)
    while core.store.get(job.id).state is not State.DONE:
        pass
    return job.id


@pytest.fixture
def ask(kept):
    """Asks for a zip as a browser does."""
    with TestClient(Starlette(routes=[app.zip_route(kept)])) as client:
        yield lambda query: client.get(f"/gradio_api/aqviz/zip?{query}")


def test_the_zip_is_served_under_the_view_s_name(ask):
    reply = ask("v=1&view=paper")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/zip"
    assert reply.headers["content-disposition"] == 'attachment; filename="aqviz-paper.zip"'
    assert zipfile.ZipFile(io.BytesIO(reply.content)).testzip() is None


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 404, "no such view"),
        ("view=nobody", 404, "no such view"),
        ("view=learn", 404, "no such view"),
        ("view=..%2Fjobs", 404, "no such view"),
        ("view=race&job=nobody", 404, "not kept here"),
        ("view=race&job=..%2Ffirst", 404, "not kept here"),
        ("view=race&layer=another", 404, "nothing to download"),
        ("view=search&beams=2", 404, "nothing to download"),
        ("view=map&scheme=1x8g8", 404, "nothing to download"),
        ("view=basins&seed_b=4&starts=2", 404, "nothing to download"),
        ("v=9&view=race", 400, "version '9'"),
        ("view=map&colour=taste", 400, "coloured by 'taste'"),
        ("view=search&beams=2,x", 400, "must be a whole number"),
        ("view=basins&text=mine", 400, "no text 'mine'"),
        ("view=rho&model=x", 400, "must be one of"),
        ("view=perplexity&recording=..%2Ffirst", 400, "no recording '../first'"),
        ("view=perplexity&recording=first", 400, "no recording 'first'"),
        ("view=perplexity&window=99", 400, "windows of its text"),
        ("view=inside&row=9999", 400, "must be 0 to"),
        ("view=paper&table=99", 400, "no table '99'"),
    ],
)
def test_what_is_not_there_or_cannot_be_is_said_in_one_sentence(ask, query, status, words):
    reply = ask(query)
    assert (reply.status_code, reply.headers["content-type"][:10]) == (status, "text/plain")
    assert words in reply.text
    assert "\n" not in reply.text


def test_a_job_is_named_by_its_id_and_its_experiment(kept):
    config = experiment(seeds=(2,))
    job = done(kept, config)
    for query in (f"view=race&job={job}", permalink.to_query(config)):
        assert set(table(taken(kept, query))["seed"]) == {2}


def test_a_job_of_another_view_is_no_race(kept, ask, monkeypatch):
    fake = replace(engine(), run=lambda config, *_: grids.survey(config))
    monkeypatch.setattr(kept.store, "_engine", fake)
    job = done(kept, SearchState(beams=(1, 2)).survey)
    assert ask(f"view=race&job={job}").status_code == 404


def test_only_what_is_there_of_the_basins_is_in_their_zip(kept):
    only = taken(kept, permalink.encode("basins", Basins(noise=0.3)))
    assert {name.partition("/")[0] for name in only.namelist()} == {"landscape"}


def test_without_a_recording_there_is_no_race(core):
    bare = app.Core(core.engine, core.store, None, core.ready)
    with pytest.raises(bundles.AbsentError, match="nothing to download"):
        taken(bare, "view=race")
