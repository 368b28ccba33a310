import json
import random
from dataclasses import replace

import cases
import models
import pytest

from quantcore import anatomy, experiment, files, grid, machine, problems, sources, study, survey
from quantcore.errors import Cancelled, InputError, ResourceError, SourceError
from quantcore.experiment import Experiment
from quantcore.grid import Survey
from quantcore.weight import Scheme

Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"  # 16x16 and 16x24


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A survey of a second on a tiny model."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    study.loaded.cache_clear()
    study.skeleton.cache_clear()
    text = tmp_path / "text.txt"
    letters = random.Random(0)
    lines = ("".join(letters.choices(models.LETTERS[:-1], k=44)) for _ in range(30))
    text.write_text("\n".join(lines))
    return Survey(
        model=str(models.save_model(tmp_path / "model")),
        layers=("1.mlp.down_proj", Q),
        schemes=(Scheme(2, 2, 4),),
        sweeps=1,
        text=str(text),
        calibration_tokens=(96,),
        heldout_tokens=48,
        window=12,
    )


@pytest.fixture
def stored(tmp_path, rng):
    """A survey of a problem file with two layers, one without held-out text."""
    one, two = (cases.make(rng, out, 6, Scheme(2, 2, 4)).problem for out in (12, 20))
    tensors = {f"one.{name}": value for name, value in vars(one).items() if name != "energy"}
    tensors |= {"two.weight": two.weight, "two.hessian": two.hessian}
    files.write_tensors(tmp_path / "problem.safetensors", tensors)
    path = str(tmp_path / "problem.safetensors")
    return Survey(problem=path, schemes=(Scheme(2, 2, 4),), sweeps=1)


def ignore(progress, document):
    pass


def test_every_combination_is_run_once(small):
    dials = replace(
        small,
        sweeps=0,
        schemes=(Scheme(2, 2, 4), Scheme(1, 3, 8)),
        inits=("oa-em",),
        searches=("beam", "descent"),
        beams=(1, 2),
        calibration_tokens=(96, 50),
        shrinkages=(0.0, 0.5),
        seeds=(4,),
    )
    assert dials.tokens == (48, 96)
    document = survey.run(dials, ignore)
    assert all(run["complete"] for run in document["runs"])
    seen = [tuple(run[name] for name in grid.Cell._fields) for run in document["runs"]]
    assert set(seen) == {
        (layer, scheme, "oa-em", search, beam, tokens, shrinkage, 4)
        for layer in (Q, DOWN)
        for scheme in ("2x2g4", "1x3g8")
        for search in ("beam", "descent")
        for beam in (1, 2)
        for tokens in (48, 96)
        for shrinkage in (0.0, 0.5)
    }
    assert len(seen) == len(set(seen)) == 64
    rho = {(run["layer"], run["scheme"]): run["rho"] for run in document["runs"]}
    assert rho[Q, "2x2g4"] == 64 / 4**2
    assert rho[DOWN, "1x3g8"] == 48 / 8
    assert {run["bits_per_weight"] for run in document["runs"] if run["layer"] == Q} == {
        scheme.bits_per_weight(16, 16) for scheme in dials.schemes
    }
    assert list(document["layers"]) == [Q, DOWN]  # the model's order
    assert len(grid.settings(document["runs"])) == 64


