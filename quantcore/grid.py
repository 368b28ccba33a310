"""The grid of a survey: which runs there are, and what they will take.

Every combination of the settings is a run, a `Cell`, except where a scheme does not fit a layer. A
document's runs hold their cell's fields, so `settings` and `ratio` read them by the same names.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from quantcore import estimate, files, machine, problems, results, sources, study, sweep
from quantcore.blocks import LayerInfo, layer_info
from quantcore.errors import InputError, SchemeError, SourceError
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import Regularisation
from quantcore.problems import TextConfig
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

LOAD = "load model"


class Cell(NamedTuple):
    """One run: a layer, and all that is varied."""

    layer: str
    scheme: str
    init: str
    search: str
    beam: int
    calibration_tokens: int | None  # None for a problem file: its Hessian is what it is
    shrinkage: float
    seed: int

    @property
    def stage(self) -> str:
        """What a run is called while it runs."""
        tokens = "" if self.calibration_tokens is None else f" {self.calibration_tokens} tokens,"
        shrunk = f" shrinkage {self.shrinkage:g}," if self.shrinkage else ""
        return (
            f"{self.layer}, {self.scheme}, {self.search} {self.beam},{tokens}{shrunk} "
            f"{self.init}, seed {self.seed}"
        )


SHARED = tuple(name for name in Cell._fields if name not in ("init", "seed"))
"""What runs that are compared have in common."""


@dataclass(frozen=True)
class Survey:
    """Everything that determines a survey's result; every combination of the tuples is run.

    Attributes:
        model: What `sources.resolve` takes; None is the default model.
        problem: A safetensors problem file instead of a model.
        layers: Names of layers, or prefixes in the problem file; none is all of them.
        schemes: Codebooks, bits and group size.
        inits: Initialisers; none leaves it at the facts of the layers.
        searches: How codes are searched, of `search.SEARCHES`.
        beams: Hypotheses the search keeps for each row; None is the search's own default.
        calibration_tokens: Tokens for the Hessian that algorithms see, rounded down to windows; the
            smaller amounts are the beginnings of the largest.
        shrinkages: See `objective.Regularisation`.
        seeds: All randomness of a run.
        sweeps: Most rounds of refit and search.
        damping: See `objective.Regularisation`.
        text: What `corpora.load_text` takes.
        heldout_tokens: Tokens of other text for the Hessian that algorithms do not see.
        window: Tokens in one window.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: str | None = None
    problem: str | None = None
    layers: tuple[str, ...] = ()
    schemes: tuple[Scheme, ...] = (Scheme(),)
    inits: tuple[str, ...] = ("greedy", "oa-em")
    searches: tuple[str, ...] = (SearchConfig.name,)
    beams: tuple[int | None, ...] = (None,)
    calibration_tokens: tuple[int, ...] = (TextConfig.calibration_tokens,)
    shrinkages: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (0,)
    sweeps: int = 4
    damping: float = 0.0
    text: str = TextConfig.text
    heldout_tokens: int = TextConfig.heldout_tokens
    window: int = TextConfig.window
    device: str = "auto"

    def __post_init__(self) -> None:
        self._check_named_once()
        sweep.check_seeds(*self.seeds)
        for tokens in self.calibration_tokens:  # these check their own settings
            TextConfig(self.text, self.window, tokens, self.heldout_tokens)
        for cell in self.cells("", self.schemes[:1]):
            self.config(cell)
        if self.problem is not None and len(self.calibration_tokens) > 1:
            raise InputError(
                "a problem file has its Hessian, so calibration tokens cannot be varied; "
                "give one amount, or a model"
            )
        if len(set(self.tokens)) < len(self.tokens):
            raise InputError(
                f"amounts of calibration tokens must differ by a window of {self.window} tokens"
            )

    def _check_named_once(self) -> None:
        for name, values in vars(self).items():
            if isinstance(values, tuple):
                if not values and name not in ("layers", "inits"):
                    raise InputError(f"a survey needs at least one value of {name}")
                if len(set(values)) < len(values):
                    raise InputError(f"each of a survey's {name} must be named once")

    def key(self) -> str:
        """A name for the result: the same settings and version give the same key."""
        # widths named or left to the searches, they are the same runs
        settings = asdict(self) | {"beams": None, "searches": self.widths}
        facts = ["survey", settings, results.NUMBERS]
        return files.digest(facts)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Amounts of calibration text, rising, in whole windows."""
        return tuple(sorted(n // self.window * self.window for n in self.calibration_tokens))

    @property
    def widths(self) -> tuple[tuple[str, int], ...]:
        """The searches, each with every width, none twice."""
        pairs = product(self.searches, self.beams)
        return tuple(dict.fromkeys((name, SearchConfig(name, beam).kept) for name, beam in pairs))

    def cells(self, layer: str, schemes: Sequence[Scheme]) -> tuple[Cell, ...]:
        """A layer's runs with these schemes; the seeds of one setting stand together."""
        amounts = self.tokens if self.problem is None else (None,)
        return tuple(
            Cell(layer, name_of(scheme), init, *search, tokens, shrinkage, seed)
            for tokens, scheme, shrinkage, search, init, seed in product(
                amounts, schemes, self.shrinkages, self.widths, self.inits, self.seeds
            )
        )

    def config(self, cell: Cell) -> LayerConfig:
        """How a run quantizes its layer."""
        return LayerConfig(
            scheme=Scheme.parse(cell.scheme),
            init=InitConfig(cell.init),
            search=SearchConfig(cell.search, cell.beam),
            sweeps=self.sweeps,
            regularisation=Regularisation(self.damping, cell.shrinkage),
        )


