"""Tables that a reader can sort: HTML of our own, with buttons as heads and a caption as name."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple


class Anchor(NamedTuple):
    """A cell that is a link."""

    words: str
    address: str


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under heads that sort them; the first cell of a row names it.

    Cells are numbers, words, None for what is not known, or links.
    """
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(head)}</button></th>'
        for head in columns
    )
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    name = escape(caption)
    return (
        f'<div class="sheet sorted" tabindex="0" role="region" aria-label="{name}">'
        f"<table><caption>{name}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[Any]) -> str:
    first, *rest = row
    return f'<th scope="row"{_value(first)}>{_words(first)}</th>' + "".join(
        f"<td{_value(cell)}>{_words(cell)}</td>" for cell in rest
    )


def _value(cell: Any) -> str:
    """What to sort by, where it is not what is written."""
    if cell is None:
        return ' data-value=""'
    return f' data-value="{cell!r}"' if isinstance(cell, (int, float)) else ""


def _words(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Anchor):
        return f'<a href="{escape(cell.address)}">{escape(cell.words)}</a>'
    if isinstance(cell, float):
        return f"{cell:,.10g}".replace("-", "−")
    return f"{cell:,}" if isinstance(cell, int) else escape(cell)
