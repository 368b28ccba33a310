"""What each view shows of a state, by the app's own functions; only recordings are read."""

from dataclasses import dataclass
from typing import Any

from aqviz import inside, permalink, recordings, text, theme
from aqviz.core import Core
from aqviz.engine import Document, kind_of
from aqviz.evidence import gaps
from aqviz.recordings import experiment_of
from aqviz.shown import basins, panels, paper, perplexity, rho, search, tune
from aqviz.shown import inside as inside_view
from aqviz.shown import map as layers
from aqviz.shown.basins import Basins
from aqviz.shown.inside import Inside
from aqviz.shown.map import MapState
from aqviz.shown.paper import PaperState
from aqviz.shown.perplexity import Perplexity
from aqviz.shown.race import show_recording, with_look
from aqviz.shown.rho import RhoState
from aqviz.shown.search import SearchState
from aqviz.shown.tune import TuneState
from aqviz.static.parts import Bare, Content, Figure, Folded, Panel, Row
from quantcore.errors import InputError

UNRECORDED = "{} is not among the recordings; run `python -m aqviz.record` first"


@dataclass(frozen=True)
class Race:
    """Which recorded race is shown."""

    recording: str = recordings.FIRST


def races() -> dict[str, Document]:
    """The recorded races by name, the one that the app opens on before the others."""
    found = recordings.studies()
    names = sorted(found, key=lambda name: (name != recordings.FIRST, name))
    return {name: found[name] for name in names if found[name].get("kind") is None}


def race_of(state: Race) -> Document:
    """The document of a recorded race.

    Raises:
        InputError: there is none of that name.
    """
    found = races().get(state.recording)
    if found is None:
        raise InputError(UNRECORDED.format(f"the race {state.recording!r}"))
    return found


def race_words(document: Document) -> str:
    """The layer and the search of a race."""
    layer = document["layer"].removeprefix("model.layers.")
    return f"{layer}, {theme.SEARCHES[experiment_of(document['config']).search]}"


def race(core: Core, state: Race) -> Content:
    """A recorded race."""
    document = race_of(state)
    found = show_recording(document)
    if state.recording == recordings.FIRST:
        found = with_look(found, "inside.html")
    return Content(
        (
            _made(document),
            Bare(found.headline),
            Figure("trace", found.trace),
            Panel(found.results, "Results", "results"),
            Row((Figure("ends", found.ends), Figure("perplexity", found.perplexity))),
            Figure("usage", found.usage),
            Figure("spread", found.spread),
            Folded("glossary"),
        ),
        found.command,
        found.python,
    )


def layer_map(core: Core, state: MapState) -> Content:
    """The map in a colour."""
    document = _recorded(core, state.survey)
    told, mapped, facts, table, command, python, _ = layers.show(core, state, document, False)
    pair = Row((Figure("layer_map", mapped), Panel(facts, id="map-facts")), "map-pair")
    return Content(
        (_made(document), Bare(told), pair, Panel(table, "Every layer", "map-layers")),
        command,
        python,
    )


def search_grid(core: Core, state: SearchState) -> Content:
    """What searches buy, with the grid of one."""
    document = _recorded(core, state.survey)
    told, grid, cost, ends, command, python, _ = search.show(state, document)
    return Content(
        (
            *(_made(document), Bare(told), Figure("frontier", cost), Figure("search_grid", grid)),
            Panel(ends, "Where every setting ends", "search-ends"),
        ),
        command,
        python,
    )


def ground(core: Core, state: Basins) -> Content:
    """The ground between two solutions, and many starts."""
    document, many = _recorded(core, state.landscape), _recorded(core, state.many)
    plane, line, command, python = basins.show_landscape(state, document)
    (clouds,) = basins.show_starts(state, many)
    apart = panels.provenance(many) != panels.provenance(document)
    return Content(
        (
            *(_made(document), Figure("plane", plane), Figure("line", line)),
            *(Bare('<h2 id="many">Many starts</h2>'), *([_made(many)] if apart else [])),
            Figure("starts", clouds),
        ),
        command,
        python,
    )


