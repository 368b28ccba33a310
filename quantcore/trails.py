"""The way of one run through the space of codebooks and scales.

A trail keeps codebooks and scales after every phase but only the last codes: those of all phases
would fill the memory. What a phase says about its codes, the share that it changed, is measured as
it ends.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import alignment, files
from quantcore.alignment import Alignment, Space
from quantcore.errors import SourceError
from quantcore.estimate import LayerClock
from quantcore.layer import LayerConfig, Phase, Tick, quantize
from quantcore.objective import LayerProblem
from quantcore.progress import Meter
from quantcore.results import Document
from quantcore.weight import AdditiveWeight


class Trail(NamedTuple):
    """What is kept of a run; phases that were undone are among them."""

    codebooks: Float[Tensor, "phases books size group"]
    scales: Float[Tensor, "phases out"]
    codes: Int[Tensor, "out groups books"]  # at the end

    @property
    def end(self) -> AdditiveWeight:
        """The run's weight."""
        return AdditiveWeight(self.codes, self.codebooks[-1], self.scales[-1])

    def points(self, space: Space) -> Float[Tensor, "phases numbers"]:
        """Where the run was after each phase."""
        steps = zip(self.codebooks, self.scales, strict=True)
        return torch.stack([space.point(books, scales) for books, scales in steps])

    def reordered(self, order: Alignment) -> "Trail":
        """The same matrices, books and words in another order."""
        books = torch.stack([alignment.reordered(some, order) for some in self.codebooks])
        return Trail(books, self.scales, alignment.relabelled(self.end, order).codes)


def begin(init: str, seed: int) -> Document:
    """A run's entry before its first phase has ended."""
    return {"init": init, "seed": seed, "complete": False, "phases": []}


def walk(
    problem: LayerProblem, config: LayerConfig, entry: Document, stage: str, meter: Meter
) -> Trail:
    """Quantize a layer once.

    Args:
        problem: The layer.
        config: How.
        entry: What `begin` gave; the phases enter it.
        stage: What the meter calls this run.
        meter: Hears of progress.
    """
    meter.begin(stage)
    out, columns = problem.weight.shape
    clock = LayerClock(config, out, columns, problem.weight.device)
    passed: list[tuple[Tensor, Tensor]] = []
    codes: list[Tensor] = []  # of this phase and the one before

    def reached(weight: AdditiveWeight) -> None:
        passed.append((weight.codebooks, weight.scales))
        codes[:] = [*codes[-1:], weight.codes]

    def seen(info: Phase | Tick) -> None:
        if isinstance(info, Phase):
            entry["phases"].append(_phase(info, codes))
            meter.report()
        else:
            meter.part(clock.share(info), f"{stage}: {clock.words(info)}")

    quantize(problem, config, torch.Generator().manual_seed(entry["seed"]), seen, reached)
    entry["complete"] = True
    books, scales = zip(*passed, strict=True)
    return Trail(torch.stack(books), torch.stack(scales), codes[-1])


def keep(path: Path, trail: Trail) -> None:
    """Write a trail into a file."""
    files.write_tensors(path, trail._asdict())


def recall(path: Path, device: torch.device) -> Trail | None:
    """What `keep` wrote; None where it is not there or damaged."""
    try:
        tensors = files.read_tensors(path, dict.fromkeys(Trail._fields, True))
    except SourceError:
        return None
    return Trail(**{name: tensor.to(device) for name, tensor in tensors.items()})


def _phase(phase: Phase, codes: list[Tensor]) -> Document:
    """A phase's entry; where it lies is known once both runs have ended."""
    before, after = codes[0], codes[-1]
    return {
        "phase": phase.phase,
        "sweep": phase.sweep,
        "relative_error": phase.errors.relative,
        "heldout_relative_error": phase.errors.heldout_relative,
        "changed": None if phase.phase == "init" else alignment.differing(before, after),
        "seconds": phase.seconds,
        "coordinates": None,
        "off_plane": None,
    }
