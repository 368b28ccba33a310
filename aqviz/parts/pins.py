"""Pinned runs under the race: kept by the ids of their jobs, which the link carries."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from aqviz import recordings
from aqviz.core import Core
from aqviz.parts.board import Board
from aqviz.parts.cards import figure_card
from aqviz.parts.events import QUIET, opening
from aqviz.parts.links import ASKED, asked_of
from aqviz.shown.race import pinned, show_pins

KEEP = """(pins) => {
  const url = new URL(location.href);
  if (pins) url.searchParams.set("pins", pins);
  else url.searchParams.delete("pins");
  history.replaceState(null, "", url);
}"""


def draw_pinned(core: Core, board: Board) -> None:
    """The figure of pinned runs, the button that clears it, and their wiring."""
    pins = gr.Textbox(visible="hidden", elem_id="pins")
    with gr.Column(visible=False, elem_classes="board") as column:
        view = figure_card("pins", show_pins(core, ()))
        clear = gr.Button("Remove all pins", elem_id="unpin", size="sm")

    def shown(ids: Sequence[str]) -> list[Any]:
        return [",".join(ids), gr.update(visible=bool(ids)), show_pins(core, ids)]

    def add(so_far: str, job: str) -> list[Any]:
        return shown(pinned(core, so_far, job or recordings.FIRST))

    def opened(asked: str) -> list[Any]:
        return shown(pinned(core, asked_of(asked).get("pins", ""), ""))

    outputs = [pins, column, view]
    events = [
        board.pin.click(add, [pins, board.job], outputs, **QUIET),
        clear.click(lambda: shown(()), None, outputs, **QUIET),
        opening()(opened, gr.Textbox(visible="hidden"), outputs, js=ASKED, **QUIET),
    ]
    for event in events[:2]:
        event.then(None, pins, None, js=KEEP, **QUIET)
