"""The paper's tab: all of it is recorded, and only the table is chosen."""

import gradio as gr

from aqviz import theme
from aqviz.core import Core
from aqviz.paper_tables import TABLES
from aqviz.parts.cards import copied, figure_card, html, intro, sortable
from aqviz.parts.links import View, wire
from aqviz.shown import paper
from aqviz.shown.paper import PaperState, downloads, paper_table


def draw_paper(core: Core) -> None:
    """The whole tab."""
    documents = paper.recorded()
    alert = html("")
    intro("paper")
    with gr.Column(elem_classes="card"):
        html(paper.claims(documents), "claims")
    drawn = {name: theme.to_json(one, "paper") for name, one in paper.figures(documents).items()}
    with gr.Row(elem_classes="figures", equal_height=False):
        for name in ("paper_tuning", "paper_texts"):
            figure_card(name, drawn[name])
    figure_card("paper_pareto", drawn["paper_pareto"])
    with gr.Column(elem_classes="card"):
        html("<h2>The paper's tables</h2>")
        choices = [(f"{t.number}: {t.title}", key) for key, t in TABLES.items()]
        chosen = gr.Dropdown(
            choices, value=PaperState().table, label="Table", elem_id="paper-table"
        )
        shown = sortable(paper_table(PaperState()), "paper-rows")
    with gr.Column(elem_classes="card"):
        html("<h2>Our recorded models</h2>")
        sortable(paper.our_table(documents), "paper-ours")
    with gr.Column(elem_classes="card"):
        html("<h2>With care</h2>")
        html(paper.caution_list(), "cautions")
        html(paper.differences(), "differences")
    with gr.Column(elem_classes="card repeat"):
        link = copied("Link to this view", "paper-link", "", lines=1)
        files = html(downloads(PaperState()), "paper-files")

    def show(state: PaperState) -> list[str]:
        return [paper_table(state), downloads(state)]

    wire(View("paper", PaperState, show), [chosen], [alert, shown, files], link)
