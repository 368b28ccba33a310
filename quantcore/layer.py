r"""One layer end to end: first codes and codebooks, then refit and search in turn.

    init                     first codes, codebooks and scales
    repeat for each sweep
      for each search of it  refit   codebooks and scales for the codes (least squares)
                             search  codes for the codebooks
    refit                    once more, for the last codes

Everything minimizes over the regularised calibration Hessian. Only error feedback, which encodes
anew, can come out worse than it went in; a sweep that ends worse than it began is undone, so the
state that is kept never gets worse. The sweeps stop early once one gains too little. The trace
records each phase with the plain errors, calibration and held-out, and the seconds of work so far
(without the time to measure the errors).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from quantcore import codebooks, init
from quantcore.codebooks import RefitConfig, RefitInfo
from quantcore.errors import InputError, quoted
from quantcore.init import InitConfig, InitInfo
from quantcore.objective import Errors, LayerProblem, Regularisation
from quantcore.search import SearchConfig, Searcher
from quantcore.sweep import SweepInfo
from quantcore.weight import AdditiveWeight, Scheme

MOST_SWEEPS = 1000


@dataclass(frozen=True)
class LayerConfig:
    """Everything that determines a layer's quantization but the seed.

    Attributes:
        scheme: Codebooks, bits and group size.
        init: The initialiser.
        search: The search over codes.
        refit: The least squares for codebooks.
        sweeps: Most rounds of refit and search; 0 leaves the initialisation as it is.
        rtol: Stop once a sweep lowers the error by no more than this share of it.
        regularisation: How the calibration Hessian is moved before anything sees it.
    """

    scheme: Scheme = field(default_factory=Scheme)
    init: InitConfig = field(default_factory=InitConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    refit: RefitConfig = field(default_factory=RefitConfig)
    sweeps: int = 4
    rtol: float = 1e-3
    regularisation: Regularisation = field(default_factory=Regularisation)

    def __post_init__(self) -> None:
        if self.sweeps < 0:
            raise InputError(f"sweeps must be at least 0, got {self.sweeps}")
        if self.sweeps > MOST_SWEEPS:  # whose seconds are added up before anything runs
            raise InputError(f"sweeps must be at most {MOST_SWEEPS}, got {quoted(self.sweeps)}")


class Phase(NamedTuple):
    """A finished phase: what it ended at and the seconds of work until then."""

    phase: str  # "init", "refit", or the search: "beam", "descent" or "feedback"
    sweep: int  # 0 for init, 1 for the first sweep
    errors: Errors
    seconds: float


class Tick(NamedTuple):
    """Something happened inside a phase; for progress, and a chance to stop by raising."""

    phase: str
    sweep: int
    info: InitInfo | RefitInfo | SweepInfo


Observe = Callable[[Phase | Tick], None]
Reached = Callable[[AdditiveWeight], None]


class LayerState(NamedTuple):
    """The best weight so far and how it came about."""

    weight: AdditiveWeight
    error: float  # on the Hessian that the algorithms see
    trace: tuple[Phase, ...]


@dataclass(frozen=True)
class Run:
    """What stays the same over the phases of one layer."""

    problem: LayerProblem
    seen: LayerProblem  # with the regularised Hessian
    config: LayerConfig
    searcher: Searcher
    rng: torch.Generator
    observe: Observe
    reached: Reached

    @classmethod
    def of(
        cls,
        problem: LayerProblem,
        config: LayerConfig,
        rng: torch.Generator,
        observe: Observe,
        reached: Reached = lambda weight: None,
    ) -> "Run":
        """Regularise, once."""
        seen = problem.regularised(config.regularisation)
        searcher = Searcher(seen, config.search, config.scheme.group)
        return cls(problem, seen, config, searcher, rng, observe, reached)


def start(run: Run, given: AdditiveWeight | None = None) -> LayerState:
    """Initialise, or begin from what is given."""
    config = run.config

    def work(seen: Callable[[InitInfo], None]) -> AdditiveWeight:
        if given is not None:
            return given
        return init.run(run.seen, config.scheme, config.init, run.rng, seen)

    return _phase(run, (), ("init", 0), work)


def step(run: Run, state: LayerState) -> LayerState:
    """One sweep, undone if it ends worse than it began."""
    before, sweep = state, state.trace[-1].sweep + 1
    for name in run.config.search.steps(sweep):
        state = refit(run, state, sweep)
        weight = state.weight

        def work(
            seen: Callable[[SweepInfo], None],
            name: str = name,
            weight: AdditiveWeight = weight,
        ) -> AdditiveWeight:
            return run.searcher.run(name, weight, run.rng, seen)

        state = _phase(run, state.trace, (name, sweep), work)
    return state if state.error <= before.error else before._replace(trace=state.trace)


def refit(run: Run, state: LayerState, sweep: int) -> LayerState:
    """Codebooks and scales for the present codes."""

    def work(seen: Callable[[RefitInfo], None]) -> AdditiveWeight:
        return codebooks.run(run.seen, state.weight, run.config.refit, seen)

    return _phase(run, state.trace, ("refit", sweep), work)


def improve(run: Run, state: LayerState) -> LayerState:
    """All sweeps from a start, and the last refit."""
    for _ in range(run.config.sweeps):
        before = state.error
        state = step(run, state)
        if before - state.error <= run.config.rtol * before:
            break
    return refit(run, state, state.trace[-1].sweep + 1) if run.config.sweeps else state


def quantize(
    problem: LayerProblem,
    config: LayerConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
    reached: Reached = lambda weight: None,
) -> LayerState:
    """Quantize one layer.

    Args:
        problem: The weight and its Hessians.
        config: Scheme, initialiser, search and their lengths.
        rng: All randomness; the same generator state gives the same codes on the same device.
        observe: Called often inside phases and after each; may raise to stop.
        reached: Called with the weight that a phase ended at, before `observe` hears of the phase.

    Returns:
        The weight, and the trace of phases that led to it.

    Raises:
        SchemeError: the scheme does not divide the layer.

    >>> weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    >>> config = LayerConfig(Scheme(codebooks=2, bits=4, group=4), sweeps=1)
    >>> state = quantize(LayerProblem.weight_only(weight), config, torch.Generator().manual_seed(0))
    >>> [phase.phase for phase in state.trace]
    ['init', 'refit', 'feedback', 'refit', 'descent', 'refit']
    """
    run = Run.of(problem, config, rng, observe, reached)
    return improve(run, start(run))


def _phase(
    run: Run,
    trace: tuple[Phase, ...],
    name: tuple[str, int],
    work: Callable[[Callable[..., None]], AdditiveWeight],
) -> LayerState:
    """Do the work of one phase and enter it in the trace."""
    begun = time.perf_counter()
    weight = work(lambda info: run.observe(Tick(*name, info)))
    seconds = time.perf_counter() - begun + (trace[-1].seconds if trace else 0.0)
    errors = run.problem.errors(weight)
    error = errors.error if run.seen is run.problem else run.seen.error(weight)
    phase = Phase(*name, errors, seconds)
    run.reached(weight)
    run.observe(phase)
    return LayerState(weight, error, (*trace, phase))
