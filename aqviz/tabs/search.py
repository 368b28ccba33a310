"""The search's tab: a study of one layer, its grid under a choice of its own."""

from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.parts import study
from aqviz.parts.cards import figure_card, html, intro, repeat_card, sortable
from aqviz.parts.choice import SEARCHES, draw_choice, draw_inits, offer_layers
from aqviz.parts.study import StudyView, draw_runner, wire_study
from aqviz.permalink import MAX_SEEDS
from aqviz.shown.search import VIEW, WIDTHS, SearchState, show


def draw_search(core: Core) -> None:
    """The whole tab."""
    state = SearchState()
    view = StudyView(VIEW, SearchState, lambda state: state.survey, show)
    status, _, _, _, _, told, grid, frontier, ends, *again = study.values(core, view, state)
    intro("search")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "search-told")
            cost = figure_card("frontier", frontier)
            with gr.Column(elem_classes="card"):
                shown = gr.Radio(
                    SEARCHES,
                    value=state.shown,
                    label="Search of the grid",
                    elem_id="search-shown",
                )
            panels = figure_card("search_grid", grid)
            with gr.Column(elem_classes="card"):
                html("<h2>Where every setting ends</h2>")
                listed = sortable(ends, "search-ends")
            repeat = repeat_card(VIEW, *again)
    drawn = [headline, panels, cost, listed, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, [*controls, shown], runner, drawn, repeat.link)
    model, layer, *_ = controls
    offer_layers(core, model, layer)


def _controls(core: Core, first: SearchState) -> list[Any]:
    """One component for each field of the state but the last, in its order."""
    model, layer = draw_choice(core, VIEW, first.model, first.layer)
    scheme = gr.Textbox(
        first.scheme,
        label="Scheme",
        info="codebooks x bits a code, g weights a group: 2x8g8",
        elem_id="search-scheme",
    )
    inits = draw_inits(VIEW, first.inits)
    searches = gr.CheckboxGroup(
        SEARCHES, value=list(first.searches), label="Searches", elem_id="search-searches"
    )
    beams = gr.CheckboxGroup(
        list(WIDTHS), value=list(first.beams), label="Beams", elem_id="search-beams"
    )
    with gr.Row(elem_classes="pair three"):
        seeds = gr.Number(first.seeds, label="Seeds", min_width=60, minimum=1, maximum=MAX_SEEDS)
        sweeps = gr.Number(first.sweeps, label="Sweeps", min_width=60)
        tokens = gr.Number(first.tokens, label="Tokens", min_width=60)
    return [model, layer, scheme, inits, searches, beams, seeds, sweeps, tokens]
