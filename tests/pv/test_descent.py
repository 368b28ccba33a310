import copy
import math

import pairs
import pytest
import torch
from torch.nn.functional import kl_div

from quantcore.errors import InputError, ProblemError
from quantcore.pv import descent, student
from quantcore.pv.descent import PvConfig
from quantcore.pv.recoding import RecodeConfig

LIVELY = PvConfig(lr=1e-2, code_lr=0.3, recode=RecodeConfig(0.05), batch=2)


def begin(problem, weights, config):
    state = descent.start(problem, config, weights)
    student.show(problem.student, *state.now)
    return state


def tensors(state):
    """Every tensor of a state by name."""
    found = {f"B {name}": value for name, value in state.buffers.items()}
    for name, weight in state.now.weights.items():
        found |= {f"{name} {part}": value for part, value in vars(weight).items()}
    return found | dict(state.now.others)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_the_student_computes_from_is_always_the_state(rng, kind):
    problem, weights = pairs.problem(rng, kind)
    state = begin(problem, weights, LIVELY)
    for _ in range(3):
        state, _ = descent.step(problem, state, LIVELY)
        for name, layer in problem.student.layers.items():
            stored = student.as_stored(state.now.weights[name])
            assert torch.equal(layer.weight, stored.dense()), name
            assert layer.weight.grad is None
        for name, value in problem.student.others.items():
            assert torch.equal(value, state.now.others[name].half().float())


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_no_more_groups_change_than_may_and_the_count_is_theirs(rng, share):
    problem, weights = pairs.problem(rng)
    config = PvConfig(code_lr=0.5, recode=RecodeConfig(share))
    state, total = begin(problem, weights, config), 0
    for _ in range(4):
        before = {name: weight.codes.clone() for name, weight in state.now.weights.items()}
        state, info = descent.step(problem, state, config)
        changed = {
            name: int((weight.codes != before[name]).any(2).sum())
            for name, weight in state.now.weights.items()
        }
        for name, count in changed.items():
            assert count <= math.ceil(share * before[name][..., 0].numel())
        assert info.changed == sum(changed.values())
        total += info.changed
    assert total


def test_one_step_is_the_gradient_of_the_whole_loss_and_the_rules_applied_to_it(rng):
    """With every group recoded: buffers by hand from the gradients of all logits at once."""
    problem, weights = pairs.problem(rng)
    config = PvConfig("adam", lr=1e-3, code_lr=1e-2, recode=RecodeConfig(1.0), batch=8)
    state = begin(problem, weights, config)
    before = {name: value.clone() for name, value in state.buffers.items()}
    model, windows = copy.deepcopy(problem.student.model), problem.windows  # 8: all in one batch
    with torch.no_grad():
        target = problem.teacher.model(windows).logits.log_softmax(-1).flatten(0, 1)
    mine = model(windows).logits.log_softmax(-1).flatten(0, 1)
    loss = kl_div(mine, target, log_target=True, reduction="batchmean")
    loss.backward()
    state, info = descent.step(problem, state, config)
    assert info.kl == pytest.approx(loss.item(), rel=1e-4)
    for name, start in before.items():
        gradient = model.get_submodule(name).weight.grad
        clear = gradient.abs() > 1e-4 * gradient.abs().max()  # elsewhere eps and rounding decide
        mean = 0.05 * gradient.square()
        by = -config.code_lr * math.sqrt(0.05) * gradient / (mean.sqrt() + 1e-6)
        moved = state.buffers[name] - start
        torch.testing.assert_close(moved[clear], by[clear], rtol=1e-2, atol=1e-6)


def test_a_decay_of_one_forgets_and_of_none_remembers(rng):
    for decay in (0.0, 0.25, 1.0):
        rng.manual_seed(0)
        problem, weights = pairs.problem(rng)
        config = PvConfig(code_lr=0.1, decay=decay)
        state, _ = descent.step(problem, begin(problem, weights, config), config)
        away = [
            (state.buffers[name] - layer.weight).norm().item()
            for name, layer in problem.student.layers.items()
        ]
        if decay == 0:
            free = away
        assert away == pytest.approx([(1 - decay) * distance for distance in free], abs=1e-5)


def test_codes_stay_where_none_may_change_and_no_buffer_is_held(rng):
    problem, weights = pairs.problem(rng)
    config = PvConfig(recode=RecodeConfig(0.0))
    before = {name: weight.codes.clone() for name, weight in weights.items()}
    books = {name: weight.codebooks.clone() for name, weight in weights.items()}
    state, info = descent.step(problem, begin(problem, weights, config), config)
    assert not state.buffers
    assert not info.changed
    for name, weight in state.now.weights.items():
        assert torch.equal(weight.codes, before[name])
        assert not torch.equal(weight.codebooks, books[name])


def test_tied_embeddings_learn_as_one_and_stay_tied(rng):
    problem, weights = pairs.problem(rng, "llama", embeddings=True)
    state, model = begin(problem, weights, LIVELY), problem.student.model
    before = model.lm_head.weight.detach().clone()
    state, _ = descent.step(problem, state, LIVELY)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not torch.equal(model.lm_head.weight, before)
    student.give_back(problem.student, *state.now)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_same_seed_gives_the_same_bits_and_another_other_bits(rng):
    found = []
    for seed in (0, 0, 1):
        rng.manual_seed(0)
        problem, weights = pairs.problem(rng)
        config = PvConfig(seed=seed, code_lr=0.3)
        state = begin(problem, weights, config)
        for _ in range(2):
            state, _ = descent.step(problem, state, config)
        found.append(tensors(state))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_every_epoch_has_every_window_once():
    config = PvConfig(batch=3)
    seen = [n for step in range(14) for n in descent._batch(7, step, config)]
    epochs = [seen[first : first + 7] for first in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_metric_changes_which_codes_are_nearest(rng):
    found = []
    for metric in ("plain", "hessian"):
        rng.manual_seed(0)
        problem, weights = pairs.problem(rng)
        if metric == "hessian":
            groups = dict.fromkeys(weights, pairs.SCHEME.group)
            blocks = problem.teacher.metrics(groups, problem.windows)
            problem = descent.Problem(
                problem.student, problem.teacher, problem.windows, problem.validation, blocks
            )
        config = PvConfig(code_lr=0.3)
        state, _ = descent.step(problem, begin(problem, weights, config), config)
        found.append(torch.cat([w.codes.flatten() for w in state.now.weights.values()]))
    assert not torch.equal(*found)


def test_a_loss_that_is_not_finite_ends_the_run(rng):
    problem, weights = pairs.problem(rng)
    state = begin(problem, weights, LIVELY)
    with torch.no_grad():
        problem.student.others["model.norm.weight"].fill_(math.nan)
    with pytest.raises(ProblemError, match="no longer finite in step 1; use a lower learning"):
        descent.step(problem, state, LIVELY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 2.0}, "decay must be 0 to 1, got 2"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"optimizer": "sgd"}, "there is no optimizer 'sgd'"),
        ({"code_lr": -1.0}, "learning rate must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PvConfig(**settings)
