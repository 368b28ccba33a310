"""What recordings say about two initialisers: gaps on layers, perplexities of models.

A gap is greedy's figure over OA-EM's under the same seed, then the mean over seeds with its
standard error: above 1 OA-EM is ahead. Surveys (many layers, schemes and searches in one document)
and experiments (one of each) are read alike. A gap counts as shown beyond two standard errors; of a
single seed nothing is known about its error, and nothing is shown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from quantcore import entries
from quantcore.correlation import correlation
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

START, END = "init_heldout_relative_error", "heldout_relative_error"
BEAM = "beam"  # the paper's search
SHOWN = 2.0  # standard errors
Side = Literal["above", "level", "below"]


class Ratio(NamedTuple):
    """A ratio's mean over seeds and its standard error; None for one seed."""

    mean: float
    error: float | None

    @property
    def side(self) -> Side:
        """Of 1: above or below it by more than two standard errors, or level."""
        if self.error is None or abs(self.mean - 1) <= SHOWN * self.error:
            return "level"
        return "above" if self.mean > 1 else "below"

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + ("" if self.error is None else f" ± {self.error:.2g}")


class Case(NamedTuple):
    """Everything that a run has beside its initialiser and seed."""

    layer: str
    scheme: Scheme
    rho: float
    search: str
    beam: int
    tokens: int | None
    shrinkage: float


@dataclass(frozen=True)
class Gap:
    """Greedy over OA-EM in one case, on held-out text.

    Attributes:
        case: What was run.
        seeds: How many seeds both finished.
        start: Error after initialisation.
        end: Error at the end.
        time: Seconds of the whole run.
    """

    case: Case
    seeds: int
    start: Ratio
    end: Ratio
    time: Ratio


@dataclass(frozen=True)
class ModelPoint:
    """One evaluated model of a recording.

    Attributes:
        recording: The recording's name.
        scheme: Its scheme, or "mixed".
        search: How its codes were searched.
        init: Its initialiser.
        tuned: Whether PV-tuning followed.
        value: Perplexity.
        error: Its standard error over windows.
        difference: Nats a token over the original.
        difference_error: Its paired standard error.
        seconds: To quantize it, tuning included.
        shared: Whether other work shared the machine, so that its seconds are an upper bound.
        entry: The document's own, to be compared with others of the same document.
    """

    recording: str
    scheme: str
    search: str
    init: str
    tuned: bool
    value: float
    error: float | None
    difference: float
    difference_error: float | None
    seconds: float | None
    shared: bool
    entry: Document = field(repr=False, compare=False)


def cases(document: Document | None) -> dict[Case, list[Document]]:
    """The finished runs of a survey or an experiment, by case."""
    found: dict[Case, list[Document]] = {}
    for run in (document or {}).get("runs", []):
        if run["complete"] and run["heldout_relative_error"] is not None:
            found.setdefault(_case(document or {}, run), []).append(run)
    return found


def gaps(document: Document | None, one: str = "greedy", other: str = "oa-em") -> list[Gap]:
    """The gap of every case in which both initialisers finished a seed."""
    made = []
    for case, runs in cases(document).items():
        pairs = list(_pairs(runs, one, other))
        if pairs:
            made.append(
                Gap(
                    case,
                    len(pairs),
                    start=ratio((a[START], b[START]) for a, b in pairs),
                    end=ratio((a[END], b[END]) for a, b in pairs),
                    time=ratio((a["seconds"]["total"], b["seconds"]["total"]) for a, b in pairs),
                )
            )
    return made


def ratio(pairs: Iterable[tuple[float, float]]) -> Ratio:
    """Mean and standard error of first over second."""
    values = [one / other for one, other in pairs]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Ratio(mean, None)
    spread = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Ratio(mean, math.sqrt(spread / len(values)))


