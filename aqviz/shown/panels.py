"""The page's own HTML: facts before a run, status, results. Words from others are escaped here."""

import math
from html import escape
from typing import Any

from aqviz import report, theme
from aqviz.jobs import Job, State
from aqviz.recordings import experiment_of
from aqviz.store import Place
from aqviz.uploads import FILE
from quantcore.experiment import Experiment

UNKEPT = (
    "It could not be written to this server's disk, so it is lost when the program ends: download "
    "it now."
)
RULER = (-3.0, 3.0)  # log10 of the rho that the ruler spans
SHAPES = {
    "circle": '<circle cx="7" cy="7" r="5"/>',
    "diamond": '<path d="M7 1l6 6-6 6-6-6z"/>',
    "square": '<path d="M2 2h10v10H2z"/>',
}


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


def alert(words: str) -> str:
    """One sentence on what is wrong."""
    if not words:
        return ""
    return f'<p class="alert" role="alert">{escape(words[0].upper() + words[1:])}</p>'


def status(job: Job, place: Place) -> str:
    """Where a job is: phase, count, share and time left while it runs."""
    if job.state is State.QUEUED:
        words = f"Waiting: {place.ahead} {'run is' if place.ahead == 1 else 'runs are'} before it."
        wait = "" if place.seconds is None else f"It begins in about {duration(place.seconds)}."
        return _status("queued", words, wait)
    if job.state is State.RUNNING:
        return _running(job)
    words = {
        State.DONE: "Every run has finished.",
        State.CANCELLED: "Cancelled; what was finished is kept below.",
        State.FAILED: job.error or "Failed",
        State.INTERRUPTED: "The program was restarted meanwhile; what was finished is kept below.",
    }[job.state]
    if not job.kept:
        words += f" {UNKEPT}"
    return _status(job.state, words, provenance(job.document))


def recorded(document: dict[str, Any] | None) -> str:
    """The status line over a recording."""
    if document is None:
        return _status("idle", "Choose a layer and press Run.", "")
    return _status(
        "recorded",
        "An earlier run of this program. Press Run to make your own.",
        provenance(document),
    )


def idle(expected: str) -> str:
    """The status line before a study was ever run."""
    more = f"It takes about {expected} on this machine." if expected else ""
    return _status("idle", "Nobody has run this yet. Press Run.", more)


def brought(upload: str) -> str:
    """Which file the layers to choose from are in."""
    return (
        f'<p class="note">Layers of the file <b>{escape(upload)}</b>, kept on this machine. No '
        "model, text or perplexity is involved.</p>"
    )


def provenance(document: dict[str, Any] | None) -> str:
    """When, on what, with which model and text."""
    if not document:
        return ""
    machine = document.get("machine") or {}
    where = f"{machine.get('cpu', 'unknown processor')}, {machine.get('cores', '?')} cores"
    parts = [f"Made on {document['date'][:10]} on {where}."]
    parts += [document[name]["note"] for name in ("model", "text") if document.get(name)]
    upload = (document.get("config") or {}).get("problem")
    if upload:
        parts.append(
            f"Weight and Hessians are from the uploaded file {upload}, named by the first digits "
            f"of its SHA-256; in the command {FILE} stands for it."
        )
    return escape(" ".join(parts))


def headline(document: dict[str, Any] | None, state: str) -> str:
    """The layer and the search, and what happened in one sentence."""
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
    told = escape(report.sentence(document, state))
    return f'<p class="about">{escape(about)}</p><p class="headline"{live}>{told}</p>'


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


def downloads(query: str, name: str | None = None) -> str:
    """Links to everything of a view, by its link's query, and to a result of that name."""
    offered = {f"zip?{query}": "everything (zip)"}
    if name is not None:
        offered |= {f"results/{name}.{kind}": kind.upper() for kind in ("json", "csv")}
    links = [
        f'<a class="file" href="gradio_api/aqviz/{escape(place)}" download>Download {words}</a>'
        for place, words in offered.items()
    ]
    return f'<p class="files">{" ".join(links)}</p>'


def swatch(init: str) -> str:
    """An initialiser's marker in its colour."""
    style = theme.style(init)
    shape = SHAPES.get(style.symbol, '<path d="M2 7h10M7 2v10" stroke-width="3"/>')
    return (
        f'<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true" fill="{style.colour}" '
        f'stroke="{style.colour}">{shape}</svg>'
    )


def duration(seconds: int | float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


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


def _running(job: Job) -> str:
    progress = job.progress
    if progress is None:
        return _status("running", "Starting", "")
    share = min(progress.done / progress.total, 1) if progress.total else 0
    runs = (job.document or {}).get("runs", [])
    count = f"{sum(run['complete'] for run in runs)} runs finished"
    if isinstance(job.config, Experiment):
        count = count.replace("runs", f"of {len(job.config.inits) * len(job.config.seeds)} runs")
    left = "" if progress.eta is None else f", {_left(progress.eta)}"
    words = f"{progress.stage}: {share:.0%}{left}".replace("%", " %")
    count += "" if job.kept else f". {UNKEPT}"
    bar = (
        f'<div class="bar" role="progressbar" aria-label="progress of the run" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{100 * share:.0f}" aria-valuetext="{escape(words)}">'
        f'<i style="width:{100 * share:.1f}%"></i></div>'
    )
    return _status("running", words, count) + bar


def _left(seconds: float) -> str:
    return "nearly done" if seconds < 1 else f"about {duration(seconds)} left"


def _status(kind: str, words: str, more: str) -> str:
    note = f'<p class="note">{more}</p>' if more else ""
    return (
        f'<div class="status {kind}"><p><span class="badge">{kind}</span> {escape(words)}</p>'
        f"{note}</div>"
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
