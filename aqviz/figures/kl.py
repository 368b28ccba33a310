"""How far each model's predictions are from the original's, token by token: KL's upper tail.

    KL(original || model) = sum over words w of p(w) (ln p(w) - ln q(w))      nats, at one token

For every model the share of tokens whose KL is above a value, for the upper half of the tokens,
from the quantiles that the document keeps. Both axes are logarithmic: a few tokens carry much of
the sum.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.evaluations import ORIGINAL, Model

HALF = 0.5  # of the tokens is below what is drawn
WORST = 0.01  # the share of tokens that the sentence speaks of


@dataclass(frozen=True)
class Tail:
    """One model: the share of tokens (percent) above each KL (nats), and summaries.

    Attributes:
        model: Which.
        values: KL, rising.
        above: Percent of tokens above it.
        mean: Mean KL.
        median: Half of the tokens are above it.
        of_worst: Percent of all KL that the worst hundredth of tokens makes; None where unknown.
    """

    model: Model
    values: tuple[float, ...]
    above: tuple[float, ...]
    mean: float
    median: float
    of_worst: float | None


@dataclass(frozen=True)
class KlView:
    """Every model's tail."""

    tails: tuple[Tail, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a model and quantile."""
        columns = ("model", "% of tokens above", "KL, nats")
        rows = [
            (tail.model.label, above, value)
            for tail in self.tails
            for value, above in zip(tail.values, tail.above, strict=True)
        ]
        return theme.Table(columns, tuple(rows))


def view_kl(document: dict[str, Any] | None) -> KlView:
    """The KL of every candidate of an evaluation document."""
    tails = tuple(
        _tail(model) for key, model in evaluations.models(document).items() if key != ORIGINAL
    )
    told = [
        f"{tail.model.label} median {tail.median:.3f}, mean {tail.mean:.3f}"
        + ("" if tail.of_worst is None else f", {tail.of_worst:.0f} % of it in the worst 1 %")
        for tail in tails
    ]
    return KlView(tails, f"KL from the original in nats a token: {'; '.join(told)}.")


def draw_kl(view: KlView) -> go.Figure:
    """A falling line for each model, dashed before tuning."""
    if not view.tails:
        return theme.message("No evaluation of whole models is recorded.")
    drawing = theme.figure(view.alt, 420, view.table)
    for tail in view.tails:
        _draw_tail(drawing, tail)
    values = [value for tail in view.tails for value in tail.values]
    drawing.update_xaxes(theme.log_axis(values or [1.0]), title_text="KL at a token, nats")
    drawing.update_yaxes(
        type="log", title_text="tokens above it, %", tickvals=[0.1, 1, 5, 10, 25, 50]
    )
    return drawing


def _tail(model: Model) -> Tail:
    kl = model.entry["kl"]
    points = [
        (value, 100 * (1 - float(share)))
        for share, value in kl["quantiles"].items()
        if HALF <= float(share) < 1 and value > 0
    ]
    shares = {facts["share"]: facts["of_kl"] for facts in model.entry["worst_shares"]}
    worst = shares.get(WORST)
    return Tail(
        model=model,
        values=tuple(value for value, _ in points),
        above=tuple(share for _, share in points),
        mean=kl["mean"],
        median=kl["quantiles"]["0.5"],
        of_worst=None if worst is None else 100 * worst,
    )


def _draw_tail(drawing: go.Figure, tail: Tail) -> None:
    style, tuned = tail.model.style, tail.model.tuned
    drawing.add_scatter(
        x=theme.floats(tail.values),
        y=theme.floats(tail.above),
        mode="lines+markers",
        name=tail.model.label,
        line={"color": style.colour, "width": 2, "dash": "solid" if tuned else "dot"},
        marker={"symbol": style.symbol + ("" if tuned else "-open"), "size": 8},
        hovertemplate=f"{tail.model.label}<br>%{{y:.3g}} % of tokens above %{{x:.3g}} nats"
        "<extra></extra>",
    )
