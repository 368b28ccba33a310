"""The views and their states that recordings hold; what they show: `contents` and `lessons`."""

from collections.abc import Iterable, Mapping
from typing import Any

from aqviz import evaluations, inside, shapes, theme
from aqviz.atlas import MEASURES
from aqviz.evidence import gaps
from aqviz.figures import tokens
from aqviz.figures.plane import CODES
from aqviz.paper_tables import TABLES
from aqviz.shown import rho
from aqviz.shown.basins import TEXTS, Basins
from aqviz.shown.inside import Inside
from aqviz.shown.map import MapState
from aqviz.shown.paper import PaperState
from aqviz.shown.perplexity import Perplexity
from aqviz.shown.rho import RhoState
from aqviz.shown.search import SearchState
from aqviz.shown.tune import TuneState
from aqviz.static import contents
from aqviz.static.lessons import lessons
from aqviz.static.parts import Dial, Option, View

BESIDE = (evaluations.ORIGINAL, "greedy")  # what models are compared with
PLACES = ((74, 28), (74, 0), (0, 0), (0, 36), (96, 28), (191, 71))  # row and group looked into
SCHEMES = ("2x8g8", "1x8g8", "2x6g8", "3x8g8", "1x12g8")  # whose bytes are counted
STEPS = (0, 1, 8, 35, 71)  # of the product by look-up


def views() -> tuple[View, ...]:
    """Every view over what is recorded, in the app's order; Learn is one a lesson."""
    return (
        View("race", contents.Race(), _race, contents.race, "lead"),
        View("map", MapState(), _map, contents.layer_map, "map"),
        View("search", SearchState(), _search, contents.search_grid, "search"),
        View("basins", Basins(), _basins, contents.ground, "basins"),
        View("rho", RhoState(), _rho, contents.regimes, "rho_intro"),
        View("perplexity", Perplexity(), _perplexity, contents.models, "whole_models"),
        View("tune", TuneState(), tuple, contents.trial, "tune"),
        View("inside", Inside(), _inside, contents.group, "inside"),
        *lessons(),
        View("paper", PaperState(), _paper, contents.claims, "paper"),
    )


def _race() -> tuple[Dial, ...]:
    offered = {name: contents.race_words(one) for name, one in contents.races().items()}
    return (Dial.of("Recorded run", "recording", offered, zipped=True),)


def _map() -> tuple[Dial, ...]:
    return (Dial.of("Colour by", "colour", {key: one.label for key, one in MEASURES.items()}),)


def _search() -> tuple[Dial, ...]:
    return (Dial.of("Search of the grid", "shown", _searches(SearchState().searches)),)


def _basins() -> tuple[Dial, ...]:
    return (
        Dial.of("At every point of the plane, codes", "codes", CODES),
        Dial.of("Error on", "text", TEXTS),
    )


def _rho() -> tuple[Dial, ...]:
    measured = {gap.case.search for gap in gaps(rho.recorded())}
    return (
        Dial.of("Search", "search", _searches(measured)),
        Dial.of("Model", "model", _same(shapes.MODELS)),
        Dial.of("Layer", "layer", _same(shapes.LAYERS)),
    )


def _perplexity() -> tuple[Dial, ...]:
    documents = {name: evaluations.read(name) for name in evaluations.names()}
    labels = {
        key: model.label
        for document in documents.values()
        for key, model in evaluations.models(document).items()
    }
    windows = range(1, 1 + max([1, *map(tokens.count, documents.values())]))
    others = {key: label for key, label in labels.items() if key != evaluations.ORIGINAL}
    beside = tuple(
        Option(f"beside-{key}", labels[key], {"beside": key}) for key in BESIDE if key in labels
    )
    schemes = {name: name.removeprefix(evaluations.PREFIX) for name in documents}
    recorded = tuple(Option(words, words, {"recording": name}) for name, words in schemes.items())
    return (
        Dial("Scheme", recorded, zipped=True),
        Dial.of("Model", "model", others),
        Dial("Compared with", beside),
        Dial.of("Window of the text", "window", _same(windows)),
    )


def _inside() -> tuple[Dial, ...]:
    example = inside.read()
    inits = example.versions if example else ()
    places = tuple(
        Option(f"row{row}-group{n}", f"row {row}, group {n}", {"row": row, "group": n})
        for row, n in PLACES
    )
    return (
        Dial.of("Initialiser", "init", {init: theme.style(init).label for init in inits}),
        Dial("Row (output) and group of inputs", places),
        Dial.of("Scheme of the bytes and the counts", "scheme", _same(SCHEMES), alone=True),
        Dial.of("Step of the product by look-up", "step", _same(STEPS), alone=True),
    )


def _paper() -> tuple[Dial, ...]:
    offered = {key: f"{one.number}: {one.title}" for key, one in TABLES.items()}
    return (Dial.of("Table of the paper", "table", offered),)


def _searches(names: Iterable[str]) -> Mapping[str, str]:
    """Those that are meant, in words."""
    kept = set(names)
    return {name: label for name, label in theme.SEARCHES.items() if name in kept}


def _same(values: Iterable[Any]) -> Mapping[Any, str]:
    """Values that are their own words."""
    return {value: str(value) for value in values}
