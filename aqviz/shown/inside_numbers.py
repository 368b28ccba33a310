"""A group's bits and numbers as HTML: every number is a button that says how it comes about.

The arithmetic uses the numbers as they are shown, to three digits; `inside.js` moves
between them with the arrow keys and prints the chosen one's line.
"""

from collections.abc import Iterable
from html import escape

import pandas as pd

from aqviz import theme
from aqviz.figures.inside_group import BOOKS, Coded, GroupView
from aqviz.shown.panels import swatch

ASK = "Choose a number: its arithmetic is written here. Arrow keys move between numbers."


def stored_bits(view: GroupView) -> str:
    """The group's codes bit by bit, a line an initialiser."""
    return f'<div class="bits">{"".join(map(_bits, view.versions))}</div>'


def numbers(view: GroupView, init: str) -> str:
    """The table of one initialiser's group, and the line for its arithmetic."""
    one = next(version for version in view.versions if version.init == init)
    words = [f"word {m + 1}" for m in range(len(one.words))]
    heads = ["input", *words, "sum", "q", "w", "d = w − q", "H d", "d × H d"]
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(_line(view, one, i) for i in range(len(view.original)))
    label = escape(theme.style(init).label)
    about = (
        f"{label}: row {view.row}, group {view.group}. The words' sum times the row's scale, "
        f"s = {number(one.scale)}, is q; w is the weight; H the group's own block of the Hessian."
    )
    return (
        f'<p class="note">{about}</p>'
        f'<div class="sheet-wrap" role="region" tabindex="0" aria-label="numbers of the group">'
        f'<table class="numbers"><thead><tr>{top}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot>{_total(view, one, len(heads))}</tfoot></table></div>"
        f'<p class="arithmetic" role="status">{ASK}</p>'
    )


def table(view: GroupView) -> pd.DataFrame:
    """A line for every weight of the group from every initialiser.

    The words' `sum` times `scale` is q, which stands for the weight w; d = w - q, Hd is H d by the
    group's own block of the Hessian, and dHd their product: in sum the group's own error.
    """
    lines = []
    for one in view.versions:
        for i, weight in enumerate(view.original):
            books = enumerate(zip(one.codes, one.words, strict=True), start=1)
            line = {"init": one.init, "input": view.group * len(view.original) + i}
            for m, (code, word) in books:
                line |= {f"code_{m}": code, f"word_{m}": word[i]}
            line |= {"sum": one.sums[i], "scale": one.scale, "q": one.coded[i], "w": weight}
            line |= {"d": one.error[i], "Hd": one.pull[i], "dHd": one.error[i] * one.pull[i]}
            lines.append(line)
    return pd.DataFrame(lines)


def number(value: int | float) -> str:
    """Three digits, with a true minus.

    >>> number(-0.01234), number(2), number(123.4)
    ('−0.0123', '2.00', '123')
    """
    return f"{value:#.3g}".replace("-", "−").removesuffix(".")


def sum_of(values: Iterable[int | float]) -> str:
    """Values added up, signs as operators.

    >>> sum_of([0.5, -0.25, 1.0])
    '0.500 − 0.250 + 1.00'
    """
    first, *others = values
    return number(first) + "".join(
        f" {'−' if value < 0 else '+'} {number(abs(value))}" for value in others
    )


def _line(view: GroupView, one: Coded, i: int) -> str:
    """A weight: what its row of the table holds, and each number's arithmetic."""
    place = view.group * len(view.original) + i
    words, error = [word[i] for word in one.words], one.error[i]
    cells = [
        (value, f"word {code} of codebook {m + 1}, entry {i}: stored as a 16-bit number")
        for m, (value, code) in enumerate(zip(words, one.codes, strict=True))
    ]
    cells += [
        (one.sums[i], sum_of(words)),
        (one.coded[i], f"{number(one.scale)} × ({sum_of(words)})"),
        (view.original[i], f"the weight of input {place} as it was"),
        (error, sum_of([view.original[i], -one.coded[i]])),
        (one.pull[i], _products(view.block[i], one.error)),
        (error * one.pull[i], f"{number(error)} × {_bracketed(one.pull[i])}"),
    ]
    made = "".join(f"<td>{_button(value, told)}</td>" for value, told in cells)
    return f'<tr><th scope="row">{place}</th>{made}</tr>'


def _total(view: GroupView, one: Coded, columns: int) -> str:
    told = sum_of([d * pull for d, pull in zip(one.error, one.pull, strict=True)])
    share = f"{view.share(one):.2%}".replace("%", " %")
    words = f"d H dᵀ, {share} of w H wᵀ = {number(view.energy)}"
    return (
        f'<tr><th scope="row" colspan="{columns - 1}">{words}</th>'
        f"<td>{_button(one.own, told)}</td></tr>"
    )


def _button(value: int | float, told: str) -> str:
    shown = number(value)
    line = told if told.startswith(("word", "the weight")) else f"{told} = {shown}"
    return f'<button type="button" tabindex="-1" data-told="{escape(line)}">{shown}</button>'


def _products(one: Iterable[int | float], other: Iterable[int | float]) -> str:
    pairs = zip(one, other, strict=True)
    return " + ".join(f"{_bracketed(a)} × {_bracketed(b)}" for a, b in pairs)


def _bracketed(value: int | float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _bits(one: Coded) -> str:
    books = "".join(_code(m, code, one.bits) for m, code in enumerate(one.codes))
    label = escape(theme.style(one.init).label)
    return f"<p><b>{swatch(one.init)}{label}</b> {books}</p>"


def _code(m: int, code: int, bits: int) -> str:
    """One code's bits, the highest first."""
    digits = "".join(f"<i>{bit}</i>" for bit in f"{code:0{bits}b}")
    return (
        f'<span class="code" style="--book:{BOOKS[m]}"><span class="digits" role="img" '
        f'aria-label="bits {code:0{bits}b}">{digits}</span>'
        f"<small>codebook {m + 1}, word {code}</small></span>"
    )