def test_a_run_is_the_one_that_an_experiment_makes(small):
    """Seed by seed, on less text and with a Hessian that is shrunk: the same errors and trace."""
    dials = replace(small, calibration_tokens=(96, 48), shrinkages=(0.3,), seeds=(0, 1), sweeps=2)
    document = survey.run(dials, ignore)
    config = Experiment(
        model=small.model,
        layer=DOWN,
        scheme=Scheme(2, 2, 4),
        seeds=(0, 1),
        sweeps=2,
        shrinkage=0.3,
        text=small.text,
        calibration_tokens=48,
        heldout_tokens=48,
        window=12,
        perplexity_windows=0,
    )
    wanted = experiment.run(config, ignore)
    assert document["text"] == wanted["text"]
    assert document["heldout_text"] == wanted["heldout_text"]
    assert document["model"] == wanted["model"]
    setting = (DOWN, "2x2g4", "feedback-descent", 1, 48, 0.3)
    runs = grid.settings(document["runs"])[setting]
    for one, two in zip(runs, wanted["runs"], strict=True):
        for name in ("init", "seed", "error", "init_heldout_relative_error", "used"):
            assert one[name] == two[name]
        assert [p["error"] for p in one["trace"]] == [p["error"] for p in two["trace"]]
        assert set(two) - set(one) == {
            "usage", "row_errors", "group_errors", "residuals", "perplexity",
        }  # fmt: skip


def test_what_layers_are_like_is_measured_on_the_most_text(small):
    dials = replace(
        small, inits=(), calibration_tokens=(96, 48), schemes=(Scheme(), Scheme(1, 2, 4))
    )
    document = survey.run(dials, ignore)
    assert document["runs"] == []
    loaded = sources.load(sources.resolve(small.model))
    text = problems.TextConfig(small.text, 12, 96, 48)
    problem, _ = problems.from_model(loaded, DOWN, text, lambda *told: None)
    assert document["layers"][DOWN] == {
        "block": 1,
        "projection": "mlp.down_proj",
        "shape": [16, 24],
        **anatomy.layer_facts(problem, [8, 4]),
    }
    assert list(document["layers"][DOWN]["block_share"]) == ["4", "8"]


def test_all_layers_if_none_is_named(small):
    document = survey.run(replace(small, layers=(), inits=()), ignore)
    assert len(document["layers"]) == 21
    assert [facts["block"] for facts in document["layers"].values()] == sorted([0, 1, 2] * 7)


def test_a_problem_file(stored):
    document = survey.run(stored, ignore)
    assert document["model"] is None
    assert document["text"] is None
    assert list(document["layers"]) == ["one", "two"]
    assert document["layers"]["two"]["shape"] == [20, 24]
    assert document["layers"]["two"]["block"] is None
    assert {run["calibration_tokens"] for run in document["runs"]} == {None}
    held = {run["layer"]: run["heldout_relative_error"] for run in document["runs"]}
    assert held["one"] > 0
    assert held["two"] is None
    assert list(survey.run(replace(stored, layers=("two",)), ignore)["layers"]) == ["two"]


def test_what_a_scheme_does_not_fit_is_entered_with_the_reason(small):
    dials = replace(small, schemes=(Scheme(2, 2, 4), Scheme(2, 2, 24), Scheme(1, 8, 4)))
    document = survey.run(dials, ignore)
    assert [(entry["layer"], entry["scheme"]) for entry in document["refused"]] == [
        (Q, "2x2g24"), (Q, "1x8g4"), (DOWN, "1x8g4"),
    ]  # fmt: skip
    assert "16 inputs do not divide into groups of 24" in document["refused"][0]["why"]
    assert "256 words is more than the layer's 64 groups" in document["refused"][1]["why"]
    assert {(run["layer"], run["scheme"]) for run in document["runs"]} == {
        (Q, "2x2g4"), (DOWN, "2x2g4"), (DOWN, "2x2g24"),
    }  # fmt: skip
    assert list(document["layers"][Q]["block_share"]) == ["4"]
    assert list(document["layers"][DOWN]["block_share"]) == ["4", "24"]


