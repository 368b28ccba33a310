"""Verdicts on the paper's claims, computed from the recordings of this program.

Each is a plain function of the recorded documents: a status, a sentence with the numbers it rests
on, and the recordings they come from. So a verdict changes with its recordings, and without them it
says so. A gap counts as shown beyond two standard errors (`evidence`). What is recorded here is one
small model and our own text, so "seen" is about that, not about the paper's models.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from aqviz import theme
from aqviz.evidence import (
    SHOWN,
    Gap,
    ModelPoint,
    Ratio,
    beams,
    by_search,
    gaps,
    model_pairs,
    models,
    paired,
    signed,
    with_rho,
)
from quantcore.results import Document

Documents = Mapping[str, Document]
SURVEY, FRONTIER = "rho", "frontier"
LAYERS = ("first", "first_beam", "down_proj", "down_proj_beam")  # where there is no survey yet
NARROW, MIDDLE, WIDE = 4, 8, 16  # the paper's widths of it
MOST = 0.5  # of a gap, in logarithms
FREE = 1.05  # a time up to this many times the other counts as no cost


class Status(StrEnum):
    """What became of a claim here."""

    SEEN = "seen"
    PART = "seen in part"
    NOT = "not seen"
    UNTESTABLE = "not testable here"
    ABSENT = "no recording"


@dataclass(frozen=True)
class Verdict:
    """A status, why, and the names of the recordings it comes from."""

    status: Status
    sentence: str
    recordings: tuple[str, ...] = ()


def starts(documents: Documents) -> Verdict:
    """Whether greedy's first error is larger."""
    names, found = _layer_gaps(documents)
    starts = {gap.case._replace(search="", beam=0): gap.start for gap in found}
    if not starts:
        return _absent("layers")
    means = [start.mean for start in starts.values()]
    return Verdict(
        _of([start.side == "above" for start in starts.values()]),
        f"Greedy's first error is larger than OA-EM's in {_count(starts.values(), 'above')} "
        f"combinations of layer and scheme; it is {min(means):.3g} to {max(means):.3g} times as "
        f"large (held-out text, {_seeds(found)}).",
        names,
    )


def persists(documents: Documents) -> Verdict:
    """Whether greedy is still behind after search and tuning, and how far."""
    names, found = _layer_gaps(documents)
    tuned = model_pairs(models(documents), tuned=True)
    facts = [gap.end.side == "above" for gap in found]
    told = []
    for search, mine in by_search(found).items():
        left = _left(mine)
        facts.append(left >= MOST)
        told.append(
            f"After {theme.SEARCHES.get(search, search)} greedy's held-out error is above OA-EM's "
            f"in {_count([gap.end for gap in mine], 'above')} cases, at the median "
            f"{_times(_middle(mine))} it; of the gap at the start {100 * left:.0f} % is left, in "
            "logarithms."
        )
    told += [f"After PV-tuning, {_pair_words(*pair)}." for pair in tuned]
    facts += [_worse(*pair) for pair in tuned if paired(*pair)]
    if not facts:
        return _absent("layers, or models compared window by window,")
    return Verdict(_of(facts), " ".join(told), (*names, *_recordings(tuned)))


def wider(documents: Documents) -> Verdict:
    """What a wider beam does for each."""
    oa_em = beams(documents.get(FRONTIER), ("oa-em", WIDE), ("oa-em", MIDDLE))
    greedy = beams(documents.get(FRONTIER), ("greedy", WIDE), ("greedy", MIDDLE))
    if oa_em is None or greedy is None:
        return _absent(f"beams {MIDDLE} and {WIDE}")
    return Verdict(
        _of([oa_em.side == "below", greedy.side == "above"]),
        f"From beam {MIDDLE} to {WIDE} the held-out error becomes {oa_em} of itself for OA-EM and "
        f"{greedy} for greedy: {_moved(oa_em)} for OA-EM, {_moved(greedy)} for greedy.",
        (FRONTIER,),
    )


