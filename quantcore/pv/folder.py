"""PV-tuning from folder to folder: a quantized model, its original and a text; a better model.

The folder that is written holds, besides the model, the manifest of the one it was made from with
the entry "tuning": settings, text, how much of it was learned from and how much chose the best
state, and the curve. While a run is unfinished its state lies in `state/`.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from quantcore import corpora, machine, problems, shards, sources
from quantcore import store as stores
from quantcore.errors import InputError, quoted
from quantcore.progress import Progress
from quantcore.pv import loop, student
from quantcore.pv.descent import Problem, PvConfig
from quantcore.pv.loop import Run, Until
from quantcore.pv.student import Student
from quantcore.pv.teacher import Teacher
from quantcore.sources import LoadedModel, ModelSource
from quantcore.weight import AdditiveWeight

METRICS = ("plain", "hessian")
STATE = "state"
SAVE_SECONDS = 300.0  # between two saves of the state
VALIDATION_SHARE, MOST_VALIDATION = 8, 16  # one window in eight, the last ones, at most 16
METRIC_WINDOWS = 16  # windows from which the metric of codes is measured
NUMBERS = 5  # float32 numbers held for each quantized weight: Q, G, B, its mean square, the codes
Document = dict[str, Any]
Observe = Callable[[Progress, Document], None]


@dataclass(frozen=True)
class Tuning:
    """Everything that determines a run.

    Attributes:
        model: The quantized model.
        against: Its original; None is the one that its manifest names.
        steps: Steps to do, if that is the limit.
        minutes: Minutes of work, over all resumptions, if that is the limit.
        text: What `corpora.load_text` takes; its calibration part is used.
        window: Tokens in a window.
        every: Steps between two validations.
        metric: What codes are nearest in: "plain" or "hessian".
        embeddings: Whether the embedding and the output matrix learn too.
        pv: How the parts learn.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: str
    against: str | None = None
    steps: int | None = None
    minutes: float | None = None
    text: str = "default"
    window: int = 512
    every: int = 10
    metric: str = "plain"
    embeddings: bool = False
    pv: PvConfig = field(default_factory=PvConfig)
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError("give --steps or --minutes, or both: whichever comes first ends it")
        for name in ("steps", "minutes", "every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be above 0, got {value}")
        if self.metric not in METRICS:
            known = " or ".join(METRICS)
            raise InputError(f"there is no metric {quoted(self.metric)}; choose {known}")


def run(
    config: Tuning, folder: Path, observe: Observe = lambda progress, manifest: None
) -> Document:
    """Tune a model into a folder, or go on with it.

    Args:
        config: What to do.
        folder: New, empty, or of the same configuration.
        observe: Called with the progress and the manifest so far after every step; may raise to
            stop, and the same call goes on later.

    Returns:
        The manifest.

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory or the disk.
    """
    source = sources.resolve(config.model)
    made = stores.read_manifest(Path(source.path)) if source.kind == "folder" else None
    original = sources.resolve(config.against or _named(source, made))
    text, found = corpora.load_text(config.text, "calibration")
    facts = json.loads(json.dumps(asdict(config)))
    identity = [problems.identity(source), problems.identity(original), found.sha256, facts]
    key = hashlib.sha256(json.dumps([identity, machine.versions()]).encode()).hexdigest()[:16]
    _check_settings(folder, facts)
    entry = {"config": facts, "text": asdict(found), "complete": False, "curve": []}
    with stores.opened(folder, _begun(key, original, made, entry)) as store:
        if store.manifest["complete"]:
            return store.manifest
        store.save()  # before the state: now the folder says whose it is
        loaded = sources.load(source)
        windows = corpora.windows(loaded.tokenizer, text, config.window)
        problem, weights = _problem(config, loaded, sources.load(original), windows)
        ended = _run(config, store, problem, weights, observe)
        student.give_back(problem.student, *ended.best)
        with stores.writing(folder):
            shards.write(folder, loaded.model.cpu(), loaded.tokenizer)
        store.manifest["tuning"]["complete"] = True
        store.finish()
        shutil.rmtree(folder / STATE, ignore_errors=True)
        return store.manifest


