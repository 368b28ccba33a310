"""What a view shows as one zip: what was run, its numbers, its figures, and a notebook.

README.txt      what this is, in words, with the link and the command
config.json     the study and its configuration
metrics.csv     plain numbers, one line a run, start, point, model or weight; other tables beside it
trace.json      the whole document
notebook.ipynb  makes the numbers again and compares
figures.html    the figures, drawn by the plotly.min.js beside it, without a network

A view of several studies has a folder for each. The same view gives the same bytes.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from aqviz import commands, metrics, notebook, recordings, text
from aqviz.engine import kind_of
from aqviz.vendor import PLOTLY
from quantcore.errors import QuantcoreError
from quantcore.results import Document

FIXED = (2026, 1, 1, 0, 0, 0)  # when every file was made
NOTHING = "there is nothing to download of this view yet; what it shows must be run first"
Figures = Mapping[str, go.Figure]
Files = dict[str, str | bytes]


class AbsentError(QuantcoreError):
    """There is nothing of that name, or not yet."""


@dataclass(frozen=True)
class Bundle:
    """What is given away of one study.

    Attributes:
        told: What it found, in a sentence or two.
        config: What was run.
        figures: Title -> drawing.
        tables: Name -> table.
        command: The command line that repeats it, where there is one.
        document: All that it found, where that is JSON.
        notebook: Makes it again, where that can be.
        more: Other files.
    """

    told: str
    config: Document
    figures: Figures
    tables: Mapping[str, pd.DataFrame]
    command: str = ""
    document: Document | None = None
    notebook: Document | None = None
    more: Mapping[str, bytes] = field(default_factory=dict)

    def files(self, query: str) -> Files:
        """The files by name; the query is that of the view's link."""
        made: Files = {"README.txt": self._readme(query), "config.json": _json(self.config)}
        made |= {f"{name}.csv": table.to_csv(index=False) for name, table in self.tables.items()}
        if self.document is not None:
            made["trace.json"] = _json(self.document)
        if self.notebook is not None:
            made["notebook.ipynb"] = _json(self.notebook)
        script = PLOTLY.read_text(encoding="utf-8")
        return {**made, **self.more, "figures.html": _page(self.figures), PLOTLY.name: script}

    def _readme(self, query: str) -> str:
        parts = [self.told, f"The view in aqviz:\n\n    ?{query}"]
        if self.command:
            parts.append(f"Again on the command line:\n\n    {self.command}")
        return "\n\n".join(parts) + "\n"


Bundles = Mapping[str, Bundle]
"""What is in a view's zip, by folder; "" is none."""


def of_study(config: Any, document: Document, figures: Figures, told: str) -> Bundle:
    """All of a study of the app."""
    config, tables = recordings.named(config, document), metrics.tables(document)
    names = metrics.keys(tables["metrics"]), metrics.checked(tables["metrics"])
    return Bundle(
        told=told,
        config={"study": kind_of(config), "config": document["config"]},
        figures=figures,
        tables=tables,
        command=commands.of(config),
        document=document,
        notebook=notebook.of_study(config, document, told, names),
    )


def there(document: Document | None) -> Document:
    """The document, where there is something in it.

    Raises:
        AbsentError: there is not.
    """
    if not metrics.there(document):
        raise AbsentError(NOTHING)
    return document


def drawn(shown: Mapping[str, str]) -> Figures:
    """Figures as the page has them, named by their words, by title."""
    return titled({name: plotly.io.from_json(figure) for name, figure in shown.items()})


def titled(named: Figures) -> Figures:
    """Figures named by their words, by title."""
    return {text.read(name).title: drawing for name, drawing in named.items()}


def alts(figures: Figures) -> str:
    """What the figures say."""
    return " ".join(drawing.layout.meta["alt"] for drawing in figures.values())


def zipped(bundles: Bundles, query: str) -> bytes:
    """Bundles in one zip, each in the folder of its name."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, bundle in bundles.items():
            for name, content in bundle.files(query).items():
                place = f"{folder}/{name}" if folder else name
                archive.writestr(zipfile.ZipInfo(place, FIXED), content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _page(figures: Figures) -> str:
    """A page of its own with every figure and the sentence under it."""
    parts = []
    for number, (title, drawing) in enumerate(figures.items()):
        shown = go.Figure(drawing).update_layout(paper_bgcolor="white", plot_bgcolor="white")
        told = str((drawing.layout.meta or {}).get("alt", ""))
        body = shown.to_html(
            full_html=False,
            include_plotlyjs=False,
            auto_play=False,
            div_id=f"figure-{number}",  # its own would be random
            config={"displaylogo": False, "showSendToCloud": False},
        )
        parts.append(f"<h2>{escape(title)}</h2>\n{body}\n<p>{escape(told)}</p>")
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>aqviz</title>\n'
        f'<script src="{PLOTLY.name}"></script>\n'
        "<style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "</style>\n" + "\n".join(parts) + "\n</html>\n"
    )
