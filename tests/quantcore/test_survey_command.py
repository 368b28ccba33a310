import json

import cases
import models
import pytest

from quantcore import files, survey
from quantcore.commands import console
from quantcore.weight import Scheme


@pytest.fixture
def run(command_line, monkeypatch, tmp_path):
    """`quantcore survey` with a cache of its own."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    return lambda *words: command_line("survey", *words, width=300)


@pytest.fixture
def stored(tmp_path, rng):
    path = tmp_path / "problem.safetensors"
    problems = {
        name: cases.make(rng, out, 6, Scheme(2, 2, 4)).problem
        for name, out in (("a", 12), ("b", 9))
    }
    parts = ("weight", "hessian", "heldout_hessian")
    files.write_tensors(
        path, {f"{n}.{part}": getattr(p, part) for n, p in problems.items() for part in parts}
    )
    return ["--problem", path, "--scheme", "2x2g4", "--sweeps", 1]


def test_a_problem_file_gives_a_table_and_a_document(run, stored, tmp_path):
    path = tmp_path / "survey.json"
    words = ["--scheme", "1x3g4", "--search", "beam", "--beam", 1, "--beam", 2, "--seed", 4]
    code, out, _ = run(*stored, *words, "--seed", 5, "--json", path)
    assert code == 0
    document = json.loads(path.read_text())
    assert document["kind"] == "survey"
    assert document["config"]["beams"] == [1, 2]
    assert document["config"]["seeds"] == [4, 5]
    assert len(document["runs"]) == 2 * 2 * 2 * 2 * 2
    runs = [
        r for r in document["runs"] if (r["layer"], r["scheme"], r["beam"]) == ("b", "1x3g4", 2)
    ]
    mean = sum(r["relative_error"] for r in runs if r["init"] == "greedy") / 2
    line = next(line for line in out.splitlines() if f"{mean:.5f}" in line)
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells[:5] == ["b", "1x3g4", "2", "6.75", "2"]  # 54 groups over 8 words, two seeds
    one, two = ([r["relative_error"] for r in runs if r["init"] == i] for i in ("greedy", "oa-em"))
    ratios = [greedy / other for greedy, other in zip(one, two, strict=True)]
    assert f"{sum(ratios) / 2:.3f} ± {abs(ratios[0] - ratios[1]) / 2:.3f}" in line
    assert "search beam, shrinkage 0.0" in out  # the same in all rows


def test_defaults_are_the_surveys_own(run, stored, tmp_path):
    path = tmp_path / "survey.json"
    assert run(*stored, "--json", path)[0] == 0
    wanted = survey.Survey(problem=str(stored[1]), schemes=(Scheme(2, 2, 4),), sweeps=1)
    assert json.loads(path.read_text())["key"] == wanted.key()


def test_facts_alone(run, tmp_path):
    folder, path = models.save_model(tmp_path / "model"), tmp_path / "facts.json"
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    text = ["--text", tmp_path / "text.txt", "--window", 12, "--heldout-tokens", 48]
    code, out, _ = run(
        "--model", folder, *text, "--calibration-tokens", 96, "--facts", "--json", path,
        "--layer", "0.mlp.up_proj", "--layer", "2.self_attn.k_proj", "--scheme", "2x2g8",
    )  # fmt: skip
    assert code == 0
    document = json.loads(path.read_text())
    assert document["runs"] == []
    line = next(line for line in out.splitlines() if "model.layers.2.self_attn.k_proj" in line)
    facts = document["layers"]["model.layers.2.self_attn.k_proj"]
    assert "8 x 16" in line
    for name in ("kurtosis", "row_norm_cv", "outlier_share"):
        assert f"{facts[name]:.3f}" in line
    assert f"{facts['block_share']['8']:.3f}" in line


def test_a_plan_runs_nothing(run, stored, tmp_path):
    path = tmp_path / "survey.json"
    code, out, _ = run(
        *stored, "--scheme", "2x8g4", "--seed", 0, "--seed", 1, "--plan", "--json", path
    )
    assert code == 0
    assert "2 layers, 8 runs, 2 combinations of layer and scheme left out" in out
    assert "256 words is more than the layer's 72 groups" in " ".join(out.split())
    assert not path.exists()


def test_interrupting_keeps_the_runs_and_the_same_command_goes_on(
    run, stored, tmp_path, monkeypatch
):
    path = tmp_path / "survey.json"
    real = survey.run

    def interrupted(config, observe, previous):
        def stop(told, document):
            observe(told, document)
            if len(document["runs"]) == 3:
                raise KeyboardInterrupt

        return real(config, stop, previous)

    monkeypatch.setattr(survey, "run", interrupted)
    code, _, err = run(*stored, "--json", path)
    assert code == console.INTERRUPTED
    assert "Interrupted" in err
    half = json.loads(path.read_text())
    assert [r["complete"] for r in half["runs"]] == [True, True, False]

    def at_once(config, observe, previous):
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "run", at_once)
    assert run(*stored, "--json", path)[0] == console.INTERRUPTED
    assert json.loads(path.read_text()) == half  # nothing is lost before anything is done
    monkeypatch.setattr(survey, "run", real)
    assert run(*stored, "--json", path)[0] == 0
    whole = json.loads(path.read_text())
    assert [r["complete"] for r in whole["runs"]] == [True] * 4
    assert whole["runs"][:2] == half["runs"][:2]


def test_what_went_wrong_on_the_way_leaves_the_finished_runs(run, stored, tmp_path, monkeypatch):
    path = tmp_path / "survey.json"
    real = survey.run

    def failing(config, observe, previous):
        def stop(told, document):
            observe(told, document)
            if len(document["runs"]) == 2:
                raise survey.InputError("something was wrong")

        return real(config, stop, previous)

    monkeypatch.setattr(survey, "run", failing)
    code, _, err = run(*stored, "--json", path)
    assert (code, err.strip()) == (console.BAD_INPUT, "Error: something was wrong")
    assert [r["complete"] for r in json.loads(path.read_text())["runs"]] == [True, False]


def test_it_is_written_while_it_grows(run, stored, tmp_path, monkeypatch):
    path = tmp_path / "survey.json"
    written = []
    monkeypatch.setattr("quantcore.commands.survey.SAVE_SECONDS", -1.0)
    real = files.write_json
    monkeypatch.setattr(
        files,
        "write_json",
        lambda place, found: written.append(len(found["runs"])) or real(place, found),
    )
    assert run(*stored, "--json", path)[0] == 0
    assert set(written) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--facts", "--init", "greedy"], "--facts makes no runs, so it takes no --init"),
        (["--scheme", "2y8"], "a scheme is written like 2x8g8"),
        (["--problem", "nowhere", "--calibration-tokens", 512, "--calibration-tokens", 1024],
         "calibration tokens cannot be varied"),
        (["--problem", "nowhere"], "there is no file 'nowhere'"),
        (["--search", "magic"], "there is no search 'magic'"),
        (["--model", "./no/such/folder"], "no/such/folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_code_2(run, words, message):
    code, out, err = run(*words)
    assert code == console.BAD_INPUT
    assert message in err
    assert "Traceback" not in out + err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_files_of_something_else_are_not_overwritten(run, stored, tmp_path):
    path = tmp_path / "survey.json"
    path.write_text('{"runs": []}')
    code, _, err = run(*stored, "--json", path)
    assert code == console.BAD_INPUT
    assert "survey.json is there and is no result of this command" in err
    path.unlink()
    assert run(*stored, "--json", path)[0] == 0
    before = path.read_text()
    code, _, err = run(*stored, "--seed", 7, "--json", path)
    assert code == console.BAD_INPUT
    assert "holds the result of another survey (with other seeds)" in err
    assert path.read_text() == before
