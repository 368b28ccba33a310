"""The engine of a server that does not do everything for everyone (`limits`).

What is refused is refused where it is asked for, before any file is opened: names of models and
texts that are not offered, layers that are too large, runs that would take too long.
"""

from dataclasses import replace
from typing import Any

from aqviz import uploads
from aqviz.engine import Engine, shapes, subject
from aqviz.limits import Limits
from quantcore.blocks import LayerInfo
from quantcore.corpora import NAMED
from quantcore.errors import InputError, quoted
from quantcore.experiment import Experiment
from quantcore.sources import DEFAULT_MODEL, PACKAGED_MODEL

MILLION = 1e6
ELSEWHERE = "or run this program on a machine of your own"


def limited(engine: Engine, limits: Limits) -> Engine:
    """The engine, which refuses what is not allowed here with an InputError."""

    def layers(model: str | None) -> dict[str, LayerInfo]:
        _check_model(limits, model)
        return engine.layers(model)

    def estimate(experiment: Experiment, out: int, columns: int) -> float:
        _check_names(limits, experiment)
        return engine.estimate(experiment, out, columns)

    def seconds(config: Any) -> float:
        _check_names(limits, config)
        return engine.seconds(config)

    def models() -> list[str]:
        found = engine.models()
        return list(dict.fromkeys([*found[:1], *limits.models])) if limits.public else found

    def admit(config: Any) -> float:
        _check_names(limits, config)
        for shape in shapes(config, engine.layers).values():
            _check_size(limits, *shape)
        expected = engine.seconds(config)
        _check_time(limits, expected)
        return expected

    return replace(
        engine, layers=layers, estimate=estimate, seconds=seconds, models=models, admit=admit
    )


def _check_names(limits: Limits, config: Any) -> None:
    """Refuse a study of a model, a text or a file that is not offered."""
    one = subject(config)
    problem = getattr(one, "problem", None)
    if problem is None:
        _check_model(limits, one.model)
    else:
        uploads.checked(problem)
    if limits.public and one.text not in NAMED:
        raise InputError(
            f"the text {quoted(one.text)} is not offered on this server; choose one of "
            f"{', '.join(NAMED)}, {ELSEWHERE}"
        )


def _check_model(limits: Limits, model: str | None) -> None:
    offered = (DEFAULT_MODEL, PACKAGED_MODEL, *limits.models)
    if limits.public and model and model not in offered:
        raise InputError(
            f"the model {quoted(model)} is not offered on this server; choose one of "
            f"{', '.join(offered)}, {ELSEWHERE}"
        )


def _check_size(limits: Limits, out: int, columns: int) -> None:
    millions = out * columns / MILLION
    if millions > limits.largest_layer:
        raise InputError(
            f"a layer of {out} x {columns} has {millions:.3g} million weights and at most "
            f"{limits.largest_layer:g} million are run on this server; choose a smaller one, "
            f"{ELSEWHERE}"
        )


def _check_time(limits: Limits, expected: float) -> None:
    if expected > limits.longest_job:
        raise InputError(
            f"this would take about {expected / 60:.3g} minutes and at most "
            f"{limits.longest_job / 60:.3g} are given to one run on this server; choose fewer "
            f"seeds, a smaller beam or a smaller layer, {ELSEWHERE}"
        )
