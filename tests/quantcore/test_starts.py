import json
from dataclasses import replace

import cases
import oracles
import pytest
import torch
from scipy.stats import spearmanr

from quantcore import files, init, layer, starts
from quantcore.clustering import EMProblem
from quantcore.correlation import correlation, correlations
from quantcore.errors import Cancelled, InputError
from quantcore.experiment import Experiment
from quantcore.init import INITIALISERS, InitConfig
from quantcore.starts import Starts
from quantcore.weight import Scheme

SCHEME = Scheme(2, 3, 4)


@pytest.fixture
def problem(rng):
    return cases.make(rng, 24, 8, SCHEME).problem


@pytest.fixture
def small(tmp_path, problem):
    """A study of a second."""
    parts = ("weight", "hessian", "heldout_hessian")
    path = tmp_path / "problem.safetensors"
    files.write_tensors(path, {f"one.{name}": getattr(problem, name) for name in parts})
    experiment = Experiment(
        problem=str(path), layer="one", scheme=SCHEME, sweeps=1, seeds=(0, 1), shrinkage=0.2
    )
    return Starts(experiment, (0.0, 0.5))


def ignore(progress, document):
    pass


def first_of(problem, name, seed=0):
    return init.run(problem, SCHEME, InitConfig(name), torch.Generator().manual_seed(seed))


def test_the_whole_study(small):
    seen = []
    document = starts.run(small, lambda told, doc: seen.append((told, json.dumps(doc))))
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(seen[-1][1])
    assert [(one["init"], one["seed"], one["noise"]) for one in document["starts"]] == [
        (name, seed, noise)
        for name in ("greedy", "oa-em")
        for seed in (0, 1)
        for noise in (0.0, 0.5)
    ]
    assert len({one["init_relative_error"] for one in document["starts"]}) == 8
    assert document["correlation"] == correlations(document["starts"])
    assert document["correlation"]["calibration"]["overall"]["runs"] == 8
    assert document["complete"]
    done = [told.done for told, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0].done == pytest.approx(seen[-1][0].total)


def test_without_noise_a_start_is_the_initialiser_s_own_run(small, problem):
    document = starts.run(replace(small, noises=(0.0,)), ignore)
    for one in document["starts"]:
        config = small.layer.config(one["init"])
        trace = layer.quantize(problem, config, torch.Generator().manual_seed(one["seed"])).trace
        assert one["init_relative_error"] == trace[0].errors.relative
        assert one["relative_error"] == trace[-1].errors.relative
        assert one["heldout_relative_error"] == trace[-1].errors.heldout_relative
        assert one["init_heldout_relative_error"] == trace[0].errors.heldout_relative


def test_with_noise_a_start_does_not_depend_on_the_other_noises(small):
    few = starts.run(replace(small, noises=(0.5,)), ignore)["starts"]
    many = [one for one in starts.run(small, ignore)["starts"] if one["noise"] == 0.5]
    assert [one["relative_error"] for one in few] == [one["relative_error"] for one in many]


@pytest.mark.parametrize("name", INITIALISERS)
def test_no_noise_changes_no_code(problem, name, rng):
    first = first_of(problem, name)
    same = starts.perturbed(problem, first, name, 0.0, rng)
    assert torch.equal(same.codes, first.codes)
    assert torch.equal(same.codebooks, first.codebooks)
    assert torch.equal(same.scales, first.scales)


@pytest.mark.parametrize("name", ["greedy", "oa-em"])
def test_codes_are_assigned_anew_book_by_book(problem, name, rng):
    found = starts.perturbed(problem, first_of(problem, name), name, 0.5, rng)
    vectors = (problem.weight / found.scales[:, None]).unflatten(1, (-1, 4))
    for book, codes in zip(found.codebooks, found.codes.unbind(2), strict=True):
        plain = EMProblem.euclidean(vectors)
        metric = plain if name == "greedy" else replace(plain, metrics=problem.blocks(4))
        for o in range(0, 24, 5):
            for j in range(8):
                costs = [oracles.em_cost(metric, o, j, word) for word in book]
                assert costs[codes[o, j]] == pytest.approx(min(costs), rel=1e-4)
        vectors = vectors - book[codes.long()]


