"""What the app asks of the core, as four functions, so that a test can give it others."""

from collections.abc import Callable
from dataclasses import dataclass

from quantcore import experiment, sources
from quantcore.blocks import LayerInfo
from quantcore.experiment import Experiment
from quantcore.progress import Observe
from quantcore.results import Document

__all__ = ["Document", "Engine", "Observe"]


def known_models() -> list[str]:
    """Names of the models that can be used without the network, the default first."""
    return [source.name for source in sources.available()]


@dataclass(frozen=True)
class Engine:
    """The core's functions the app calls.

    Attributes:
        run: An experiment, an observer and what an earlier try left -> the finished document.
        estimate: An experiment and its layer's shape -> seconds it will take here.
        layers: A model's name -> its linear layers.
        models: The models to offer.
    """

    run: Callable[[Experiment, Observe, Document | None], Document] = experiment.run
    estimate: Callable[[Experiment, int, int], float] = experiment.estimate
    layers: Callable[[str | None], dict[str, LayerInfo]] = experiment.layers
    models: Callable[[], list[str]] = known_models
