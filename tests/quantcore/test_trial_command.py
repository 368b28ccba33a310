import json

import models
import pytest

from quantcore import study, trial
from quantcore.commands import console
from quantcore.progress import Progress

WORDS = (
    *("--blocks", "1", "--scheme", "2x3g4", "--sweeps", 1, "--window", 16, "--samples", 8),
    *("--heldout-samples", 3, "--steps", 2, "--every", 2, "--prompt", "the cat"),
    *("--reply-tokens", 8, "--init", "oa-em"),
)


@pytest.fixture
def run(command_line, monkeypatch, tmp_path):
    """`quantcore trial` on a tiny model: further words -> exit code, stdout, stderr."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    tiny = models.tiny_llama(vocab_size=len(models.tiny_tokenizer()))
    source = models.save_model(tmp_path / "source", tiny)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    given = ("--model", source, "--text", tmp_path / "text.txt", *WORDS)
    yield lambda *words: command_line("trial", *given, *words, width=200)
    study.loaded.cache_clear()


def test_the_table_and_the_replies_are_those_of_the_document(run, tmp_path):
    path = tmp_path / "result.json"
    code, out, _ = run("--json", path)
    assert code == 0
    document = json.loads(path.read_text())
    assert document["complete"]
    (entry,) = document["runs"]
    assert f"{entry['start_kl']:.5f}" in out
    assert f"{entry['best_kl']:.5f}" in out
    assert f"2 in {entry['seconds']:.1f}" in out
    assert f"the original: {document['original']['reply']}".split("\n")[0] in out
    for when in ("before", "after"):
        assert f"oa-em, {when} tuning: {entry['replies'][when]}".split("\n")[0] in out
    code, again, _ = run("--json", path)
    assert (code, again) == (0, out)
    code, _, err = run("--steps", 3, "--json", path)
    assert code == console.BAD_INPUT
    assert "holds the result of another study of trial (with other steps)" in err


def test_interrupting_keeps_what_there_is(run, tmp_path, monkeypatch):
    def stopped(config, observe, previous):
        document = trial.begin(config) | {"original": {"reply": "a [b] c"}}
        observe(Progress("quantize from oa-em", 0.0, 1.0, None), document)
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "run", stopped)
    path = tmp_path / "result.json"
    code, out, err = run("--json", path)
    assert code == console.INTERRUPTED
    assert "the same command goes on from here" in err
    assert "the original: a [b] c" in out
    assert not json.loads(path.read_text())["complete"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--blocks", "x"), "blocks are numbers such as 0-3 or 0,2,5-7, got 'x'"),
        (("--blocks", "3"), "blocks must be from 0 to 2, got [3]"),
        (("--steps", 0), "steps of tuning must be at least 1, got 0"),
        (("--prompt", ""), "the prompt is empty; say something"),
        (("--samples", 100), "windows of 16 tokens and this trial needs 106"),
    ],
)
def test_bad_input_is_one_sentence(run, words, message):
    code, out, err = run(*words)
    assert code == console.BAD_INPUT
    assert message in err
    assert "Traceback" not in out + err
    assert err.count("\n") == 1