def test_stopping_keeps_what_there_is_and_the_next_run_goes_on(small):
    dials = replace(small, seeds=(0, 1))
    whole = survey.run(dials, ignore)
    kept = {}

    def stop(told, document):
        kept.update(json.loads(json.dumps(document)))
        if len(document["runs"]) == 6 and document["runs"][5]["trace"]:
            raise Cancelled

    with pytest.raises(Cancelled):
        survey.run(dials, stop)
    assert [run["complete"] for run in kept["runs"]] == [True] * 5 + [False]
    before = json.dumps(kept)
    begun, first = {}, {}

    def watch(told, document):
        begun.setdefault(told.stage, told.done)
        first.update(first or json.loads(json.dumps(document)))

    again = survey.run(dials, watch, kept)
    assert json.dumps(kept) == before
    assert first["runs"] == kept["runs"][:5]  # kept from the very beginning
    assert not any(stage.startswith(Q) for stage in begun)
    seconds = grid.plan(dials).seconds
    done = [grid.Cell(*(run[name] for name in grid.Cell._fields)) for run in kept["runs"][:5]]
    before_runs = seconds["load model"] + seconds["Hessians of block 1"]
    went_on = min(told for stage, told in begun.items() if stage.startswith(DOWN))
    assert went_on == pytest.approx(before_runs + sum(seconds[cell.stage] for cell in done))
    assert [run["error"] for run in again["runs"]] == [run["error"] for run in whole["runs"]]
    assert again["runs"][:5] == kept["runs"][:5]  # seconds too: not run again
    assert again["layers"] == whole["layers"]
    assert again["text"] == whole["text"]


def test_nothing_left_reads_no_model(small, monkeypatch):
    whole = json.loads(json.dumps(survey.run(small, ignore)))
    study.loaded.cache_clear()
    monkeypatch.delattr(sources, "load")
    seen = []
    again = survey.run(small, lambda told, doc: seen.append(told), whole)
    made = {"date"}
    assert {k: v for k, v in json.loads(json.dumps(again)).items() if k not in made} == {
        k: v for k, v in whole.items() if k not in made
    }
    assert seen[-1].done == pytest.approx(seen[-1].total)


def test_runs_of_another_survey_are_not_kept(small):
    other = survey.run(replace(small, sweeps=0), ignore)
    found = survey.run(small, ignore, other)
    assert len(found["runs"]) == 4
    assert {len(run["trace"]) for run in found["runs"]} != {1}


def test_facts_of_another_survey_are_not_kept(small):
    facts = replace(small, inits=())
    other = survey.run(replace(facts, schemes=(Scheme(2, 2, 8),)), ignore)
    assert list(survey.run(facts, ignore, other)["layers"][Q]["block_share"]) == ["4"]


def test_progress_goes_forward_to_the_end(small):
    seen = []
    dials = replace(small, layers=(Q, "2.mlp.up_proj"))
    document = survey.run(dials, lambda told, doc: seen.append((told, json.dumps(doc))))
    done = [told.done for told, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0].done == pytest.approx(seen[-1][0].total)
    assert json.loads(seen[-1][1]) == json.loads(json.dumps(document, allow_nan=False))
    stages = {told.stage for told, _ in seen}
    assert {"Hessians of block 1", "Hessians of block 2", "load model"} <= stages


def test_the_plan_says_what_will_be_done_without_reading_weights(small, monkeypatch, tmp_path):
    monkeypatch.delattr(sources, "load")
    dials = replace(small, schemes=(Scheme(2, 2, 4), Scheme(1, 8, 4)), seeds=(0, 1))
    planned = grid.plan(dials)
    assert [info.name for info in planned.layers] == [Q, DOWN]
    assert planned.runs == 2 * 2 * 2  # the second scheme fits neither
    assert len(planned.refused) == 2
    seconds = survey.estimate(dials)
    assert seconds == pytest.approx(sum(planned.seconds.values()))
    assert survey.estimate(replace(dials, seeds=(0, 1, 2))) > seconds
    assert survey.estimate(replace(dials, inits=())) < seconds
    facts = replace(dials, inits=(), layers=(Q, "2.mlp.up_proj"))
    assert set(grid.plan(facts).seconds) == {
        "load model", "Hessians of block 1", "Hessians of block 2",
    }  # fmt: skip
    assert not (tmp_path / "cache" / "hessians").exists()


