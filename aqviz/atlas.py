"""What is known of every layer: rho from its shape, its facts and its errors from a survey.

Errors are relative, on held-out text, means over seeds; a ratio is greedy's over OA-EM's under the
same seed, so above 1 OA-EM is ahead. What was not measured is None.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import median
from typing import Literal, NamedTuple

from aqviz.evidence import END, START, cases, gaps
from quantcore.blocks import LayerInfo
from quantcore.correlation import correlation
from quantcore.errors import SchemeError
from quantcore.results import Document, mean_and_spread
from quantcore.weight import Scheme


class Measure(NamedTuple):
    """One number of a layer: in words, how it is scaled, and whether it takes a survey's runs."""

    label: str
    scale: Literal["linear", "log", "percent", "ratio"]
    runs: bool = False


MEASURES = {
    "end_ratio": Measure("greedy's final error over OA-EM's", "ratio", runs=True),
    "start_ratio": Measure("greedy's first error over OA-EM's", "ratio", runs=True),
    "greedy_end": Measure("final error from greedy", "percent", runs=True),
    "oa-em_end": Measure("final error from OA-EM", "percent", runs=True),
    "greedy_start": Measure("first error of greedy", "percent", runs=True),
    "oa-em_start": Measure("first error of OA-EM", "percent", runs=True),
    "rho": Measure("ρ = N / K^M", "log"),
    "kurtosis": Measure("kurtosis of the weights", "log"),
    "row_norm_cv": Measure("spread of the rows' norms over their mean", "log"),
    "outlier_share": Measure("share of tr H in 1 % of the inputs", "log"),
    "block_share": Measure("share of H inside its diagonal blocks", "linear"),
    "block_condition": Measure("condition of those blocks, median", "log"),
}
CAUSES = ("kurtosis", "row_norm_cv", "outlier_share", "block_share", "block_condition", "rho")


class Place(NamedTuple):
    """A layer and its number for every one of `MEASURES`."""

    info: LayerInfo
    values: dict[str, float | None]


def places(
    layers: Iterable[LayerInfo],
    scheme: Scheme,
    facts: Document,
    document: Document | None = None,
) -> list[Place]:
    """All that is known of the layers.

    Args:
        layers: In the model's order.
        scheme: What rho, and the blocks of H, are of.
        facts: The "layers" of a survey of the same model.
        document: A survey with runs at this scheme.
    """
    errors = _errors(document, scheme)
    return [
        Place(
            info,
            {"rho": _rho(info, scheme)}
            | _facts(facts.get(info.name, {}), str(scheme.group))
            | {name: None for name, measure in MEASURES.items() if measure.runs}
            | errors.get(info.name, {}),
        )
        for info in layers
    ]


def surveyed(facts: Document) -> list[LayerInfo]:
    """The layers that a survey's "layers" tell of."""
    return [
        LayerInfo(name, one["block"], one["projection"], *one["shape"])
        for name, one in facts.items()
    ]


def known(found: Sequence[Place], measure: str) -> list[tuple[LayerInfo, float]]:
    """The layers with a value of this measure, in order."""
    pairs = [(place.info, place.values[measure]) for place in found]
    return [(info, value) for info, value in pairs if value is not None]


def written(measure: str, value: float | None) -> str:
    """A value as people read it."""
    if value is None:
        return "not measured"
    scale = MEASURES[measure].scale
    if scale == "percent":
        return f"{100 * value:#.3g} %"
    return f"{value:.3f}" if scale == "ratio" else f"{value:,.3g}".replace("-", "−")


class Summary(NamedTuple):
    """What the layers say together, and what that goes with; the second may be empty."""

    told: str
    causes: str


def summary(found: Sequence[Place]) -> Summary:
    """How far greedy ends from OA-EM over the layers, and what that goes with."""
    ends = [value for _, value in known(found, "end_ratio")]
    if not ends:
        return Summary(
            "No errors are measured for these layers at this scheme: ρ follows from their shapes, "
            "the rest takes a run.",
            "",
        )
    ahead = sum(value > 1 for value in ends)
    told = (
        f"Over {len(ends)} layers greedy ends at {min(ends):.3f} to {max(ends):.3f} times OA-EM's "
        f"held-out error, at the median {median(ends):.3f}; OA-EM is ahead in {ahead}."
    )
    named = {MEASURES[name].label: goes_with(found, name) for name in CAUSES}
    listed = [
        f"{label} {one['spearman']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"
        for label, one in named.items()
        if one["spearman"] is not None
    ]
    if not listed:
        return Summary(told, "")
    causes = f"Rank correlation of that ratio, with its 95 % interval: {'; '.join(listed)}."
    return Summary(told, causes.replace("-", "−"))


def goes_with(found: Sequence[Place], measure: str) -> Document:
    """The rank correlation of a measure with the ratio at the end, over the layers with both."""
    pairs = [(place.values[measure], place.values["end_ratio"]) for place in found]
    return _correlation(tuple((a, b) for a, b in pairs if a is not None and b is not None))


@lru_cache(maxsize=32)  # its bootstrap takes a moment, and most redraws change only the colour
def _correlation(pairs: tuple[tuple[float, float], ...]) -> Document:
    return correlation([one for one, _ in pairs], [other for _, other in pairs])


def _rho(info: LayerInfo, scheme: Scheme) -> float | None:
    """None where the scheme does not fit the layer."""
    try:
        scheme.check(info.out, info.columns)
    except SchemeError:
        return None
    return scheme.rho(info.out, info.columns)


def _facts(facts: Document, group: str) -> dict[str, float | None]:
    named = {name: facts.get(name) for name in ("kurtosis", "row_norm_cv", "outlier_share")}
    blocks = ("block_share", "block_condition")
    return named | {name: facts.get(name, {}).get(group) for name in blocks}


def _errors(document: Document | None, scheme: Scheme) -> dict[str, dict[str, float | None]]:
    """By layer, of the runs at this scheme."""
    made: dict[str, dict[str, float | None]] = {}
    for case, runs in cases(document).items():
        if case.scheme == scheme:
            for init in {run["init"] for run in runs} & {"greedy", "oa-em"}:
                mine = [run for run in runs if run["init"] == init]
                for when, name in (("start", START), ("end", END)):
                    found = mean_and_spread(mine, name)
                    if found is not None:
                        made.setdefault(case.layer, {})[f"{init}_{when}"] = found[0]
    for gap in gaps(document):
        if gap.case.scheme == scheme:
            made[gap.case.layer] |= {"start_ratio": gap.start.mean, "end_ratio": gap.end.mean}
    return made
