"""The job store: runs that outlive the page that started them.

One worker thread takes jobs in turn (torch has the whole machine to itself). A job's file is
written whenever its state changes and at most twice a second in between, by rename, so that a
reader and a restarted program always find a whole one. A job is named by an id nobody can guess,
because the id is all it takes to see or cancel it; the same study asked twice is one job.

    queued ─> running ─> done
                 ├─────> cancelled    asked to stop; what it had is kept
                 ├─────> failed       with one sentence for the user
                 └─────> interrupted  the program ended meanwhile; found at the next start

Cancelled, failed and interrupted jobs go on from what they had when submitted again.
"""

import json
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from aqviz.engine import Document, Engine, kind_of
from aqviz.recordings import config_of
from quantcore import files, results
from quantcore.errors import Cancelled, QuantcoreError
from quantcore.progress import Progress

WRITE_EVERY = 0.5  # seconds
SAFE = re.compile(r"[\w-]+")  # what an id is made of, and nothing that leaves the folder
log = logging.getLogger(__name__)


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
        created: ISO time of the first submission.
        owner: Process id and start time of the program that runs it.
    """

    id: str
    key: str
    config: Any
    state: State = State.QUEUED
    progress: Progress | None = None
    document: Document | None = None
    error: str | None = None
    version: int = 0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    owner: tuple[int, float] = (0, 0.0)

    def to_json(self) -> str:
        """As text for its file."""
        return json.dumps({"kind": kind_of(self.config), **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """From its file's text."""
        values: dict[str, Any] = json.loads(text)
        values["config"] = config_of(values.pop("kind"), values["config"])
        values["state"] = State(values["state"])
        values["owner"] = tuple(values["owner"])
        if values["progress"] is not None:
            values["progress"] = Progress(*values["progress"])
        return cls(**values)


class JobStore:
    """Jobs in a folder, and the one thread that runs them."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self._engine = engine
        self._change = threading.Condition(threading.RLock())
        self._line: deque[str] = deque()  # ids of queued jobs, the next one first
        self._cancel: set[str] = set()
        self._written: dict[str, float] = {}
        self._owner = (os.getpid(), psutil.Process().create_time())
        self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._jobs = {job.id: job for job in self._read_all()}
        self._worker = threading.Thread(target=self._work, name="aqviz-jobs", daemon=True)
        self._worker.start()

    def submit(self, config: Any) -> Job:
        """Run a study; one that is done, waiting or running already is not begun again."""
        with self._change:
            job = self.find(config)
            if job is None:
                job = Job(secrets.token_urlsafe(12), config.key(), config)
            elif job.state is State.DONE or not job.state.ended:
                return job
            job = replace(job, state=State.QUEUED, error=None, progress=None, owner=self._owner)
            self._line.append(job.id)
            self._change.notify_all()
            return self._keep(job)

    def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None where there is no such id."""
        with self._change:
            job = self._jobs.get(job_id)
        if job is None and SAFE.fullmatch(job_id):  # perhaps of another program on this folder
            job = self._read(self._folder / f"{job_id}.json")
        return job

    def find(self, config: Any) -> Job | None:
        """The job of the same study, if it was ever submitted."""
        key = config.key()
        with self._change:
            return next((job for job in reversed(self._jobs.values()) if job.key == key), None)

    def ahead(self, job: Job) -> int:
        """How many jobs run before a queued one."""
        with self._change:
            running = sum(one.state is State.RUNNING for one in self._jobs.values())
            return running + (self._line.index(job.id) if job.id in self._line else 0)

    def cancel(self, job_id: str) -> Job | None:
        """Ask a job to stop; a running one does at its next report and keeps what it has."""
        with self._change:
            job = self._jobs.get(job_id)
            if job is None or job.state.ended:
                return job
            if job.state is State.QUEUED:
                self._line.remove(job_id)
                return self._keep(replace(job, state=State.CANCELLED))
            self._cancel.add(job_id)
            return job

    def close(self) -> None:
        """Stop the worker; what is running or waiting is found interrupted at the next start."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._worker.join(timeout=5)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._line or self._closing)
                if self._closing:
                    return
                job = self._jobs[self._line.popleft()]
                job = self._keep(replace(job, state=State.RUNNING))
            self._run(job)

    def _run(self, job: Job) -> None:
        try:
            document = self._engine.run(job.config, self._observer(job.id), job.document)
        except Cancelled:
            self._end(job.id, state=State.INTERRUPTED if self._closing else State.CANCELLED)
        except QuantcoreError as error:
            self._end(job.id, state=State.FAILED, error=str(error))
        except Exception as error:  # the thread must live on for the next job
            log.exception("job %s failed", job.id)
            kind = type(error).__name__
            words = f"Something unexpected happened ({kind}); the details are in the log."
            self._end(job.id, state=State.FAILED, error=words)
        else:
            self._end(job.id, state=State.DONE, document=_plain(document))

    def _observer(self, job_id: str) -> Any:
        def observe(progress: Progress, document: Document) -> None:
            with self._change:
                if job_id in self._cancel or self._closing:
                    raise Cancelled("the run was asked to stop")
                job = replace(self._jobs[job_id], progress=progress)
                if results.finished(document) >= results.finished(job.document):
                    job = replace(job, document=_plain(document))
                self._keep(job, soon=time.monotonic() - self._written[job_id] < WRITE_EVERY)

        return observe

    def _end(self, job_id: str, **change: Any) -> None:
        with self._change:
            self._cancel.discard(job_id)
            self._keep(replace(self._jobs[job_id], progress=None, **change))

    def _keep(self, job: Job, *, soon: bool = False) -> Job:
        """Make this snapshot the current one; `soon` leaves its file for the next change."""
        job = replace(job, version=job.version + 1)
        self._jobs[job.id] = job
        if not soon:
            self._write(job)
        return job

    def _write(self, job: Job) -> None:
        self._written[job.id] = time.monotonic()
        try:
            files.write_whole(
                self._folder / f"{job.id}.json",
                lambda place: place.write_text(job.to_json(), encoding="utf-8"),
            )
        except OSError as error:  # a full disk must not end the work, or the thread
            log.warning("job %s goes on but cannot be kept: %s", job.id, error)

    def _read_all(self) -> list[Job]:
        jobs = [self._read(path) for path in self._folder.glob("*.json")]
        ours = [job for job in jobs if job and (job.state.ended or not _lives(job.owner))]
        return [
            job if job.state.ended else replace(job, state=State.INTERRUPTED, progress=None)
            for job in sorted(ours, key=lambda job: job.created)
        ]

    def _read(self, path: Path) -> Job | None:
        try:
            return Job.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            log.warning("the job file %s cannot be read and is left alone", path.name)
            return None


def _lives(owner: tuple[int, float]) -> bool:
    """Whether another program is still running with this process id and start time."""
    number, started = owner
    if number == os.getpid():
        return False  # ours, so of a store that is gone
    try:
        return bool(psutil.Process(number).create_time() == started)
    except psutil.Error:
        return False


def _plain(document: Document) -> Document:
    """A copy, in the types it will have when read from its file."""
    copied: Document = json.loads(json.dumps(document))
    return copied
