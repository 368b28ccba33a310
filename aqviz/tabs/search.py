"""Search: what width and sweeps buy from each initialiser, and the least error for the time."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from aqviz import notebook, permalink, studies, theme
from aqviz.effort import Point, points, undominated, widening
from aqviz.engine import Document
from aqviz.evidence import BEAM, Ratio
from aqviz.figures.frontier import draw_frontier, view_frontier
from aqviz.figures.search_grid import draw_search_grid, view_search_grid
from aqviz.permalink import MAX_SEEDS
from aqviz.tabs import study
from aqviz.tabs.actions import Core
from aqviz.tabs.cards import figure_card, html, intro, repeat_card
from aqviz.tabs.choice import SEARCHES, draw_choice, draw_inits, offer_layers, place_in
from aqviz.tabs.study import StudyView, draw_runner, wire_study
from aqviz.tabs.tables import sortable, table
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


def draw_search(core: Core) -> None:
    """The whole tab."""
    state = SearchState()
    view = StudyView(VIEW, SearchState, lambda state: state.survey, show)
    status, _, _, _, _, told, grid, frontier, ends, *again = study.values(core, view, state)
    intro("search")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "search-told")
            cost = figure_card("frontier", frontier)
            with gr.Column(elem_classes="card"):
                shown = gr.Radio(
                    SEARCHES,
                    value=state.shown,
                    label="Search of the grid",
                    elem_id="search-shown",
                )
            panels = figure_card("search_grid", grid)
            with gr.Column(elem_classes="card"):
                html("<h2>Where every setting ends</h2>")
                listed = sortable(ends, "search-ends")
            repeat = repeat_card(VIEW, *again)
    drawn = [headline, panels, cost, listed, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, [*controls, shown], runner, drawn, repeat.link)
    model, layer, *_ = controls
    offer_layers(core, model, layer)


def show(state: SearchState, document: Document | None) -> Sequence[Any]:
    """Sentence, grid, frontier, table, command, Python and downloads of a state."""
    found, config = points(document), state.survey
    key = config.key()
    return [
        f'<p class="headline">{escape(asymmetry(state, document))}</p>',
        theme.to_json(draw_search_grid(view_search_grid(found, state.shown)), state.shown),
        theme.to_json(draw_frontier(view_frontier(found)), key),
        end_table(found),
        permalink.command(config),
        notebook.python(config),
        study.downloads(VIEW, state, document),
    ]


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


def _controls(core: Core, first: SearchState) -> list[Any]:
    """One component for each field of the state but the last, in its order."""
    model, layer = draw_choice(core, VIEW, first.model, first.layer)
    scheme = gr.Textbox(
        first.scheme,
        label="Scheme",
        info="codebooks x bits a code, g weights a group: 2x8g8",
        elem_id="search-scheme",
    )
    inits = draw_inits(VIEW, first.inits)
    searches = gr.CheckboxGroup(
        SEARCHES, value=list(first.searches), label="Searches", elem_id="search-searches"
    )
    beams = gr.CheckboxGroup(
        list(WIDTHS), value=list(first.beams), label="Beams", elem_id="search-beams"
    )
    with gr.Row(elem_classes="pair three"):
        seeds = gr.Number(first.seeds, label="Seeds", min_width=60, minimum=1, maximum=MAX_SEEDS)
        sweeps = gr.Number(first.sweeps, label="Sweeps", min_width=60)
        tokens = gr.Number(first.tokens, label="Tokens", min_width=60)
    return [model, layer, scheme, inits, searches, beams, seeds, sweeps, tokens]
