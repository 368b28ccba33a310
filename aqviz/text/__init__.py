"""The words of the app: one Markdown file a piece, its first line the title."""

from pathlib import Path
from typing import NamedTuple

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
