r"""What a layer will take, before it runs: seconds and bytes.

Each phase does a known number of elementary pieces of work, so its time is a sum of counts times
this machine's seconds a piece:

    EM round      N K scores (N vectors against K words)
    search sweep  a visit for each group and chunk of rows, and, with a beam of B,
                  N M B K scores and N B in / 2 pulls
    refit step    2 out in^2 multiplications in float64

The seconds a piece are measured once a process and device, by running the real code on small random
problems. How many rounds and steps a layer takes until it stalls is not known before; the counts
below are typical ones.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch

from quantcore import beam, clustering, codebooks
from quantcore.beam import BeamConfig, BeamInfo
from quantcore.clustering import EMConfig, EMProblem
from quantcore.init import InitInfo
from quantcore.layer import LayerConfig, Tick
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, Scheme

KMEANS_ROUNDS = 55  # typical counts, SmolLM2-135M at 2x8 g8
EXACT_ROUNDS = {"greedy": 0, "oa-em": 30, "oa-em-adam": 3}
FIRST_REFIT_STEPS = 15
REFIT_STEPS = 6
FORWARD_OVERHEAD = 1.5  # attention, norms and softmax beside a model's matrix products
LOAD_SECONDS = 1e-8  # per parameter, from a warm disk


class Rates(NamedTuple):
    """Seconds for one piece of work on one device."""

    em_score: float
    visit: float
    search_score: float
    pull: float
    refit_product: float
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
    width = config.beam.width
    chunks = -(-out // beam.rows_at_once(width, columns, scheme.size))
    sweep = (
        chunks * (columns // scheme.group) * books * rates.visit
        + groups * books * width * scheme.size * rates.search_score
        + groups * width * columns / 2 * rates.pull
    )
    steps = FIRST_REFIT_STEPS + config.sweeps * REFIT_STEPS if config.sweeps else 0
    refit = steps * 2 * out * columns**2 * rates.refit_product
    return Seconds(init, refit, config.sweeps * sweep)


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
        self._rounds = 0

    def share(self, tick: Tick) -> float:
        """The share of the expected seconds that lies behind this tick."""
        expected, sweep, info = self._expected, tick.sweep, tick.info
        if isinstance(info, InitInfo):
            self._rounds += 1
            passed = expected.init * self._rounds / (self._rounds + KMEANS_ROUNDS)  # below 1
        else:
            searched, refits = sweep - 1.0, float(sweep)
            if isinstance(info, BeamInfo):
                searched += info.done / info.total
            else:
                refits += min(1.0, info.step / REFIT_STEPS) - 1
            passed = expected.init + expected.refit * refits / (self._sweeps + 1)
            passed += expected.search * searched / self._sweeps
        return min(1.0, passed / max(expected.total, 1e-9))

    def words(self, tick: Tick) -> str:
        """What is being done, for a progress line."""
        if isinstance(tick.info, InitInfo):
            return f"codebook {tick.info.book + 1}, EM in the metric of the {tick.info.metric}"
        name = "beam search" if isinstance(tick.info, BeamInfo) else "least squares"
        return f"{name}, sweep {min(tick.sweep, self._sweeps)} of at most {self._sweeps}"


def layer_bytes(config: LayerConfig, out: int, columns: int) -> int:
    """Peak bytes of `layer.quantize` beside the model: problem, float64 copies and work space."""
    scheme = config.scheme
    problem = 4 * (out * columns + 2 * columns**2)
    copies = 8 * (4 * out * columns + 2 * columns**2)  # weight, decoded, pulls, sums; H twice
    rows = min(out, beam.rows_at_once(config.beam.width, columns, scheme.size))
    search = 4 * rows * config.beam.width * (3 * columns + 2 * scheme.size)
    search += 4 * columns**2  # H in visiting order
    groups = columns // scheme.group
    em = 8 * max(clustering.CHUNK, out * scheme.size) + 8 * scheme.size * (groups + scheme.group**2)
    return problem + copies + max(search, em)


@lru_cache(maxsize=8)
def rates_of(device: torch.device) -> Rates:
    """Measure this machine once; a fraction of a second."""
    tall = _random(out=128, columns=512, scheme=Scheme(1, 8, 8), device=device)
    em = _em_seconds(*tall)
    visit = _sweep_seconds(*_random(8, 128, Scheme(1, 1, 8), device), width=1) / 16
    scores = _sweep_seconds(*tall, width=8)
    wide = _random(out=128, columns=1024, scheme=Scheme(1, 1, 8), device=device)
    pulls = _sweep_seconds(*wide, width=8)
    score = max(0.0, scores - 64 * visit) / (128 * 64 * 8 * 256)
    return Rates(
        em_score=em / (128 * 64 * 256),
        visit=visit,
        search_score=score,
        pull=max(0.0, pulls - 128 * visit) / (128 * 128 * 8 * 512),
        refit_product=_refit_seconds(*tall) / (2 * 128 * 512**2),
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
    equations, state = codebooks.start(problem, weight)
    return _fastest(lambda: codebooks.step(equations, state))


def _forward_seconds(device: torch.device) -> float:
    """A product of a block's size, and what a block does beside its products."""
    inputs, weight = torch.ones(256, 512, device=device), torch.ones(512, 1536, device=device)
    return FORWARD_OVERHEAD * _fastest(lambda: inputs @ weight)


def _fastest(work: Callable[[], object], times: int = 3) -> float:
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
