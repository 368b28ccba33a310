"""Every view as a zip: what a link's state shows, with the figures that the page draws of it.

A zip is asked for with the query of the view's link. Nothing is run for one: what is in it was
recorded, or found by a job.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from aqviz import bundle, evaluations, inside, metrics, notebook, recordings, report, text
from aqviz.atlas import places, summary, surveyed
from aqviz.bundle import Bundle
from aqviz.claims import CLAIMS
from aqviz.core import LOST, Core
from aqviz.engine import Document
from aqviz.evidence import gaps, models
from aqviz.figures.inside_group import GroupView, view_group
from aqviz.figures.layer_map import draw_layer_map, view_layer_map
from aqviz.paper_tables import TABLES
from aqviz.parts.study import find
from aqviz.permalink import Link, decode, from_query
from aqviz.shown import inside as inside_show
from aqviz.shown import perplexity as perplexity_show
from aqviz.shown.inside import Inside
from aqviz.shown.perplexity import Perplexity
from aqviz.shown.race import figures
from aqviz.tabs import basins, paper, rho, search, tune
from aqviz.tabs.basins import Basins
from aqviz.tabs.map import MapState
from aqviz.tabs.paper import PaperState
from aqviz.tabs.rho import RhoState
from aqviz.tabs.search import SearchState
from aqviz.tabs.tune import TuneState
from quantcore import survey
from quantcore.errors import QuantcoreError
from quantcore.weight import Scheme

NOTHING = "there is nothing to download of this view yet; what it shows must be run first"
UNKNOWN = "there is no such view to download"
UNREPEATED = (
    "There is no notebook: nothing was run for this view. The verdicts follow from the recordings, "
    "and the views of those have notebooks."
)
Bundles = Mapping[str, Bundle]


class AbsentError(QuantcoreError):
    """There is nothing of that name, or not yet."""


def zip_of(core: Core, query: Mapping[str, str], link: str) -> bytes:
    """The zip of a view.

    Args:
        core: What there is.
        query: The parameters of the view's link.
        link: The same as it was written.

    Raises:
        AbsentError: there is no such view, or nothing in it.
        QuantcoreError: the link's state cannot be.
    """
    return bundle.zipped(made(core, query), link)


def made(core: Core, query: Mapping[str, str]) -> Bundles:
    """What is in a view's zip, by folder.

    Raises:
        AbsentError: there is no such view, or nothing in it.
        QuantcoreError: the link's state cannot be.
    """
    if query.get("view") not in VIEWS:
        raise AbsentError(UNKNOWN)
    read, make = VIEWS[query["view"]]
    return make(core, read(query))


def _race(core: Core, link: Link) -> Bundles:
    document = _race_of(core, link)
    config = recordings.experiment_of(document["config"])
    told = report.sentence(document, "done")
    return {"": bundle.of_study(config, document, _titled(figures(document)), told)}


def _race_of(core: Core, link: Link) -> Document:
    """The document of a link's job or experiment; of neither, the recording on the first page."""
    if link.job:
        job = core.race(link.job)
        if job is None:
            raise AbsentError(LOST)
        return _there(job.document)
    recorded = core.recording
    if link.experiment is None:
        return _there(recorded)
    job = core.store.find(link.experiment)
    if job is not None:
        return _there(job.document)
    if recorded is None:
        raise AbsentError(NOTHING)
    same = recordings.experiment_of(recorded["config"]).key() == link.experiment.key()
    return _there(recorded if same else None)


def _map(core: Core, state: MapState) -> Bundles:
    document = _there(find(core, state.survey)[1])
    facts, scheme = document["layers"], Scheme.parse(state.scheme)
    found = places(surveyed(facts), scheme, facts, document)
    drawing = draw_layer_map(view_layer_map(found, state.colour, state.layer))
    drawn, told = _titled({"layer_map": drawing}), " ".join(summary(found)).strip()
    return {"": bundle.of_study(state.survey, document, drawn, told)}


def _search(core: Core, state: SearchState) -> Bundles:
    document = _there(find(core, state.survey)[1])
    _, grid, cost, *_ = search.show(state, document)
    drawn = _drawn({"frontier": cost, "search_grid": grid})
    told = search.asymmetry(state, document)
    return {"": bundle.of_study(state.survey, document, drawn, told)}


def _basins(core: Core, state: Basins) -> Bundles:
    """A folder for each of the two studies, as far as they are there."""
    made: dict[str, Bundle] = {}
    document = find(core, state.landscape)[1]
    if metrics.there(document):
        plane, line, *_ = basins.show_landscape(state, document)
        drawn = _drawn({"plane": plane, "line": line})
        made["landscape"] = bundle.of_study(state.landscape, document, drawn, _told(drawn))
    document = find(core, state.many)[1]
    if metrics.there(document):
        drawn = _drawn({"starts": basins.show_starts(state, document)[0]})
        made["starts"] = bundle.of_study(state.many, document, drawn, _told(drawn))
    if not made:
        raise AbsentError(NOTHING)
    return made


def _tune(core: Core, state: TuneState) -> Bundles:
    document = _there(find(core, state.trial)[1])
    _, curve, *_ = tune.show(state, document)
    told = tune.verdict(document)
    return {"": bundle.of_study(state.trial, document, _drawn({"trial": curve}), told)}


