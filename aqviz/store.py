"""The job store: runs that outlive the page that started them.

One worker thread takes jobs in turn (torch has the whole machine to itself), and visitors take
turns (`waiting`). A job's file is written whenever its state changes or one of its runs is done,
and at most twice a second in between, by rename, so that a reader and a restarted program always
find a whole one. A job is named by an id nobody can guess, because the id is all it takes to see
it; the same study asked twice, by whomever, is one job, which stops when the last of those who
asked wants it to.
"""

import contextvars
import json
import logging
import os
import re
import secrets
import threading
import time
from dataclasses import replace
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from aqviz.engine import Document, Engine, unexpected
from aqviz.jobs import Job, State
from aqviz.limits import Limits
from aqviz.retention import MIB, make_room
from aqviz.waiting import Line
from quantcore import files, machine, results
from quantcore.errors import Cancelled, InputError, QuantcoreError
from quantcore.progress import Progress

WRITE_EVERY = 0.5  # seconds
READ = 16  # ended jobs whose documents are held
# what an id is made of, and nothing that leaves the folder
SAFE = re.compile(r"[\w-]{1,40}", re.ASCII)
# what runs keep in the cache
REMADE = ("weights/*/*.safetensors", "hessians/*.safetensors", "inside/*.safetensors")
OTHERS = (
    "other visitors asked for this run too, so it goes on for them; you may close the page, or "
    "start another run"
)
log = logging.getLogger(__name__)


class Place(NamedTuple):
    """How many jobs are before one that waits, and the expected seconds until it begins."""

    ahead: int
    seconds: float | None


