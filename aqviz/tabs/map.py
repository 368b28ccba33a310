"""The map: every layer of a model as a cell, what is known of it, and the chosen one's facts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from aqviz import notebook, permalink, studies, theme
from aqviz.atlas import MEASURES, Place, known, places, summary, surveyed, written
from aqviz.engine import Document
from aqviz.figures.layer_map import draw_layer_map, view_layer_map
from aqviz.tabs import study
from aqviz.tabs.actions import Core
from aqviz.tabs.basins import Basins
from aqviz.tabs.cards import figure_card, html, intro, repeat_card
from aqviz.tabs.choice import draw_choice, offer_layers
from aqviz.tabs.links import QUIET
from aqviz.tabs.search import SearchState
from aqviz.tabs.study import StudyView, draw_runner, wire_study
from aqviz.tabs.tables import Anchor, sortable, table
from quantcore.blocks import LayerInfo
from quantcore.errors import InputError, QuantcoreError
from quantcore.experiment import Experiment
from quantcore.grid import Survey
from quantcore.weight import Scheme

VIEW = "map"
DIGITS = 4  # significant, in the table
UNKNOWN = "This model has no layer of that name; click a cell, or choose one from the list."


@dataclass(frozen=True)
class MapState:
    """What the tab's link holds.

    Attributes:
        model: What `sources.resolve` takes; empty is the default model.
        layer: The chosen layer.
        colour: What the cells are coloured by, of `atlas.MEASURES`.
        scheme: Of rho, and of the runs.
        runs: Whether Run also quantizes every layer.
    """

    model: str = ""
    layer: str = studies.LAYER
    colour: str = "end_ratio"
    scheme: str = "2x8g8"
    runs: bool = True

    def __post_init__(self) -> None:
        if self.colour not in MEASURES:
            raise InputError(
                f"cells cannot be coloured by {self.colour!r}; choose one of {', '.join(MEASURES)}"
            )
        Scheme.parse(self.scheme)  # checks itself

    @property
    def survey(self) -> Survey:
        """The study behind the map; of the default state it is the recorded one."""
        return replace(
            studies.MAP,
            model=self.model or None,
            schemes=(Scheme.parse(self.scheme),),
            inits=studies.MAP.inits if self.runs else (),
        )


def draw_map(core: Core) -> None:
    """The whole tab."""
    state = MapState()
    view = StudyView(VIEW, MapState, lambda state: state.survey, partial(show, core))
    status, _, _, _, _, told, mapped, facts, layers, *again = study.values(core, view, state)
    intro("map")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "map-told")
            with gr.Row(elem_classes="map-pair", equal_height=False):
                grid = figure_card("layer_map", mapped)
                with gr.Column(elem_classes="card", min_width=280):
                    chosen = html(facts, "map-facts")
            with gr.Column(elem_classes="card"):
                html("<h2>Every layer</h2>")
                listed = sortable(layers, "map-layers")
            repeat = repeat_card(VIEW, *again)
    drawn = [headline, grid, chosen, listed, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, controls, runner, drawn, repeat.link)
    model, layer, *_ = controls
    offer_layers(core, model, layer)
    grid.select(picked, layer, layer, **QUIET)


def picked(layer: str, event: gr.EventData) -> str:
    """The layer of the cell that was clicked; the chosen one where there is no layer."""
    return event._data.get("customdata") or layer


def show(
    core: Core, state: MapState, document: Document | None, linked: bool = True
) -> Sequence[Any]:
    """Sentence, map, facts, table, command, Python and downloads of a state.

    Args:
        core: What there is.
        state: What is asked for.
        document: What is known of the survey.
        linked: Whether layers link to what can be run of them.

    Raises:
        SourceError: there is no such model.
    """
    recorded = core.recorded(replace(studies.MAP, model=state.model or None))
    facts = (recorded or {}).get("layers", {}) | (document or {}).get("layers", {})
    layers = surveyed(recorded["layers"]) if recorded else _layers(core, state.model)
    found = places(layers, Scheme.parse(state.scheme), facts, document)
    drawing = draw_layer_map(view_layer_map(found, state.colour, state.layer))
    (told, causes), config = summary(found), state.survey
    return [
        f'<p class="headline">{escape(told)}</p><p class="note">{escape(causes)}</p>',
        theme.to_json(drawing, state.colour),
        chosen_layer(state, found, linked),
        layer_table(state, found, linked),
        permalink.command(config),
        notebook.python(config),
        study.downloads(VIEW, state, document),
    ]


def chosen_layer(state: MapState, found: Sequence[Place], linked: bool = True) -> str:
    """The chosen layer's numbers, each with its rank, and links to the layer elsewhere."""
    place = next((one for one in found if one.info.name == state.layer), None)
    name = escape(state.layer)
    if place is None:
        return f'<h2>{name}</h2><p class="note">{UNKNOWN}</p>'
    rows = "".join(
        f"<div><dt>{escape(measure.label)}</dt>"
        f"<dd>{escape(written(key, place.values[key]))}<small>{_rank(found, key, place)}</small>"
        "</dd></div>"
        for key, measure in MEASURES.items()
    )
    links = " ".join(
        f'<a class="file" href="{escape(link.address)}">{link.words}</a>'
        for link in (_elsewhere(state) if linked else ())
    )
    scheme, info = Scheme.parse(state.scheme), place.info
    bits = f"{scheme.bits_per_weight(info.out, info.columns):.2f} bits a weight at {scheme}"
    return (
        f'<h2>{name}</h2><p class="note">{info.out:,} × {info.columns:,}, {bits}</p>'
        f'<dl class="numbers-of">{rows}</dl>' + (f'<p class="files">{links}</p>' if links else "")
    )


