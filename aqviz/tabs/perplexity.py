"""Perplexity's tab: which models and which text; it runs nothing."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import gradio as gr

from aqviz import evaluations, text
from aqviz.core import Core
from aqviz.evaluations import ORIGINAL, PREFIX, Model
from aqviz.figures import tokens
from aqviz.parts.cards import figure_card, html, intro, plot, prose, repeat_card
from aqviz.parts.links import KEPT, View, wire
from aqviz.shown.perplexity import Perplexity, Shown, show, shown

FIRST = Perplexity()


def draw_perplexity(core: Core) -> None:
    """The whole tab; it shows recordings and runs nothing."""
    first = shown(FIRST, evaluations.read(FIRST.recording))
    intro("whole_models")
    with gr.Column(elem_classes="card"):
        controls = _draw_controls()
        alert, about = html("", "perplexity-alert"), html(first.about)
        verdicts = html(first.verdicts, "perplexity-verdicts")
    with gr.Row(elem_classes="figures"):
        models, pairs = figure_card("models", first.models), figure_card("pairs", first.pairs)
    read, bars = _draw_text(first)
    with gr.Row(elem_classes="figures"):
        kl, tuning = figure_card("kl", first.kl), figure_card("tuning", first.tuning)
    worst = _draw_card("The worst tokens", first.worst, "perplexity-worst")
    replies = _draw_card("What the models say", first.replies, "perplexity-replies")
    repeat = repeat_card("perplexity", first.command, first.python, first.files)
    figures = [models, pairs, kl, tuning, read, bars]
    again = [repeat.command, repeat.python, repeat.files]
    outputs = [alert, about, verdicts, *figures, worst, replies, *again]
    kept = lru_cache(maxsize=KEPT)(show)  # of recordings, which do not change
    wire(View("perplexity", Perplexity, kept), controls, outputs, repeat.link)


def choices(found: Iterable[dict[str, Model]]) -> list[tuple[str, str]]:
    """Label and key of every model of any recording, the original first."""
    labels = {key: model.label for models in found for key, model in models.items()}
    return [(label, key) for key, label in labels.items()]


def _draw_controls() -> list[Any]:
    """Recording, model, what it is compared with, and the window of the text."""
    documents = {name: evaluations.read(name) for name in evaluations.names()}
    models = choices(evaluations.models(document) for document in documents.values())
    windows = max([2, *map(tokens.count, documents.values())])
    with gr.Row(elem_classes="wide-choice"):
        return [
            gr.Dropdown(
                [(name.removeprefix(PREFIX), name) for name in documents],
                value=FIRST.recording if FIRST.recording in documents else None,
                label="Scheme",
                elem_id="perplexity-recording",
            ),
            gr.Dropdown(
                [(label, key) for label, key in models if key != ORIGINAL],
                value=FIRST.model if any(key == FIRST.model for _, key in models) else None,
                label="Model",
                elem_id="perplexity-model",
            ),
            gr.Dropdown(
                models or [(ORIGINAL, ORIGINAL)],
                value=FIRST.beside,
                label="Compared with",
                elem_id="perplexity-beside",
            ),
            gr.Slider(
                1, windows, 1, step=1, label="Window of the text", elem_id="perplexity-window"
            ),
        ]


def _draw_text(first: Shown) -> tuple[gr.HTML, gr.HTML]:
    """The coloured text over its bars, in one card."""
    words = text.read("tokens")
    with gr.Column(elem_classes="card figure"):
        html(f"<h2>{words.title}</h2>")
        read = html(first.text, "perplexity-text")
        bars = plot(first.tokens, "tokens")
        prose(words.body, "caption")
    return read, bars


def _draw_card(title: str, value: str, elem_id: str) -> gr.HTML:
    with gr.Column(elem_classes="card"):
        html(f"<h2>{title}</h2>")
        return html(value, elem_id)
