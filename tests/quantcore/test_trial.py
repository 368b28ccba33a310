import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import models
import pytest
import torch

from quantcore import attempt, corpora, generate, linear, model, partial, sources, study, trial
from quantcore.errors import Cancelled, InputError, QuantcoreError
from quantcore.generate import GenerateConfig
from quantcore.pv.descent import PvConfig
from quantcore.trial import Trial
from quantcore.weight import Scheme

TEXT = "the quick brown fox jumps over the lazy dog. it was not amused by any of this. " * 12
ROUNDED = 2e-4  # the student's hidden states are summed in another order


class Made(NamedTuple):
    """A trial of seconds, done once: what was seen of it, where its blocks are kept."""

    config: Trial
    document: dict
    seen: list
    cache: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("trial")
    tiny = models.tiny_llama(vocab_size=len(models.tiny_tokenizer()))
    (place / "text.txt").write_text(TEXT)
    config = Trial(
        model=str(models.save_model(place / "source", tiny)),
        blocks=(1,),
        scheme=Scheme(2, 3, 4),
        sweeps=1,
        text=str(place / "text.txt"),
        window=16,
        samples=8,
        heldout_samples=3,
        steps=4,
        every=2,
        prompt="the cat",
        reply_tokens=12,
    )
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("QUANTCORE_CACHE", str(place / "cache"))
        document = trial.run(config, lambda told, doc: seen.append((told, json.dumps(doc))))
    yield Made(config, document, seen, place / "cache")
    study.loaded.cache_clear()


