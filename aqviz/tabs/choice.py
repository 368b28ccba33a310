"""Which layer of which model: two controls that several tabs have."""

from typing import Any

import gradio as gr

from aqviz.tabs.actions import Core
from aqviz.tabs.links import QUIET, opening
from quantcore.errors import QuantcoreError


def draw_choice(view: str, model: str, layer: str) -> tuple[gr.Textbox, gr.Dropdown]:
    """Model and layer; ids begin with the view's name."""
    return (
        gr.Textbox(
            model,
            label="Model (a Hub id, folder, GGUF file; empty: the default)",
            elem_id=f"{view}-model",
        ),
        gr.Dropdown(
            [layer], value=layer, label="Layer", allow_custom_value=True, elem_id=f"{view}-layer"
        ),
    )


def offer_layers(core: Core, model: gr.Textbox, layer: gr.Dropdown) -> None:
    """Offer the model's layers when the view is opened and when the model changes."""

    def layers(name: str) -> Any:
        try:
            return gr.update(choices=list(core.layers(name)))
        except QuantcoreError:  # the view says what is wrong with the model
            return gr.skip()

    gr.on([opening(), model.change], layers, model, layer, **QUIET)
