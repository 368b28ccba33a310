"""HTML that views share: alerts, where a job is, where numbers are from, what can be downloaded.

Words from others are escaped here.
"""

from html import escape
from typing import Any

from aqviz import theme
from aqviz.jobs import Job, State
from aqviz.store import Place
from aqviz.uploads import FILE
from quantcore.experiment import Experiment

UNKEPT = (
    "It could not be written to this server's disk, so it is lost when the program ends: download "
    "it now."
)
SHAPES = {
    "circle": '<circle cx="7" cy="7" r="5"/>',
    "diamond": '<path d="M7 1l6 6-6 6-6-6z"/>',
    "square": '<path d="M2 2h10v10H2z"/>',
}


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
