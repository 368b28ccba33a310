"""A visitor's own layer: its file, what is said of it, and the way back to the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from aqviz import text
from aqviz.core import Core
from aqviz.parts.choice import offered
from aqviz.parts.events import QUIET, guarded
from aqviz.retention import MIB
from aqviz.shown import race_panels


@dataclass(frozen=True)
class Brought:
    """What is there for a visitor's own layer; `used` is seen while one is in use."""

    used: gr.Column
    told: gr.HTML
    back: gr.Button
    file: gr.UploadButton
    alert: gr.HTML


def draw_file(largest: int) -> tuple[gr.UploadButton, gr.HTML]:
    """The button for a file of at most so many bytes, and its alert."""
    words = text.read("own_layer")
    with gr.Accordion(words.title, open=False, elem_classes="more", elem_id="own-layer"):
        gr.Markdown(words.body)
        file = gr.UploadButton(
            f"Choose a file, at most {largest / MIB:g} MiB",
            file_types=[".safetensors"],
            size="sm",
            elem_id="own-file",
        )
        return file, gr.HTML(elem_id="own-alert", apply_default_css=False)


def wire_upload(core: Core, own: Brought, source: Sequence[Any]) -> None:
    """Take files, and give the model back; the source is model, upload, block and projection."""
    model, upload, block, _ = source
    outputs = [own.alert, *source[1:]]

    def taken(file: dict[str, Any]) -> list[Any]:
        def kept() -> list[Any]:
            name = core.uploads.keep(Path(file["path"])).name
            return ["", name, *offered(core, None, name, None, None)]

        return guarded(kept, len(outputs))

    def back(named: str | None) -> list[Any]:
        return ["", "", *offered(core, named, None, None, None)]

    # the component's own preprocessing would leave an empty file behind, each time
    own.file.upload(taken, own.file, outputs, preprocess=False, **QUIET)
    own.back.click(back, model, outputs, **QUIET)
    shown = [own.used, own.told, model, block]
    upload.change(in_use, upload, shown, **QUIET)


def in_use(upload: str) -> list[Any]:
    """Whether an upload is in use, which, and whether model and block are there to choose."""
    told = race_panels.brought(upload) if upload else ""
    return [gr.update(visible=bool(upload)), told, *[gr.update(visible=not upload)] * 2]