def pareto(documents: Documents) -> Verdict:
    """Whether OA-EM at a narrow beam beats greedy at a wide one."""
    error = beams(documents.get(FRONTIER), ("oa-em", NARROW), ("greedy", WIDE))
    time = beams(documents.get(FRONTIER), ("oa-em", NARROW), ("greedy", WIDE), time=True)
    if error is None or time is None:
        return _absent(f"beams {NARROW} and {WIDE}")
    status = {"below": Status.SEEN, "level": Status.PART, "above": Status.NOT}[error.side]
    return Verdict(
        status,
        f"OA-EM at beam {NARROW} ends at {error} of the held-out error of greedy at beam {WIDE}, "
        f"in {time.mean:.2f} of the time.",
        (FRONTIER,),
    )


def severity(documents: Documents) -> Verdict:
    """Whether the gap at the end grows with rho."""
    names, found = _layer_gaps(documents)
    told, facts = [], []
    for search, mine in by_search(found).items():
        known = with_rho(mine)
        if known["why"] is None:
            facts.append(known["low"] > 0)
            told.append(
                f"With {theme.SEARCHES.get(search, search)} the gap at the end has a rank "
                f"correlation with ρ of {signed(known['spearman'])} (95 % interval "
                f"{signed(known['low'])} to {signed(known['high'])}) over {len(mine)} combinations "
                "of layer and scheme."
            )
    if not facts:
        return _absent("enough values of ρ")
    return Verdict(_of(facts), " ".join(told), names)


def necessary(documents: Documents) -> Verdict:
    """Whether a high rho is necessary for a gap, and whether it is sufficient."""
    names, found = _layer_gaps(documents)
    high = [gap.end for gap in found if gap.case.rho > 1]
    low = [gap.end for gap in found if gap.case.rho <= 1]
    if not high or not low:
        return _absent("ρ on both sides of 1")
    needed = not any(end.side == "above" for end in low)
    enough = all(end.side == "above" for end in high)
    return Verdict(
        _of([needed, not enough]),
        f"With ρ above 1 greedy ends behind in {_count(high, 'above')} cases, with ρ up to 1 in "
        f"{_count(low, 'above')}. So here a high ρ was {'' if needed else 'not '}necessary for "
        f"a gap, and it was {'' if enough else 'not '}sufficient for one.",
        names,
    )


def three_bits(documents: Documents) -> Verdict:
    """Whether the gap at 3 bits is OA-EM's and smaller than at 2 bits."""
    names, found = _layer_gaps(documents)
    three = [gap for gap in found if gap.case.scheme.code_bits == 3]
    two = [gap for gap in found if gap.case.scheme.code_bits == 2]
    if not three or not two:
        return _absent("2 and 3 bits")
    ends = [gap.end for gap in three]
    return Verdict(
        _of([end.side == "above" and end.mean < _middle(two) for end in ends]),
        f"At 3 bits greedy ends behind OA-EM in {_count(ends, 'above')} cases and ahead of it in "
        f"{_count(ends, 'below')}, at the median {_times(_middle(three))} its held-out error; at 2 "
        f"bits the median is {_times(_middle(two))}.",
        names,
    )


def free(documents: Documents) -> Verdict:
    """Whether OA-EM takes longer."""
    names, found = _layer_gaps(documents)
    plain = model_pairs(models(documents), tuned=False)
    timed = [(a, b) for a, b in plain if a.seconds and b.seconds and not a.shared]
    facts, told = [], []
    if found:
        cost = median(1 / gap.time.mean for gap in found)
        facts.append(cost <= FREE)
        told.append(f"On single layers OA-EM's whole run takes {cost:.2f} of greedy's time.")
    for a, b in timed:
        share = (b.seconds or 0) / (a.seconds or 1)
        facts.append(share <= FREE)
        told.append(f"A whole model at {a.scheme} with {a.search} takes {share:.2f} of it.")
    if not facts:
        return _absent("layers or models")
    told.append(f"Up to {FREE} counts as no cost.")
    return Verdict(_of(facts), " ".join(told), (*names, *_recordings(timed)))


