import pytest
from documents import document

from aqviz import engine, inside, record, recordings
from aqviz.record import FIRST
from quantcore.experiment import Experiment
from quantcore.init import INITIALISERS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Recordings of invented numbers, in a folder of their own."""
    reading, writing = recordings.read, recordings.write
    monkeypatch.setattr(recordings, "read", lambda name: reading(name, tmp_path))
    monkeypatch.setattr(recordings, "write", lambda name, made: writing(name, made, tmp_path))
    monkeypatch.setattr(engine, "run", lambda config, *_: document(race_of(config)))
    monkeypatch.setattr(inside, "record", (tmp_path / "inside.safetensors").touch)
    return tmp_path


def race_of(config):
    return config if isinstance(config, Experiment) else FIRST


def recorded(monkeypatch, *names):
    monkeypatch.setattr("sys.argv", ["record", *names])
    record.main()


def test_every_layer_is_recorded_with_both_searches_from_the_same_starts():
    found = {(one.layer.split(".")[-1], one.search, one.beam) for one in record.RACES.values()}
    assert found == {
        (layer, *search)
        for layer in ("q_proj", "down_proj")
        for search in (("feedback-descent", None), ("beam", 8))
    }
    for one in record.RACES.values():
        assert (one.inits, one.seeds) == (INITIALISERS, record.SEEDS)


def test_recording_writes_every_document_and_prints_the_table(folder, monkeypatch, capsys):
    recorded(monkeypatch)
    assert {path.stem for path in folder.iterdir()} == {*record.STUDIES, "inside"}
    for name, config in record.RACES.items():
        assert recordings.experiment_of(recordings.read(name)["config"]) == config
    captured = capsys.readouterr()
    assert captured.out.strip() == record.readme_table()
    assert captured.err.count("quantcore layer") == len(record.RACES)


def test_the_table_has_a_row_for_each_layer_search_and_initialiser(folder, monkeypatch):
    recorded(monkeypatch)
    head, rule, *lines = record.readme_table().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:3] for row in rows] == [
        [f"{layer} (0.21)", search, f"`{init}`"]
        for layer in ("10.self_attn.q_proj", "10.mlp.down_proj")
        for search in ("`feedback-descent`, 1", "`beam`, 8")
        for init in INITIALISERS
    ]
    assert {line.count("|") for line in (head, rule, *lines)} == {7}


def test_what_is_not_recorded_is_not_in_the_table(folder, monkeypatch):
    recorded(monkeypatch, "down_proj_beam")
    lines = record.readme_table().splitlines()[2:]
    assert len(lines) == len(INITIALISERS)
    assert all("`beam`, 8" in line for line in lines)
