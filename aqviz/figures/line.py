"""Straight from one solution to the other: is there a hill between them, and how high?"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import theme
from aqviz.figures.plane import name_of

HEIGHT = 340


@dataclass(frozen=True)
class Section:
    """The error along the line under one rule for the codes.

    Attributes:
        codes: One of `plane.CODES`.
        label: In words.
        style: How it is drawn: grey for codes found anew, else as the run whose codes they are.
        errors: Percent of the sampled rows' output, on each text.
        barrier: How far the line rises over its higher end, as a share of that, on each text.
    """

    codes: str
    label: str
    style: theme.Style
    errors: dict[str, tuple[float, ...]]
    barrier: dict[str, float]


@dataclass(frozen=True)
class LineView:
    """Every section over the same positions, 0 at A's end and 1 at B's."""

    positions: tuple[float, ...]
    sections: tuple[Section, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a position."""
        curves = [(s, text) for s in self.sections for text in s.errors]
        names = tuple(f"{s.label}, {_text(text)}, %" for s, text in curves)
        rows = zip(self.positions, *(s.errors[text] for s, text in curves), strict=True)
        return theme.Table(("position", *names), tuple(rows))


def view_line(document: dict[str, Any] | None) -> LineView:
    """The line of a landscape document."""
    line = (document or {}).get("line")
    if not document or not line:
        return LineView((), (), "The line between the ends: no data yet.")
    ends = document["trajectories"]
    labels = {
        "reassigned": ("codes found anew", theme.Style("", theme.GREY, "circle", "solid")),
        "fixed_a": ("A's codes", theme.style(ends["A"]["init"])),
        "fixed_b": ("B's codes", theme.style(ends["B"]["init"])),
    }
    sections = []
    for codes, (label, style) in labels.items():
        found = {t: e for t, e in line["errors"][codes].items() if e is not None}
        errors = {text: tuple(100 * error for error in curve) for text, curve in found.items()}
        barrier = {text: line["barrier"][codes][text] for text in found}
        sections.append(Section(codes, label, style, errors, barrier))
    return LineView(tuple(line["positions"]), tuple(sections), _alt(document, sections[0]))


def draw_line(view: LineView) -> go.Figure:
    """Error over position."""
    if not view.sections:
        return theme.message("The line appears after the plane.", HEIGHT)
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    for section in view.sections:
        for text, errors in section.errors.items():
            heldout = text == "heldout"
            drawing.add_scatter(
                x=view.positions,
                y=theme.floats(errors),
                mode="lines+markers",
                name=f"{section.label}, {_text(text)}",
                line={
                    "color": section.style.colour,
                    "dash": theme.HELDOUT_DASH if heldout else "solid",
                    "width": 2.5 if section.codes == "reassigned" else 1.8,
                },
                marker={
                    "symbol": section.style.symbol + ("-open" if heldout else ""),
                    "size": 7,
                    "maxdisplayed": 7,
                },
                hovertemplate=f"{section.label}, {_text(text)} text<br><b>%{{y:.3g}} %</b>"
                "<extra></extra>",
            )
    values = [v for s in view.sections for errors in s.errors.values() for v in errors]
    drawing.update_yaxes(theme.log_axis(values), title_text="error, % of output")
    drawing.update_xaxes(tickvals=[0, 0.5, 1], ticktext=["A's end", "half-way", "B's end"])
    return drawing


def _text(text: str) -> str:
    return "held-out" if text == "heldout" else text


def _alt(document: dict[str, Any], anew: Section) -> str:
    told = []
    for text, height in anew.barrier.items():
        rise = f"rises {height:.1%} above its higher end" if height > 0 else "has no barrier"
        told.append(f"on {_text(text)} text it {rise}".replace("%", " %"))
    ends = document["trajectories"]
    a, b = (name_of(ends[end]["init"], ends[end]["seed"]) for end in ("A", "B"))
    return f"With codes found anew, the line from {a} to {b}: {' and '.join(told)}."
