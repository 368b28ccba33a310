"""What the studies of single layers share: the model at hand, and one run in a document."""

from functools import lru_cache

import torch
from transformers import PreTrainedModel

from quantcore import estimate, machine, results, sources
from quantcore.estimate import LayerClock
from quantcore.layer import LayerConfig, LayerState, Phase, Tick, quantize
from quantcore.objective import LayerProblem
from quantcore.progress import Meter
from quantcore.results import Document
from quantcore.sources import LoadedModel, ModelSource


@lru_cache(maxsize=1)
def loaded(source: ModelSource, device: torch.device) -> LoadedModel:
    """The model, kept while the next studies use the same one."""
    found = sources.load(source)
    found.model.to(device)  # type: ignore[arg-type]  # transformers' own stub of Module.to
    return found


@lru_cache(maxsize=8)
def skeleton(source: ModelSource) -> PreTrainedModel:
    """A model's modules without their weights, kept for the next questions about its shapes."""
    return sources.skeleton(source)


def seconds_of(config: LayerConfig, out: int, columns: int, device: torch.device) -> float:
    """Expected seconds of a run on a layer of this shape.

    Raises:
        ResourceError: it does not fit into memory.
    """
    purpose = f"quantizing a layer of {out}x{columns} at {config.scheme}"
    machine.require_memory(estimate.layer_bytes(config, out, columns), purpose, device)
    return estimate.layer_seconds(config, out, columns, device).total


def run(
    problem: LayerProblem, config: LayerConfig, entry: Document, stage: str, meter: Meter
) -> LayerState:
    """Quantize a layer once, the trace growing in the document.

    Args:
        problem: The layer.
        config: How.
        entry: What `results.begin_run` gave, its seed included; it goes to the document's runs.
        stage: What the meter calls this run.
        meter: Hears of progress.
    """
    meter.document["runs"].append(entry)
    meter.begin(stage)
    out, columns = problem.weight.shape
    clock = LayerClock(config, out, columns, problem.weight.device)

    def seen(info: Phase | Tick) -> None:
        if isinstance(info, Phase):
            results.add_phase(entry, info)
            meter.report()
        else:
            meter.part(clock.share(info), f"{stage}: {clock.words(info)}")

    state = quantize(problem, config, torch.Generator().manual_seed(entry["seed"]), seen)
    results.end_run(entry, state)
    return state
