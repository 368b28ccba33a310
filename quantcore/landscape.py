r"""The landscape of one layer between two solutions: a plane, the line across it, the ways there.

Two runs A and B of `layer.quantize` differ in their initialiser, their seed or both. The codebooks
and scales after every phase are points (`alignment`, which also brings B's words into the order of
A's), and the error over the plane through A's start and both ends is a surface (`surface`), once
with codes found anew at every point and once with each end's own codes.

    plane          the surfaces on a grid around everything that either run passed, and the share of
                   each run's squared steps that the plane shows
    line           the same errors from one end straight to the other, and the barrier: the highest
                   error on it over that of the higher end, less 1
    trajectories   phase by phase: where, how far off the plane, and the error of the whole layer

Points of a trajectory are drawn where the plane is nearest to them; their errors are their own, not
the surface's. Surfaces and lines are measured on a sample of rows, trajectories on all.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from quantcore import alignment, experiment, files, machine, results, study, trails
from quantcore import estimate as estimates
from quantcore.alignment import Space
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem, Regularisation
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.surface import Curve, Plane, Surface, axes_around, barrier, plane_through, surface_of
from quantcore.trails import Trail

KIND = "landscape"
ENDS = ("A", "B")
POINT_SECONDS = 2e-3  # of a point beside its encoding


@dataclass(frozen=True)
class Landscape:
    """Everything that determines a landscape.

    Attributes:
        experiment: The layer and how it is quantized. A is the run of the first initialiser and
            the first seed, B that of the last of both. Its perplexity is not measured.
        rows: Rows of the layer that surfaces are measured on.
        resolution: Points of the grid along each axis.
        points: Points of the line, both ends included.
    """

    experiment: Experiment = field(default_factory=Experiment)
    rows: int = 48
    resolution: int = 25
    points: int = 33

    def __post_init__(self) -> None:
        inits, seeds = self.experiment.inits, self.experiment.seeds
        if max(len(inits), len(seeds)) != 2:
            raise InputError(
                "a landscape lies between two runs: give two initialisers, two seeds or both, got "
                f"{len(inits)} and {len(seeds)}"
            )
        if self.experiment.sweeps < 1:
            raise InputError("a landscape needs runs that move: sweeps must be at least 1, got 0")
        for name, least in (("rows", 1), ("resolution", 2), ("points", 3)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def layer(self) -> Experiment:
        """The experiment without what a landscape does not use."""
        return replace(self.experiment, perplexity_windows=0)

    def key(self) -> str:
        """A name for the result: the same settings and version give the same key."""
        facts = [KIND, self.layer.key(), self.rows, self.resolution, self.points]
        return files.digest(facts)

    def run_of(self, end: str) -> tuple[str, int]:
        """The initialiser and the seed of A or B."""
        place = 0 if end == "A" else -1
        return self.experiment.inits[place], self.experiment.seeds[place]


def run(config: Landscape, observe: Observe, previous: Document | None = None) -> Document:
    """Run A and B, then measure the plane and the line.

    Args:
        config: What to run.
        observe: Called with the progress and the document so far, which goes on changing: copy what
            you keep. May raise to stop.
        previous: An earlier document; its finished runs and rows of the plane are kept if it has
            the same key.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory.
    """
    layer, device = config.layer, machine.resolve_device(config.layer.device)
    document = begin(config)
    meter = Meter(observe, document)
    problem, _ = experiment.problem_of(layer, device, meter)
    out, columns = problem.weight.shape
    document.update(results.shape_facts(layer.scheme, out, columns))
    for stage, seconds in _expected(config, out, columns, device).items():
        meter.plan(stage, seconds)
    fits = previous is not None and previous.get("key") == document["key"]
    kept = dict(previous) if previous is not None and fits else begin(config)
    a, b = (_trail(config, problem, meter, end, kept) for end in ENDS)
    space = Space(problem.weight.norm(dim=1), layer.scheme.groups(1, columns))
    b = _aligned(space, document, a, b)
    plane = _located(space, document, a, b)
    regularisation = Regularisation(layer.damping, layer.shrinkage)
    surface = surface_of(problem, regularisation, plane, (a.end, b.end), config.rows)
    document["rows"] = len(surface.rows)
    codes = {"fixed_a": a.codes, "fixed_b": b.codes}
    _measure_plane(config, surface, codes, meter, kept)
    _measure_line(config, surface, codes, meter)
    document["complete"] = True
    meter.end()
    return document


def begin(config: Landscape) -> Document:
    """The document before the layer is known."""
    return {
        "kind": KIND,
        "key": config.key(),
        "layer": config.experiment.layer,
        "config": asdict(config),
        "complete": False,
        "model": None,
        "text": None,
        "heldout_text": None,
        "trajectories": {},
        "alignment": None,
        "rows": None,
        "plane": None,
        "line": None,
        **results.made_with(),
    }


def estimate(config: Landscape, out: int, columns: int) -> float:
    """Expected seconds of `run` on a layer of this shape, Hessians measured and not yet cached."""
    device = machine.resolve_device(config.layer.device)
    init, seed = config.run_of("A")
    alone = replace(config.layer, inits=(init,), seeds=(seed,))
    expected = _expected(config, out, columns, device)
    del expected[_stage("A")]
    return experiment.estimate(alone, out, columns) + sum(expected.values())


def _expected(config: Landscape, out: int, columns: int, device: torch.device) -> dict[str, float]:
    """Expected seconds of each stage once the problem is there."""
    layer = config.layer
    runs = {
        _stage(end): study.seconds_of(layer.config(config.run_of(end)[0]), out, columns, device)
        for end in ENDS
    }
    # descent visits the same hypotheses as feedback and has no factor to make
    once = LayerConfig(scheme=layer.scheme, search=SearchConfig("descent"), sweeps=1)
    rows = min(config.rows, out)
    point = estimates.layer_seconds(once, rows, columns, device).search + POINT_SECONDS
    return runs | {"plane": config.resolution**2 * point, "line": config.points * point}


def _stage(end: str) -> str:
    return f"run {end}"


def _trail(
    config: Landscape, problem: LayerProblem, meter: Meter, end: str, kept: Document
) -> Trail:
    """One run, or what was kept of it; a plane between others is not kept."""
    path = machine.cache_dir() / "landscapes" / config.key() / f"{end}.safetensors"
    entry = kept["trajectories"].get(end)
    trail = trails.recall(path, problem.weight.device) if entry and entry["complete"] else None
    if trail is not None:
        meter.document["trajectories"][end] = entry
        meter.skip(_stage(end))
        return trail
    kept["plane"] = None
    init, seed = config.run_of(end)
    entry = meter.document["trajectories"][end] = trails.begin(init, seed)
    trail = trails.walk(problem, config.layer.config(init), entry, _stage(end), meter)
    trails.keep(path, trail)
    return trail


def _aligned(space: Space, document: Document, a: Trail, b: Trail) -> Trail:
    """B in the order of A."""
    ends = [trail.points(space)[-1] for trail in (a, b)]
    order = alignment.align(*(space.split(point, a.end)[0] for point in ends))
    turned = b.reordered(order)
    document["alignment"] = {
        "exact": order.exact,
        "why": None if order.exact else alignment.INEXACT,
        "distance_before": float((ends[1] - ends[0]).norm()),
        "distance": float((turned.points(space)[-1] - ends[0]).norm()),
        "equal_codes": 1 - alignment.differing(a.codes, turned.codes),
    }
    return turned


def _located(space: Space, document: Document, a: Trail, b: Trail) -> Plane:
    """The plane, and every phase's place on it."""
    points = {"A": a.points(space), "B": b.points(space)}
    plane = plane_through(points["A"][-1], points["B"][-1], points["A"][0])
    document["plane"] = {"explained": {end: plane.explained(points[end]) for end in ENDS}}
    for end in ENDS:
        places, distances = plane.coordinates(points[end]), plane.distances(points[end])
        phases = document["trajectories"][end]["phases"]
        for phase, place, off in zip(phases, places.tolist(), distances.tolist(), strict=True):
            phase.update(coordinates=place, off_plane=off)
    return plane


