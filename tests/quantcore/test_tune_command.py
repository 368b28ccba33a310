import json

import models
import pairs
import pytest
import quantized
import typer
from typer.testing import CliRunner

from quantcore.commands import console
from quantcore.commands.tune import tune
from quantcore.pv import folder as folders


@pytest.fixture
def run(tmp_path, rng, monkeypatch):
    """The command on a tiny model: more arguments -> its result."""
    monkeypatch.setattr(console, "out", console.Console(width=console.WIDE))
    approximate, original = pairs.pair(rng)
    models.save_model(tmp_path / "original", original)
    quantized.save(tmp_path / "quantized", approximate)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    app = typer.Typer()
    app.command()(tune)
    given = ["quantized", "--out", "out", "--against", "original", "--text", "text.txt"]

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        return CliRunner().invoke(app, [*given, "--window", "16", *map(str, arguments)])

    return run


def test_the_table_and_the_document_have_the_curve(run, tmp_path):
    result = run("--steps", 3, "--every", 2, "--lr", 0.01, "--code-lr", 0.3, "--json", "one.json")
    assert result.exit_code == 0, result.exception
    document = json.loads((tmp_path / "one.json").read_text())
    measured = [p for p in document["tuning"]["curve"] if p["validation_kl"] is not None]
    assert [point["step"] for point in measured] == [0, 2, 3]
    assert document["tuning"]["config"]["pv"]["code_lr"] == 0.3
    best = document["tuning"]["best_validation_kl"]
    assert f"Kept: step 3, validation KL {best:.4f}" in result.output
    assert f"{measured[1]['perplexity']:.3f}" in result.output
    assert "Written to out" in result.output


def test_interrupting_keeps_the_document_and_the_same_command_goes_on(run, tmp_path, monkeypatch):
    real = folders.run

    def interrupted(config, folder, observe):
        def stop(progress, manifest):
            observe(progress, manifest)
            raise KeyboardInterrupt

        return real(config, folder, stop)

    monkeypatch.setattr(folders, "run", interrupted)
    result = run("--steps", 2, "--json", "one.json")
    assert result.exit_code == console.INTERRUPTED
    assert len(json.loads((tmp_path / "one.json").read_text())["tuning"]["curve"]) == 1
    monkeypatch.setattr(folders, "run", real)
    assert run("--steps", 2).exit_code == 0
