"""The paper: its claims beside our verdicts, its figures and tables beside our recordings."""

from collections import Counter
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go

from aqviz import bundle, permalink, recordings, theme
from aqviz.bundle import Bundles
from aqviz.cautions import DIFFERENCES, cautions
from aqviz.claims import CLAIMS, Claim
from aqviz.core import Core
from aqviz.evidence import models
from aqviz.figures.paper_pareto import draw_pareto, view_pareto
from aqviz.figures.paper_texts import draw_texts, view_texts
from aqviz.figures.paper_tuning import draw_tuning, view_tuning
from aqviz.paper_tables import TABLES
from aqviz.shown import panels
from aqviz.shown.tables import table
from aqviz.verdicts import FRONTIER, LAYERS, SURVEY, Documents
from quantcore.errors import InputError

MARKS = {"seen": "●", "seen in part": "◐", "not seen": "○"}  # beside the words, never alone
UNREPEATED = (
    "There is no notebook: nothing was run for this view. The verdicts follow from the recordings, "
    "and the views of those have notebooks."
)


@dataclass(frozen=True)
class PaperState:
    """What the tab's link holds: the first number of the table that is shown."""

    table: str = "1"

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            known = ", ".join(TABLES)
            raise InputError(f"there is no table {self.table!r} here; choose one of {known}")


def recorded() -> Documents:
    """The recordings that verdicts and figures rest on, by name; absent ones are left out."""
    named = {name: recordings.read(name) for name in (SURVEY, FRONTIER, *LAYERS)}
    found = named | recordings.every("evaluation")
    return {name: document for name, document in found.items() if document is not None}


def figures(documents: Documents) -> dict[str, go.Figure]:
    """The paper's figures beside ours, by the names of their words."""
    return {
        "paper_tuning": draw_tuning(view_tuning(models(documents))),
        "paper_texts": draw_texts(view_texts()),
        "paper_pareto": draw_pareto(view_pareto(documents.get(FRONTIER))),
    }


def downloads(state: PaperState) -> str:
    """The link to everything of the view."""
    return panels.downloads(permalink.encode("paper", state))


def bundles(core: Core, state: PaperState) -> Bundles:
    """What the view's zip holds: every claim with its verdict, and the paper's tables."""
    documents = recorded()
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
        "": bundle.Bundle(
            told=f"{told}\n\n{UNREPEATED}",
            config={"recordings": sorted(documents)},
            figures=bundle.titled(figures(documents)),
            tables={
                "metrics": points.drop(columns="entry", errors="ignore"),
                "verdicts": verdicts.drop(columns="judge"),
                **printed,
            },
        )
    }


def claims(documents: Documents) -> str:
    """Every claim with its verdict."""
    return f'<ol class="claims">{"".join(_claim(one, documents) for one in CLAIMS)}</ol>'


def paper_table(state: PaperState) -> str:
    """The chosen table."""
    chosen = TABLES[state.table]
    note = f'<p class="note">{escape(chosen.note)}</p>' if chosen.note else ""
    return table(f"Table {chosen.number}: {chosen.title}", chosen.columns, chosen.rows) + note


def our_table(documents: Documents) -> str:
    """The models that were evaluated here."""
    rows = [
        (
            *(point.scheme, theme.style(point.init).label, "yes" if point.tuned else "no"),
            *(_rounded(point.value, 2), _rounded(point.error, 2)),
            *(_rounded(point.difference, 4), _rounded(point.difference_error, 4)),
            *(_rounded(point.seconds, 0), point.recording),
        )
        for point in models(documents)
    ]
    if not rows:
        return '<p class="note">No evaluation of a whole model has been recorded yet.</p>'
    columns = (
        *("scheme", "start", "tuned", "perplexity", "±", "nats over the original", "± paired"),
        *("seconds", "recording"),
    )
    return table("SmolLM2 135M on our own text, not WikiText-2", columns, rows)


def caution_list() -> str:
    """Where the paper's sentences and its numbers part."""
    items = "".join(
        f"<li><p>{escape(one.says)} <small>{escape(one.where)}</small></p>"
        f"<p>{escape(one.numbers)}</p></li>"
        for one in cautions()
    )
    return f"<h3>Sentences and numbers</h3><ul class='cautions'>{items}</ul>"


def differences() -> str:
    """Where the paper's text and its code part."""
    rows = [(one.what, one.paper, one.code) for one in DIFFERENCES]
    return "<h3>Text and released code</h3>" + table(
        "The paper's text beside the code released with it", ("what", "text", "code"), rows
    )


def _claim(claim: Claim, documents: Documents) -> str:
    found = claim.judge(documents)
    source = f" <small>{escape(', '.join(found.recordings))}</small>" if found.recordings else ""
    mark = MARKS.get(found.status, "–")
    kind = found.status.replace(" ", "-")
    return (
        f"<li><h3>{escape(claim.title)}</h3>"
        f"<p>{escape(claim.words)} <small>{escape(claim.where)}</small></p>"
        f'<p class="found"><span class="badge {kind}"><span aria-hidden="true">{mark}</span> '
        f"{found.status}</span> {escape(found.sentence)}{source}</p></li>"
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
