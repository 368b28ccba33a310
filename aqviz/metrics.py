"""A document as tidy tables of plain numbers: one line a run, a start or a point of the line.

Errors are shares of the layer's output, not percent. The columns of `KEYS` name a line, so that the
same study made elsewhere can be laid beside it; those of `checked` it must give again.
"""

from collections.abc import Iterable
from typing import TypeGuard

import pandas as pd

from aqviz.recordings import experiment_of
from quantcore import landscape, report, starts, survey, trial
from quantcore.results import Document, complete

KEYS = (
    *("layer", "scheme", "search", "beam", "calibration_tokens", "shrinkage"),
    *("init", "seed", "noise", "codes", "text", "position"),
)
ERROR = "relative_error"
FACTS = ("kurtosis", "row_norm_cv", "outlier_share", "block_")  # of a layer
BEFORE = "start_kl"  # what tuning for so many seconds makes of it is not the same twice


def there(document: Document | None) -> TypeGuard[Document]:
    """Whether a study's document has a line for its table yet."""
    if document is None:
        return False
    if document.get("kind") == landscape.KIND:
        return document["line"] is not None
    return bool(document.get("starts") or document.get("layers") or complete(document))


def table(document: Document) -> pd.DataFrame:
    """A study's table; a survey that has no runs, or none yet, has one line a layer."""
    kind = document.get("kind")
    if kind == landscape.KIND:
        return pd.DataFrame(_line(document["line"]))
    if kind == starts.KIND:
        return _frame(document["starts"])
    if kind == trial.KIND:
        return _frame(complete(document))
    if kind == survey.KIND:
        return _frame(complete(document)) if complete(document) else layers(document)
    config = experiment_of(document["config"])
    common = {"layer": document["layer"], "search": config.search, "beam": config.width}
    return _frame(common | run for run in complete(document))


def layers(document: Document) -> pd.DataFrame:
    """What the layers of a survey are like, one line a layer."""
    found = document["layers"].items()
    return _frame(
        {"layer": name, "out": facts["shape"][0], "columns": facts["shape"][1], **facts}
        for name, facts in found
    )


def tables(document: Document) -> dict[str, pd.DataFrame]:
    """Every table of a study: "metrics", and "layers" of a survey with runs."""
    found = {"metrics": table(document)}
    if document.get("layers") and complete(document):
        found["layers"] = layers(document)
    return found


def evaluated(name: str, document: Document) -> dict[str, pd.DataFrame]:
    """The tables of the evaluation of that name: of models, and of every two of them.

    Raises:
        InputError: it is from before the windows' losses were kept.
    """
    found = {"metrics": report.table({name: document}), "pairs": report.pairs({name: document})}
    return {name: frame for name, frame in found.items() if len(frame)}


def keys(frame: pd.DataFrame) -> list[str]:
    """The columns that name a line."""
    return [name for name in KEYS if name in frame]


def checked(frame: pd.DataFrame) -> list[str]:
    """The columns that the same study gives again, up to how processors round."""
    names = map(str, frame)
    return [name for name in names if name.endswith((ERROR, BEFORE)) or name.startswith(FACTS)]


def _frame(entries: Iterable[Document]) -> pd.DataFrame:
    """One line an entry; "used" has a column a codebook, other lists and empty columns are left."""
    spread = [
        entry | {f"used_{n}": used for n, used in enumerate(entry.get("used") or (), start=1)}
        for entry in entries
    ]
    frame = pd.json_normalize(spread, sep="_").dropna(axis="columns", how="all")
    lists = [name for name in frame if isinstance(frame[name].dropna().iloc[0], list)]
    return frame.drop(columns=[*lists, "complete"], errors="ignore")


def _line(line: Document) -> Iterable[Document]:
    """Each point under each kind of codes, on each text."""
    for codes, curve in line["errors"].items():
        for text, errors in curve.items():
            for position, error in zip(line["positions"], errors or (), strict=False):
                yield {"codes": codes, "text": text, "position": position, ERROR: error}
