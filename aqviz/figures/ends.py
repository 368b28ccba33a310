"""Start and end side by side: what initialisation gave, and what the search made of it.

One row an initialiser, twice: calibration text above (filled), held-out text below (hollow). A
small point is one seed, the line joins the means over seeds.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import theme
from quantcore.results import complete

ROW = 92
OFFSET = 0.17  # calibration above the row's middle, held-out below


@dataclass(frozen=True)
class Journey:
    """From the start to the end of one initialiser on one text, as percentages of the output.

    Attributes:
        init: The initialiser.
        heldout: Which text.
        row: Position on the vertical axis.
        starts: One error a seed after initialisation.
        ends: One error a seed after the last phase.
        start: Mean of the starts.
        end: Mean of the ends.
    """

    init: str
    heldout: bool
    row: float
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    start: float
    end: float


@dataclass(frozen=True)
class EndsView:
    """Every journey, the rows' names from top to bottom, and the figure in a sentence."""

    journeys: tuple[Journey, ...]
    rows: tuple[str, ...]
    values: tuple[float, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a journey and seed."""
        return theme.Table(
            ("initialiser", "text", "start, %", "end, %"),
            tuple(
                (theme.style(j.init).label, "held-out" if j.heldout else "calibration", *errors)
                for j in self.journeys
                for errors in zip(j.starts, j.ends, strict=True)
            ),
        )


def view_ends(document: dict[str, Any] | None) -> EndsView:
    """The journeys of the finished runs of a document."""
    runs = complete(document)
    inits = tuple(dict.fromkeys(run["init"] for run in runs))
    journeys = []
    for row, init in enumerate(inits):
        mine = [run for run in runs if run["init"] == init]
        journeys.append(_journey(init, mine, row - OFFSET, heldout=False))
        if all(run["heldout_relative_error"] is not None for run in mine):
            journeys.append(_journey(init, mine, row + OFFSET, heldout=True))
    values = tuple(value for j in journeys for value in j.starts + j.ends)
    return EndsView(tuple(journeys), inits, values, _alt(journeys))


def draw_ends(view: EndsView) -> go.Figure:
    """An arrow from start to end for each initialiser and text."""
    if not view.journeys:
        return theme.message("Start and end appear when the first initialiser has finished.")
    drawing = theme.figure(view.alt, max(300, 150 + ROW * len(view.rows)), view.table)
    for journey in view.journeys:
        _draw_journey(drawing, journey)
    drawing.update_xaxes(theme.log_axis(view.values), title_text="error, % of output")
    drawing.update_yaxes(
        tickvals=list(range(len(view.rows))),
        ticktext=[theme.style(init).label for init in view.rows],
        range=[len(view.rows) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
    return drawing


def _journey(init: str, runs: list[dict[str, Any]], row: float, *, heldout: bool) -> Journey:
    text = "heldout_" if heldout else ""
    starts = tuple(100 * run[f"init_{text}relative_error"] for run in runs)
    ends = tuple(100 * run[f"{text}relative_error"] for run in runs)
    mean_start, mean_end = sum(starts) / len(runs), sum(ends) / len(runs)
    return Journey(init, heldout, row, starts, ends, mean_start, mean_end)


def _alt(journeys: list[Journey]) -> str:
    told = [
        f"{theme.style(j.init).label}, {'held-out' if j.heldout else 'calibration'} text: "
        f"from {j.start:.3g} % to {j.end:.3g} %"
        for j in journeys
    ]
    return "Error at the start and at the end. " + "; ".join(told) + "."


def _draw_journey(drawing: go.Figure, journey: Journey) -> None:
    style = theme.style(journey.init)
    text = "held-out" if journey.heldout else "calibration"
    symbol = style.symbol + "-open" if journey.heldout else style.symbol
    drawing.add_scatter(
        x=[journey.start, journey.end],
        y=[journey.row, journey.row],
        mode="lines+markers+text",
        line={
            "color": style.colour,
            "width": 2.5,
            "dash": theme.HELDOUT_DASH if journey.heldout else "solid",
        },
        marker={
            "symbol": ["line-ns", symbol],
            "size": [14, 12],
            "color": style.colour,
            "line": {"width": 2.5, "color": style.colour},
        },
        text=["", f"{journey.end:#.3g} %"],
        textposition="top center",
        cliponaxis=False,
        showlegend=False,
        hovertemplate=f"{style.label}, {text} text<br><b>%{{x:.3g}} %</b><extra></extra>",
    )
    if len(journey.ends) > 1:
        drawing.add_scatter(
            x=journey.starts + journey.ends,
            y=[journey.row] * (len(journey.starts) + len(journey.ends)),
            mode="markers",
            marker={"symbol": style.symbol, "size": 5, "color": style.colour, "opacity": 0.55},
            showlegend=False,
            hovertemplate=f"{style.label}, {text} text, one seed<br>%{{x:.3g}} %<extra></extra>",
        )