class Plan(NamedTuple):
    """What a survey will do.

    Attributes:
        layers: The layers, first block first; those of a problem file are of block 0.
        cells: The runs of each layer.
        refused: The document's entries of what no run is made of.
        seconds: Expected seconds of each stage; Hessians measured and not yet cached.
    """

    layers: tuple[LayerInfo, ...]
    cells: dict[str, tuple[Cell, ...]]
    refused: list[Document]
    seconds: dict[str, float]

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return sum(map(len, self.cells.values()))


def name_of(scheme: Scheme) -> str:
    """The scheme as a document's runs have it, such as 2x8g8."""
    return str(scheme).replace(" ", "")


def plan(survey: Survey) -> Plan:
    """What there is to do, without reading a model's weights.

    Raises:
        SourceError: there is no such model, layer or file.
        ResourceError: a run does not fit into memory.
    """
    device = machine.resolve_device(survey.device)
    layers = _layers(survey)
    cells, refused = {}, []
    seconds = {} if survey.problem is not None else _model_seconds(survey, layers, device)
    for info in layers:
        fitting = []
        for scheme in survey.schemes:
            try:
                scheme.check(info.out, info.columns)
                fitting.append(scheme)
            except SchemeError as error:
                refused.append({"layer": info.name, "scheme": name_of(scheme), "why": str(error)})
        cells[info.name] = survey.cells(info.name, fitting)
        for cell in cells[info.name]:
            config = survey.config(cell)
            seconds[cell.stage] = study.seconds_of(config, info.out, info.columns, device)
    return Plan(layers, cells, refused, seconds)


def settings(runs: Iterable[Document]) -> dict[tuple[Any, ...], list[Document]]:
    """The runs of a document that differ in initialiser and seed alone, by what they share.

    The keys are the values of `SHARED`.
    """
    found: dict[tuple[Any, ...], list[Document]] = {}
    for entry in runs:
        found.setdefault(tuple(entry[name] for name in SHARED), []).append(entry)
    return found


def ratio(
    runs: Iterable[Document], name: str, above: str, below: str
) -> tuple[float, float | None] | None:
    """One initialiser's figure over another's, seed by seed: the mean and its standard error.

    None where no seed has both; of a single seed there is no standard error.
    """
    figures = {(entry["init"], entry["seed"]): entry[name] for entry in runs if entry["complete"]}
    ratios = [
        value / figures[below, seed]
        for (init, seed), value in figures.items()
        if init == above and value is not None and figures.get((below, seed))
    ]
    if not ratios:
        return None
    if len(ratios) == 1:
        return ratios[0], None
    return statistics.mean(ratios), statistics.stdev(ratios) / math.sqrt(len(ratios))


def _layers(survey: Survey) -> tuple[LayerInfo, ...]:
    """The layers asked for, each once, in the order of the model or file."""
    if survey.problem is not None:
        shapes = problems.shapes(Path(survey.problem))
        unknown = [name for name in survey.layers if name not in shapes]
        if unknown:
            raise SourceError(
                f"{survey.problem} has no problem {unknown[0]!r}; it holds {', '.join(shapes)}"
            )
        every = [LayerInfo(name, 0, name, *shape) for name, shape in shapes.items()]
        names = set(survey.layers or shapes)
    else:
        skeleton = study.skeleton(sources.resolve(survey.model))
        every = list(sources.linear_layers(skeleton).values())
        names = {layer_info(skeleton, name).name for name in survey.layers}
    return tuple(info for info in every if not names or info.name in names)


def _model_seconds(
    survey: Survey, layers: Sequence[LayerInfo], device: torch.device
) -> dict[str, float]:
    """Expected seconds to load the model, and to walk to each block and measure its Hessians."""
    skeleton = study.skeleton(sources.resolve(survey.model))
    config = skeleton.config.get_text_config()
    infos = sources.linear_layers(skeleton).values()
    every = sum(info.out * info.columns for info in infos)
    seconds = {LOAD: estimate.load_seconds(every + config.vocab_size * config.hidden_size)}
    products = 2 * (survey.tokens[-1] + survey.heldout_tokens)
    flop, before = estimate.rates_of(device).forward_flop, -1
    for block in sorted({info.block for info in layers}):
        passed = sum(i.out * i.columns for i in infos if before < i.block <= block)
        # float64 takes twice the time
        moments = sum(2 * info.columns**2 for info in layers if info.block == block)
        seconds[hessians_of(block)] = products * (passed + moments) * flop
        before = block
    return seconds


def hessians_of(block: int) -> str:
    """What the meter calls a block's Hessians."""
    return f"Hessians of block {block}"
