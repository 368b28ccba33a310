"""Recorded evaluations of whole models: the models by name, and how any two of them differ.

A model is named by how it was made, so that a name means the same in every recording: "oa-em",
"oa-em-with-beam" where its search is not the default, "oa-em-tuned" after PV-tuning. Two models
were measured on the same windows; a difference is the mean over windows of the difference of their
losses, in nats a token, and counts as shown where its interval, two standard errors to either side,
leaves out 0.
"""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from aqviz import recordings, theme
from aqviz.theme import Style
from quantcore import entries, evaluation
from quantcore.results import Document
from quantcore.search import SearchConfig

ORIGINAL, TUNED = "original", "-tuned"
WITH = "-with-"  # before a search that is not the default
PV = " + PV"  # PV-tuning, in a label
PREFIX = "models-"
NAME = re.compile(r"models-[\w.-]+")
ERRORS = 2.0  # standard errors to either side
NO_PAIRS = (
    "This recording is from before the windows' losses were kept: its models can be compared with "
    "the original only."
)


@dataclass(frozen=True)
class Model:
    """One evaluated model.

    Attributes:
        key: Its name in links and controls.
        label: Its name in words.
        init: Its initialiser; for the original "original", for a stranger its own name.
        tuned: Whether PV-tuning followed.
        style: How it is drawn.
        entry: What the document says about it.
    """

    key: str
    label: str
    init: str
    tuned: bool
    style: Style
    entry: Document


class Difference(NamedTuple):
    """Mean nats a token by which one model's loss exceeds another's; its standard error."""

    mean: float
    error: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Two standard errors to either side; None for a single window."""
        if self.error is None:
            return None
        return self.mean - ERRORS * self.error, self.mean + ERRORS * self.error

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def names(folder: Path = recordings.FOLDER) -> tuple[str, ...]:
    """The names of the recordings, which are those of their schemes too."""
    return tuple(sorted(path.stem for path in folder.glob(f"{PREFIX}*.json")))


def read(name: str) -> Document | None:
    """The recorded evaluation of that name, or None where there is none."""
    found = recordings.read(name) if NAME.fullmatch(name) else None
    return found if found and found.get("kind") == evaluation.KIND else None


def beside(name: str, kind: str) -> Document | None:
    """What was recorded of the same models under another kind: "tuning" or "generations"."""
    return recordings.read(f"{kind}-{name.removeprefix(PREFIX)}") if NAME.fullmatch(name) else None


def models(document: Document | None) -> dict[str, Model]:
    """The models of a document by key, the original first; none before anything was measured."""
    if not document or not document["original"] or not document["original"]["perplexity"]:
        return {}
    whole = theme.ORIGINAL
    found = {ORIGINAL: Model(ORIGINAL, whole.label, ORIGINAL, False, whole, document["original"])}
    for entry in document["candidates"]:
        model = _model(entry)
        if model.key in found:  # the same start twice: told apart by their own names
            model = _stranger(entry)
        found[model.key] = model
    return found


def difference(one: Model, other: Model) -> Difference | None:
    """By how much the loss of one exceeds the other's, paired by window.

    None where the document is from before the windows' losses were kept and neither is the
    original.
    """
    found = entries.difference(one.entry, other.entry)
    if found is not None:
        return Difference(*found)
    if other.key == ORIGINAL:
        return _over_original(one)
    if one.key == ORIGINAL:
        over = _over_original(other)
        return Difference(-over.mean, over.error)
    return None


def verdicts(document: Document | None) -> tuple[str, ...]:
    """What the document shows: OA-EM beside greedy, and each start before and after PV-tuning."""
    found = models(document)
    ways = dict.fromkeys(key.removeprefix(model.init) for key, model in found.items())
    searches = [way for way in ways if not way.endswith(TUNED)]  # "", and WITH others
    asked = [
        (init + way + tuned, "greedy" + way + tuned, f"{when} PV-tuning")
        for way in searches
        for tuned, when in (("", "Before"), (TUNED, "After"))
        for init in theme.STYLES
        if init != "greedy"
    ]
    same = "On the same windows"
    asked += [(init + way + TUNED, init + way, same) for way in searches for init in theme.STYLES]
    asked += [(init + way, init, same) for way in searches if way for init in theme.STYLES]
    told = [
        _verdict(found[one], found[other], when)
        for one, other, when in asked
        if one in found and other in found
    ]
    return tuple(dict.fromkeys(told))


def label(key: str) -> str:
    """A model's name in words."""
    if key == ORIGINAL:
        return theme.ORIGINAL.label
    start = key.removesuffix(TUNED)
    return style(start).label + ("" if key == start else PV)


def style(name: str) -> Style:
    """How a model is drawn whose own name speaks of an initialiser, and perhaps of a search.

    Another search than the default is in the label and breaks the line; where the name speaks of
    no initialiser, it is a stranger's.
    """
    longest = sorted(theme.STYLES, key=len, reverse=True)  # oa-em-adam before oa-em
    found = theme.style(next((init for init in longest if init in name), name))
    search = next((search for search in theme.SEARCHES if name.endswith(WITH + search)), None)
    if search is None:
        return found
    return replace(found, label=f"{found.label} with {search}", dash="dot")


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def _verdict(one: Model, other: Model, when: str) -> str:
    """A difference as a sentence with its uncertainty."""
    found = difference(one, other)
    if found is None:
        return NO_PAIRS
    if found.interval is None:
        return f"{when}, {one.label} and {other.label}: of a single window nothing is known."
    low, high = sorted(map(abs, found.interval))
    if not found.shown:
        below, above = found.interval
        return (
            f"{when}, no difference between {one.label} and {other.label} is shown: "
            f"{signed(found.mean)} nats a token ({signed(below)} to {signed(above)})."
        )
    side, ratio = ("above", "higher") if found.mean > 0 else ("below", "lower")
    return (
        f"{when}, the loss of {one.label} is {abs(found.mean):.4f} nats a token ({low:.4f} to "
        f"{high:.4f}) {side} that of {other.label}: a perplexity "
        f"{100 * abs(math.expm1(found.mean)):.1f} % {ratio}."
    )


def _over_original(model: Model) -> Difference:
    facts = model.entry["perplexity"]
    return Difference(facts["difference"], facts["difference_error"])


def _model(entry: Document) -> Model:
    made = entry.get("quantization")
    if not made or not made.get("config"):
        return _stranger(entry)
    init, search = made["config"]["init"], made["config"].get("search", SearchConfig.name)
    start = init if search == SearchConfig.name else init + WITH + search
    tuned = made["tuning"] is not None
    key = start + TUNED if tuned else start
    return Model(key, label(key), init, tuned, style(start), entry)


def _stranger(entry: Document) -> Model:
    name = entry["model"]["name"]
    return Model(name, name, name, False, theme.style(name), entry)
