"""What each sweep of each search reached, and in how much time.

A point is a setting (initialiser, search, width) after one of its sweeps, or at its end, where
codebooks and scales were fitted once more: means over seeds. Only sweeps that every seed reached
are points, as a search stops by itself once a sweep brings next to nothing.

A point is undominated where no other is both as fast and as good. Those points are all that a
reader with a given amount of time, or a given error in mind, need look at.
"""

from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from aqviz.evidence import END, Ratio, beams
from quantcore.results import Document

CLOSE = 1.01  # within one percent of the best
REFIT = "refit"


class Setting(NamedTuple):
    """What is run beside its seed."""

    init: str
    search: str
    beam: int


class Point(NamedTuple):
    """A setting after a sweep (None: at the end), over its seeds.

    Errors are relative; `spread` is the held-out error's standard deviation over seeds, 0 of one.
    """

    setting: Setting
    sweep: int | None
    seeds: int
    seconds: float
    calibration: float
    heldout: float
    spread: float

    @property
    def when(self) -> str:
        """The sweep in words."""
        return "at the end" if self.sweep is None else f"after sweep {self.sweep}"


def points(document: Document | None) -> list[Point]:
    """The points of a survey of one layer, those of a setting together and in order."""
    made = []
    for setting, runs in _settings(document).items():
        reached = [_reached(run) for run in runs]
        everywhere = [sweep for sweep in reached[0] if all(sweep in one for one in reached)]
        made += [_point(setting, sweep, [one[sweep] for one in reached]) for sweep in everywhere]
    return made


def undominated(found: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both time and held-out error, the fastest first."""
    kept: list[Point] = []
    for point in sorted(found, key=lambda one: (one.seconds, one.heldout)):
        if not kept or point.heldout < kept[-1].heldout:
            kept.append(point)
    return kept


def cheapest(found: Sequence[Point]) -> Point:
    """The fastest point whose held-out error is within 1 % of the lowest."""
    limit = CLOSE * min(point.heldout for point in found)
    return min((one for one in found if one.heldout <= limit), key=lambda one: one.seconds)


def widening(document: Document | None, narrow: int, wide: int) -> dict[str, Ratio]:
    """By initialiser, the final held-out error at the wide beam over that at the narrow one."""
    inits = dict.fromkeys(setting.init for setting in _settings(document))
    ratios = {init: beams(document, (init, wide), (init, narrow)) for init in inits}
    return {init: ratio for init, ratio in ratios.items() if ratio is not None}


def _settings(document: Document | None) -> dict[Setting, list[Document]]:
    """The finished runs of each setting."""
    found: dict[Setting, list[Document]] = {}
    for run in (document or {}).get("runs", []):
        if run["complete"] and run[END] is not None:
            found.setdefault(Setting(run["init"], run["search"], run["beam"]), []).append(run)
    return found


def _reached(run: Document) -> dict[int | None, Document]:
    """What the run was at when a sweep's last search ended, and at the end."""
    searched = (entry for entry in run["trace"] if entry["sweep"] and entry["phase"] != REFIT)
    ends: dict[int | None, Document] = {entry["sweep"]: entry for entry in searched}
    return ends | {None: run | {"seconds": run["seconds"]["total"]}}


def _point(setting: Setting, sweep: int | None, entries: list[Document]) -> Point:
    heldout = [entry[END] for entry in entries]
    return Point(
        setting,
        sweep,
        len(entries),
        mean(entry["seconds"] for entry in entries),
        mean(entry["relative_error"] for entry in entries),
        mean(heldout),
        stdev(heldout) if len(heldout) > 1 else 0.0,
    )
