"""The words of the app: one Markdown file a piece, its first line the title."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

FOLDER = Path(__file__).parent
TITLES = {  # of the views, in the page's order
    "race": "Race",
    "map": "Map",
    "search": "Search",
    "basins": "Basins",
    "rho": "ρ",
    "perplexity": "Perplexity",
    "tune": "Tune",
    "inside": "Inside a weight",
    "learn": "Learn",
    "paper": "Paper",
}


class Words(NamedTuple):
    """A title and the Markdown under it."""

    title: str
    body: str


def read(name: str) -> Words:
    """The words of that name."""
    title, _, body = (FOLDER / f"{name}.md").read_text(encoding="utf-8").partition("\n")
    return Words(title.removeprefix("# ").strip(), body.strip())


@cache
def rendered(markdown: str) -> str:
    """Our own words as HTML; what leads to other sites opens beside the page."""
    made: str = MarkdownIt("commonmark").render(markdown)
    return made.replace('<a href="http', '<a target="_blank" rel="noopener" href="http')