def _run(
    config: Tuning,
    store: stores.Store,
    problem: Problem,
    weights: dict[str, AdditiveWeight],
    observe: Observe,
) -> Run:
    """All steps that are left, kept in the folder every now and then."""
    until = Until(config.steps, None if config.minutes is None else 60 * config.minutes)
    place, saved = store.folder / STATE, time.monotonic()
    store.manifest["tuning"] |= {
        "windows": len(problem.windows), "validation_windows": len(problem.validation)
    }  # fmt: skip

    def seen(run: Run) -> None:
        nonlocal saved
        store.manifest["tuning"]["curve"] = [point._asdict() for point in run.curve]
        store.manifest["tuning"]["best_validation_kl"] = loop.lowest(run)
        if time.monotonic() - saved >= SAVE_SECONDS:
            with stores.writing(store.folder):
                loop.save(place, run)
            store.save()
            saved = time.monotonic()
        observe(progress(run, until), store.manifest)

    begun = loop.load(place, problem.student.model.device)
    if begun is None:
        begun = loop.begin(problem, config.pv, weights)
    seen(begun)
    return loop.go_on(problem, config.pv, begun, until, config.every, seen)


def _problem(
    config: Tuning,
    quantized: LoadedModel,
    original: LoadedModel,
    windows: Int[Tensor, "windows length"],
) -> tuple[Problem, dict[str, AdditiveWeight]]:
    """Student and teacher on the device, and the text in two parts."""
    device = machine.resolve_device(config.device)
    if len(windows) < 2:
        raise InputError(
            f"the text has {len(windows)} windows of {config.window} tokens and tuning needs 2, to "
            "learn from one and choose by the other; give a longer text or a shorter window"
        )
    apart = min(MOST_VALIDATION, -(-len(windows) // VALIDATION_SHARE))
    windows = windows.to(device)
    model = quantized.model.to(device)  # type: ignore[arg-type]
    learner, weights = student.take(model, config.embeddings)
    teacher = Teacher(original.model.to(device))  # type: ignore[arg-type]
    check(learner, teacher)
    learn, validation = windows[:-apart], windows[-apart:]
    blocks = {}
    if config.metric == "hessian":
        groups = {name: weight.codebooks.shape[2] for name, weight in weights.items()}
        blocks = teacher.metrics(groups, learn[:METRIC_WINDOWS])
    return Problem(learner, teacher, learn, validation, blocks), weights


def check(learner: Student, teacher: Teacher) -> None:
    """Refuse models that do not belong together, or that do not fit into memory."""
    words = [model.config.get_text_config().vocab_size for model in (learner.model, teacher.model)]
    if words[0] != words[1]:
        raise InputError(
            f"the quantized model knows {words[0]} words and its original {words[1]}; "
            "give the model that it was made from with --against"
        )
    count = sum(layer.weight.numel() for layer in learner.layers.values())
    need = 4 * NUMBERS * count
    machine.require_memory(need, f"tuning {count:,} quantized weights", learner.model.device)


def _named(source: ModelSource, manifest: Document | None) -> str:
    """The original's name in a manifest."""
    if manifest is None or not manifest["model"]:
        raise InputError(
            f"{source.name} does not say which model it was made from; give that with --against"
        )
    name: str = manifest["model"]["name"]
    return name


def _begun(key: str, original: ModelSource, made: Document | None, entry: Document) -> Document:
    """The manifest before anything is done: what is known of the quantization, and the entry."""
    begun = stores.begin(key, {})
    begun["model"] = {name: getattr(original, name) for name in ("kind", "name", "note")}
    if made is not None:
        begun |= {name: made[name] for name in ("config", "model", "text", "plan", "ledger")}
        for parts in ("layers", "blocks"):  # their files are others here
            begun[parts] = {
                name: {k: v for k, v in facts.items() if k not in {"file", "sha256"}}
                for name, facts in made[parts].items()
            }
    return begun | {"tuning": entry}


def _check_settings(folder: Path, asked: Document) -> None:
    """Refuse a folder of a tuning with other settings, by their names."""
    found = stores.read_manifest(folder)
    kept = ((found or {}).get("tuning") or {}).get("config")
    if kept is None or kept == asked:
        return
    flat, other = ({**facts, **facts["pv"]} for facts in (kept, asked))
    names = [name for name in other if name != "pv" and flat.get(name) != other[name]]
    facts = ", ".join(f"{name} {flat.get(name)} instead of {other[name]}" for name in names)
    raise InputError(f"{folder} holds a tuning with {facts}; name another folder")


def progress(run: Run, until: Until) -> Progress:
    """How far a run is, in steps or in seconds."""
    point = run.curve[-1]
    words = f"step {point.step}, validation KL {loop.lowest(run):.4f}"
    pace = point.seconds / point.step if point.step else None
    ends = []
    if until.seconds is not None:
        ends.append((point.seconds, until.seconds))
    if until.steps is not None and pace is not None:
        ends.append((point.seconds, pace * until.steps))
    if not ends:
        return Progress(words, 0.0, 0.0, None)
    done, total = min(ends, key=lambda end: end[1])
    return Progress(words, done, total, max(0.0, total - done))
