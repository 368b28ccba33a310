import json

import cases
import pytest

from quantcore import files, landscape, starts
from quantcore.commands import console
from quantcore.progress import Progress
from quantcore.weight import Scheme

SCHEME = ["--codebooks", 2, "--bits", 3, "--group", 4, "--sweeps", 1]
SMALL = {"landscape": ["--resolution", 3, "--points", 3, "--rows", 9], "starts": ["--seeds", 2]}
MODULES = {"landscape": landscape, "starts": starts}


@pytest.fixture
def run(command_line, monkeypatch, tmp_path, rng):
    """A study of a small problem file: its command, further words -> exit code, stdout, stderr."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    found = cases.make(rng, 24, 8, Scheme(2, 3, 4)).problem
    path = tmp_path / "problem.safetensors"
    parts = ("weight", "hessian", "heldout_hessian")
    files.write_tensors(path, {f"one.{name}": getattr(found, name) for name in parts})

    def study(command, *words):
        small = [*SCHEME, *SMALL[command]]
        return command_line(command, "--problem", path, "--name", "one", *small, *words)

    return study


def test_a_landscape_says_how_high_the_line_between_the_ends_goes(run, tmp_path):
    path = tmp_path / "result.json"
    code, out, _ = run("landscape", "--json", path)
    assert code == 0
    document = json.loads(path.read_text())
    assert document["complete"]
    assert document["config"]["rows"] == 9
    assert f"measured on {document['rows']} of 24 rows" in out
    assert f"The ends lie {document['alignment']['distance']:.3f} apart" in out
    for barrier in document["line"]["barrier"].values():
        assert f"{barrier['heldout']:.3f}" in out
    for end in ("A", "B"):
        last = document["trajectories"][end]["phases"][-1]
        assert f"{last['relative_error']:.5f}" in out


def test_starts_say_whether_the_first_error_orders_the_last(run, tmp_path):
    path = tmp_path / "result.json"
    code, out, _ = run("starts", "--noise", 0, "--noise", 0.5, "--json", path)
    assert code == 0
    document = json.loads(path.read_text())
    assert document["complete"]
    assert len(document["starts"]) == 8
    found = document["correlation"]["calibration"]["overall"]
    assert f"{found['spearman']:.2f} ({found['low']:.2f} to {found['high']:.2f})" in out
    mean = sum(one["relative_error"] for one in document["starts"][:3:2]) / 2
    assert f"{mean:.5f}" in out


def test_too_few_starts_say_so(run):
    code, out, _ = run("starts", "--noise", 0, "--init", "greedy")
    assert code == 0
    assert "fewer than 4 runs" in out


@pytest.mark.parametrize("command", MODULES)
def test_interrupted_before_it_has_gone_on_nothing_is_lost(run, tmp_path, monkeypatch, command):
    path = tmp_path / "result.json"
    assert run(command, "--json", path)[0] == 0
    before = json.loads(path.read_text())
    module = MODULES[command]

    def at_once(config, observe, previous):
        observe(Progress("load model", 0.0, 1.0, None), module.begin(config))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", at_once)
    code, _, err = run(command, "--json", path)
    assert code == console.INTERRUPTED
    assert "Interrupted" in err
    assert json.loads(path.read_text()) == before


@pytest.mark.parametrize("command", MODULES)
def test_interrupting_keeps_what_there_is_and_the_same_command_goes_on(
    run, tmp_path, monkeypatch, command
):
    path, module = tmp_path / "result.json", MODULES[command]
    real = module.run

    def interrupted(config, observe, previous):
        def stop(told, document):
            observe(told, document)
            if document.get("starts") or "B" in document.get("trajectories", {}):
                raise KeyboardInterrupt

        return real(config, stop, previous)

    monkeypatch.setattr(module, "run", interrupted)
    code, _, err = run(command, "--json", path)
    assert code == console.INTERRUPTED
    assert "Interrupted: the same command goes on from here" in err
    half = json.loads(path.read_text())
    assert not half["complete"]
    monkeypatch.setattr(module, "run", real)
    assert run(command, "--json", path)[0] == 0
    whole = json.loads(path.read_text())
    assert whole["complete"]
    if command == "starts":
        assert whole["starts"][0] == half["starts"][0]  # its seconds too
    else:
        seconds = [
            [one["seconds"] for one in document["trajectories"]["A"]["phases"]]
            for document in (half, whole)
        ]
        assert seconds[0] == seconds[1]


@pytest.mark.parametrize("command", MODULES)
def test_another_study_s_result_is_not_overwritten(run, tmp_path, command):
    path = tmp_path / "result.json"
    assert run(command, "--json", path)[0] == 0
    before = path.read_text()
    code, _, err = run(command, "--damping", 0.5, "--json", path)
    assert code == console.BAD_INPUT
    assert f"holds the result of another study of {command} (with other damping)" in err
    other = next(name for name in MODULES if name != command)
    code, _, err = run(other, "--json", path)
    assert code == console.BAD_INPUT
    assert "is there and is no result of this command" in err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("landscape", ["--init", "greedy"], "a landscape lies between two runs"),
        ("landscape", ["--rows", 0], "rows must be at least 1, got 0"),
        ("landscape", ["--sweeps", 0], "sweeps must be at least 1, got 0"),
        ("starts", ["--noise", -1], "noise must be finite and at least 0, got -1.0"),
        ("starts", ["--seeds", 0], "--seeds must be at least 1, got 0"),
        ("starts", ["--layer", "x"], "--problem takes --name PREFIX, and no --layer"),
    ],
)
def test_bad_input_is_one_sentence(run, command, words, message):
    code, out, err = run(command, *words)
    assert code == console.BAD_INPUT
    assert message in err
    assert "Traceback" not in out + err
    assert err.count("\n") == 1
