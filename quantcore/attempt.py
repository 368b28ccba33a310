r"""One initialiser's part in a trial: quantize some blocks, ask, tune, ask again.

The quantized model is made in memory (`partial`) and lives as long as this does; what it was and
became is entered in the document as it comes, the curve after every step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from quantcore import generate, partial
from quantcore.generate import GenerateConfig
from quantcore.model import ModelConfig
from quantcore.progress import Meter, Observe, Progress
from quantcore.pv import folder as folders
from quantcore.pv import loop, student
from quantcore.pv.descent import Problem, PvConfig
from quantcore.pv.loop import Run, Until
from quantcore.pv.teacher import Teacher
from quantcore.results import Document
from quantcore.sources import LoadedModel


class Windows(NamedTuple):
    """Windows of tokens, on the models' device."""

    learned: Int[Tensor, "windows length"]
    validation: Int[Tensor, "others length"]


class Question(NamedTuple):
    """What every model is asked, and how its reply is drawn."""

    prompt: str
    how: GenerateConfig

    def put(
        self, loaded: LoadedModel, stage: str, meter: Meter, model: PreTrainedModel | None = None
    ) -> str:
        """The reply of a model, or of another one with the same tokenizer.

        Raises:
            InputError: the prompt fills the model's context.
        """
        count = 0

        def heard(_: str) -> None:
            nonlocal count
            count += 1
            meter.part(min(1.0, count / self.how.tokens), stage)

        speaker = LoadedModel(loaded.source, model or loaded.model, loaded.tokenizer)
        asked = [{"role": "user", "content": self.prompt}]
        return generate.reply(speaker, asked, self.how, heard).text


@dataclass(frozen=True)
class Attempt:
    """What one initialiser's part is made of.

    Attributes:
        loaded: The original, float32, on the device.
        teacher: The same, which has read the windows.
        windows: Text.
        quantizing: Which blocks, from which initialiser, how.
        pv: How they are tuned.
        until: When tuning ends.
        every: Steps between two validations.
        question: What is asked before and after.
    """

    loaded: LoadedModel
    teacher: Teacher
    windows: Windows
    quantizing: ModelConfig
    pv: PvConfig
    until: Until
    every: int
    question: Question


def stages(init: str) -> tuple[str, str, str, str]:
    """What is done from an initialiser, in order."""
    return (
        f"quantize from {init}",
        f"{init} answers",
        f"tune from {init}",
        f"{init} answers after tuning",
    )


def begin(init: str) -> Document:
    """An initialiser's entry before anything is done."""
    return {
        "init": init,
        "complete": False,
        "quantize_seconds": None,
        "layers": [],
        "blocks": [],
        "curve": [],
        "steps": 0,
        "seconds": 0.0,
        "start_kl": None,
        "best_kl": None,
        "best_step": None,
        "replies": {"before": None, "after": None},
    }


def run(attempt: Attempt, entry: Document, meter: Meter) -> None:
    """Do it all.

    Args:
        attempt: What.
        entry: From `begin`; grows.
        meter: Hears of progress; its document holds the entry.

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory or the disk.
    """
    quantizing, asking, tuning, asking_again = stages(entry["init"])
    loaded, question = attempt.loaded, attempt.question
    meter.begin(quantizing)
    made = partial.quantized(attempt.quantizing, loaded, _within(meter, quantizing))
    entry.update(_quantization(made.manifest))
    meter.begin(asking)
    entry["replies"]["before"] = question.put(loaded, asking, meter, made.model)
    meter.begin(tuning)
    _tune(attempt, made.model, _entering(attempt, entry, tuning, meter))
    meter.begin(asking_again)
    entry["replies"]["after"] = question.put(loaded, asking_again, meter, made.model)
    entry["complete"] = True
    meter.report()


def _tune(attempt: Attempt, model: PreTrainedModel, seen: Callable[[Run], None]) -> None:
    """Tune a model, which ends in the state of the lowest KL on validation text."""
    learner, weights = student.take(model)
    folders.check(learner, attempt.teacher)
    problem = Problem(learner, attempt.teacher, *attempt.windows)
    begun = loop.begin(problem, attempt.pv, weights)
    begun = begun._replace(curve=(begun.curve[0]._replace(seconds=0.0),))  # the first step's start
    seen(begun)
    ended = loop.go_on(problem, attempt.pv, begun, attempt.until, attempt.every, seen)
    student.show(learner, *ended.best)


def _entering(attempt: Attempt, entry: Document, stage: str, meter: Meter) -> Callable[[Run], None]:
    """Enters the curve as it grows."""

    def seen(run: Run) -> None:
        points = [point._asdict() for point in run.curve]
        measured = [point for point in points if point["validation_kl"] is not None]
        best = min(measured, key=lambda point: point["validation_kl"])
        entry.update(
            curve=points,
            steps=points[-1]["step"],
            seconds=points[-1]["seconds"],
            start_kl=points[0]["validation_kl"],
            best_kl=best["validation_kl"],
            best_step=best["step"],
        )
        _pass_on(folders.progress(run, attempt.until), stage, meter)

    return seen


def _within(meter: Meter, stage: str) -> Observe:
    """An observer of work that has a meter of its own, which makes up this stage."""
    return lambda progress, _: _pass_on(progress, stage, meter)


def _pass_on(progress: Progress, stage: str, meter: Meter) -> None:
    share = min(1.0, progress.done / progress.total) if progress.total else 0.0
    meter.part(share, f"{stage}: {progress.stage}")


def _quantization(manifest: Document) -> Document:
    """What quantizing left, layer by layer and block by block."""
    errors = [f"{when}{text}relative_error" for when in ("init_", "") for text in ("", "heldout_")]
    return {
        "quantize_seconds": sum(block["seconds"] for block in manifest["blocks"].values()),
        "layers": [
            {"layer": name, **{error: facts[error] for error in errors}}
            for name, facts in manifest["layers"].items()
        ],
        "blocks": [
            {"block": int(number), "heldout_error": min(i["heldout"] for i in facts["tuning"])}
            for number, facts in manifest["blocks"].items()
        ],
    }
