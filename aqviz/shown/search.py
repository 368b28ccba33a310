"""Search: what width and sweeps buy from each initialiser, and the least error for the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from aqviz import bundle, commands, notebook, permalink, studies, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.effort import Point, points, undominated, widening
from aqviz.engine import Document
from aqviz.evidence import BEAM, Ratio
from aqviz.figures.frontier import draw_frontier, view_frontier
from aqviz.figures.search_grid import draw_search_grid, view_search_grid
from aqviz.shown.study import downloads, find, place_in
from aqviz.shown.tables import table
from quantcore.errors import InputError
from quantcore.grid import Survey
from quantcore.init import INITIALISERS
from quantcore.weight import Scheme

VIEW = "search"
WIDTHS = (1, 2, 4, 8, 16, 32)
FIRST = studies.FRONTIER
SIDES = {"below": "helped", "level": "no difference shown", "above": "hurt"}


@dataclass(frozen=True)
class SearchState:
    """What the tab's link holds.

    Attributes:
        model: What `sources.resolve` takes; empty is the default model.
        layer: The layer.
        scheme: Its scheme.
        inits: Initialisers.
        searches: Searches, of `theme.SEARCHES`.
        beams: Widths of each, of `WIDTHS`.
        seeds: How many, from 0.
        sweeps: Most sweeps of a run.
        tokens: Of calibration text.
        shown: The search whose grid is drawn.
    """

    model: str = ""
    layer: str = studies.LAYER
    scheme: str = "2x8g8"
    inits: tuple[str, ...] = FIRST.inits
    searches: tuple[str, ...] = FIRST.searches
    beams: tuple[int, ...] = (1, 2, 4, 8, 16)
    seeds: int = len(FIRST.seeds)
    sweeps: int = FIRST.sweeps
    tokens: int = FIRST.calibration_tokens[0]
    shown: str = BEAM

    def __post_init__(self) -> None:
        if not self.inits or not self.beams:
            raise InputError("there is nothing to run; choose at least one initialiser and beam")
        for name, given, offered in (
            ("beam", self.beams, WIDTHS),
            ("search", (*self.searches, self.shown), theme.SEARCHES),
        ):
            for one in given:
                if one not in offered:
                    listed = ", ".join(map(str, offered))
                    raise InputError(f"a {name} must be one of {listed} here, got {one!r}")
        self.survey  # noqa: B018 - checks its own settings

    @property
    def survey(self) -> Survey:
        """The study behind the view; of the default state it is the recorded one."""
        return Survey(
            model=self.model or None,
            layers=(self.layer,),
            schemes=(Scheme.parse(self.scheme),),
            inits=tuple(sorted(self.inits, key=place_in(INITIALISERS))),
            searches=tuple(sorted(self.searches, key=place_in(tuple(theme.SEARCHES)))),
            beams=tuple(sorted(self.beams)),
            seeds=permalink.consecutive(0, self.seeds),
            sweeps=self.sweeps,
            calibration_tokens=(self.tokens,),
        )


def show(state: SearchState, document: Document | None) -> Sequence[Any]:
    """Sentence, grid, frontier, table, command, Python and downloads of a state."""
    found, config = points(document), state.survey
    key = config.key()
    return [
        f'<p class="headline">{escape(asymmetry(state, document))}</p>',
        theme.to_json(draw_search_grid(view_search_grid(found, state.shown)), state.shown),
        theme.to_json(draw_frontier(view_frontier(found)), key),
        end_table(found),
        commands.of(config),
        notebook.python(config),
        downloads(VIEW, state, document),
    ]


def bundles(core: Core, state: SearchState) -> Bundles:
    """What the view's zip holds.

    Raises:
        AbsentError: nothing is known of it yet.
    """
    document = bundle.there(find(core, state.survey)[1])
    _, grid, cost, *_ = show(state, document)
    drawn = bundle.drawn({"frontier": cost, "search_grid": grid})
    told = asymmetry(state, document)
    return {"": bundle.of_study(state.survey, document, drawn, told)}


def asymmetry(state: SearchState, document: Document | None) -> str:
    """What the widest beam did from each initialiser, over the next narrower one."""
    if BEAM not in state.searches or len(state.beams) < 2:
        return "Choose beam search and two widths to see what a wider beam does."
    narrow, wide = sorted(state.beams)[-2:]
    ratios = widening(document, narrow, wide)
    if not ratios:
        return f"Beams {narrow} and {wide} are not measured for these settings; press Run."
    told = "; ".join(
        f"from {theme.style(init).label} {_moved(one)}" for init, one in ratios.items()
    )
    return (
        f"Beam search at {wide} instead of {narrow} hypotheses leaves this share of the final "
        f"held-out error: {told}. In the paper the wider beam helps OA-EM and hurts greedy."
    )


def end_table(found: Sequence[Point]) -> str:
    """The settings at their ends."""
    kept = set(undominated(found))
    rows = [
        (
            theme.style(point.setting.init).label,
            *(point.setting.search, point.setting.beam, point.seeds, round(point.seconds, 2)),
            *(round(100 * one, 4) for one in (point.calibration, point.heldout, point.spread)),
            "no" if point in kept else "yes",
        )
        for point in found
        if point.sweep is None
    ]
    columns = (
        *("initialiser", "search", "beam", "seeds", "seconds"),
        *("calibration, %", "held-out, %", "± over seeds", "beaten in both"),
    )
    return table("Errors at the end, means over seeds", columns, rows)


def _moved(ratio: Ratio) -> str:
    if ratio.error is None:
        return f"{ratio} (one seed: nothing is known of its spread)"
    return f"{ratio} ({SIDES[ratio.side]})"