def _rho(core: Core, state: RhoState) -> Bundles:
    document = _there(rho.recorded())
    marks, _, ruler, *_ = rho.show(state, gaps(document))
    drawn = _drawn({"rho": marks, "rho_regimes": ruler})
    config = recordings.config_of(survey.KIND, document["config"])
    return {"": bundle.of_study(config, document, drawn, _told(drawn))}


def _perplexity(core: Core, state: Perplexity) -> Bundles:
    shown, document = perplexity_show.show(state), evaluations.read(state.recording) or {}
    names = ("models", "pairs", "kl", "tuning", "tokens")
    drawn = _drawn({name: getattr(shown, name) for name in names})
    tables = metrics.evaluated(state.recording, document)
    told = " ".join(evaluations.verdicts(document)) or _told(drawn)
    return {
        "": Bundle(
            told=told,
            config={"study": document["kind"], "config": document["config"]},
            figures=drawn,
            tables=tables,
            command=shown.command,
            document=document,
            notebook=notebook.of_evaluation(told, "pairs" in tables),
        )
    }


def _inside(core: Core, state: Inside) -> Bundles:
    example = inside.read()
    if example is None:
        raise AbsentError(NOTHING)
    shown, row, group = inside_show.show(example, state), state.row, state.group
    names = ("map", "group", "bytes", "tables", "counts")
    drawn = _drawn({f"inside_{name}": getattr(shown, name) for name in names})
    view = view_group(example.weight, example.blocks[group], example.versions, row, group)
    return {
        "": Bundle(
            told=view.alt,
            config={"config": example.facts["config"], "view": asdict(state)},
            figures=drawn,
            tables={"metrics": group_table(view)},
            command=inside_show.command(example),
            document=example.facts,
            notebook=notebook.of_group(view.alt, row, group),
            more={inside.PATH.name: inside.PATH.read_bytes()},
        )
    }


def group_table(view: GroupView) -> pd.DataFrame:
    """A line for every weight of the group from every initialiser.

    The words' `sum` times `scale` is q, which stands for the weight w; d = w - q, Hd is H d by the
    group's own block of the Hessian, and dHd their product: in sum the group's own error.
    """
    lines = []
    for one in view.versions:
        for i, weight in enumerate(view.original):
            books = enumerate(zip(one.codes, one.words, strict=True), start=1)
            line = {"init": one.init, "input": view.group * len(view.original) + i}
            for m, (code, word) in books:
                line |= {f"code_{m}": code, f"word_{m}": word[i]}
            line |= {"sum": one.sums[i], "scale": one.scale, "q": one.coded[i], "w": weight}
            line |= {"d": one.error[i], "Hd": one.pull[i], "dHd": one.error[i] * one.pull[i]}
            lines.append(line)
    return pd.DataFrame(lines)


def _paper(core: Core, state: PaperState) -> Bundles:
    documents = paper.recorded()
    judged = [(claim, claim.judge(documents)) for claim in CLAIMS]
    verdicts = pd.DataFrame([vars(claim) | vars(found) for claim, found in judged])
    verdicts["recordings"] = verdicts["recordings"].map(" ".join)
    points = pd.DataFrame([vars(point) for point in models(documents)])
    printed = {
        f"paper-table-{key}": pd.DataFrame(one.rows, columns=one.columns)
        for key, one in TABLES.items()
    }
    counts = Counter(found.status for _, found in judged)
    told = f"The paper's {len(judged)} claims: {', '.join(f'{n} {s}' for s, n in counts.items())}."
    return {
        "": Bundle(
            told=f"{told}\n\n{UNREPEATED}",
            config={"recordings": sorted(documents)},
            figures=_titled(paper.figures(documents)),
            tables={
                "metrics": points.drop(columns="entry", errors="ignore"),
                "verdicts": verdicts.drop(columns="judge"),
                **printed,
            },
        )
    }


def _there(document: Document | None) -> Document:
    if not metrics.there(document):
        raise AbsentError(NOTHING)
    return document


def _drawn(shown: Mapping[str, str]) -> dict[str, go.Figure]:
    """Figures as the page has them, by title."""
    return _titled({name: plotly.io.from_json(drawn) for name, drawn in shown.items()})


def _titled(named: Mapping[str, go.Figure]) -> dict[str, go.Figure]:
    """Figures named by their words, by title."""
    return {text.read(name).title: drawing for name, drawing in named.items()}


def _told(drawn: Mapping[str, go.Figure]) -> str:
    """What the figures say."""
    return " ".join(drawing.layout.meta["alt"] for drawing in drawn.values())


VIEWS: dict[str, tuple[Callable[[Mapping[str, str]], Any], Callable[[Core, Any], Bundles]]] = {
    "race": (from_query, _race),
    "map": (partial(decode, MapState), _map),
    "search": (partial(decode, SearchState), _search),
    "basins": (partial(decode, Basins), _basins),
    "rho": (partial(decode, RhoState), _rho),
    "perplexity": (partial(decode, Perplexity), _perplexity),
    "tune": (partial(decode, TuneState), _tune),
    "inside": (partial(decode, Inside), _inside),
    "paper": (partial(decode, PaperState), _paper),
}
"""view -> what reads its state from a link's parameters, and what makes its bundles"""
