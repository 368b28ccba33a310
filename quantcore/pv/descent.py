r"""One step of PV-tuning: codebooks, scales and norms follow their gradients, then codes change.

The codes are discrete, so each layer has a straight-through buffer B: a dense matrix that begins
at the quantized weight Q and follows Q's gradients as if it were the weight. One step is

    G = dKL / dQ                                    one forward and backward pass a window
    P   codebooks, scales, norms follow their gradients           `optimizers`, lr
    V   B follows G; the groups in which Q is furthest from B     `optimizers`, code_lr; at most a
        get the codes nearest to B                                share of the groups; `recoding`

so a code changes once the gradients have pushed its group far enough for another one to be nearer.
`decay` pulls B back to Q after every step: 0 is the plain straight-through rule, 1 forgets what did
not change a code.

What differs from the release: what learns is rounded to float16 before it is used, so that what is
measured is what is stored (`student`); tied embeddings stay one parameter, where the release trains
two and keeps one; other matrices that are not quantized do not learn; groups are not drawn at
random and roundings neither; the best state is chosen on text of its own, not on the test text
(`loop`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from quantcore.errors import InputError, ProblemError
from quantcore.pv import divergence, optimizers, recoding, student
from quantcore.pv.optimizers import Moments, OptimizerConfig
from quantcore.pv.recoding import RecodeConfig
from quantcore.pv.student import Student
from quantcore.pv.teacher import Teacher, head_of, hidden
from quantcore.weight import AdditiveWeight


@dataclass(frozen=True)
class PvConfig:
    """How the parts learn.

    Attributes:
        optimizer: "lamb" or "adam".
        lr: Step size of codebooks, scales and all else that is not a code.
        code_lr: Step size of the straight-through buffers.
        recode: How many groups change in a step, and how their codes are searched.
        decay: Share by which a buffer is pulled back to the weight after every step, 0 to 1.
        batch: Windows in one step.
        seed: Draws the windows and the order in which codebooks are visited.
    """

    optimizer: str = OptimizerConfig.name
    lr: float = OptimizerConfig.lr
    code_lr: float = 1e-2
    recode: RecodeConfig = field(default_factory=RecodeConfig)
    decay: float = 0.0
    batch: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise InputError(f"the buffers' decay must be 0 to 1, got {self.decay}")
        if self.batch < 1:
            raise InputError(f"batch must be at least 1, got {self.batch}")
        self.continuous, self.codes  # noqa: B018 - they check their own settings

    @property
    def continuous(self) -> OptimizerConfig:
        """How all but the codes follow their gradients."""
        return OptimizerConfig(self.optimizer, self.lr)

    @property
    def codes(self) -> OptimizerConfig:
        """How the buffers follow theirs."""
        return OptimizerConfig(self.optimizer, self.code_lr, (0.0, 0.95))


@dataclass(frozen=True)
class Problem:
    """Who learns, from whom, on which text.

    Attributes:
        student: The quantized model; what it computes from is what the last state says.
        teacher: The original.
        windows: Text to learn from.
        validation: Other text, on which the best state is chosen.
        blocks: For each layer the metric of its groups; none is the plain squared distance.
    """

    student: Student
    teacher: Teacher
    windows: Int[Tensor, "windows length"]
    validation: Int[Tensor, "others length"]
    blocks: Mapping[str, Tensor] = field(default_factory=dict)


class Snapshot(NamedTuple):
    """What makes a model: all that is written in the end."""

    weights: dict[str, AdditiveWeight]
    others: dict[str, Tensor]


class State(NamedTuple):
    """Everything that a step changes, in place."""

    step: int
    now: Snapshot  # float32, before rounding
    buffers: dict[str, Tensor]  # B by layer; none where codes do not change
    moments: dict[str, Moments]  # by layer for B, else by the parameter's name


class Info(NamedTuple):
    """What one step did."""

    kl: float  # before the step, on its windows
    changed: int  # groups


def start(problem: Problem, config: PvConfig, weights: dict[str, AdditiveWeight]) -> State:
    """The state before the first step.

    Args:
        problem: Its student was made from a model with these weights.
        config: How it will learn.
        weights: By layer; the state takes them over.
    """
    others = {name: value.detach().clone() for name, value in problem.student.others.items()}
    now = Snapshot(weights, others)
    buffers, moments = {}, {}
    if config.recode.change:
        buffers = {name: student.as_stored(w).dense() for name, w in weights.items()}
        moments = {name: Moments.zeros(value, config.codes) for name, value in buffers.items()}
    for name, value in _continuous(now).items():
        moments[name] = Moments.zeros(value, config.continuous)
    return State(0, now, buffers, moments)


def step(problem: Problem, state: State, config: PvConfig) -> tuple[State, Info]:
    """One step on one batch of windows; the tensors of `state` are changed in place.

    All randomness is drawn from the config's seed and the number of the step, so that a run that
    was stopped goes on as if it had not been.

    Args:
        problem: Who learns from whom; its student shows the state.
        state: Where the student is.
        config: How it learns.

    Raises:
        ProblemError: the loss is no longer finite.
    """
    kl = _backward(problem, state.step, config)
    rng = _rng(config.seed, "step", state.step)
    state, changed = state._replace(step=state.step + 1), 0
    with torch.no_grad():
        for name in problem.student.layers:
            changed += _move_layer(problem, state, name, config, rng)
        for name, parameter in problem.student.others.items():
            if parameter.grad is not None:
                _follow(state, name, state.now.others[name], parameter.grad, config)
                parameter.copy_(student.rounded(state.now.others[name]))
                parameter.grad = None
    return state, Info(kl, changed)


def _backward(problem: Problem, number: int, config: PvConfig) -> float:
    """Leave the gradients of the batch's mean KL in the student; the KL."""
    model, total = problem.student.model, 0.0
    for ids in problem.windows[_batch(len(problem.windows), number, config)]:
        target = problem.teacher.hidden(ids)
        own = (hidden(model, ids), head_of(model))
        kl = divergence.kl(*own, target, problem.teacher.head) / config.batch
        if not kl.isfinite():
            raise ProblemError(
                f"the KL is no longer finite in step {number + 1}; use a lower learning rate"
            )
        kl.backward()
        total += kl.item()
    return total