def layer_table(state: MapState, found: Sequence[Place], linked: bool = True) -> str:
    """All layers with all numbers."""
    heads = [f"{one.label}{', %' if one.scale == 'percent' else ''}" for one in MEASURES.values()]
    rows = [
        (
            *(place.info.name, f"{place.info.out} × {place.info.columns}"),
            *(_cell(key, place.values[key]) for key in MEASURES),
            *((_race(replace(state, layer=place.info.name)),) if linked else ()),
        )
        for place in found
    ]
    caption = f"Layers at {Scheme.parse(state.scheme)}; errors are held-out, means over seeds"
    return table(caption, ("layer", "shape", *heads, *(("race",) if linked else ())), rows)


def _layers(core: Core, model: str) -> list[LayerInfo]:
    """The model's layers; none while the program prepares, which the page does not wait for."""
    if not core.ready.is_set():
        return []
    try:
        return list(core.layers(model).values())
    except QuantcoreError:
        if model:
            raise
        return []  # the page stands without its default model


def _cell(key: str, value: float | None) -> float | None:
    if value is None:
        return None
    scaled = 100 * value if MEASURES[key].scale == "percent" else value
    return float(f"{scaled:.{DIGITS}g}")


def _rank(found: Sequence[Place], key: str, place: Place) -> str:
    """The place among all layers, the largest first."""
    value, every = place.values[key], [value for _, value in known(found, key)]
    if value is None:
        return ""
    return f"{1 + sum(one > value for one in every)} of {len(every)} from the largest"


def _elsewhere(state: MapState) -> tuple[Anchor, ...]:
    model, layer, scheme = state.model, state.layer, state.scheme
    basins = permalink.encode("basins", Basins(layer=layer, model=model, scheme=scheme))
    search = permalink.encode("search", SearchState(layer=layer, model=model, scheme=scheme))
    return (
        _race(state),
        Anchor("Open in Basins", f"?{basins}"),
        Anchor("Open in Search", f"?{search}"),
    )


def _race(state: MapState) -> Anchor:
    scheme = Scheme.parse(state.scheme)
    race = Experiment(model=state.model or None, layer=state.layer, scheme=scheme)
    return Anchor("Open in the race", f"?{permalink.to_query(race)}")


def _controls(core: Core, first: MapState) -> list[Any]:
    """One component for each field of the state, in its order."""
    model, layer = draw_choice(core, VIEW, first.model, first.layer)
    return [
        model,
        layer,
        gr.Dropdown(
            [(measure.label, key) for key, measure in MEASURES.items()],
            value=first.colour,
            label="Colour by",
            elem_id="map-colour",
        ),
        gr.Textbox(
            first.scheme,
            label="Scheme",
            info="codebooks x bits a code, g weights a group: 2x8g8",
            elem_id="map-scheme",
        ),
        gr.Checkbox(
            first.runs,
            label="Quantize every layer too",
            info="Without it Run only measures what layers are like.",
            elem_id="map-runs",
        ),
    ]
