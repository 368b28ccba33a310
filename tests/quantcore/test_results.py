import json

import cases
import pytest
import torch

from quantcore import results
from quantcore.evaluate import Perplexity
from quantcore.layer import LayerConfig, LayerState, Phase, quantize
from quantcore.objective import Errors
from quantcore.search import SEARCHES, SearchConfig
from quantcore.weight import Scheme


def test_a_runs_document_by_hand(rng):
    problem, weight = cases.make(rng, 7, 3, Scheme(2, 2, 4))
    phases = (
        Phase("init", 0, Errors(4.0, 0.4, 0.5), 1.0),
        Phase("refit", 1, Errors(3.0, 0.3, 0.4), 1.5),
        Phase("feedback", 1, Errors(3.5, 0.35, 0.45), 2.5),
        Phase("refit", 1, Errors(3.2, 0.32, 0.4), 2.75),
        Phase("descent", 1, Errors(2.0, 0.2, 0.35), 4.0),
        Phase("refit", 2, Errors(1.0, 0.1, None), 4.25),
    )
    run = results.begin_run("oa-em", 7)
    assert not run["complete"]
    for phase in phases:
        results.add_phase(run, phase)
    assert (run["init_error"], run["init_relative_error"]) == (4.0, 0.4)
    assert run["init_heldout_relative_error"] == 0.5
    assert (run["error"], run["relative_error"], run["heldout_relative_error"]) == (1.0, 0.1, None)
    assert run["seconds"] == {"init": 1.0, "refit": 1.0, "search": 2.25, "total": 4.25}
    assert [(entry["phase"], entry["sweep"]) for entry in run["trace"]] == [
        ("init", 0), ("refit", 1), ("feedback", 1), ("refit", 1), ("descent", 1), ("refit", 2),
    ]  # fmt: skip
    assert run["trace"][4]["seconds"] == 4.0
    results.end_run(run, LayerState(weight, 1.0, phases))
    assert run["complete"]
    assert "usage" not in run
    results.add_weight(run, problem, weight)
    assert [sum(book) for book in run["usage"]] == [21, 21]
    assert run["usage"][0] == sorted(run["usage"][0], reverse=True)
    assert run["used"] == [sum(count > 0 for count in book) for book in run["usage"]]
    assert len(run["row_errors"]) == 7
    assert len(run["group_errors"]) == 3
    assert sum(run["residuals"]["counts"]) == 7 * 12
    json.dumps(run, allow_nan=False)


@pytest.mark.parametrize("search", SEARCHES)
def test_every_searchs_phases_are_counted_as_search(search, rng):
    case = cases.make(rng, 8, 3, Scheme(2, 3, 4))
    config = LayerConfig(Scheme(2, 3, 4), search=SearchConfig(search), sweeps=2)
    run = results.begin_run("greedy", 0)
    state = quantize(case.problem, config, rng)
    for phase in state.trace:
        results.add_phase(run, phase)
    seconds = run["seconds"]
    assert seconds["search"] > 0
    parts = seconds["init"] + seconds["refit"] + seconds["search"]
    assert parts == pytest.approx(seconds["total"])
    assert {entry["phase"] for entry in run["trace"]} <= {"init", "refit", *search.split("-")}


def test_facts_of_the_papers_layer():
    facts = results.shape_facts(Scheme(2, 8, 8), 3072, 3072)
    assert facts["scheme"] == {"codebooks": 2, "bits": 8, "group": 8}
    assert facts["groups"] == 1_179_648
    assert facts["rho"] == pytest.approx(18.0)


def test_perplexity_beside_the_original():
    original = Perplexity.of(torch.tensor([10.0, 20.0], dtype=torch.float64), 10)
    other = Perplexity.of(torch.tensor([11.0, 22.0], dtype=torch.float64), 10)
    entry = results.perplexity_entry(other, original)
    assert entry["difference"] == pytest.approx(0.15)  # .1 and .2 nats per token
    assert entry["difference_error"] == pytest.approx(0.05)
    assert entry["value"] == other.value
    assert "window_nll" not in entry


def test_only_finished_runs_of_the_same_experiment_are_kept():
    runs = [{"init": "greedy", "complete": True}, {"init": "oa-em", "complete": False}]
    assert results.complete_runs({"key": "a", "runs": runs}, "a") == runs[:1]
    assert results.complete_runs({"key": "b", "runs": runs}, "a") == []
    assert results.complete_runs(None, "a") == []


def test_what_is_whole_is_counted_in_every_kind_of_document():
    whole, half = {"complete": True}, {"complete": False}
    assert results.finished(None) == results.finished({}) == 0
    assert results.finished({"runs": [whole, half, whole]}) == 2
    assert results.finished({"trajectories": {"A": whole, "B": half}}) == 1
    assert results.finished({"starts": [{}, {}, {}]}) == 3
    assert results.finished({"candidates": [{}]}) == 1


def test_weights_are_kept(tmp_path, rng):
    weight = cases.make(rng).weight
    path = tmp_path / "one.safetensors"
    results.save_weight(path, weight)
    back = results.load_weight(path)
    assert torch.equal(back.codes, weight.codes)
    assert torch.equal(back.dense(), weight.dense())


def test_mean_and_spread_by_hand():
    runs = [{"error": 1.0}, {"error": 3.0}, {"error": None}]
    assert results.mean_and_spread(runs, "error") == (2.0, pytest.approx(2**0.5))
    assert results.mean_and_spread(runs[:1], "error") == (1.0, 0.0)
    assert results.mean_and_spread(runs[2:], "error") is None
