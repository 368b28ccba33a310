r"""What a layer will take, before it runs: seconds and bytes.

Each phase does a known number of elementary pieces of work, so its time is a sum of counts times
this machine's seconds a piece:

    EM round    N K scores (N vectors against K words)
    search      N K scores for each hypothesis that comes to each codebook, N B in / 2 pulls
    refit       out in^2 multiplications a conjugate gradient step, and as many around them
    factor      in^3 / 3 multiplications in float64, once, where there is error feedback

The seconds a piece are measured once a process and device, by running the real code on small random
problems. How many rounds and steps a layer takes until it stalls is not known before; the counts
below are typical ones.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import NamedTuple

import torch

from quantcore import beam, clustering, codebooks, feedback, sweep
from quantcore.beam import BeamConfig
from quantcore.clustering import EMConfig, EMProblem
from quantcore.codebooks import RefitConfig
from quantcore.init import InitInfo
from quantcore.layer import LayerConfig, Tick
from quantcore.objective import LayerProblem, Regularisation
from quantcore.sweep import SweepInfo
from quantcore.weight import AdditiveWeight, Scheme

KMEANS_ROUNDS = 55  # typical counts, SmolLM2-135M at 2x8 g8
EXACT_ROUNDS = {"greedy": 0, "oa-em": 30, "oa-em-adam": 3}
REFIT_STEPS = 5
FORWARD_OVERHEAD = 1.5  # attention, norms and softmax beside a model's matrix products
WORK_BYTES = 1 << 28  # chunks of rows, panels of H, and what the allocator keeps
LOAD_SECONDS = 1e-8  # per parameter, from a warm disk


PHASES = {
    "refit": "least squares",
    "beam": "beam search",
    "descent": "coordinate descent",
    "feedback": "error feedback",
}
"""A phase of the trace -> what it does, for a progress line."""


class Rates(NamedTuple):
    """Seconds for one piece of work on one device."""

    em_score: float
    search_score: float
    pull: float
    refit_product: float
    factor_product: float
    forward_flop: float


class Seconds(NamedTuple):
    """Expected seconds of each kind of phase, over all sweeps."""

    init: float
    refit: float
    search: float

    @property
    def total(self) -> float:
        """The whole layer."""
        return self.init + self.refit + self.search


def layer_seconds(
    config: LayerConfig, out: int, columns: int, device: torch.device | None = None
) -> Seconds:
    """Expected seconds of `layer.quantize` on a layer of this shape, sweeps not cut short."""
    rates, scheme = rates_of(device or torch.device("cpu")), config.scheme
    groups, books = scheme.groups(out, columns), scheme.codebooks
    rounds = KMEANS_ROUNDS + EXACT_ROUNDS[config.init.name]
    init = rounds * books * groups * scheme.size * rates.em_score
    steps = [step for number in range(config.sweeps) for step in config.search.steps(number + 1)]
    search = sum(_search_seconds(config, step, out, columns, rates) for step in steps)
    if "feedback" in steps:
        search += columns**3 / 3 * rates.factor_product
    refit = (len(steps) + 1) * out * columns**2 * rates.refit_product if steps else 0.0
    return Seconds(init, refit, search)


def _search_seconds(config: LayerConfig, step: str, out: int, columns: int, rates: Rates) -> float:
    """Expected seconds of one search over all rows."""
    scheme, search = config.scheme, config.search
    settings = search.feedback() if step == "feedback" else search.descent()
    widths = settings.widths(scheme.codebooks)
    hypotheses = widths[-1] + sum(widths[:-1])  # that come to the first book and to the others
    groups = scheme.groups(out, columns)
    scores = groups * hypotheses * scheme.size * rates.search_score
    return scores + groups * widths[-1] * columns / 2 * rates.pull


def load_seconds(parameters: int) -> float:
    """Expected seconds to read a converted model of so many parameters."""
    return 1.0 + LOAD_SECONDS * parameters


class LayerClock:
    """How far `layer.quantize` is, from what it tells its observer.

    A run that stalls early ends before its share reaches 1.
    """

    def __init__(
        self, config: LayerConfig, out: int, columns: int, device: torch.device | None = None
    ) -> None:
        self._expected = layer_seconds(config, out, columns, device)
        self._sweeps = max(1, config.sweeps)
        self._searches = sum(len(config.search.steps(n + 1)) for n in range(config.sweeps))
        self._rounds, self._done, self._phase = 0, 0, ("init", 0)

    def share(self, tick: Tick) -> float:
        """The share of the expected seconds that lies behind this tick."""
        expected, info = self._expected, tick.info
        if isinstance(info, InitInfo):
            self._rounds += 1
            passed = expected.init * self._rounds / (self._rounds + KMEANS_ROUNDS)  # below 1
            return min(1.0, passed / max(expected.total, 1e-9))
        if (tick.phase, tick.sweep) != self._phase:  # the searches finished before this phase
            self._done += self._phase[0] not in ("init", "refit")
            self._phase = (tick.phase, tick.sweep)
        searched, refits = float(self._done), self._done + 1.0
        if isinstance(info, SweepInfo):
            searched += info.done / info.total
        else:
            refits += min(1.0, info.step / REFIT_STEPS) - 1
        passed = expected.init + expected.refit * refits / (self._searches + 1)
        passed += expected.search * searched / max(1, self._searches)
        return min(1.0, passed / max(expected.total, 1e-9))

    def words(self, tick: Tick) -> str:
        """What is being done, for a progress line."""
        if isinstance(tick.info, InitInfo):
            return f"codebook {tick.info.book + 1}, EM in the metric of the {tick.info.metric}"
        name = PHASES[tick.phase]
        return f"{name}, sweep {min(tick.sweep, self._sweeps)} of at most {self._sweeps}"


def layer_bytes(config: LayerConfig, out: int, columns: int) -> int:
    """Peak bytes of `layer.quantize` beside the model: problem, factor and work space."""
    scheme = config.scheme
    weight, matrix, code = 4 * out * columns, 4 * columns**2, 4 * scheme.groups(out, columns)
    problem = weight + (2 + (config.regularisation != Regularisation())) * matrix
    # the residual, the codes of the books before, the codes and costs of two rounds of EM
    init = weight + (scheme.codebooks + 3) * code
    # the codes before a sweep, before a search, found by it and kept of both
    search = 4 * scheme.codebooks * code
    if "feedback" in config.search.steps(1):
        search += matrix + 4 * 8 * feedback.PANEL * columns  # the factor, float64 while it is made
    words = 4 * scheme.codebooks * scheme.size * scheme.group
    sums = 8 * scheme.codebooks * scheme.size * (scheme.group**2 + 4 * scheme.group)
    tables = sweep.PANEL // scheme.group * words if words < 4 * sweep.TABLES else words
    return problem + max(init, search) + sums + 2 * tables + WORK_BYTES


@lru_cache(maxsize=8)
def rates_of(device: torch.device) -> Rates:
    """Measure this machine once; a fraction of a second once the kernels are compiled."""
    tall = _random(out=128, columns=512, scheme=Scheme(1, 8, 8), device=device)
    scores = _sweep_seconds(*tall, width=8) / (128 * 64 * 8 * 256)
    wide = _random(out=128, columns=1024, scheme=Scheme(1, 1, 8), device=device)
    pulls = _sweep_seconds(*wide, width=8) / (128 * 128 * 8 * 512)
    return Rates(
        em_score=_em_seconds(*tall) / (128 * 64 * 256),
        search_score=scores,
        pull=pulls,
        refit_product=_refit_seconds(*tall) / (128 * 512**2),
        factor_product=_fastest(lambda: feedback.factor(tall[0], 8)) / (512**3 / 3),
        forward_flop=_forward_seconds(device) / (2 * 256 * 512 * 1536),
    )


def _random(
    out: int, columns: int, scheme: Scheme, device: torch.device
) -> tuple[LayerProblem, AdditiveWeight]:
    rng = torch.Generator().manual_seed(0)
    problem = LayerProblem.weight_only(torch.randn(out, columns, generator=rng).to(device))
    shape = (out, columns // scheme.group, scheme.codebooks)
    codes = torch.randint(scheme.size, shape, generator=rng, dtype=torch.int32)
    books = torch.randn(scheme.codebooks, scheme.size, scheme.group, generator=rng)
    return problem, AdditiveWeight(codes.to(device), books.to(device), problem.weight.norm(dim=1))


def _em_seconds(problem: LayerProblem, weight: AdditiveWeight) -> float:
    vectors = problem.weight.unflatten(1, (-1, weight.scheme.group))
    plain = EMProblem.euclidean(vectors)
    state = clustering.state_of(plain, weight.codebooks[0])
    return _fastest(lambda: clustering.step(plain, state, EMConfig()))


def _sweep_seconds(problem: LayerProblem, weight: AdditiveWeight, width: int) -> float:
    rng = torch.Generator()
    return _fastest(lambda: beam.run(problem, weight, BeamConfig(width), rng))


def _refit_seconds(problem: LayerProblem, weight: AdditiveWeight) -> float:
    config = RefitConfig(REFIT_STEPS, rtol=-1.0)
    return _fastest(lambda: codebooks.run(problem, weight, config))


def _forward_seconds(device: torch.device) -> float:
    """A product of a block's size, and what a block does beside its products."""
    inputs, weight = torch.ones(256, 512, device=device), torch.ones(512, 1536, device=device)
    return FORWARD_OVERHEAD * _fastest(lambda: inputs @ weight)


def _fastest(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of several tries.

    Where others have the processors too, the clock counts their time; the processors' own time does
    not, and is the longer one only where nobody else is there.
    """
    seconds = []
    for _ in range(times):
        begun, spent = time.perf_counter(), time.process_time()
        work()
        if torch.cuda.is_available():  # which works while the processors wait
            torch.cuda.synchronize()
            spent = -inf
        seconds.append(min(time.perf_counter() - begun, time.process_time() - spent))
    return min(seconds)