class JobStore:
    """Jobs in a folder, and the one thread that runs them."""

    def __init__(self, folder: Path, engine: Engine, limits: Limits | None = None) -> None:
        self._folder = folder
        self._engine = engine
        self._limits = limits or Limits()
        self._change = threading.Condition(threading.RLock())
        self._line = Line()
        self._askers: dict[str, set[str]] = {}  # of waiting and running jobs
        self._contexts: dict[str, contextvars.Context] = {}  # in which they were asked for
        self._cancel: set[str] = set()
        self._written: dict[str, float] = {}
        self._owner = (os.getpid(), psutil.Process().create_time())
        self._closing = False
        folder.mkdir(parents=True, exist_ok=True)
        self._reread = lru_cache(READ)(self._reread_once)
        self._jobs = {job.id: _light(job) for job in self._read_all()}
        self._tidy()
        self._worker = threading.Thread(target=self._work, name="aqviz-jobs", daemon=True)
        self._worker.start()

    def submit(self, config: Any, visitor: str = "") -> Job:
        """Run a study; one that is done, waiting or running already is not begun again.

        Args:
            config: The study's.
            visitor: Who asks.

        Raises:
            QuantcoreError: it is not run here, too many wait, or this visitor has enough.
        """
        with self._change:
            job = self._joined(config, visitor)
        if job is not None:
            return job
        seconds = self._engine.admit(config)  # may read files, so the others are not kept waiting
        with self._change:
            job = self._joined(config, visitor)  # asked for by another one meanwhile
            if job is not None:
                return job
            self._check_room(visitor)
            job = self.find(config) or Job(secrets.token_urlsafe(12), config.key(), config)
            job = replace(job, state=State.QUEUED, error=None, progress=None, owner=self._owner)
            self._askers[job.id] = {visitor}
            self._contexts[job.id] = contextvars.copy_context()
            self._line.add(job.id, visitor)
            self._change.notify_all()
            return self._keep(replace(job, seconds=seconds))

    def get(self, job_id: str) -> Job | None:
        """The job as it is now, or None where there is no such id."""
        with self._change:
            job = self._whole(self._jobs.get(job_id))
        if job is None and SAFE.fullmatch(job_id):  # perhaps of another program on this folder
            job = self._read(self._folder / f"{job_id}.json")
        return job

    def find(self, config: Any) -> Job | None:
        """The job of the same study, if it was ever submitted."""
        key = config.key()
        with self._change:
            same = (job for job in reversed(self._jobs.values()) if job.key == key)
            return self._whole(next(same, None))

    def place(self, job: Job) -> Place:
        """Where a waiting job stands in the line."""
        with self._change:
            order = self._line.order()
            before = order[: order.index(job.id)] if job.id in order else []
            running = [one for one in self._jobs.values() if one.state is State.RUNNING]
            every = [*running, *(self._jobs[name] for name in before)]
        left = [_seconds_left(one) for one in every]
        known = [seconds for seconds in left if seconds is not None]
        return Place(len(every), sum(known) if len(known) == len(left) else None)

    def cancel(self, job_id: str, visitor: str = "") -> Job | None:
        """Ask a job to stop; a running one does by its next report and keeps what it has.

        Raises:
            InputError: on a public server, others asked for it too.
        """
        with self._change:
            job = self._jobs.get(job_id)
            if job is None or job.state.ended:
                return job
            askers = self._askers.get(job_id, set())
            askers.discard(visitor)
            if self._limits.public and askers:
                raise InputError(OTHERS)
            if job.state is State.QUEUED:
                self._line.remove(job_id)
                return self._end(job_id, state=State.CANCELLED)
            self._cancel.add(job_id)
            self._engine.stop()
            return job

    def close(self) -> None:
        """Stop the worker; what is running or waiting is found interrupted at the next start."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._worker.join(timeout=5)

    def _joined(self, config: Any, visitor: str) -> Job | None:
        """The job of the same study, where it need not be begun."""
        job = self.find(config)
        if job is None or (job.state.ended and job.state is not State.DONE):
            return None
        if not job.state.ended:
            self._askers.setdefault(job.id, set()).add(visitor)
        return job

    def _check_room(self, visitor: str) -> None:
        if len(self._line) >= self._limits.queue:
            raise InputError(
                f"{len(self._line)} runs are waiting already and this server keeps no more; try "
                "again in a few minutes, or look at what is recorded"
            )
        mine = sum(visitor in askers for askers in self._askers.values())
        if mine >= self._limits.each:
            many = "a run" if mine == 1 else f"{mine} runs"
            raise InputError(
                f"you have {many} under way and this server gives each visitor "
                f"{self._limits.each:g} at a time; wait for it or cancel it, then press Run again"
            )

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: len(self._line) or self._closing)
                if self._closing:
                    return
                job = self._jobs[self._line.pop()]
                job = self._keep(replace(job, state=State.RUNNING))
            self._contexts[job.id].run(self._run, job)
            self._tidy()
            self._tidy_cache()

    def _run(self, job: Job) -> None:
        try:
            document = self._engine.run(job.config, self._observer(job.id), job.document)
        except Cancelled:
            self._end(job.id, state=State.INTERRUPTED if self._closing else State.CANCELLED)
        except QuantcoreError as error:
            self._end(job.id, state=State.FAILED, error=str(error))
        except Exception as error:  # the thread must live on for the next job
            log.exception("job %s failed", job.id)
            self._end(job.id, state=State.FAILED, error=unexpected(error))
        else:
            self._end(job.id, state=State.DONE, document=_plain(document))

    def _observer(self, job_id: str) -> Any:
        def observe(progress: Progress, document: Document) -> None:
            with self._change:
                if job_id in self._cancel or self._closing:
                    raise Cancelled("the run was asked to stop")
                before = self._jobs[job_id]
                job = replace(before, progress=progress)
                more = results.finished(document) - results.finished(before.document)
                if more >= 0:
                    job = replace(job, document=_plain(document))
                lately = time.monotonic() - self._written[job_id] < WRITE_EVERY
                self._keep(job, soon=lately and more <= 0)  # what is finished is kept at once

        return observe

    def _end(self, job_id: str, **change: Any) -> Job:
        with self._change:
            self._cancel.discard(job_id)
            self._askers.pop(job_id, None)
            self._contexts.pop(job_id, None)
            return self._keep(replace(self._jobs[job_id], progress=None, **change))

    def _keep(self, job: Job, *, soon: bool = False) -> Job:
        """Make this snapshot the current one; `soon` leaves its file for the next change."""
        before, version = self._jobs.get(job.id), job.version + 1
        same = before and (before.state, before.document) == (job.state, job.document)
        job = replace(job, version=version, grown=job.grown if same else version)
        if not soon:
            job = replace(job, kept=self._write(job))
        self._jobs[job.id] = _light(job)
        return job

    def _whole(self, job: Job | None) -> Job | None:
        """A job with its document, which that of an ended one is read from its file."""
        if job is None or job.document is not None or not job.state.ended:
            return job
        return self._reread(job.id, job.version)

    def _write(self, job: Job) -> bool:
        """Whether the job's file could be written."""
        self._written[job.id] = time.monotonic()
        text = replace(job, kept=True).to_json()
        try:
            files.write_whole(
                self._folder / f"{job.id}.json",
                lambda place: place.write_text(text, encoding="utf-8"),
            )
        except OSError as error:  # a full disk must not end the work, or the thread
            log.warning("job %s goes on but cannot be kept: %s", job.id, error)
            return False
        return True

    def _tidy(self) -> None:
        """Remove the oldest ended jobs, as far as there are too many."""
        with self._change:
            ended = {
                self._folder / f"{job.id}.json" for job in self._jobs.values() if job.state.ended
            }
            for file in make_room(ended, self._limits.kept_jobs, *self._most()):
                self._jobs.pop(file.stem, None)
                self._written.pop(file.stem, None)

    def _tidy_cache(self) -> None:
        """Remove the oldest of what runs keep beside their jobs, as far as there is too much."""
        for pattern in REMADE:
            make_room(machine.cache_dir().glob(pattern), inf, *self._most())

    def _most(self) -> tuple[float, float]:
        """Bytes and days of one kind of files."""
        return self._limits.kept_mib * MIB, self._limits.kept_days

    def _read_all(self) -> list[Job]:
        jobs = [self._read(path) for path in self._folder.glob("*.json")]
        ours = [job for job in jobs if job and (job.state.ended or not _lives(job.owner))]
        return [_ended(job) for job in sorted(ours, key=lambda job: job.created)]

    def _reread_once(self, job_id: str, _version: int) -> Job | None:
        job = self._read(self._folder / f"{job_id}.json")
        return None if job is None else _ended(job)

    def _read(self, path: Path) -> Job | None:
        try:
            job = Job.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, OSError, RecursionError):
            job = None
        if job is None or job.id != path.stem:  # of another id, it would be written elsewhere
            log.warning("the job file %s cannot be read and is left alone", path.name)
            return None
        return job


def _ended(job: Job) -> Job:
    """A job from a file of a program that is gone."""
    return job if job.state.ended else replace(job, state=State.INTERRUPTED, progress=None)


def _light(job: Job) -> Job:
    """What is held of a job: of an ended one all but the document, which its file holds."""
    return replace(job, document=None) if job.state.ended and job.kept else job


def _seconds_left(job: Job) -> float | None:
    eta = job.progress.eta if job.progress else None
    return job.seconds if eta is None else eta


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
