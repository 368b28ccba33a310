"""What the app asks of the core, as functions, so that a test can give it others.

A study is a module of quantcore with a config that has a key, and a `run` that hands its growing
document to an observer: the app runs, keeps and shows all of them alike.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from aqviz.uploads import Uploads
from quantcore import experiment, landscape, sources, starts, survey, trial
from quantcore.blocks import LayerInfo
from quantcore.errors import SourceError, as_name
from quantcore.experiment import Experiment
from quantcore.grid import Survey
from quantcore.landscape import Landscape
from quantcore.progress import Observe
from quantcore.results import Document
from quantcore.starts import Starts
from quantcore.trial import Trial

__all__ = ["STUDIES", "Document", "Engine", "Observe", "kind_of"]

STUDIES: dict[str, tuple[type, ModuleType]] = {
    "experiment": (Experiment, experiment),
    "survey": (Survey, survey),
    "landscape": (Landscape, landscape),
    "starts": (Starts, starts),
    "trial": (Trial, trial),
}


def kind_of(config: Any) -> str:
    """The name of a config's study."""
    return next(kind for kind, (known, _) in STUDIES.items() if type(config) is known)


def known_models() -> list[str]:
    """Names of the models that can be used without the network, the default first."""
    return [source.name for source in sources.available()]


def run(config: Any, observe: Observe, previous: Document | None) -> Document:
    """Run a study; an experiment's problem is the name of an upload, never a path."""
    if isinstance(config, Experiment):
        return experiment.run(config, observe, previous, Uploads.here().whole)
    document: Document = STUDIES[kind_of(config)][1].run(config, observe, previous)
    return document


def seconds(config: Any) -> float:
    """Expected seconds of a study."""
    if isinstance(config, Survey):
        return survey.estimate(config)
    if isinstance(config, Trial):
        return trial.estimate(config)
    (shape,) = shapes(config, experiment.layers).values()
    return float(STUDIES[kind_of(config)][1].estimate(config, *shape))


def shapes(
    config: Any, layers_of: Callable[[str | None], dict[str, LayerInfo]]
) -> dict[str, tuple[int, int]]:
    """Rows and columns of every layer that a study quantizes, by name.

    Args:
        config: The study's.
        layers_of: A model's name -> its layers.

    Raises:
        SourceError: there is no such model, file or layer.
    """
    one = subject(config)
    problem = getattr(one, "problem", None)
    if problem is not None:
        there = Uploads.here().open(problem).layers
    else:
        there = {name: (at.out, at.columns) for name, at in layers_of(one.model).items()}
    if isinstance(config, Trial):
        return there  # of some blocks; no layer of the others has another shape
    named = config.layers or tuple(there) if isinstance(config, Survey) else (one.layer,)
    for name in named:
        check_layer(name, there, problem)
    return {name: there[name] for name in named}


def subject(config: Any) -> Any:
    """What names the model and the text of a study: the experiment that it is about, or itself."""
    return getattr(config, "experiment", config)


def check_layer(name: str, there: Collection[str], problem: str | None) -> None:
    """Refuse a layer that is not there.

    Raises:
        SourceError: it is not among the layers of the model, or of the uploaded file `problem`.
    """
    if name not in there:
        home = f"the file {problem}" if problem is not None else "this model"
        raise SourceError(f"{home} has no layer {as_name(name)}; choose another one")


def unexpected(error: Exception) -> str:
    """What the reader is told of an error that nobody foresaw."""
    words = str(error).lower()
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in words:
        return (
            "There was not enough memory for this run; choose a smaller layer or fewer codebooks, "
            "or try when less is running."
        )
    return f"Something unexpected happened ({type(error).__name__}); the details are in the log."


def anything(_config: Any) -> None:
    """Admits every study, and does not know how long it takes."""


def nothing() -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Engine:
    """The core's functions the app calls.

    Attributes:
        run: A study's config, an observer and what an earlier try left -> the finished document.
        estimate: An experiment and its layer's shape -> seconds it will take here.
        seconds: The config of any study -> seconds it will take here.
        layers: A model's name -> its linear layers.
        models: The models to offer.
        admit: The config of any study -> seconds it will take here, None where that is not known;
            refuses what is not run here with an InputError.
        prepare: Makes ready for the first run; called when this machine has been measured, which
            it would disturb.
        stop: Has the run under way stop before its next report, as its observer would at that.
    """

    run: Callable[[Any, Observe, Document | None], Document] = run
    estimate: Callable[[Experiment, int, int], float] = experiment.estimate
    seconds: Callable[[Any], float] = seconds
    layers: Callable[[str | None], dict[str, LayerInfo]] = experiment.layers
    models: Callable[[], list[str]] = known_models
    admit: Callable[[Any], float | None] = anything
    prepare: Callable[[], None] = nothing
    stop: Callable[[], None] = nothing
