r"""A run of PV-tuning: steps, validation on text of its own, the best state, going on after a stop.

The state that is kept is the one with the lowest KL on the validation windows, which are neither
learned from nor part of any evaluation text; the start is among the candidates.

Everything a run needs to go on lies in one folder: the tensors in a file named after the step, and
`run.json`, which names that file and holds the curve. The document is written last and in one
piece, so a run that is killed at any moment goes on from the save before; where the machine
computes the same bits twice, it ends with the bits of an undisturbed run.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from quantcore import files
from quantcore.errors import InputError, SourceError
from quantcore.pv import descent, divergence, student
from quantcore.pv.descent import Problem, PvConfig, Snapshot, State
from quantcore.pv.optimizers import Moments
from quantcore.pv.teacher import head_of, hidden
from quantcore.weight import AdditiveWeight

DOCUMENT = "run.json"


class Point(NamedTuple):
    """The curve at one step; what was not measured there is None."""

    step: int
    seconds: float  # of work so far
    train_kl: float | None  # before the step, on its windows, in nats a token
    changed: int  # groups whose codes the step changed
    validation_kl: float | None
    perplexity: float | None  # on the validation text


class Until(NamedTuple):
    """When to stop, whichever comes first."""

    steps: int | None = None
    seconds: float | None = None

    def reached(self, step: int, seconds: float) -> bool:
        """Whether this is the end."""
        over = self.seconds is not None and seconds >= self.seconds
        return over or (self.steps is not None and step >= self.steps)


class Run(NamedTuple):
    """How far a run is."""

    state: State
    best: Snapshot  # of the lowest validation KL
    curve: tuple[Point, ...]


def begin(problem: Problem, config: PvConfig, weights: dict[str, AdditiveWeight]) -> Run:
    """A run before its first step, validated; see `descent.start`."""
    begun, state = time.perf_counter(), descent.start(problem, config, weights)
    student.show(problem.student, *state.now)
    kl, perplexity = validate(problem)
    point = Point(0, time.perf_counter() - begun, None, 0, kl, perplexity)
    return Run(state, _copy(state.now), (point,))


def go_on(
    problem: Problem,
    config: PvConfig,
    run: Run,
    until: Until,
    every: int = 10,
    observe: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Steps until the end.

    Args:
        problem: Who learns from whom.
        config: How it learns.
        run: From `begin`, or one that `observe` was given; its state is changed in place.
        until: When to stop.
        every: Steps between two validations; the end has one too.
        observe: Called after every step; may raise to stop.

    Raises:
        InputError: `until` names no end, or `every` is below 1.
        ProblemError: the loss is no longer finite.
    """
    if until.steps is None and until.seconds is None:
        raise InputError("tuning needs a number of steps or a time")
    if every < 1:
        raise InputError(f"steps between validations must be at least 1, got {every}")
    student.show(problem.student, *run.state.now)
    with student.lean(problem.student, problem.windows.shape[1]):
        while not until.reached(run.state.step, run.curve[-1].seconds):
            begun = time.perf_counter() - run.curve[-1].seconds
            state, info = descent.step(problem, run.state, config)
            ended = until.reached(state.step, time.perf_counter() - begun)
            best, kl, perplexity = run.best, None, None
            if ended or state.step % every == 0:
                kl, perplexity = validate(problem)
                best = _copy(state.now) if kl < lowest(run) else best
            seconds = time.perf_counter() - begun
            point = Point(state.step, seconds, info.kl, info.changed, kl, perplexity)
            run = Run(state, best, (*run.curve, point))
            observe(run)
    return run


def lowest(run: Run) -> float:
    """The validation KL of the best state."""
    return min(point.validation_kl for point in run.curve if point.validation_kl is not None)


def validate(problem: Problem) -> tuple[float, float]:
    """KL in nats a token and perplexity of the student on the validation text."""
    model, kl, nll = problem.student.model, 0.0, 0.0
    with torch.inference_mode():
        for ids in problem.validation:
            target, own = problem.teacher.hidden(ids), hidden(model, ids)
            sums = divergence.sums(own, head_of(model), target, problem.teacher.head, ids)
            kl, nll = kl + sums.kl, nll + sums.nll
    count, length = problem.validation.shape
    mean = torch.tensor(nll / (count * (length - 1)), dtype=torch.float64)
    return kl / (count * length), mean.exp().item()


def save(folder: Path, run: Run) -> None:
    """Keep a run so that it can go on; the folder holds this run and nothing else."""
    name = f"step-{run.state.step:06d}.safetensors"
    files.write_tensors(folder / name, _flat(run))
    curve = [point._asdict() for point in run.curve]
    document = {"step": run.state.step, "tensors": name, "curve": curve}
    files.write_json(folder / DOCUMENT, document)
    for old in folder.glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def load(folder: Path, device: torch.device) -> Run | None:
    """The run that was kept in a folder; None where there is none.

    Raises:
        SourceError: it is damaged.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        curve = tuple(Point(**point) for point in document["curve"])
        tensors = files.read_tensors(folder / document["tensors"])
        held = {key: value.to(device) for key, value in tensors.items()}
        return _deep(document["step"], held, curve)
    except (ValueError, LookupError, TypeError):
        raise SourceError(f"{folder} is damaged; remove it to begin the tuning anew") from None


def _flat(run: Run) -> dict[str, Tensor]:
    """All tensors of a run under one name each."""
    found = _flat_snapshot("now", run.state.now) | _flat_snapshot("best", run.best)
    found |= {f"buffer/{name}": value for name, value in run.state.buffers.items()}
    for name, moments in run.state.moments.items():
        found[f"second/{name}"] = moments.second
        if moments.first is not None:
            found[f"first/{name}"] = moments.first
    return found


def _flat_snapshot(kind: str, snapshot: Snapshot) -> dict[str, Tensor]:
    found = {f"{kind}-other/{name}": value for name, value in snapshot.others.items()}
    for name, weight in snapshot.weights.items():
        found |= {f"{kind}-{part}/{name}": value for part, value in vars(weight).items()}
    return found


def _deep(step: int, tensors: dict[str, Tensor], curve: tuple[Point, ...]) -> Run:
    """A run from its flat tensors."""
    kinds: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, name = key.split("/", 1)
        kinds.setdefault(kind, {})[name] = value
    first = kinds.get("first", {})
    moments = {name: Moments(first.get(name), value) for name, value in kinds["second"].items()}
    state = State(step, _deep_snapshot("now", kinds), kinds.get("buffer", {}), moments)
    return Run(state, _deep_snapshot("best", kinds), curve)


def _deep_snapshot(kind: str, kinds: dict[str, dict[str, Tensor]]) -> Snapshot:
    codes, books, scales = (kinds[f"{kind}-{part}"] for part in ("codes", "codebooks", "scales"))
    weights = {name: AdditiveWeight(codes[name], books[name], scales[name]) for name in codes}
    return Snapshot(weights, kinds.get(f"{kind}-other", {}))


def _copy(snapshot: Snapshot) -> Snapshot:
    weights = {
        name: replace(weight, **{part: value.clone() for part, value in vars(weight).items()})
        for name, weight in snapshot.weights.items()
    }
    return Snapshot(weights, {name: value.clone() for name, value in snapshot.others.items()})
