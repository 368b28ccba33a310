"""What the views of studies share: how a study is found by its settings, and what is said of it.

The view's state names the study, its key finds the result: recorded, kept from an earlier run, or
still growing. So a link needs no job in it, and what was computed once is never computed again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aqviz import metrics, permalink
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.jobs import Job
from aqviz.shown import panels
from quantcore.errors import QuantcoreError


def place_in(order: Sequence[str]) -> Callable[[str], int]:
    """Sorts by a known order; what is unknown comes last, for others to refuse."""
    return lambda name: order.index(name) if name in order else len(order)


def find(core: Core, config: Any) -> tuple[Job | None, Document | None]:
    """The job of a study, and what is known: what it has so far, or a recording."""
    job = core.store.find(config)
    document = job.document if job else None
    return job, document or core.recorded(config)


def downloads(view: str, state: Any, *documents: Document | None) -> str:
    """The link to everything of a view, where one of its studies has something."""
    there = any(map(metrics.there, documents))
    return panels.downloads(permalink.encode(view, state)) if there else ""


def status(core: Core, config: Any, job: Job | None, document: Document | None) -> str:
    """The status line: the job's, the recording's, or what is to be expected."""
    if job is not None:
        return panels.status(job, core.store.place(job))
    if document is not None:
        return panels.recorded(document)
    return panels.idle(_expected(core, config))


def _expected(core: Core, config: Any) -> str:
    """How long it will take, once this machine is measured."""
    if not core.ready.is_set():
        return ""
    try:
        return panels.duration(core.engine.seconds(config))
    except QuantcoreError:
        return ""
