import json

import cases
import models
import pytest

from quantcore import experiment, files, results
from quantcore.commands import console
from quantcore.progress import Progress
from quantcore.search import DEFAULT_WIDTHS
from quantcore.weight import Scheme


@pytest.fixture
def run(command_line, monkeypatch, tmp_path):
    """The command line with a cache of its own."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return command_line


@pytest.fixture
def problem(tmp_path, rng):
    found = cases.make(rng, 24, 8, Scheme(2, 3, 4)).problem
    path = tmp_path / "problem.safetensors"
    parts = ("weight", "hessian", "heldout_hessian")
    files.write_tensors(path, {f"one.{name}": getattr(found, name) for name in parts})
    return ["layer", "--problem", path, "--name", "one"]


SCHEME = ["--codebooks", 2, "--bits", 3, "--group", 4]


def test_a_problem_file_gives_a_table_and_a_document(run, problem, tmp_path):
    path = tmp_path / "result.json"
    code, out, _ = run(*problem, *SCHEME, "--seeds", 2, "--beam", 2, "--json", path)
    assert code == 0
    assert "greedy" in out
    assert "oa-em" in out
    assert "rho 3" in out  # 192 groups over 8^2 sums
    document = json.loads(path.read_text())
    assert {"layer", "scheme", "rho", "bits_per_weight", "runs", "model", "text"} <= set(document)
    assert {"versions", "machine"} <= set(document)
    assert document["scheme"] == {"codebooks": 2, "bits": 3, "group": 4}
    assert [(run["init"], run["seed"]) for run in document["runs"]] == [
        ("greedy", 0), ("greedy", 1), ("oa-em", 0), ("oa-em", 1),
    ]  # fmt: skip
    run_keys = {"init", "seed", "init_error", "error", "relative_error", "heldout_relative_error"}
    assert run_keys <= set(document["runs"][0])
    assert set(document["runs"][0]["seconds"]) == {"init", "refit", "search", "total"}
    mean = sum(run["relative_error"] for run in document["runs"][:2]) / 2
    assert f"{mean:.5f}" in out


def test_the_initialisers_are_those_named(run, problem, tmp_path):
    path = tmp_path / "result.json"
    assert run(*problem, *SCHEME, "--init", "oa-em-adam", "--json", path)[0] == 0
    assert {r["init"] for r in json.loads(path.read_text())["runs"]} == {"oa-em-adam"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "search feedback-descent, beam 1"),
        (["--search", "feedback"], "search feedback, beam 1"),
        (["--search", "descent", "--beam", 2], "search descent, beam 2"),
        (["--search", "beam"], "search beam, beam 8"),
    ],
)
def test_the_search_is_the_one_named_and_has_its_own_width(run, problem, tmp_path, options, words):
    path = tmp_path / "result.json"
    code, out, _ = run(*problem, *SCHEME, "--init", "greedy", *options, "--json", path)
    assert code == 0
    assert words in out
    document = json.loads(path.read_text())
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert document["config"]["search"] == given.get("--search", "feedback-descent")
    assert document["config"]["beam"] == given.get("--beam")
    found = {entry["phase"] for entry in document["runs"][0]["trace"]} - {"init", "refit"}
    assert found == set(document["config"]["search"].split("-"))


def test_help_names_the_searches_and_their_widths(run):
    out = " ".join(run("layer", "--help")[1].replace("│", " ").split())
    assert "How codes are searched: feedback-descent, feedback, descent, beam." in out
    assert "8 for beam and 1 for the others." in out


def test_the_help_may_say_one_width_for_all_but_the_beam():
    assert {width for name, width in DEFAULT_WIDTHS.items() if name != "beam"} == {1}


def test_interrupting_keeps_the_runs_and_the_same_command_goes_on(
    run, problem, tmp_path, monkeypatch
):
    path = tmp_path / "result.json"
    real = experiment.run

    def interrupted(config, observe, previous):
        def stop(told, document):
            observe(told, document)
            if len(document["runs"]) == 2:
                raise KeyboardInterrupt

        return real(config, stop, previous)

    monkeypatch.setattr(experiment, "run", interrupted)
    code, _, err = run(*problem, *SCHEME, "--json", path)
    assert code == console.INTERRUPTED
    assert "Interrupted" in err
    half = json.loads(path.read_text())
    assert [r["complete"] for r in half["runs"]] == [True, False]
    monkeypatch.setattr(experiment, "run", real)
    assert run(*problem, *SCHEME, "--json", path)[0] == 0
    whole = json.loads(path.read_text())
    assert [r["complete"] for r in whole["runs"]] == [True, True]
    assert whole["runs"][0]["seconds"] == half["runs"][0]["seconds"]  # not computed again


def test_interrupted_before_it_has_gone_on_nothing_is_lost(run, problem, tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    assert run(*problem, *SCHEME, "--json", path)[0] == 0
    before = json.loads(path.read_text())

    def at_once(config, observe, previous):
        made = results.begin(config.key(), config.layer, {})
        observe(Progress("load model", 0.0, 1.0, None), made)
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", at_once)
    assert run(*problem, *SCHEME, "--json", path)[0] == console.INTERRUPTED
    assert json.loads(path.read_text()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layer"], "give --layer NAME"),
        (["layer", "--problem", "nowhere.safetensors"], "--problem takes --name PREFIX"),
        (["layer", "--problem", "nowhere", "--name", "one"], "there is no file 'nowhere'"),
        (["layer", "--layer", "x", "--bpp", "2.2"], "there is no preset for 2.2 bits"),
        (["layer", "--layer", "x", "--bpp", "2", "--bits", "8"], "give either --bpp or --bits"),
        (["layer", "--layer", "x", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["layer", "--layer", "x", "--seeds", "999999999999"], "--seeds must be at most 10000"),
        (["layer", "--layer", "x", "--seed", "9" * 30], "a seed must fit into 64 bits"),
        (["export", "x", "--out", "x" * 300], "cannot be used: File name too long"),
        (["quantize", "--plan", "--blocks", "9" * 5000], "blocks are numbers such as"),
        (["layer", "--layer", "x", "--init", "magic"], "there is no initialiser 'magic'"),
        (["layer", "--layer", "x", "--search", "magic"], "there is no search 'magic'; choose one"),
        (["layer", "--layer", "x", "--beam", "0"], "beam width must be at least 1, got 0"),
        (["layer", "--layer", "x", "--device", "cuda:99"], "device cuda:99 is not there"),
        (["layers", "--model", "./no/such/folder"], "no/such/folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == console.BAD_INPUT
    assert message in err
    assert "Traceback" not in out + err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_a_scheme_that_does_not_divide_names_others(run, problem):
    code, _, err = run(*problem, "--codebooks", 2, "--bits", 3, "--group", 5)
    assert code == console.BAD_INPUT
    assert "32 inputs do not divide into groups of 5; try 2x3 g4 or 2x3 g8" in err


def test_a_file_that_is_no_result_is_not_overwritten(run, problem, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    code, _, err = run(*problem, *SCHEME, "--json", path)
    assert code == console.BAD_INPUT
    assert "notes.txt is there and is no result of this command" in err
    assert path.read_text() == "keep me"


@pytest.mark.parametrize("held", [{"runs": [3], "config": []}, {"runs": {}}, ["runs"]])
def test_a_result_of_another_form_is_not_overwritten(run, problem, tmp_path, held):
    path = tmp_path / "held.json"
    path.write_text(json.dumps(held))
    code, _, err = run(*problem, *SCHEME, "--json", path)
    assert code == console.BAD_INPUT
    assert "held.json is there and is no result of this command" in err


def test_another_experiments_result_is_not_overwritten(run, problem, tmp_path):
    path = tmp_path / "result.json"
    assert run(*problem, *SCHEME, "--json", path)[0] == 0
    before = path.read_text()
    code, _, err = run(*problem, *SCHEME, "--beam", 3, "--seeds", 2, "--json", path)
    assert code == console.BAD_INPUT
    assert "holds the result of another experiment (with other seeds, beam)" in err
    assert path.read_text() == before
    code, _, err = run(*problem, *SCHEME, "--search", "beam", "--json", path)
    assert code == console.BAD_INPUT
    assert "(with other search)" in err
    assert run(*problem, *SCHEME, "--json", path)[0] == 0


def test_layers_lists_shapes_rho_and_bits(run, tmp_path):
    folder = models.save_model(tmp_path / "model")
    code, out, _ = run("layers", "--model", folder, "--bpp", 1)
    assert code == 0
    line = next(line for line in out.splitlines() if "model.layers.2.mlp.down_proj" in line)
    assert "16 x 24" in line
    assert "48" in line  # groups of 8
    assert f"{Scheme(1, 8, 8).rho(16, 24):.3g}" in line


def test_models_lists_the_default_first(run):
    code, out, _ = run("models")
    assert code == 0
    assert "HuggingFaceTB/SmolLM2-135M" in out
