"""What several tabs let one choose: model, layer, initialisers, search."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from aqviz import theme
from aqviz.core import Core
from aqviz.parts.events import QUIET, opening
from aqviz.shown.form import blocks_of, projections_of
from quantcore.errors import QuantcoreError

INITS = [(style.label, init) for init, style in theme.STYLES.items()]
SEARCHES = [(label, search) for search, label in theme.SEARCHES.items()]


def draw_model(core: Core, elem_id: str, model: str) -> gr.Dropdown:
    """A model of those at hand; on one's own machine any other may be named, in public none."""
    return gr.Dropdown(
        [("default", ""), *core.engine.models()],
        value=model,
        label="Model" if core.limits.public else "Model (or a Hub id, folder, GGUF file)",
        info="One of the list: this server offers no other." if core.limits.public else None,
        allow_custom_value=True,  # a link's may be another: the view says what is wrong with it
        elem_id=elem_id,
    )


def draw_inits(view: str, inits: Sequence[str]) -> gr.CheckboxGroup:
    """Any of the initialisers; the id begins with the view's name."""
    return gr.CheckboxGroup(INITS, value=list(inits), label="Initialisers", elem_id=f"{view}-inits")


def draw_choice(core: Core, view: str, model: str, layer: str) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Model and layer; ids begin with the view's name."""
    return (
        draw_model(core, f"{view}-model", model),
        gr.Dropdown(
            [layer], value=layer, label="Layer", allow_custom_value=True, elem_id=f"{view}-layer"
        ),
    )


def offer_layers(core: Core, model: gr.Dropdown, layer: gr.Dropdown) -> None:
    """Offer the model's layers when the view is opened and when the model changes."""

    def layers(name: str) -> Any:
        try:
            return gr.update(choices=list(core.layers(name)))
        except QuantcoreError:  # the view says what is wrong with the model
            return gr.skip()

    shown = [opening(), model.change]  # a link that is opened does both
    gr.on(shown, layers, model, layer, trigger_mode="always_last", **QUIET)


def offered(
    core: Core, model: str | None, upload: str | None, block: Any, projection: Any
) -> list[Any]:
    """Blocks and layers of a model or a file, and others than the chosen where it has not these."""
    try:
        layers = core.layers(model, upload)
    except QuantcoreError:
        return [gr.skip(), gr.skip()]  # `check` says what is wrong
    blocks = blocks_of(layers)
    names = projections_of(layers, block if block in blocks else blocks[0])
    return [_of(blocks, block), _of(names, projection)]


def _of(choices: Sequence[Any], chosen: Any) -> Any:
    """The choices; the chosen one stays, or what was chosen since this was asked."""
    return gr.update(choices=choices, **({} if chosen in choices else {"value": choices[0]}))