def regimes(core: Core, state: RhoState) -> Content:
    """What rho orders, and the regimes of a layer."""
    document = rho.recorded()
    marks, worked, ruler, table, mini, command, python = rho.show(state, gaps(document), False)
    return Content(
        (
            *(_made(document), Figure("rho", marks), Panel(worked, "ρ of a layer", "rho-facts")),
            Figure("rho_regimes", ruler),
            Panel(mini, "The same regime in miniature", "rho-mini"),
            Panel(table, "Layer by layer", "rho-layers"),
        ),
        command,
        python,
    )


def models(core: Core, state: Perplexity) -> Content:
    """Whole models."""
    found = perplexity.show(state)
    return Content(
        (
            Panel(found.about + found.verdicts, "In words", "perplexity-verdicts"),
            Row((Figure("models", found.models), Figure("pairs", found.pairs))),
            Figure("tokens", found.tokens, found.text),
            Row((Figure("kl", found.kl), Figure("tuning", found.tuning))),
            Panel(found.worst, "The worst tokens", "perplexity-worst"),
            Panel(found.replies, "What the models say", "perplexity-replies"),
        ),
        found.command,
        found.python,
    )


def trial(core: Core, state: TuneState) -> Content:
    """The recorded tuning."""
    document = _recorded(core, state.trial)
    told, curve, numbers, said, command, python, _ = tune.show(state, document)
    return Content(
        (
            *(_made(document), Bare(told), Figure("trial", curve)),
            Panel(numbers, "In numbers", "tune-runs"),
            Panel(said, "What the models say", "tune-replies"),
        ),
        command,
        python,
    )


def group(core: Core, state: Inside) -> Content:
    """One group of the recorded weight."""
    example = inside.read()
    if example is None:
        raise InputError(UNRECORDED.format("a weight to look into"))
    found, title = inside_view.show(example, state), text.read("inside_numbers").title
    return Content(
        (
            Bare(inside_view.about(example) + inside_view.kept(example)),
            Figure("inside_map", found.map),
            Figure("inside_group", found.group),
            Panel(found.bits + found.numbers, title, "inside-numbers", words="inside_numbers"),
            Figure("inside_bytes", found.bytes),
            Figure("inside_tables", found.tables),
            Figure("inside_counts", found.counts),
        ),
        inside_view.command(example),
        found.python,
    )


def claims(core: Core, state: PaperState) -> Content:
    """The paper's claims, figures and one of its tables beside ours."""
    documents = paper.recorded()
    drawn = {name: theme.to_json(one, "paper") for name, one in paper.figures(documents).items()}
    care = paper.caution_list() + f'<div id="differences">{paper.differences()}</div>'
    return Content(
        (
            Panel(paper.claims(documents), "Claim by claim"),
            Row(tuple(Figure(name, drawn[name]) for name in ("paper_tuning", "paper_texts"))),
            Figure("paper_pareto", drawn["paper_pareto"]),
            Panel(paper.paper_table(state), "The paper's tables", "paper-rows"),
            Panel(paper.our_table(documents), "Our recorded models", "paper-ours"),
            Panel(care, "With care"),
        )
    )


def query(view: str, state: Any) -> str:
    """The query of the app's link to a state."""
    if isinstance(state, Race):
        return permalink.to_query(experiment_of(race_of(state)["config"]))
    return permalink.encode(view, state)


def _recorded(core: Core, config: Any) -> Document:
    document = core.recorded(config)
    if document is None:
        raise InputError(UNRECORDED.format(f"the {kind_of(config)} of a view"))
    return document


def _made(document: Document | None) -> Bare:
    """When, on what and of which model a recording is."""
    return Bare(f'<p class="note">{panels.provenance(document)}</p>')
