import json
import random
from dataclasses import replace

import models
import pytest
import torch

from quantcore import corpora, evaluate, experiment, machine, results, sources, study
from quantcore.errors import Cancelled, InputError, ResourceError, SchemeError, SourceError
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

LAYER = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An experiment of a second on a tiny model."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    study.loaded.cache_clear()
    study.skeleton.cache_clear()
    text = tmp_path / "text.txt"
    letters = random.Random(0)  # the two parts of the text must differ
    lines = ("".join(letters.choices(models.LETTERS[:-1], k=44)) for _ in range(30))
    text.write_text("\n".join(lines))
    return Experiment(
        model=str(models.save_model(tmp_path / "model")),
        layer=LAYER,
        scheme=Scheme(2, 2, 4),
        seeds=(0, 1),
        sweeps=2,
        beam=2,
        text=str(text),
        calibration_tokens=96,
        heldout_tokens=48,
        window=12,
        perplexity_windows=3,
    )


def ignore(progress, document):
    pass


def test_the_whole_comparison(small):
    seen = []
    document = experiment.run(small, lambda told, doc: seen.append((told, json.dumps(doc))))
    assert [(run["init"], run["seed"]) for run in document["runs"]] == [
        (init, seed) for init in small.inits for seed in small.seeds
    ]
    assert all(run["complete"] for run in document["runs"])
    assert len({run["init_error"] for run in document["runs"]}) == 4  # every seed is its own
    for run in document["runs"]:  # rows have no one energy, groups share the whole error
        assert sum(run["group_errors"]) == pytest.approx(1, abs=1e-4)
        assert min(run["row_errors"]) < run["relative_error"] < max(run["row_errors"])
    assert document["shape"] == [16, 16]
    assert document["groups"] == 64
    assert document["rho"] == 64 / 4**2
    assert document["layer"] == LAYER
    assert document["model"]["kind"] == "folder"
    assert document["text"]["sha256"] != document["heldout_text"]["sha256"]
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(seen[-1][1])
    done = [told.done for told, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0].done == pytest.approx(seen[-1][0].total)
    assert [seen[0][0].stage, seen[0][0].eta] == ["plan", None]


def test_the_perplexity_is_that_of_the_model_with_the_weight_in_place(small):
    document = experiment.run(small, ignore)
    loaded = sources.load(sources.resolve(small.model))
    text, _ = corpora.load_text(small.text, "evaluation")
    windows = corpora.windows(loaded.tokenizer, text, small.window, small.perplexity_windows)
    plain = evaluate.perplexity(loaded.model, windows)
    assert document["perplexity"]["original"]["value"] == pytest.approx(plain.value)
    for run in document["runs"]:
        path = results.weight_path(small.key(), run["init"], run["seed"])
        with torch.no_grad():
            loaded.model.get_submodule(LAYER).weight.copy_(results.load_weight(path).dense())
        want = evaluate.perplexity(loaded.model, windows)
        assert run["perplexity"]["value"] == pytest.approx(want.value, rel=1e-5)
        assert run["perplexity"]["difference"] == pytest.approx(
            want.paired_difference(plain)[0], abs=1e-6
        )


def test_no_windows_no_perplexity(small):
    document = experiment.run(replace(small, perplexity_windows=0), ignore)
    assert document["perplexity"] is None
    assert all(run["perplexity"] is None for run in document["runs"])


def test_stopping_keeps_what_there_is_and_the_next_run_goes_on(small):
    whole = experiment.run(small, ignore)
    for path in machine.cache_dir().glob("weights/*/*"):
        path.unlink()
    kept = {}

    def stop(told, document):
        kept.update(json.loads(json.dumps(document)))
        if len(document["runs"]) == 3 and document["runs"][2]["trace"]:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        experiment.run(small, stop)
    assert [run["complete"] for run in kept["runs"]] == [True, True, False]
    assert kept["runs"][2]["trace"][0]["phase"] == "init"
    begun = set()
    again = experiment.run(small, lambda told, doc: begun.add(told.stage), kept)
    assert not any(stage.startswith("greedy") for stage in begun)
    for one, two in zip(whole["runs"], again["runs"], strict=True):
        assert one["usage"] == two["usage"]
        assert one["error"] == two["error"]
        assert one["perplexity"] == two["perplexity"]


