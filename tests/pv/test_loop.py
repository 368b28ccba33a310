import math

import pairs
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from quantcore.errors import Cancelled, SourceError
from quantcore.pv import loop, student
from quantcore.pv.descent import PvConfig
from quantcore.pv.loop import Until
from quantcore.pv.recoding import RecodeConfig

CONFIG = PvConfig(lr=1e-2, code_lr=0.3, recode=RecodeConfig(0.05), batch=4)
CPU = torch.device("cpu")


def go(problem, run, steps, **options):
    return loop.go_on(problem, CONFIG, run, Until(steps), **options)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_validation_kl_falls_and_the_best_state_is_kept(rng, kind):
    problem, weights = pairs.problem(rng, kind)
    run = go(problem, loop.begin(problem, CONFIG, weights), 12, every=2)
    measured = [point for point in run.curve if point.validation_kl is not None]
    assert [point.step for point in measured] == [0, 2, 4, 6, 8, 10, 12]
    assert [point.step for point in run.curve] == list(range(13))
    assert loop.lowest(run) < 0.8 * measured[0].validation_kl
    assert sum(point.changed for point in run.curve)
    student.show(problem.student, *run.best)
    assert loop.validate(problem)[0] == loop.lowest(run)


def test_the_start_is_kept_where_nothing_is_better(rng):
    problem, weights = pairs.problem(rng)
    wild = PvConfig(lr=1.0, code_lr=1.0, recode=RecodeConfig(1.0))
    before = {name: weight.codes.clone() for name, weight in weights.items()}
    run = loop.begin(problem, wild, weights)
    run = loop.go_on(problem, wild, run, Until(2), every=1)
    assert loop.lowest(run) == run.curve[0].validation_kl
    for name, weight in run.best.weights.items():
        assert torch.equal(weight.codes, before[name])
        assert not torch.equal(run.state.now.weights[name].codes, before[name])


def test_validation_is_that_of_all_logits(rng):
    problem, weights = pairs.problem(rng)
    loop.begin(problem, CONFIG, weights)
    ids = problem.validation
    with torch.no_grad():
        mine, theirs = (m(ids).logits for m in (problem.student.model, problem.teacher.model))
    logs = [logits.log_softmax(-1).flatten(0, 1) for logits in (mine, theirs)]
    kl, perplexity = loop.validate(problem)
    expected = kl_div(logs[0], logs[1], log_target=True, reduction="batchmean")
    assert kl == pytest.approx(expected.item(), rel=1e-5)
    nll = cross_entropy(mine[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert perplexity == pytest.approx(math.exp(nll), rel=1e-5)


def test_a_run_that_was_kept_goes_on_to_the_same_bits(rng, tmp_path):
    whole = go(*_started(rng), 6, every=2)
    problem, run = _started(rng)

    def stop(run):
        if run.state.step == 3:
            loop.save(tmp_path, run)
        if run.state.step == 5:  # after the save: what was done since is lost
            raise Cancelled

    with pytest.raises(Cancelled):
        go(problem, run, 6, every=2, observe=stop)
    problem, _ = _started(rng)
    parts = go(problem, loop.load(tmp_path, CPU), 6, every=2)
    assert [p._replace(seconds=0) for p in parts.curve] == [
        p._replace(seconds=0) for p in whole.curve
    ]
    seconds = [point.seconds for point in parts.curve]
    assert seconds == sorted(seconds)
    ours, theirs = loop._flat(parts), loop._flat(whole)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_time_is_counted_over_interruptions(rng, tmp_path):
    problem, run = _started(rng)
    until = Until(seconds=run.curve[-1].seconds + 0.2)
    run = loop.go_on(problem, CONFIG, run, until)
    assert run.curve[-2].seconds < until.seconds <= run.curve[-1].seconds
    assert run.curve[-1].validation_kl is not None
    loop.save(tmp_path, run)
    again = loop.go_on(problem, CONFIG, loop.load(tmp_path, CPU), until)
    assert again.state.step == run.state.step


def test_only_the_last_save_is_held_and_a_damaged_one_is_refused(rng, tmp_path):
    problem, run = _started(rng)
    assert loop.load(tmp_path / "nowhere", CPU) is None
    go(problem, run, 2, observe=lambda run: loop.save(tmp_path, run))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run.json", "step-000002.safetensors",
    ]  # fmt: skip
    (tmp_path / "step-000002.safetensors").write_bytes(b"half")
    with pytest.raises(SourceError, match="is damaged"):
        loop.load(tmp_path, CPU)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(SourceError, match="remove it to begin the tuning anew"):
        loop.load(tmp_path, CPU)


def _started(rng):
    rng.manual_seed(0)
    problem, weights = pairs.problem(rng)
    return problem, loop.begin(problem, CONFIG, weights)
