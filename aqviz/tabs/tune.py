"""Tune's tab: a study of some blocks."""

from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.parts import study
from aqviz.parts.cards import figure_card, html, intro, repeat_card, sortable
from aqviz.parts.choice import SEARCHES, draw_inits, draw_model
from aqviz.parts.study import StudyView, draw_runner, wire_study
from aqviz.shown.tune import VIEW, TuneState, show


def draw_tune(core: Core) -> None:
    """The whole tab."""
    state = TuneState()
    view = StudyView(VIEW, TuneState, lambda state: state.trial, show)
    status, *_, told, curve, numbers, said, command, python, files = study.values(core, view, state)
    intro(VIEW)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "tune-told")
            course = figure_card("trial", curve)
            with gr.Column(elem_classes="card"):
                html("<h2>In numbers</h2>")
                listed = sortable(numbers, "tune-runs")
            with gr.Column(elem_classes="card"):
                html("<h2>What the models say</h2>")
                replies = html(said, "tune-replies")
            repeat = repeat_card(VIEW, command, python, files)
    drawn = [headline, course, listed, replies, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, controls, runner, drawn, repeat.link)


def _controls(core: Core, first: TuneState) -> list[Any]:
    """One component for each field of the state, in its order."""
    model = draw_model(core, f"{VIEW}-model", first.model)
    with gr.Row(elem_classes="pair"):
        blocks = gr.Textbox(
            first.blocks, label="Blocks (10 or 0-3)", min_width=120, elem_id="tune-blocks"
        )
        scheme = gr.Textbox(
            first.scheme, label="Scheme (2x8g8)", min_width=120, elem_id="tune-scheme"
        )
    inits = draw_inits(VIEW, first.inits)
    search = gr.Dropdown(
        SEARCHES,
        value=first.search,
        label="Search, the same for all",
        elem_id="tune-search",
    )
    with gr.Row(elem_classes="pair"):
        seconds = gr.Number(
            first.seconds, label="Seconds of tuning", min_width=120, elem_id="tune-seconds"
        )
        steps = gr.Number(
            first.steps, label="or steps (0: none)", min_width=120, elem_id="tune-steps"
        )
    prompt = gr.Textbox(first.prompt, label="Prompt", lines=2, elem_id="tune-prompt")
    with gr.Row(elem_classes="pair"):
        tokens = gr.Number(first.reply_tokens, label="Tokens of a reply", min_width=120)
        seed = gr.Number(first.seed, label="Seed", min_width=120)
    return [model, blocks, scheme, inits, search, seconds, steps, prompt, tokens, seed]