def test_a_kept_run_without_its_weight_is_run_again(small):
    whole = experiment.run(small, ignore)
    results.weight_path(small.key(), "greedy", 0).unlink()
    begun = set()
    again = experiment.run(small, lambda told, doc: begun.add(told.stage), whole)
    assert "greedy, seed 0" in begun
    assert "greedy, seed 1" not in begun
    assert [run["error"] for run in again["runs"]] == [run["error"] for run in whole["runs"]]


def test_layers_and_estimate_need_no_weights(small, tmp_path):
    table = experiment.layers(small.model)
    assert table[LAYER].out == 16
    assert table[LAYER].block == 1
    assert len(table) == 21
    seconds = experiment.estimate(small, 16, 16)
    assert seconds > 0
    assert experiment.estimate(replace(small, seeds=(0, 1, 2, 3)), 16, 16) > seconds
    assert experiment.estimate(replace(small, perplexity_windows=0), 16, 16) < seconds
    assert not list((tmp_path / "cache").glob("hessians/*"))


def test_the_key_names_everything_that_matters(small):
    assert small.key() == replace(small).key()
    for change in ({"seeds": (0,)}, {"beam": 3}, {"scheme": Scheme(1, 2, 4)}, {"damping": 0.1}):
        assert replace(small, **change).key() != small.key()
    assert replace(small, search="beam").key() != replace(small, search="descent").key()


def test_the_default_width_written_out_is_the_same_run(small):
    unnamed = replace(small, search="beam", beam=None)
    assert unnamed.key() == replace(unnamed, beam=8).key() != replace(unnamed, beam=1).key()


def test_shrinkage_reaches_the_runs(small):
    plain = experiment.run(small, ignore)["runs"][0]
    shrunk = experiment.run(replace(small, shrinkage=0.9), ignore)["runs"][0]
    assert plain["error"] != shrunk["error"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer": "model.layers.1.self_attn.qproj"}, SourceError, "did you mean .*q_proj"),
        ({"layer": ""}, SourceError, "there is no linear layer ''"),
        ({"model": "no/such/model"}, SourceError, "no/such/model"),
        ({"scheme": Scheme(2, 2, 3)}, SchemeError, "16 inputs do not divide into groups of 3"),
        ({"scheme": Scheme(2, 8, 4)}, SchemeError, "256 words is more than the layer's 64 groups"),
        ({"device": "tpu"}, InputError, "device must be auto, cpu, cuda"),
        ({"text": "nowhere.txt"}, SourceError, "there is no text 'nowhere.txt'"),
        ({"window": 60, "calibration_tokens": 600, "heldout_tokens": 600}, SourceError, None),
        ({"problem": "nowhere.safetensors"}, SourceError, "there is no file"),
    ],
)
def test_bad_input_is_a_sentence(small, change, error, message, tmp_path):
    if message is None:  # too short for one window
        (tmp_path / "text.txt").write_text("too short")
        message = "give a longer text or a shorter window"
    with pytest.raises(error, match=message):
        experiment.run(replace(small, **change), ignore)


def test_what_does_not_fit_is_refused_before_the_model_is_read(small, monkeypatch):
    monkeypatch.delattr(sources, "load")
    for change in ({"scheme": Scheme(2, 2, 3)}, {"layer": "model.layers.9.nothing"}):
        with pytest.raises((SchemeError, SourceError), match=r"do not divide|no linear layer"):
            experiment.run(replace(small, **change), ignore)


def test_more_memory_than_there_is_is_refused_before_it_starts(small, monkeypatch):
    experiment.run(small, ignore)  # the model is loaded, the Hessian is there
    monkeypatch.setattr(machine, "available_memory", lambda device=None: 1000)
    with pytest.raises(ResourceError, match=r"quantizing a layer of 16x16 at 2x2 g4 needs about"):
        experiment.run(replace(small, seeds=(5,)), ignore)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inits": ()}, "needs at least one initialiser and one seed"),
        ({"inits": ("greedy", "greedy")}, "must each be named once"),
        ({"inits": ("magic",)}, "there is no initialiser 'magic'"),
        ({"seeds": ()}, "needs at least one initialiser and one seed"),
        ({"beam": 0}, "beam width must be at least 1, got 0"),
        ({"sweeps": -1}, "sweeps must be at least 0, got -1"),
        ({"shrinkage": 2.0}, "shrinkage must be between 0 and 1, got 2.0"),
        (
            {"perplexity_windows": -1},
            "perplexity windows must be at least 0 and at most 1000000, got -1",
        ),
        ({"window": 0}, "window must be at least 2 tokens, got 0"),
    ],
)
def test_impossible_experiments_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Experiment(**values)
