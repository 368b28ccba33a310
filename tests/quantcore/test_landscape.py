import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cases
import pytest
import torch

from quantcore import files, landscape, layer, machine, problems, trails
from quantcore.errors import Cancelled, InputError, ResourceError
from quantcore.experiment import Experiment
from quantcore.landscape import Landscape
from quantcore.surface import Surface
from quantcore.weight import Scheme

SCHEME = Scheme(2, 3, 4)


@pytest.fixture
def small(tmp_path, monkeypatch, rng):
    """A landscape of a second, all rows in the sample."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    found = cases.make(rng, 24, 8, SCHEME).problem
    parts = ("weight", "hessian", "heldout_hessian")
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {f"one.{name}": getattr(found, name) for name in parts})
    experiment = Experiment(problem=str(path), layer="one", scheme=SCHEME, sweeps=2)
    return Landscape(experiment, rows=24, resolution=4, points=5)


def problem_of(config):
    return problems.from_file(Path(config.experiment.problem), config.experiment.layer)


def ignore(progress, document):
    pass


def without_times(document):
    """What a document says but for when and how long."""
    if isinstance(document, dict):
        left = {key: value for key, value in document.items() if key not in ("seconds", "date")}
        return {key: without_times(value) for key, value in left.items()}
    if isinstance(document, list):
        return [without_times(one) for one in document]
    return document


def test_the_whole_landscape(small):
    seen = []
    document = landscape.run(small, lambda told, doc: seen.append((told, json.dumps(doc))))
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(seen[-1][1])
    assert document["kind"] == "landscape"
    assert document["complete"]
    assert document["rows"] == 24
    assert [(run["init"], run["seed"]) for run in document["trajectories"].values()] == [
        ("greedy", 0),
        ("oa-em", 0),
    ]
    plane = document["plane"]
    assert [len(plane["a"]), len(plane["b"])] == [4, 4]
    for grids in plane["errors"].values():
        assert {text: [len(row) for row in grid] for text, grid in grids.items()} == {
            "calibration": [4] * 4,
            "heldout": [4] * 4,
        }
    assert all(0 <= share <= 1 + 1e-9 for share in plane["explained"].values())
    line = document["line"]
    assert line["positions"] == [0, 0.25, 0.5, 0.75, 1]
    assert all(len(curve[text]) == 5 for curve in line["errors"].values() for text in curve)
    assert all(found[text] >= 0 for found in line["barrier"].values() for text in found)
    done = [told.done for told, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0].done == pytest.approx(seen[-1][0].total)


def test_the_trajectories_are_those_of_the_two_runs(small):
    document = landscape.run(small, ignore)
    for end in landscape.ENDS:
        init, seed = small.run_of(end)
        own = problem_of(small)
        rng = torch.Generator().manual_seed(seed)
        weights = []
        state = layer.quantize(own, small.layer.config(init), rng, reached=weights.append)
        phases = document["trajectories"][end]["phases"]
        assert [(one["phase"], one["sweep"]) for one in phases] == [
            (one.phase, one.sweep) for one in state.trace
        ]
        assert [one["relative_error"] for one in phases] == [
            one.errors.relative for one in state.trace
        ]
        changed = [
            float((new.codes != old.codes).double().mean()) for old, new in pairwise(weights)
        ]
        assert [one["changed"] for one in phases] == [None, *changed]
        seconds = [one["seconds"] for one in phases]
        assert seconds == sorted(seconds)


def test_the_plane_goes_through_a_s_start_and_both_ends(small):
    document = landscape.run(small, ignore)
    a, b = (document["trajectories"][end]["phases"] for end in landscape.ENDS)
    for phase in (a[0], a[-1], b[-1]):
        assert phase["off_plane"] == pytest.approx(0, abs=1e-9)
    assert a[-1]["coordinates"] == pytest.approx([0, 0], abs=1e-9)
    assert b[-1]["coordinates"] == pytest.approx([document["line"]["length"], 0], abs=1e-9)
    assert document["alignment"]["distance"] == document["line"]["length"]
    assert document["alignment"]["distance"] < document["alignment"]["distance_before"]
    for phase in (*a, *b):
        for place, axis in zip(phase["coordinates"], ("a", "b"), strict=True):
            assert document["plane"][axis][0] < place < document["plane"][axis][-1]


def test_at_its_ends_the_line_has_the_runs_own_errors(small):
    document = landscape.run(small, ignore)
    for end, mode, place in (("A", "fixed_a", 0), ("B", "fixed_b", -1)):
        own, curve = document["trajectories"][end]["phases"][-1], document["line"]["errors"][mode]
        assert curve["calibration"][place] == pytest.approx(own["relative_error"], rel=1e-4)
        assert curve["heldout"][place] == pytest.approx(own["heldout_relative_error"], rel=1e-4)


def test_a_grid_s_rows_are_values_of_b(small, monkeypatch):
    def of(places):
        return {"calibration": (places[:, 0] + 100 * places[:, 1]).tolist(), "heldout": None}

    monkeypatch.setattr(Surface, "fixed", lambda self, codes, places: of(places))
    monkeypatch.setattr(Surface, "reassigned", lambda self, places, observe=None: of(places))
    plane = landscape.run(small, ignore)["plane"]
    want = [[a + 100 * b for a in plane["a"]] for b in plane["b"]]
    for grid in plane["errors"].values():
        assert grid["calibration"] == [pytest.approx(row) for row in want]


def stopped(config, when):
    """What there is once `when` says so of the document."""
    kept = {}

    def stop(told, document):
        kept.update(json.loads(json.dumps(document)))
        if when(document):
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        landscape.run(config, stop)
    return kept


@pytest.mark.parametrize("place", ["run B", "plane", "line"])
def test_stopping_keeps_what_there_is_and_the_next_run_goes_on(small, monkeypatch, place):
    def when(document):
        if place == "run B":
            return "B" in document["trajectories"]
        rows = document["plane"] and document["plane"]["errors"]["reassigned"]["calibration"]
        return rows is not None and len(rows) == (2 if place == "plane" else small.resolution)

    whole = landscape.run(small, ignore)
    for path in machine.cache_dir().glob("landscapes/*/*"):
        path.unlink()
    kept = stopped(small, when)
    assert not kept["complete"]
    real, walked = trails.walk, []

    def walk(problem, config, entry, stage, meter):
        walked.append(stage)
        return real(problem, config, entry, stage, meter)

    monkeypatch.setattr(trails, "walk", walk)
    measured = []
    again = landscape.run(small, lambda told, doc: measured.append(told.stage), kept)
    assert walked == (["run B"] if place == "run B" else [])
    assert without_times(again) == without_times(whole)
    assert again["trajectories"]["A"] == kept["trajectories"]["A"] | {
        "phases": again["trajectories"]["A"]["phases"]
    }
    if place == "line":
        assert again["plane"]["seconds"] == kept["plane"]["seconds"]


def test_a_kept_run_without_its_tensors_is_run_again(small):
    whole = landscape.run(small, ignore)
    next(machine.cache_dir().glob("landscapes/*/A.safetensors")).unlink()
    begun = []
    again = landscape.run(small, lambda told, doc: begun.append(told.stage), whole)
    assert "run A" in begun
    assert "run B" not in begun
    assert without_times(again) == without_times(whole)


def test_another_landscape_s_document_is_not_gone_on_with(small):
    other = landscape.run(small, ignore)
    begun = []
    landscape.run(replace(small, points=4), lambda told, doc: begun.append(told.stage), other)
    assert {"run A", "run B"} <= set(begun)


def test_two_seeds_of_one_initialiser_without_heldout_text(small, tmp_path):
    problem = problem_of(small)
    path = tmp_path / "plain.safetensors"
    files.write_tensors(path, {"one.weight": problem.weight, "one.hessian": problem.hessian})
    experiment = replace(small.experiment, problem=str(path), inits=("greedy",), seeds=(3, 4))
    document = landscape.run(replace(small, experiment=experiment), ignore)
    assert [run["seed"] for run in document["trajectories"].values()] == [3, 4]
    for errors in (*document["plane"]["errors"].values(), *document["line"]["errors"].values()):
        assert errors["heldout"] is None
    assert all(found["heldout"] is None for found in document["line"]["barrier"].values())
    assert json.dumps(document, allow_nan=False)


def test_large_books_say_that_they_are_not_in_the_nearest_order(small, monkeypatch):
    monkeypatch.setattr(landscape.alignment, "MATCHED", 4)
    document = landscape.run(small, ignore)
    assert not document["alignment"]["exact"]
    assert "matched by rank" in document["alignment"]["why"]


def test_the_key_names_everything_that_matters(small):
    assert small.key() == replace(small).key()
    for change in ({"rows": 5}, {"resolution": 5}, {"points": 6}):
        assert replace(small, **change).key() != small.key()
    for change, same in (({"sweeps": 3}, False), ({"perplexity_windows": 3}, True)):
        other = replace(small, experiment=replace(small.experiment, **change))
        assert (other.key() == small.key()) == same


def test_an_estimate_grows_with_the_surface(small):
    seconds = landscape.estimate(small, 24, 32)
    assert seconds > 0
    assert landscape.estimate(replace(small, resolution=8), 24, 32) > seconds
    assert landscape.estimate(replace(small, points=50), 24, 32) > seconds


def test_more_memory_than_there_is_is_refused(small, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device=None: 1000)
    with pytest.raises(ResourceError, match="quantizing a layer of 24x32"):
        landscape.run(small, ignore)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiment": Experiment(inits=("greedy",))}, "lies between two runs.* got 1 and 1"),
        ({"experiment": Experiment(seeds=(0, 1, 2))}, "lies between two runs.* got 2 and 3"),
        ({"experiment": Experiment(sweeps=0)}, "sweeps must be at least 1, got 0"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"resolution": 1}, "resolution must be at least 2, got 1"),
        ({"points": 2}, "points must be at least 3, got 2"),
    ],
)
def test_impossible_landscapes_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Landscape(**values)


def test_two_initialisers_and_two_seeds_are_paired_in_order():
    config = Landscape(Experiment(inits=("oa-em", "greedy"), seeds=(5, 2)))
    assert [config.run_of(end) for end in landscape.ENDS] == [("oa-em", 5), ("greedy", 2)]