def with_rho(found: Sequence[Gap]) -> Document:
    """How rho orders the gaps at the end: a rank correlation with its interval (`correlation`)."""
    return correlation([gap.case.rho for gap in found], [gap.end.mean for gap in found])


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, as it is printed."""
    return f"{value:+.{digits}f}".replace("-", "−")


def by_search(found: Iterable[Gap]) -> dict[str, list[Gap]]:
    """The gaps of each search, in the order they come."""
    sorted_out: dict[str, list[Gap]] = {}
    for gap in found:
        sorted_out.setdefault(gap.case.search, []).append(gap)
    return sorted_out


def beams(
    document: Document | None, one: tuple[str, int], other: tuple[str, int], *, time: bool = False
) -> Ratio | None:
    """One initialiser at one width of beam search over another at another, seed by seed.

    Args:
        document: A survey.
        one: Initialiser and beam above the line.
        other: Those below it.
        time: Compare seconds, not held-out errors.

    Returns:
        The ratio, or None where no seed has both.
    """
    found = {}
    for case, runs in cases(document).items():
        if case.search == BEAM:
            for run in runs:
                place = (case._replace(beam=0), run["seed"], run["init"], case.beam)
                found[place] = run["seconds"]["total"] if time else run[END]
    pairs = [
        (found[place], found[*place[:2], *other])
        for place in found
        if place[2:] == one and (*place[:2], *other) in found
    ]
    return ratio(pairs) if pairs else None


def models(documents: Mapping[str, Document]) -> list[ModelPoint]:
    """The evaluated models of all evaluation documents whose initialiser is known."""
    return [
        _point(name, candidate, document.get("shared", False))
        for name, document in documents.items()
        if document.get("kind") == "evaluation"
        for candidate in document["candidates"]
        if candidate.get("quantization")
    ]


def model_pairs(
    points: Sequence[ModelPoint], *, tuned: bool
) -> list[tuple[ModelPoint, ModelPoint]]:
    """Greedy's model beside OA-EM's of the same recording and search, both tuned or neither.

    OA-EM is ours with the exact M-step; where only the paper's was run, it is that.
    """
    found: dict[tuple[str, ...], dict[str, ModelPoint]] = {}
    for point in points:
        if point.tuned == tuned:
            alike = (point.recording, point.scheme, point.search)
            found.setdefault(alike, {})[point.init] = point
    pairs = [
        (pair.get("greedy"), pair.get("oa-em") or pair.get("oa-em-adam")) for pair in found.values()
    ]
    return [(greedy, oa_em) for greedy, oa_em in pairs if greedy and oa_em]


def paired(greedy: ModelPoint, oa_em: ModelPoint) -> tuple[float, float] | None:
    """Greedy's loss over OA-EM's, nats a token, and its standard error over windows."""
    found = entries.difference(greedy.entry, oa_em.entry)
    return None if found is None or found[1] is None else (found[0], found[1])


def _case(document: Document, run: Document) -> Case:
    """A survey's runs name their own case; those of an experiment have the document's."""
    facts = document["config"] | document | run
    scheme, search = facts["scheme"], facts.get("search", BEAM)  # from before there was a choice
    return Case(
        layer=facts["layer"],
        scheme=Scheme(**scheme) if isinstance(scheme, dict) else Scheme.parse(scheme),
        rho=facts["rho"],
        search=search,
        beam=SearchConfig(search, facts["beam"]).kept,
        tokens=facts["calibration_tokens"],
        shrinkage=facts["shrinkage"],
    )


def _pairs(runs: list[Document], one: str, other: str) -> Iterable[tuple[Document, Document]]:
    """The two initialisers' runs of each seed that both finished."""
    by_seed = {(run["init"], run["seed"]): run for run in runs}
    for init, seed in by_seed:
        if init == one and (other, seed) in by_seed:
            yield by_seed[one, seed], by_seed[other, seed]


def _point(recording: str, candidate: Document, shared: bool) -> ModelPoint:
    made, measured = candidate["quantization"], candidate["perplexity"]
    schemes = made["schemes"]
    return ModelPoint(
        recording=recording,
        scheme=str(Scheme(**schemes[0])) if len(schemes) == 1 else "mixed",
        search=made["config"].get("search", SearchConfig.name),
        init=made["config"]["init"],
        tuned=made["tuning"] is not None,
        value=measured["value"],
        error=measured["standard_error"],
        difference=measured["difference"],
        difference_error=measured["difference_error"],
        seconds=made["seconds"],
        shared=shared,
        entry=candidate,
    )
