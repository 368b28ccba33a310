"""What every view works with: the engine, the jobs, the recorded run, what visitors brought.

The first start of the program prepares the default model and measures this machine, which takes up
to half a minute. A thread does it; until it has, the page shows the recorded run and its one layer.
"""

import logging
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from aqviz import recordings
from aqviz.engine import Document, Engine, kind_of
from aqviz.jobs import Job
from aqviz.limits import Limits
from aqviz.store import JobStore
from aqviz.uploads import Uploads
from quantcore.blocks import LayerInfo
from quantcore.errors import QuantcoreError
from quantcore.experiment import Experiment

LAYER_NAME = re.compile(r".*?\.(\d+)\.(.+)")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Core:
    """What the page works with.

    Attributes:
        engine: What runs.
        store: The jobs.
        recording: The recorded run of the first page.
        ready: Set when the default model is prepared and this machine measured.
        asked: Set when somebody waits for that.
        uploads: Files of visitors.
        limits: What is allowed here.
    """

    engine: Engine
    store: JobStore
    recording: Document | None
    ready: threading.Event = field(default_factory=threading.Event)
    uploads: Uploads = field(default_factory=Uploads.here)
    limits: Limits = field(default_factory=Limits)
    asked: threading.Event = field(default_factory=threading.Event)

    def layers(self, model: str | None, upload: str | None = None) -> dict[str, LayerInfo]:
        """The layers of a model, or of a kept file; waits for the preparation."""
        self.asked.set()
        self.ready.wait()
        if not upload:
            return self.engine.layers(model or None)
        shapes = self.uploads.open(upload).layers  # all in one block
        return {prefix: LayerInfo(prefix, 0, prefix, *shape) for prefix, shape in shapes.items()}

    def first(self) -> tuple[Experiment, dict[str, LayerInfo]]:
        """What the controls say at first, and the layers known without asking the engine."""
        if self.recording is None:
            layers = self._default_layers()
            return Experiment(layer=next(iter(layers), "")), layers
        experiment = recordings.experiment_of(self.recording["config"])
        name = self.recording["layer"]
        block, projection = LAYER_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
        return experiment, {name: LayerInfo(name, int(block), projection, *self.recording["shape"])}

    def document(self, name: str) -> Document | None:
        """What a job, or the recording of that name, holds."""
        if name == recordings.FIRST:
            return self.recording
        job = self.store.get(name)
        return job.document if job else None

    def race(self, job_id: str) -> Job | None:
        """The job of that id, where it is a race's: other views find theirs by their settings."""
        job = self.store.get(job_id)
        return job if job and isinstance(job.config, Experiment) else None

    def recorded(self, config: Any) -> Document | None:
        """The recording of this study, where there is one."""
        key = config.key()
        kept = recordings.every(kind_of(config)).values()
        return next((document for document in kept if document["key"] == key), None)

    def _default_layers(self) -> dict[str, LayerInfo]:
        try:
            return self.layers(None)
        except QuantcoreError:
            return {}

    def warm_up(self, within: float = 0.0) -> None:
        """Prepare the default model and measure this machine, in a thread.

        It begins when somebody waits for it, and at last after so many seconds: until then it would
        only keep the first visitor waiting.
        """
        todo = threading.Thread(
            target=self._warm, args=(within,), name="aqviz-warm-up", daemon=True
        )
        todo.start()

    def _warm(self, within: float) -> None:
        self.asked.wait(within)
        try:
            layer = next(iter(self.engine.layers(None).values()))
            self.engine.estimate(Experiment(layer=layer.name), layer.out, layer.columns)
        except QuantcoreError as error:  # whoever asks for this model is told again
            log.warning("the default model cannot be prepared: %s", error)
        finally:
            self.ready.set()
        self.engine.prepare()