@pytest.fixture
def small(made, monkeypatch):
    """The trial's settings; its blocks are in the cache."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(made.cache))
    return made.config


def ignore(progress, document):
    pass


def original_of(config):
    return sources.load(sources.resolve(config.model))


def texts_of(config, loaded):
    """All windows that a trial reads."""
    text, _ = corpora.load_text(config.text, "calibration")
    return corpora.windows(loaded.tokenizer, text, config.window)


def said(loaded):
    """What a model says to the prompt."""
    how = GenerateConfig(tokens=12, seed=0)
    return generate.reply(loaded, [{"role": "user", "content": "the cat"}], how, print).text


def plain_kl(one, other, windows):
    """Mean nats a token, from all logits in float64."""
    p, q = (m(windows).logits.double().log_softmax(-1) for m in (one, other))
    return (p.exp() * (p - q)).sum(-1).mean().item()


def without_seconds(document):
    """What is the same in every run of the same settings."""
    plain = json.loads(json.dumps(document))
    for run in plain["runs"]:
        del run["seconds"], run["quantize_seconds"]
        for point in run["curve"]:
            del point["seconds"]
    return plain["original"], plain["runs"]


def test_the_whole_study(made):
    document, seen = made.document, made.seen
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(seen[-1][1])
    assert document["complete"]
    assert document["model"]["name"] == made.config.model
    assert document["text"]["windows"] == 8
    assert document["text"]["validation_windows"] == 3
    assert [run["init"] for run in document["runs"]] == ["greedy", "oa-em"]
    for run in document["runs"]:
        assert run["complete"]
        assert [point["step"] for point in run["curve"]] == [0, 1, 2, 3, 4]
        measured = [p["validation_kl"] for p in run["curve"] if p["validation_kl"] is not None]
        assert len(measured) == 3
        assert run["best_kl"] == min(measured) <= run["start_kl"] == measured[0]
        assert run["curve"][run["best_step"]]["validation_kl"] == run["best_kl"]
        assert (run["steps"], run["seconds"]) == (4, run["curve"][-1]["seconds"])
        assert run["curve"][0]["seconds"] == 0
        assert [block["block"] for block in run["blocks"]] == [1]
        assert len(run["layers"]) == 7
        assert run["quantize_seconds"] > 0
    done = [told.done for told, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0].done == pytest.approx(seen[-1][0].total)


def test_the_curve_starts_at_the_quantized_model_s_kl_and_replies_are_its_own(made, tmp_path):
    """Against the checkpoints that `quantcore quantize` writes."""
    loaded = original_of(made.config)
    validation = texts_of(made.config, loaded)[11:14]  # behind 8 to learn from and 3 held out
    told = [made.document["original"]["reply"]]
    assert told == [said(loaded)]
    for run in made.document["runs"]:
        folder = tmp_path / run["init"]
        manifest = model.run(made.config.quantizing(run["init"]), folder, ignore)
        quantized = sources.load(sources.resolve(str(folder)))
        found = plain_kl(loaded.model, quantized.model, validation)
        assert run["start_kl"] == pytest.approx(found, rel=ROUNDED)
        assert found > 0.01
        told.append(run["replies"]["before"])
        assert told[-1] == said(quantized)
        for layer in run["layers"]:
            facts = manifest["layers"][layer["layer"]]
            assert layer.items() <= {**facts, "layer": layer["layer"]}.items()
    assert told[0] not in told[1:]


def test_the_original_is_not_changed(small):
    kept = study.loaded(sources.resolve(small.model), torch.device("cpu")).model
    assert not linear.quantized_layers(kept)
    mine = kept.state_dict()
    for name, value in original_of(small).model.state_dict().items():
        assert torch.equal(value, mine[name]), name


def test_the_tuned_model_answers_in_the_state_that_was_kept(small, monkeypatch):
    measured = {}
    put = attempt.Question.put

    def asked(question, loaded, stage, meter, speaker=None):
        if "after tuning" in stage:
            with torch.inference_mode():
                windows = texts_of(small, loaded)[11:14]
                measured[stage] = plain_kl(loaded.model, speaker, windows)
        return put(question, loaded, stage, meter, speaker)

    monkeypatch.setattr(attempt.Question, "put", asked)
    # steps this large make it worse at once, so the state that is kept is not the last one
    monkeypatch.setattr(trial, "PvConfig", lambda seed: PvConfig(lr=0.5, seed=seed))
    (run,) = trial.run(replace(small, inits=("oa-em",)), ignore)["runs"]
    assert run["best_step"] == 0
    assert run["curve"][-1]["validation_kl"] > run["best_kl"]
    assert measured[attempt.stages("oa-em")[3]] == pytest.approx(run["best_kl"], rel=ROUNDED)


def test_a_budget_of_steps_gives_the_same_numbers_twice(made, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    again = trial.run(made.config, ignore)
    assert without_seconds(again) == without_seconds(made.document)
    assert replace(made.config, seconds=1.0).key() == made.config.key()
    timed = replace(made.config, steps=None)
    assert replace(timed, seconds=1.0).key() != timed.key()


def test_a_budget_of_seconds_ends_with_a_validation(small):
    timed = replace(small, steps=None, seconds=0.05, inits=("greedy",))
    (run,) = trial.run(timed, ignore)["runs"]
    assert run["steps"] >= 1
    assert run["seconds"] >= 0.05 > run["curve"][-2]["seconds"]
    assert run["curve"][-1]["validation_kl"] is not None


def test_stopping_keeps_what_there_is_and_the_next_run_goes_on(made, small, monkeypatch):
    monkeypatch.setattr("quantcore.progress.TICK_SECONDS", 0.0)
    kept, steps = {}, []

    def stop(told, document):
        kept.update(json.loads(json.dumps(document)))
        if len(document["runs"]) == 2:
            steps.append(document["runs"][1]["steps"])
            if steps[-1] == 3:
                raise Cancelled("enough")

    with pytest.raises(Cancelled):
        trial.run(small, stop)
    assert not kept["complete"]
    assert [run["complete"] for run in kept["runs"]] == [True, False]
    assert sorted(set(steps)) == [0, 1, 2, 3]  # told of every step
    tried, real = [], attempt.run

    def run(one, entry, meter):
        tried.append(entry["init"])
        real(one, entry, meter)

    monkeypatch.setattr(attempt, "run", run)
    again = trial.run(small, ignore, kept)
    assert tried == ["oa-em"]
    assert again["runs"][0] == kept["runs"][0]  # its seconds too
    assert without_seconds(again) == without_seconds(made.document)
    assert trial.run(small, ignore, again) == again
    assert tried == ["oa-em"]
    other = trial.run(replace(small, prompt="the dog", inits=("greedy",)), ignore, kept)
    assert tried == ["oa-em", "greedy"]
    assert other["original"] != kept["original"]


def test_quantized_blocks_are_found_again_until_their_settings_change(small, monkeypatch):
    def never(*_):
        raise AssertionError("quantized again")

    monkeypatch.setattr(model, "quantize_blocks", never)
    (folder, _) = sorted((partial.machine.cache_dir() / partial.FOLDER).iterdir())
    names = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert names == {"quantcore.json", "block-001.safetensors"}
    os.utime(folder, (0, 0))
    other = replace(small, steps=1, prompt="the dog", every=1)
    assert trial.run(other, ignore)["complete"]
    assert folder.stat().st_mtime > 0  # among those used last
    with pytest.raises(AssertionError, match="quantized again"):
        trial.run(replace(small, seed=1), ignore)
    (folder / "block-001.safetensors").rename(folder / "lost")
    with pytest.raises(AssertionError, match="quantized again"):
        trial.run(other, ignore)
    (folder / "lost").rename(folder / "block-001.safetensors")


def test_the_other_matrices_are_the_original_s(small):
    loaded = original_of(small)
    mine = partial.quantized(small.quantizing("greedy"), loaded, ignore).model
    ours, theirs = (dict(m.named_parameters()) for m in (mine, loaded.model))
    assert ours["model.embed_tokens.weight"] is theirs["model.embed_tokens.weight"]
    layer = "model.layers.2.mlp.up_proj.weight"
    assert ours[layer] is theirs[layer]
    norm = "model.layers.2.input_layernorm.weight"
    assert ours[norm] is not theirs[norm]
    assert {name.split(".")[2] for name in linear.quantized_layers(mine)} == {"1"}


def test_an_estimate_counts_all_that_is_done(small):
    seconds = trial.estimate(small)
    assert trial.estimate(replace(small, inits=("greedy",))) < seconds
    timed = replace(small, steps=None)
    longer = replace(timed, seconds=timed.seconds + 10)
    assert trial.estimate(longer) - trial.estimate(timed) == pytest.approx(20)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inits": ()}, "at least one initialiser, and each named once"),
        ({"inits": ("greedy", "greedy")}, "each named once"),
        ({"inits": ("magic",)}, "magic"),
        ({"seconds": 0.0}, "seconds of tuning must be finite and above 0, got 0"),
        ({"seconds": float("inf")}, "seconds of tuning must be finite"),
        ({"steps": 0}, "steps of tuning must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"window": 1}, "window must be at least 2, got 1"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"prompt": " \n"}, "the prompt is empty; say something"),
        ({"reply_tokens": 0}, "tokens must be at least 1, got 0"),
    ],
)
def test_impossible_trials_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Trial(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": (3,)}, r"blocks must be from 0 to 2, got \[3\]"),
        ({"blocks": ()}, "blocks must be from 0 to 2, got none"),
        ({"samples": 999}, "windows of 16 tokens and this trial needs 1005; give a longer text"),
        ({"scheme": Scheme(2, 3, 7)}, "no layer can be quantized"),
        ({"device": "tpu"}, "device must be auto, cpu"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(small, values, message):
    with pytest.raises(QuantcoreError, match=message):
        trial.run(replace(small, **values), ignore)