def _batch(count: int, number: int, config: PvConfig) -> list[int]:
    """The windows of a step: every epoch has all in an order of its own."""
    places = [divmod(number * config.batch + n, count) for n in range(config.batch)]
    orders = {
        epoch: torch.randperm(count, generator=_rng(config.seed, "epoch", epoch)).tolist()
        for epoch, _ in places
    }
    return [orders[epoch][place] for epoch, place in places]


def _rng(seed: int, purpose: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(Random(f"{seed} {purpose} {number}").getrandbits(63))


def _move_layer(
    problem: Problem, state: State, name: str, config: PvConfig, rng: torch.Generator
) -> int:
    """Codebooks, scales, buffer and codes of one layer; how many groups have other codes."""
    dense, weight = problem.student.layers[name].weight, state.now.weights[name]
    given = dense.grad
    assert given is not None
    of_books, of_scales = student.gradients(student.as_stored(weight), dense, given)
    _follow(state, f"{name}.codebooks", weight.codebooks, of_books, config)
    _follow(state, f"{name}.scales", weight.scales, of_scales, config)
    stored = student.as_stored(weight)
    dense.copy_(stored.dense())
    dense.grad = None
    if name not in state.buffers:
        return 0
    buffer = state.buffers[name]
    optimizers.step_(buffer, given, state.moments[name], state.step, config.codes)
    books, group = weight.codes.shape[2], weight.codebooks.shape[2]
    order = torch.randperm(books, generator=rng).to(dense.device)
    blocks = problem.blocks.get(name)
    found = recoding.recode(stored, dense, buffer, config.recode, order, blocks)
    weight.codes.view(-1, books)[found.groups] = found.codes
    dense.view(-1, group)[found.groups] = found.dense
    if config.decay:
        buffer.lerp_(dense, config.decay)
    return found.changed


def _follow(state: State, name: str, value: Tensor, gradient: Tensor, config: PvConfig) -> None:
    optimizers.step_(value, gradient, state.moments[name], state.step, config.continuous)


def _continuous(snapshot: Snapshot) -> dict[str, Tensor]:
    """The continuous parameters by name."""
    found = dict(snapshot.others)
    for name, weight in snapshot.weights.items():
        found |= {f"{name}.codebooks": weight.codebooks, f"{name}.scales": weight.scales}
    return found
