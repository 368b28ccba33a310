"""Results side by side: a row for every candidate or run, or for every pair of candidates.

A document says what it is by its keys (`docs/results.md`): layers compared, whole models evaluated,
a quantized model's manifest, tuned or not. A row has what its document knows, and a column that no
row has is left out. Perplexities on other texts and windows are no pair, so each row says what it
was measured on, with the start of the tokens' fingerprint where it is known. Candidates of one
evaluation are compared in pairs, window by window, which takes out how hard each window is. The
table is a pandas `DataFrame` of plain numbers; in Markdown a number and its standard error share a
cell.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from quantcore import entries, evaluation, files, store, survey
from quantcore.errors import InputError, first_line, quoted
from quantcore.results import Document
from quantcore.weight import Scheme

Row = dict[str, Any]

# column -> its heading in Markdown and digits behind the point
COLUMNS: dict[str, tuple[str, int]] = {
    "document": ("document", 0),
    "model": ("model", 0),
    "other": ("beside", 0),
    "layer": ("layer", 0),
    "scheme": ("scheme", 0),
    "bits": ("bits per weight", 3),
    "init": ("init", 0),
    "search": ("search", 0),
    "seed": ("seed", 0),
    "tuned": ("tuned", 0),
    "relative_error": ("error", 5),
    "heldout_relative_error": ("held-out error", 5),
    "measured_on": ("measured on", 0),
    "perplexity": ("perplexity", 3),
    "difference": ("nats over the original", 4),
    "over_other": ("nats a token over it", 4),
    "kl": ("KL", 4),
    "top1": ("same top word", 4),
    "seconds": ("seconds", 1),
}
WITH_ERROR = ("perplexity", "difference", "over_other", "kl", "top1")


def read(path: Path) -> Document:
    """A result document from a file, or a quantized model's manifest from its folder.

    Raises:
        InputError: it is not there, or no JSON document.
    """
    place = path / store.MANIFEST if path.is_dir() else path
    try:
        found = json.loads(files.read_text(place))
    except OSError:
        raise InputError(
            f"there is no file {quoted(str(place))}; give a result's JSON file"
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{place} holds no JSON document; give a result's JSON file")
    return found


def table(documents: Mapping[str, Document]) -> pd.DataFrame:
    """One row for every candidate or run; only the columns that some row has.

    Args:
        documents: By the names they get in the table.

    Raises:
        InputError: a document is of an unknown kind.
    """
    frame = _frame(documents, _rows)
    try:
        return frame.astype({"seed": "Int64"}) if "seed" in frame else frame  # empty cells, no NaN
    except (ValueError, TypeError, OverflowError):
        raise InputError("a result has a seed that is no whole number; make it again") from None


def pairs(documents: Mapping[str, Document]) -> pd.DataFrame:
    """One row for every two candidates of the same evaluation: the first's loss over the other's.

    Args:
        documents: By the names they get in the table.

    Raises:
        InputError: a document is no evaluation, or from before the windows' losses were kept.
    """
    return _frame(documents, _pairs)


def markdown(frame: pd.DataFrame) -> str:
    """The table in Markdown, a number and its standard error in one cell."""
    names = [name for name in COLUMNS if name in frame]
    lines = [[COLUMNS[name][0] for name in names], ["---"] * len(names)]
    for row in frame.to_dict("records"):
        lines.append([_cell(row, name) for name in names])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _frame(
    documents: Mapping[str, Document], rows: Callable[[str, Document], Iterable[Row]]
) -> pd.DataFrame:
    found = []
    for name in documents:
        try:
            found += [{"document": name, **_flat(row)} for row in rows(name, documents[name])]
        except InputError:
            raise
        except store.MALFORMED as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"{name} is no whole result ({why}); make it again") from None
    every = [part for name in COLUMNS for part in (name, f"{name}_error")]
    frame = pd.DataFrame(found, columns=[n for n in every if n in COLUMNS or _base(n)])
    return frame.dropna(axis="columns", how="all")


def _flat(row: Row) -> Row:
    for name, value in row.items():
        if isinstance(value, (list, dict)):
            raise TypeError(f"{name} is no single value")
    return row


def _rows(name: str, document: Document) -> Iterable[Row]:
    if document.get("kind") == evaluation.KIND:
        return _evaluated(document)
    if document.get("kind") == survey.KIND:
        return _surveyed(document)
    if "runs" in document:
        return _layers(document)
    if {"plan", "ledger"} <= document.keys():
        return [_made(document)]
    raise InputError(
        f"{name} is no result that is known here; give what layer, survey, quantize, tune or "
        "evaluate wrote"
    )


def _evaluated(document: Document) -> Iterable[Row]:
    """The original and each candidate."""
    if document["original"] is None or document["original"]["perplexity"] is None:
        return
    original, on = document["original"], {"measured_on": _measured_on(document)}
    yield {"model": original["model"]["name"], **on, **_perplexity(original["perplexity"])}
    for entry in document["candidates"]:
        yield {
            "model": entry["model"]["name"],
            **_quantized(entry["quantization"]),
            **on,
            **_perplexity(entry["perplexity"]),
            "kl": entry["kl"]["mean"],
            "kl_error": entry["kl"]["mean_error"],
            "top1": entry["top1"]["share"],
            "top1_error": entry["top1"]["share_error"],
        }


def _pairs(name: str, document: Document) -> Iterable[Row]:
    """Every two candidates, in their order."""
    if document.get("kind") != evaluation.KIND:
        raise InputError(f"{name} is no evaluation; give what `quantcore evaluate --json` wrote")
    for one, other in combinations(document["candidates"], 2):
        found = entries.difference(one, other)
        if found is None:
            raise InputError(f"{name} is from before windows' losses were kept; evaluate again")
        yield {
            "model": one["model"]["name"],
            "other": other["model"]["name"],
            "measured_on": _measured_on(document),
            "over_other": found[0],
            "over_other_error": found[1],
        }


def _measured_on(document: Document) -> str:
    tokens = document["tokens"]
    text = f"{document['text']['spec']}, {tokens['windows']} x {tokens['length']}"
    return f"{text} ({tokens['sha256'][:8]})"


def _layers(document: Document) -> Iterable[Row]:
    """Every run of one layer."""
    model, config = document["model"], document["config"]
    text = f"{config['text']}, {config['perplexity_windows']} x {config['window']}"
    for run in document["runs"]:
        yield {
            "model": None if model is None else model["name"],
            "layer": document["layer"],
            "scheme": str(Scheme(**document["scheme"])),
            "bits": document["bits_per_weight"],
            "init": run["init"],
            "search": config.get("search", "beam"),  # there was a time without a choice
            "seed": run["seed"],
            "relative_error": run["relative_error"],
            "heldout_relative_error": run["heldout_relative_error"],
            "measured_on": None if run["perplexity"] is None else text,
            **_perplexity(run["perplexity"]),
            "seconds": run["seconds"]["total"],
        }


def _surveyed(document: Document) -> Iterable[Row]:
    """Every run of a survey."""
    model = document["model"]
    for run in document["runs"]:
        yield {
            "model": None if model is None else model["name"],
            "layer": run["layer"],
            "scheme": str(Scheme.parse(run["scheme"])),
            "bits": run["bits_per_weight"],
            "init": run["init"],
            "search": f"{run['search']} {run['beam']}",
            "seed": run["seed"],
            "relative_error": run["relative_error"],
            "heldout_relative_error": run["heldout_relative_error"],
            "seconds": run["seconds"]["total"],
        }


def _made(manifest: Document) -> Row:
    """A quantized model; what tuning saw of it was seen on its validation text."""
    facts = entries.quantization(manifest)
    row = {"model": manifest["model"]["name"], **_quantized(facts)}
    if facts["tuning"] is None:
        return row
    kl, perplexity = (facts["tuning"][f"best_{name}"] for name in ("validation_kl", "perplexity"))
    return row | {"measured_on": "validation text", "perplexity": perplexity, "kl": kl}


def _quantized(facts: Document | None) -> Row:
    """How a model was quantized; see `entries.quantization`."""
    if facts is None:
        return {}
    config, ledger, tuning = facts["config"] or {}, facts["ledger"] or {}, facts["tuning"]
    return {
        "scheme": ", ".join(str(Scheme(**scheme)) for scheme in facts["schemes"]) or None,
        "bits": ledger.get("layer_bits"),
        **{name: config.get(name) for name in ("init", "search", "seed")},
        "tuned": f"step {tuning['best_step']} of {tuning['steps']}" if tuning else None,
        "seconds": facts["seconds"],
    }


def _perplexity(facts: Document | None) -> Row:
    if facts is None:
        return {}
    return {
        "perplexity": facts["value"],
        "perplexity_error": facts["standard_error"],
        "difference": facts.get("difference"),
        "difference_error": facts.get("difference_error"),
    }


def _base(name: str) -> bool:
    return name.removesuffix("_error") in WITH_ERROR


def _cell(row: Mapping[Hashable, Any], name: str) -> str:
    value, error, digits = row[name], row.get(f"{name}_error"), COLUMNS[name][1]
    if pd.isna(value):
        return ""
    if not isinstance(value, float):
        return str(value).replace("|", "\\|")
    spread = "" if pd.isna(error) else f" ± {error:.{digits}f}"
    return f"{value:.{digits}f}{spread}"
