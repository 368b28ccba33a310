"""The race's own HTML: facts before a run, the sentence and the table after it.

Words from others are escaped here.
"""

import math
from html import escape
from typing import Any

from aqviz import report, theme
from aqviz.recordings import experiment_of
from aqviz.shown.panels import duration, swatch
from quantcore.experiment import Experiment

RULER = (-3.0, 3.0)  # log10 of the rho that the ruler spans


def facts(experiment: Experiment, shape: tuple[int, int], seconds: int | float | None) -> str:
    """rho, true bits and the estimate (None: not measured yet), before anything runs."""
    scheme = experiment.scheme
    rho = scheme.rho(*shape)
    groups, sums = scheme.groups(*shape), scheme.size**scheme.codebooks
    many = "more groups than sums" if rho > 1 else "fewer groups than sums"
    return (
        '<dl class="facts">'
        + _fact("scheme", escape(str(scheme)), f"{shape[0]} × {shape[1]}")
        + _fact("true bits", f"{scheme.bits_per_weight(*shape):.2f}", "a weight")
        + _fact("estimate", "…" if seconds is None else duration(seconds), "this machine")
        + "</dl>"
        + _ruler(rho)
        + f'<p class="note"><b>ρ = {rho:.3g}</b>: {groups:,} groups share {sums:,} sums, '
        + f"{many}.</p>"
    )


def brought(upload: str) -> str:
    """Which file the layers to choose from are in."""
    return (
        f'<p class="note">Layers of the file <b>{escape(upload)}</b>, kept on this machine. No '
        "model, text or perplexity is involved.</p>"
    )


def headline(document: dict[str, Any] | None, state: str) -> str:
    """The layer and the search, and what happened, the first comparison first."""
    if not document or "shape" not in document:  # not known before the model is loaded
        return ""
    rows, columns = document["shape"]
    scheme = document["scheme"]
    about = (
        f"{document['layer']} · {rows} × {columns} · {scheme['codebooks']}x{scheme['bits']} "
        f"g{scheme['group']} · ρ {document['rho']:.3g} · {document['bits_per_weight']:.2f} bits"
        f" · {_search(document)}"
    )
    live = "" if state in {"queued", "running"} else ' role="status"'
    first, *others = report.clauses(document, state)
    more = "; ".join(others)
    note = f'<p class="note">{escape(more[:1].upper() + more[1:])}.</p>' if more else ""
    told = f'<p class="headline"{live}>{escape(first)}.</p>{note}'
    return f'<p class="about">{escape(about)}</p>{told}'


def results(document: dict[str, Any] | None) -> str:
    """The table of results, one row an initialiser."""
    rows = report.rows(document)
    if not document or not rows:
        return '<p class="note">The table appears when the first initialiser has finished.</p>'
    heads: tuple[str, ...] = (
        "initialiser",
        "initial error",
        "final error",
        "held-out",
        "time",
        "words used",
    )
    measured = document.get("perplexity")
    heads += ("perplexity", "added loss") if measured else ()
    body = "".join(_row(row, heads) for row in rows)
    if measured:
        body += _original(measured["original"], heads)
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<table class="results"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _search(document: dict[str, Any]) -> str:
    config = experiment_of(document["config"])
    return f"{theme.SEARCHES[config.search]}, beam {config.width}"


def _fact(name: str, value: str, note: str) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd><dd class='note'>{note}</dd></div>"


def _ruler(rho: float) -> str:
    low, high = RULER
    at = min(max((math.log10(rho) - low) / (high - low), 0), 1)
    words = f"rho is {rho:.3g} on a scale from a thousandth to a thousand; the line is at 1"
    return (
        f'<div class="ruler" role="img" aria-label="{words}">'
        f'<i style="left:{100 * at:.1f}%"></i><b></b>'
        "<span>0.001</span><span>ρ = 1</span><span>1000</span></div>"
    )


def _row(row: report.Row, heads: tuple[str, ...]) -> str:
    seeds = f" <small>mean of {row.seeds} seeds</small>" if row.seeds > 1 else ""
    cells = [
        _pair(row.start, row.start_heldout),
        f"<b>{row.end:#.3g} %</b>",
        "–" if row.end_heldout is None else f"<b>{row.end_heldout:#.3g} %</b>",
        f"{duration(row.seconds)} <small>init {duration(row.init_seconds)}</small>",
        f"{row.used:.0f} of {row.size} <small>worth {row.effective:.0f}</small>",
    ]
    if "perplexity" in heads:
        cells.append(_with_error(row.perplexity, row.perplexity_error, ".2f"))
        cells.append(_with_error(row.difference, row.difference_error, "+.4f"))
    name = f"{swatch(row.init)}{escape(theme.style(row.init).label)}{seeds}"
    return _cells(name, cells, heads)


def _original(original: dict[str, Any], heads: tuple[str, ...]) -> str:
    value = _with_error(original["value"], original["standard_error"], ".2f")
    return _cells("the original", [""] * (len(heads) - 3) + [value, "0"], heads)


def _cells(name: str, cells: list[str], heads: tuple[str, ...]) -> str:
    pairs = zip(heads[1:], cells, strict=True)
    rest = "".join(
        f'<td data-label="{head}"><span>{cell}</span></td>' if cell else "<td></td>"
        for head, cell in pairs
    )
    return f'<tr><th scope="row">{name}</th>{rest}</tr>'


def _pair(calibration: float, heldout: float | None) -> str:
    other = "" if heldout is None else f" <small>held-out {heldout:#.3g} %</small>"
    return f"{calibration:#.3g} %{other}"


def _with_error(value: float | None, error: float | None, form: str) -> str:
    if value is None:
        return "–"
    return f"{value:{form}}".replace("-", "−") + (
        f" <small>± {error:{form.lstrip('+')}}</small>" if error else ""
    )
