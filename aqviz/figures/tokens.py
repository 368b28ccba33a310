"""A text as two models read it: what each token costs one of them over the other.

    excess = (loss of one) - (loss of the other)        nats, at one token

Above 0 the first finds the token less likely. Colours and lines under the text go by `level`, bars
show the numbers.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.evaluations import ORIGINAL

LEVELS = (0.5, 1.0, 2.0, 4.0)  # nats; less than the first has no colour
NOTABLE = 2.0  # nats, of the sentence
NO_SAMPLE = "This recording is from before the tokens' losses were kept; choose another one."
BETTER, WORSE = theme.DIVERGING[0][1], theme.DIVERGING[-1][1]


@dataclass(frozen=True)
class Token:
    """One token of the text.

    Attributes:
        text: As it stands in the text; empty where a later token ends its character.
        one: Nats of the first model.
        other: Nats of the second.
        kl: KL(original || first), where the first is no original.
    """

    text: str
    one: float
    other: float
    kl: float | None

    @property
    def excess(self) -> float:
        """Nats by which the first model's loss is larger."""
        return self.one - self.other

    @property
    def level(self) -> int:
        """How strongly it is marked, -4 to 4; the sign is that of the excess."""
        level = bisect_right(LEVELS, abs(self.excess))
        return level if self.excess > 0 else -level


@dataclass(frozen=True)
class TokensView:
    """One window.

    Attributes:
        opening: The first token, which nothing predicts.
        tokens: All others.
        names: Of the two models.
        alt: The figure in a sentence; what is missing where there are no tokens.
    """

    opening: str
    tokens: tuple[Token, ...]
    names: tuple[str, str]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a token."""
        one, other = self.names
        columns = ("position", "token", f"excess over {other}", one, other, "KL")
        rows = [
            (n, repr(t.text)[1:-1], round(t.excess, 4), t.one, t.other, t.kl)
            for n, t in enumerate(self.tokens, start=1)
        ]
        return theme.Table(columns, tuple(rows))


def count(document: dict[str, Any] | None) -> int:
    """How many windows are kept token by token."""
    return len((document or {}).get("sample") or ())


def view_tokens(document: dict[str, Any] | None, one: str, other: str, window: int) -> TokensView:
    """One window as the models with these keys read it; the first window is 1."""
    found = evaluations.models(document)
    if one not in found or other not in found:
        missing = "This model is not in this recording; choose another."
        return TokensView("", (), (one, other), missing)
    names = (found[one].label, found[other].label)
    if document is None or not 1 <= window <= count(document):
        return TokensView("", (), names, NO_SAMPLE)
    texts = document["sample"][window - 1]
    mine, theirs = (found[key].entry["sample"] for key in (one, other))
    nll = [sample["nll"][window - 1] for sample in (mine, theirs)]
    kl = [None] * len(nll[0]) if one == ORIGINAL else mine["kl"][window - 1]
    tokens = tuple(Token(*each) for each in zip(texts[1:], *nll, kl, strict=True))
    return TokensView(texts[0], tokens, names, _alt(tokens, names, window))


def draw_tokens(view: TokensView) -> go.Figure:
    """A bar a token, at its place in the text."""
    if not view.tokens:
        return theme.message(view.alt)
    drawing = theme.figure(view.alt, 280, view.table)
    excess = [token.excess for token in view.tokens]
    drawing.add_bar(
        x=theme.floats(range(1, len(excess) + 1)),
        y=theme.floats(excess),
        marker={
            "color": [WORSE if value > 0 else BETTER for value in excess],
            "line": {"width": 0},
        },
        customdata=[_shown(token) for token in view.tokens],
        showlegend=False,
        hovertemplate="%{customdata}<extra></extra>",
    )
    drawing.update_layout(bargap=0.05)
    drawing.update_xaxes(title_text="position in the window", showgrid=False)
    drawing.update_yaxes(title_text=f"nats over {view.names[1]}", zeroline=True, zerolinewidth=1)
    drawing.update_yaxes(zerolinecolor=theme.GREY)
    return drawing


def words(token: Token, names: tuple[str, str]) -> str:
    """A token's numbers."""
    kl = "" if token.kl is None else f"; KL {token.kl:.2f}"
    excess = f"{token.excess:+.2f}".replace("-", "−")
    return f"{names[0]} {token.one:.2f}, {names[1]} {token.other:.2f}: {excess} nats{kl}"


def _alt(tokens: tuple[Token, ...], names: tuple[str, str], window: int) -> str:
    mean = sum(token.excess for token in tokens) / len(tokens)
    worse = sum(token.excess > NOTABLE for token in tokens)
    better = sum(token.excess < -NOTABLE for token in tokens)
    place, worst = max(enumerate(tokens, start=1), key=lambda pair: pair[1].excess)
    told = f"{mean:+.3f} nats a token over {names[1]}".replace("-", "−")
    return (
        f"Window {window} as {names[0]} reads it: {told}; of {len(tokens)} tokens {worse} are more "
        f"than {NOTABLE:g} nats worse and {better} more than {NOTABLE:g} better, and the worst is "
        f"{worst.text.strip()!r} at position {place}."
    )


def _shown(token: Token) -> str:
    """For plotly, which reads tags."""
    text = repr(token.text).replace("&", "&amp;").replace("<", "&lt;")
    return f"{text}<br><b>{token.excess:+.2f} nats</b>"