def test_the_key_names_everything_that_matters(small):
    assert small.key() == replace(small).key()
    for change in (
        {"seeds": (1,)},
        {"beams": (3,)},
        {"layers": ()},
        {"damping": 0.1},
        {"sweeps": 2},
    ):
        assert replace(small, **change).key() != small.key()
    named = replace(small, searches=("beam",), beams=(8,))
    assert named.key() == replace(small, searches=("beam",)).key()


def test_a_width_named_twice_is_run_once(small):
    dials = replace(small, searches=("beam", "descent"), beams=(None, 8, 1))
    assert dials.widths == (("beam", 8), ("beam", 1), ("descent", 1), ("descent", 8))


def test_ratios_by_hand():
    def run(init, seed, error, complete=True):
        return {"init": init, "seed": seed, "error": error, "complete": complete}

    runs = [run("greedy", 0, 6.0), run("oa-em", 0, 2.0), run("greedy", 1, 5.0)]
    runs += [run("oa-em", 1, 5.0), run("greedy", 2, 9.0), run("oa-em", 2, 1.0, False)]
    # 3 and 1: mean 2, standard deviation sqrt 2, its error 1
    assert grid.ratio(runs, "error", "greedy", "oa-em") == (2.0, pytest.approx(1.0))
    assert grid.ratio(runs[:2], "error", "greedy", "oa-em") == (3.0, None)
    assert grid.ratio(runs[:2], "error", "oa-em", "greedy") == (pytest.approx(1 / 3), None)
    assert grid.ratio(runs[:1], "error", "greedy", "oa-em") is None
    none = [run("greedy", 0, None), run("oa-em", 0, None)]
    assert grid.ratio(none, "error", "greedy", "oa-em") is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": ("1.qproj",)}, SourceError, "there is no linear layer '1.qproj'"),
        ({"model": "no/such/model"}, SourceError, "no/such/model"),
        ({"device": "tpu"}, InputError, "device must be auto, cpu, cuda"),
        ({"text": "nowhere.txt"}, SourceError, "there is no text 'nowhere.txt'"),
        (
            {"calibration_tokens": (96, 12000)},
            InputError,
            r"the calibration text has \d+ tokens in whole windows, fewer than the 12000 asked for",
        ),
        ({"problem": "nowhere.safetensors"}, SourceError, "there is no file"),
    ],
)
def test_bad_input_is_a_sentence(small, change, error, message):
    with pytest.raises(error, match=message):
        survey.run(replace(small, **change), ignore)


def test_an_unknown_prefix_lists_those_there(stored):
    with pytest.raises(SourceError, match=r"has no problem 'three'; it holds one, two"):
        survey.run(replace(stored, layers=("three",)), ignore)


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(small, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device=None: 1000)
    monkeypatch.delattr(sources, "load")
    with pytest.raises(ResourceError, match=r"quantizing a layer of 16x16 at 2x2 g4 needs about"):
        survey.run(small, ignore)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": ()}, "a survey needs at least one value of seeds"),
        ({"schemes": ()}, "a survey needs at least one value of schemes"),
        ({"inits": ("greedy", "greedy")}, "each of a survey's inits must be named once"),
        ({"inits": ("magic",)}, "there is no initialiser 'magic'"),
        ({"searches": ("beam", "magic")}, "there is no search 'magic'"),
        ({"beams": (4, 0)}, "beam width must be at least 1, got 0"),
        ({"shrinkages": (0.1, 2.0)}, "shrinkage must be between 0 and 1, got 2.0"),
        ({"calibration_tokens": (8192, 12)}, "calibration_tokens must be at least one window"),
        ({"calibration_tokens": (8192, 8200)}, "must differ by a window of 256 tokens"),
        ({"sweeps": -1}, "sweeps must be at least 0, got -1"),
        (
            {"problem": "x", "calibration_tokens": (512, 1024)},
            "a problem file has its Hessian, so calibration tokens cannot be varied",
        ),
    ],
)
def test_impossible_surveys_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Survey(**values)


def test_settings_are_checked_even_without_initialisers():
    with pytest.raises(InputError, match="there is no search 'magic'"):
        Survey(inits=(), searches=("magic",))