def _measure_plane(
    config: Landscape, surface: Surface, codes: dict[str, Tensor], meter: Meter, kept: Document
) -> None:
    """The surfaces on a grid, a list for each value of `b`."""
    plane, ways = meter.document["plane"], meter.document["trajectories"].values()
    places = [phase["coordinates"] for way in ways for phase in way["phases"]]
    a, b = axes_around(surface.plane.origin.new_tensor(places), config.resolution)
    grid = torch.cartesian_prod(b, a).flip(1)
    errors = {name: _rows(surface.fixed(some, grid), len(a)) for name, some in codes.items()}
    before = kept["plane"] or {
        "errors": {"reassigned": surface.reassigned(grid[:0])},
        "seconds": 0.0,
    }
    done = before["errors"]["reassigned"]
    found: Document = {text: None if rows is None else [*rows] for text, rows in done.items()}
    plane |= {"a": a.tolist(), "b": b.tolist(), "errors": {"reassigned": found, **errors}}
    plane["seconds"] = before["seconds"]
    meter.begin("plane")
    for row in range(len(found["calibration"]), len(b)):
        begun, first = time.perf_counter(), row * len(a)
        told = _told(meter, "plane", first, len(grid))
        for text, line in surface.reassigned(grid[first : first + len(a)], told).items():
            if line is not None:
                found[text].append(line)
        plane["seconds"] += time.perf_counter() - begun
        meter.report()


def _rows(curve: Curve, length: int) -> Document:
    """A curve over a whole grid as its rows."""
    return {
        text: None if line is None else [line[n : n + length] for n in range(0, len(line), length)]
        for text, line in curve.items()
    }


def _measure_line(
    config: Landscape, surface: Surface, codes: dict[str, Tensor], meter: Meter
) -> None:
    """The errors from one end to the other, and the barriers."""
    meter.begin("line")
    begun = time.perf_counter()
    length = meter.document["alignment"]["distance"]
    positions = torch.linspace(0, 1, config.points).to(surface.plane.origin)
    places = torch.stack([length * positions, torch.zeros_like(positions)], 1)
    told = _told(meter, "line", 0, config.points)
    errors = {"reassigned": surface.reassigned(places, told)}
    errors |= {name: surface.fixed(some, places) for name, some in codes.items()}
    meter.document["line"] = {
        "positions": positions.tolist(),
        "length": length,
        "errors": errors,
        "barrier": {name: barrier(curve) for name, curve in errors.items()},
        "seconds": time.perf_counter() - begun,
    }


def _told(meter: Meter, stage: str, before: int, total: int) -> Callable[[int], None]:
    """Progress by points of a surface."""
    return lambda done: meter.part(
        (before + done) / total, f"{stage}, point {before + done + 1} of {total}"
    )
