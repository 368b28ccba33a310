"""The controls of a run, in the order of Form's fields, laid out; no wiring."""

from dataclasses import dataclass, fields
from html import escape
from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.parts.choice import INITS, SEARCHES, draw_model
from aqviz.parts.own_layer import Brought, draw_file
from aqviz.shown.form import OWN, Form, blocks_of, projections_of
from quantcore.blocks import LayerInfo
from quantcore.weight import PRESETS

BITS = [f"{bits:g}" for bits in PRESETS]
DEVICES = ["auto", "cpu", "cuda"]
TEXTS = ["default", "wikitext2", "c4"]
ADVANCED = (
    "Shrinkage moves the calibration Hessian towards its diagonal, which helps where tokens are "
    "few; damping adds a share of its mean. With 0 windows perplexity is left out."
)


@dataclass(frozen=True)
class Controls:
    """One component for each field of Form, and what belongs to them."""

    model: gr.Dropdown
    upload: gr.Textbox
    block: gr.Dropdown
    projection: gr.Dropdown
    preset: gr.Radio
    codebooks: gr.Number
    bits: gr.Number
    group: gr.Number
    inits: gr.CheckboxGroup
    search: gr.Dropdown
    beam: gr.Number
    sweeps: gr.Number
    seed: gr.Number
    seeds: gr.Number
    device: gr.Dropdown
    text: gr.Dropdown
    tokens: gr.Number
    shrinkage: gr.Number
    damping: gr.Number
    windows: gr.Number
    brought: Brought
    own: gr.Row
    facts: gr.HTML
    run: gr.Button
    alert: gr.HTML

    def inputs(self) -> list[Any]:
        """The components whose values make a Form."""
        return [getattr(self, name) for name in Form._fields]

    def source(self) -> list[Any]:
        """Where the layer is from: model, upload, block and projection."""
        return [self.model, self.upload, self.block, self.projection]


def draw_controls(core: Core, form: Form, layers: dict[str, LayerInfo]) -> Controls:
    """Lay the controls out with the form's values in them."""
    made = {
        **_what(core, form, layers),
        **_how(form),
        "facts": gr.HTML(elem_id="facts", apply_default_css=False),
        "run": gr.Button("Run", variant="primary", size="lg", elem_id="run"),
        "alert": gr.HTML(elem_id="alert", apply_default_css=False),
        **_advanced(core, form),
    }
    return Controls(**{field.name: made[field.name] for field in fields(Controls)})


def _what(core: Core, form: Form, layers: dict[str, LayerInfo]) -> dict[str, Any]:
    model = draw_model(core, "model", form.model or "")
    with gr.Column(visible=False) as used:
        told = gr.HTML(elem_id="brought", apply_default_css=False)
        back = gr.Button("Use the model again", size="sm")
    with gr.Row(elem_classes="pair"):
        block = gr.Dropdown(
            blocks_of(layers), value=form.block, label="Block", min_width=80, elem_id="block"
        )
        projection = gr.Dropdown(
            projections_of(layers, form.block),
            value=form.projection,
            label="Layer",
            min_width=160,
            scale=2,
            elem_id="projection",
        )
    file, alert = draw_file(core.uploads.largest)
    preset = gr.Radio(
        [*BITS, OWN], value=form.preset, label="Bits of codes a weight", elem_id="preset"
    )
    with gr.Row(visible=form.preset == OWN, elem_classes="pair") as own:
        books = gr.Number(form.codebooks, label="Codebooks", min_width=70)
        bits = gr.Number(form.bits, label="Bits a code", min_width=70)
        group = gr.Number(form.group, label="Group", min_width=70)
    return {
        "model": model,
        "upload": gr.Textbox("", visible="hidden", elem_id="upload"),
        "brought": Brought(used, told, back, file, alert),
        "block": block,
        "projection": projection,
        "preset": preset,
        "codebooks": books,
        "bits": bits,
        "group": group,
        "own": own,
    }


def _how(form: Form) -> dict[str, Any]:
    inits = gr.CheckboxGroup(INITS, value=form.inits, label="Initialisers", elem_id="inits")
    with gr.Row(elem_classes="pair wide"):
        search = gr.Dropdown(
            SEARCHES, value=form.search, label="Search", min_width=160, elem_id="search"
        )
        beam = gr.Number(form.beam, label="Beam", min_width=60, elem_id="beam")
    with gr.Row(elem_classes="pair three"):
        sweeps = gr.Number(form.sweeps, label="Sweeps", min_width=60, elem_id="sweeps")
        seed = gr.Number(form.seed, label="Seed", min_width=60, elem_id="seed")
        seeds = gr.Number(form.seeds, label="Seeds", min_width=60, elem_id="seeds")
    return {
        "inits": inits,
        "search": search,
        "beam": beam,
        "sweeps": sweeps,
        "seed": seed,
        "seeds": seeds,
    }


def _advanced(core: Core, form: Form) -> dict[str, Any]:
    with gr.Accordion("Advanced", open=False, elem_classes="more"):
        with gr.Row(elem_classes="pair"):
            device = gr.Dropdown(DEVICES, value=form.device, label="Device", min_width=90)
            text = gr.Dropdown(
                TEXTS,
                value=form.text,
                label="Text" if core.limits.public else "Text (or a file)",
                allow_custom_value=True,
                min_width=140,
                scale=2,
            )
        with gr.Row(elem_classes="pair"):
            tokens = gr.Number(form.tokens, label="Calibration tokens", min_width=120)
            windows = gr.Number(form.windows, label="Perplexity windows", min_width=120)
        with gr.Row(elem_classes="pair"):
            shrinkage = gr.Number(form.shrinkage, label="Shrinkage, 0 to 1", min_width=120)
            damping = gr.Number(form.damping, label="Damping", min_width=120)
        gr.HTML(f'<p class="note">{escape(ADVANCED)}</p>', apply_default_css=False)
    return {
        "device": device,
        "text": text,
        "tokens": tokens,
        "shrinkage": shrinkage,
        "damping": damping,
        "windows": windows,
    }
