"""A job: one study that someone asked for, and how far it is.

    queued ─> running ─> done
                 ├─────> cancelled    asked to stop; what it had is kept
                 ├─────> failed       with one sentence for the user
                 └─────> interrupted  the program ended meanwhile; found at the next start

Cancelled, failed and interrupted jobs go on from what they had when submitted again.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from aqviz.engine import Document, kind_of
from aqviz.recordings import config_of
from quantcore import files
from quantcore.progress import Progress


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self not in {State.QUEUED, State.RUNNING}


@dataclass(frozen=True)
class Job:
    """A snapshot of one job.

    Attributes:
        id: What its link names.
        key: The study's own key.
        config: What is run: the config of one of `engine.STUDIES`.
        state: Where it is.
        progress: How far, while it runs.
        document: The result so far.
        error: One sentence, where it failed.
        version: Rises with every change.
        grown: The version with which its document or state last changed, not only its progress.
        created: ISO time of the first submission.
        owner: Process id and start time of the program that runs it.
        seconds: Expected of the whole run, where that was estimated.
        kept: Whether its last change is in its file.
    """

    id: str
    key: str
    config: Any
    state: State = State.QUEUED
    progress: Progress | None = None
    document: Document | None = None
    error: str | None = None
    version: int = 0
    grown: int = 0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    owner: tuple[int, float] = (0, 0.0)
    seconds: float | None = None
    kept: bool = True

    def to_json(self) -> str:
        """As text for its file."""
        written = {"kind": kind_of(self.config), **asdict(self)}
        return json.dumps(written | {"digest": _digest(written)})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """From its file's text.

        What views draw of a document lies deep in it, so they trust its shape: here it is seen that
        the file still holds the study that was written.

        Raises:
            ValueError: this is no job, or its study has been changed since it was written.
            KeyError: a part is missing.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("digest", None) != _digest(values):
            raise ValueError("the study is not the one that was written")
        config = config_of(values.pop("kind"), values["config"])
        return replace(_READER.validate_json(json.dumps(values), strict=True), config=config)


_READER = TypeAdapter(Job)


def _digest(written: dict[str, Any]) -> str:
    """Changes with the study of a job's file; its state may be set by hand."""
    return files.digest([written[name] for name in ("kind", "id", "key", "config", "document")])