def test_noise_is_a_share_of_each_book_s_size(rng):
    wide = cases.make(rng, 64, 32, Scheme(2, 8, 8)).problem
    first = init.run(wide, Scheme(2, 8, 8), InitConfig("greedy"), rng)
    moved = starts.perturbed(wide, first, "greedy", 0.3, rng).codebooks - first.codebooks
    sizes = first.codebooks.square().mean((1, 2)).sqrt()
    assert sizes[0] > 1.2 * sizes[1]
    shares = moved.square().mean((1, 2)).sqrt() / sizes
    assert shares.tolist() == pytest.approx([0.3, 0.3], rel=0.1)


def test_stopping_keeps_what_there_is_and_the_next_run_goes_on(small, monkeypatch):
    whole, kept = starts.run(small, ignore), {}

    def stop(told, document):
        kept.update(json.loads(json.dumps(document)))
        if len(document["starts"]) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        starts.run(small, stop)
    assert not kept["complete"]
    searched, real = [], layer.improve

    def improve(run, state):
        searched.append(state)
        return real(run, state)

    monkeypatch.setattr(layer, "improve", improve)
    again = starts.run(small, ignore, kept)
    assert len(searched) == 5
    assert again["starts"][:3] == kept["starts"]
    for one, other in zip(again["starts"], whole["starts"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    other = replace(small, noises=(0.0, 0.4))
    searched.clear()
    starts.run(other, ignore, kept)
    assert len(searched) == 8


def test_the_correlation_is_spearman_s(rng):
    first = torch.rand(12, generator=rng)
    last = (0.5 * first + torch.rand(12, generator=rng)).round(decimals=1)  # some ties
    found = correlation(first.tolist(), last.tolist())
    assert found["spearman"] == pytest.approx(spearmanr(first, last).statistic)
    assert -1 <= found["low"] < found["spearman"] < found["high"] <= 1
    assert found == correlation(first.tolist(), last.tolist())
    assert found["why"] is None
    # only ranks count
    assert correlation(first.exp().tolist(), last.tolist()) == found


def test_an_interval_narrows_with_the_number_of_runs(rng):
    def width(count):
        first = torch.rand(count, generator=rng)
        last = first + 0.5 * torch.rand(count, generator=rng)
        found = correlation(first.tolist(), last.tolist())
        return found["high"] - found["low"]

    assert width(200) < 0.5 * width(12)


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "fewer than 4 runs"),
        ([], [], "fewer than 4 runs"),
        ([1.0] * 4, [1.0, 2.0, 3.0, 4.0], "all first or all last errors are the same"),
        ([1.0, 2.0, 3.0, 4.0], [2.0] * 4, "all first or all last errors are the same"),
    ],
)
def test_where_there_is_no_correlation_it_says_why(first, last, why):
    nothing = {"spearman": None, "low": None, "high": None}
    assert correlation(first, last) == {"runs": len(first), **nothing, "why": why}


def test_what_differs_between_initialisers_is_told_from_what_differs_within():
    def run(name, first, last):
        return {
            "init": name,
            "init_relative_error": first,
            "relative_error": last,
            "init_heldout_relative_error": None,
            "heldout_relative_error": None,
        }

    # the second initialiser is better in both; within each, a better start ends worse
    runs = [run("greedy", 10.0 + n, 8.0 - n) for n in range(4)]
    runs += [run("oa-em", 1.0 + n, 4.0 - n) for n in range(4)]
    found = correlations(runs)
    assert found["calibration"]["overall"]["spearman"] > 0
    for name in ("greedy", "oa-em"):
        assert found["calibration"]["within"][name]["spearman"] == -1
    assert found["heldout"] is None


def test_the_key_names_everything_that_matters(small):
    assert small.key() == replace(small).key()
    assert replace(small, noises=(0.0,)).key() != small.key()
    other = replace(small, experiment=replace(small.experiment, seeds=(0,)))
    assert other.key() != small.key()


def test_an_estimate_grows_with_the_number_of_starts(small):
    seconds = starts.estimate(small, 24, 32)
    assert starts.estimate(replace(small, noises=(0.0,)), 24, 32) < seconds


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noises": ()}, "noises must be at least one, and each named once"),
        ({"noises": (0.1, 0.1)}, "noises must be at least one, and each named once"),
        ({"noises": (0.0, -0.5)}, "noise must be finite and at least 0, got -0.5"),
        ({"noises": (float("nan"),)}, "noise must be finite and at least 0, got nan"),
        ({"experiment": Experiment(sweeps=0)}, "sweeps must be at least 1, got 0"),
    ],
)
def test_impossible_studies_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Starts(**values)