def catastrophe(documents: Documents) -> Verdict:
    """What greedy costs whole models here; the paper's own case cannot be had."""
    plain = model_pairs(models(documents), tuned=False)
    told = [
        f"{_pair_words(one, other)}, the original {_original(documents[one.recording])}"
        for one, other in plain
    ]
    nearest = f" The nearest to it here, on our own text: {'; '.join(told)}." if told else ""
    return Verdict(
        Status.UNTESTABLE,
        "WikiText-2 and the paper's models are not part of this program." + nearest,
        _recordings(plain),
    )


def hours(documents: Documents) -> Verdict:
    """What quantization took here; the paper's machine cannot be had."""
    plain = [point for point in models(documents) if not point.tuned and point.seconds]
    told = [
        f"{theme.style(point.init).label} at {point.scheme} {point.seconds:,.0f} s on "
        f"{documents[point.recording]['machine']['cores']} cores"
        f"{', shared with other work' if point.shared else ''}"
        for point in plain
    ]
    nearest = f" Recorded here for the small model: {'; '.join(told)}." if told else ""
    return Verdict(
        Status.UNTESTABLE,
        "Hours on an A100 cannot be compared with a processor's." + nearest,
        tuple(dict.fromkeys(point.recording for point in plain)),
    )


def _layer_gaps(documents: Documents) -> tuple[tuple[str, ...], list[Gap]]:
    """The survey's gaps, or without it those of the recorded layers, and where they come from."""
    names = (SURVEY,) if SURVEY in documents else LAYERS
    found = {name: gaps(documents.get(name)) for name in names}
    used = tuple(name for name in names if found[name])
    return used, [gap for name in used for gap in found[name]]


def _worse(greedy: ModelPoint, oa_em: ModelPoint) -> bool:
    """Whether greedy's model is shown to lose more."""
    found = paired(greedy, oa_em)
    return found is not None and found[0] > SHOWN * found[1]


def _pair_words(greedy: ModelPoint, oa_em: ModelPoint) -> str:
    found = paired(greedy, oa_em)
    compared = (
        "not compared window by window"
        if found is None
        else f"{signed(found[0], 4)} ± {found[1]:.4f} nats a token"
    )
    search = theme.SEARCHES.get(greedy.search, greedy.search)
    return (
        f"at {greedy.scheme} with {search} greedy's model has perplexity {greedy.value:.2f} and "
        f"that of {theme.style(oa_em.init).label} {oa_em.value:.2f} ({compared})"
    )


def _original(document: Document) -> str:
    return f"{document['original']['perplexity']['value']:.2f}"


def _recordings(pairs: Iterable[tuple[ModelPoint, ModelPoint]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(pair[0].recording for pair in pairs))


def _of(facts: Sequence[bool]) -> Status:
    if all(facts):
        return Status.SEEN
    return Status.PART if any(facts) else Status.NOT


def _absent(what: str) -> Verdict:
    return Verdict(Status.ABSENT, f"There is no recording with {what} yet.")


def _count(ratios: Iterable[Ratio], side: str) -> str:
    listed = list(ratios)
    return f"{sum(one.side == side for one in listed)} of {len(listed)}"


def _left(found: Sequence[Gap]) -> float:
    """How much of the gap at the start is left, in logarithms: the median where there was one."""
    shares = [
        math.log(gap.end.mean) / math.log(gap.start.mean)
        for gap in found
        if gap.start.side == "above"
    ]
    return median(shares) if shares else 0.0


def _middle(found: Iterable[Gap]) -> float:
    return median(gap.end.mean for gap in found)


def _times(value: float) -> str:
    return f"{value:.3g} times"


def _moved(change: Ratio) -> str:
    return {"above": "worse", "level": "no change shown", "below": "better"}[change.side]


def _seeds(found: Sequence[Gap]) -> str:
    few, many = min(gap.seeds for gap in found), max(gap.seeds for gap in found)
    return f"{few} seeds" if few == many else f"{few} to {many} seeds"
