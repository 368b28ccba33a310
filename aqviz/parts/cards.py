"""Pieces that every tab is made of: a figure with its words, HTML, what can be repeated."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from aqviz import text
from aqviz.plot_host import TEMPLATE

TABLES = (Path(__file__).parents[1] / "tables.js").read_text(encoding="utf-8")


class Repeat(NamedTuple):
    """The boxes that say how to get the same again."""

    command: gr.Textbox
    python: gr.Textbox
    link: gr.Textbox
    files: gr.HTML


def html(value: str, elem_id: str | None = None, **more: Any) -> gr.HTML:
    """HTML of our own, with the page's look."""
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, **more)


def prose(markdown: str, classes: str = "") -> gr.HTML:
    """Our own words, of `text`."""
    return html(f'<div class="prose">{text.rendered(markdown)}</div>', elem_classes=classes)


def plot(figure: str, name: str) -> gr.HTML:
    """A component whose value is a figure's JSON, under the id "plot-" + name.

    Its `select` event tells of a click on a point: x, y, customdata, curve and point (`_data`).
    """
    return gr.HTML(
        figure,
        html_template=TEMPLATE,
        js_on_load="window.aqvizPlot(element, props, watch, trigger);",
        elem_id=f"plot-{name}",
        apply_default_css=False,
    )


def figure_card(name: str, value: str) -> gr.HTML:
    """A figure with its title and caption, the words of that name; its host is "plot-" + name."""
    words = text.read(name)
    with gr.Column(elem_classes="card figure", min_width=300):
        html(f"<h2>{words.title}</h2>")
        view = plot(value, name)
        prose(words.body, "caption")
    return view


def intro(name: str) -> None:
    """A view's title and what it is about, the words of that name."""
    words = text.read(name)
    html(f"<h2>{words.title}</h2>")
    prose(words.body, "lead")


def sortable(value: str, elem_id: str) -> gr.HTML:
    """A component that shows what `shown.tables` makes."""
    return html(value, elem_id, js_on_load=TABLES)


def copied(label: str, elem_id: str, value: str, lines: int) -> gr.Textbox:
    """Text to take away."""
    return gr.Textbox(
        value, label=label, lines=lines, interactive=False, buttons=["copy"], elem_id=elem_id
    )


def repeat_card(prefix: str, command: str, python: str, files: str) -> Repeat:
    """Command, Python, link and downloads of a view; ids begin with the prefix."""
    with gr.Column(elem_classes="card repeat"):
        html("<h2>Repeat, keep, share</h2>")
        return Repeat(
            copied("The same on the command line", f"{prefix}-command", command, lines=2),
            copied("The same in Python", f"{prefix}-python", python, lines=4),
            copied("Link to this view", f"{prefix}-link", "", lines=1),
            html(files, f"{prefix}-files"),
        )
