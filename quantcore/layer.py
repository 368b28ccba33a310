r"""One layer end to end: first codes and codebooks, then refit and search in turn.

    init                     first codes, codebooks and scales
    repeat for each sweep    refit   codebooks and scales for the codes (least squares)
                             search  codes for the codebooks (beam)
    refit                    once more, for the last codes

Every step minimizes over the regularised calibration Hessian and none raises that error; the sweeps
stop early once one gains too little. The trace records each phase with the plain errors,
calibration and held-out, and the seconds of work so far (without the time to measure the errors).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from quantcore import beam, codebooks, init
from quantcore.beam import BeamConfig, BeamInfo
from quantcore.codebooks import RefitConfig, RefitInfo
from quantcore.errors import InputError
from quantcore.init import InitConfig, InitInfo
from quantcore.objective import Errors, LayerProblem, Regularisation
from quantcore.weight import AdditiveWeight, Scheme


@dataclass(frozen=True)
class LayerConfig:
    """Everything that determines a layer's quantization but the seed.

    Attributes:
        scheme: Codebooks, bits and group size.
        init: The initialiser.
        beam: The search over codes.
        refit: The least squares for codebooks.
        sweeps: Most rounds of refit and search; 0 leaves the initialisation as it is.
        rtol: Stop once a sweep lowers the error by no more than this share of it.
        regularisation: How the calibration Hessian is moved before anything sees it.
    """

    scheme: Scheme = field(default_factory=Scheme)
    init: InitConfig = field(default_factory=InitConfig)
    beam: BeamConfig = field(default_factory=BeamConfig)
    refit: RefitConfig = field(default_factory=RefitConfig)
    sweeps: int = 4
    rtol: float = 1e-3
    regularisation: Regularisation = field(default_factory=Regularisation)

    def __post_init__(self) -> None:
        if self.sweeps < 0:
            raise InputError(f"sweeps must be at least 0, got {self.sweeps}")


class Phase(NamedTuple):
    """A finished phase: what it ended at and the seconds of work until then."""

    phase: str  # "init", "refit" or "search"
    sweep: int  # 0 for init, 1 for the first sweep
    errors: Errors
    seconds: float


class Tick(NamedTuple):
    """Something happened inside a phase; for progress, and a chance to stop by raising."""

    phase: str
    sweep: int
    info: InitInfo | RefitInfo | BeamInfo


Observe = Callable[[Phase | Tick], None]


class LayerState(NamedTuple):
    """The best weight so far and how it came about."""

    weight: AdditiveWeight
    trace: tuple[Phase, ...]


def start(
    problem: LayerProblem, config: LayerConfig, rng: torch.Generator, observe: Observe
) -> LayerState:
    """Initialise."""
    seen = problem.regularised(config.regularisation)

    def initialise() -> AdditiveWeight:
        return init.run(seen, config.scheme, config.init, rng, _ticks(observe, "init", 0))

    return _phase(problem, (), ("init", 0), initialise, observe)


def step(
    problem: LayerProblem,
    state: LayerState,
    config: LayerConfig,
    rng: torch.Generator,
    observe: Observe,
) -> LayerState:
    """One sweep: refit the codebooks and scales, then search the codes."""
    state = refit(problem, state, config, observe)
    sweep = state.trace[-1].sweep
    seen, before = problem.regularised(config.regularisation), state.weight

    def search() -> AdditiveWeight:
        ticks = _ticks(observe, "search", sweep)
        return beam.run(seen, before, config.beam, rng, ticks)

    return _phase(problem, state.trace, ("search", sweep), search, observe)


def refit(
    problem: LayerProblem, state: LayerState, config: LayerConfig, observe: Observe
) -> LayerState:
    """Codebooks and scales for the present codes."""
    sweep = state.trace[-1].sweep + 1
    seen, before = problem.regularised(config.regularisation), state.weight

    def fit() -> AdditiveWeight:
        return codebooks.run(seen, before, config.refit, _ticks(observe, "refit", sweep))

    return _phase(problem, state.trace, ("refit", sweep), fit, observe)


def quantize(
    problem: LayerProblem,
    config: LayerConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
) -> LayerState:
    """Quantize one layer.

    Args:
        problem: The weight and its Hessians.
        config: Scheme, initialiser, search and their lengths.
        rng: All randomness; the same generator state gives the same codes on the same device.
        observe: Called often inside phases and after each; may raise to stop.

    Returns:
        The weight, and the trace of phases that led to it.

    Raises:
        SchemeError: the scheme does not divide the layer.

    >>> weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    >>> config = LayerConfig(Scheme(codebooks=2, bits=4, group=4), sweeps=1)
    >>> state = quantize(LayerProblem.weight_only(weight), config, torch.Generator().manual_seed(0))
    >>> [phase.phase for phase in state.trace]
    ['init', 'refit', 'search', 'refit']
    """
    seen = problem.regularised(config.regularisation)
    state = start(problem, config, rng, observe)
    error = seen.errors(state.weight.dense()).error
    for _ in range(config.sweeps):
        state = step(problem, state, config, rng, observe)
        before, error = error, seen.errors(state.weight.dense()).error
        if before - error <= config.rtol * before:
            break
    return refit(problem, state, config, observe) if config.sweeps else state


def _phase(
    problem: LayerProblem,
    trace: tuple[Phase, ...],
    name: tuple[str, int],
    work: Callable[[], AdditiveWeight],
    observe: Observe,
) -> LayerState:
    """Do the work of one phase and enter it in the trace."""
    begun = time.perf_counter()
    weight = work()
    seconds = time.perf_counter() - begun + (trace[-1].seconds if trace else 0.0)
    phase = Phase(*name, problem.errors(weight.dense()), seconds)
    observe(phase)
    return LayerState(weight, (*trace, phase))


def _ticks(
    observe: Observe, phase: str, sweep: int
) -> Callable[[InitInfo | RefitInfo | BeamInfo], None]:
    return lambda info: observe(Tick(phase, sweep, info))
