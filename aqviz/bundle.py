"""A result as one zip: what was run, its numbers, its figures, and a notebook that repeats it.

README.txt      what this is, in words, with the command
config.json     the study and its configuration
metrics.csv     one line a run, plain numbers
trace.json      the whole document
notebook.ipynb  runs the study again and compares
figures.html    the figures, drawn by the plotly.min.js beside it, without a network
"""

import io
import json
import zipfile
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from aqviz import notebook
from aqviz.engine import kind_of
from quantcore.results import Document

FIXED = (2026, 1, 1, 0, 0, 0)  # the same result gives the same bytes
SCRIPT = "plotly.min.js"


def bundle(
    config: Any,
    document: Document,
    figures: Mapping[str, go.Figure],
    metrics: pd.DataFrame,
    told: tuple[str, str],
) -> bytes:
    """The zip of a study.

    Args:
        config: What was run.
        document: What it found.
        figures: Title -> drawing.
        metrics: One line a run.
        told: What it found in one sentence, and the command that repeats it.
    """
    sentence, command = told
    parts = {
        "README.txt": f"{sentence}\n\nAgain on the command line:\n\n    {command}\n",
        "config.json": _json({"study": kind_of(config), "config": document["config"]}),
        "metrics.csv": metrics.to_csv(index=False),
        "trace.json": _json(document),
        "notebook.ipynb": _json(notebook.notebook(config, document, sentence)),
        "figures.html": _page(figures),
        SCRIPT: (files("plotly") / "package_data" / SCRIPT).read_text(encoding="utf-8"),
    }
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name, FIXED), text, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _page(figures: Mapping[str, go.Figure]) -> str:
    """A page of its own with every figure and the sentence under it."""
    parts = []
    for number, (title, drawing) in enumerate(figures.items()):
        shown = go.Figure(drawing).update_layout(paper_bgcolor="white", plot_bgcolor="white")
        told = str((drawing.layout.meta or {}).get("alt", ""))
        body = shown.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{number}",  # its own would be random
            config={"displaylogo": False, "showSendToCloud": False},
        )
        parts.append(f"<h2>{escape(title)}</h2>\n{body}\n<p>{escape(told)}</p>")
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>aqviz</title>\n'
        f'<script src="{SCRIPT}"></script>\n'
        "<style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "</style>\n" + "\n".join(parts) + "\n</html>\n"
    )
