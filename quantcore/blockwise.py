r"""One block of a model: its layers quantized stage by stage, then tuned together.

    for every stage of the block   its linear layers with one input: q, k, v | o | gate, up | down
      Hessians                     of what the quantized model so far gives the stage
      layer.quantize               each layer, against its own held-out error
    block_tuning                   towards the original model's hidden states

Codebooks and scales are rounded to float16 before anything else sees them. Every layer and block
draws from a generator of its own, so that one made again comes out the same. Finished ones are
taken from the store.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcore import block_tuning, drift, linear, machine, results, shards, streams
from quantcore import estimate as estimates
from quantcore.block_tuning import Pairs, TuningConfig, TuningInfo
from quantcore.errors import ProblemError
from quantcore.estimate import LayerClock
from quantcore.layer import LayerConfig, LayerState, Phase, Tick, quantize
from quantcore.ledger import PlannedLayer
from quantcore.linear import QuantizedLinear
from quantcore.objective import LayerProblem
from quantcore.progress import Meter
from quantcore.results import Document
from quantcore.store import Store
from quantcore.streams import Arguments
from quantcore.weight import AdditiveWeight, Scheme

Hidden = Float[Tensor, "windows length channels"]


class Sides(NamedTuple):
    """Calibration windows and held-out ones, tokens or hidden states, on the CPU."""

    calibration: Tensor
    heldout: Tensor


@dataclass(frozen=True)
class BlockTask:
    """What is to be done with one block.

    Attributes:
        number: Which block.
        name: Its full name.
        block: The original, float32, on the device; not written to.
        arguments: Its arguments beside hidden states, on the device.
        planned: Its layers.
        original: Hidden states of the original model before the block, of calibration windows.
        given: Hidden states of the quantized model before the block.
        wanted: Hidden states of the original model behind the block.
    """

    number: int
    name: str
    block: nn.Module
    arguments: Arguments
    planned: tuple[PlannedLayer, ...]
    original: Hidden
    given: Sides
    wanted: Sides


@dataclass(frozen=True)
class Quantizer:
    """What stays the same over the blocks.

    Attributes:
        layer: How a layer is quantized at a scheme.
        correction: How far a layer's target goes towards making up for what came before; 0 to 1.
        tuning: How a block is tuned.
        seed: All randomness.
        store: Where finished layers and blocks are kept.
        meter: Hears of progress.
    """

    layer: Callable[[Scheme], LayerConfig]
    correction: float
    tuning: TuningConfig
    seed: int
    store: Store
    meter: Meter

    def run(self, task: BlockTask, copy: nn.Module) -> nn.Module:
        """The quantized block, made of a copy of the original.

        Raises:
            ProblemError: a layer's weight or inputs cannot be used.
            ResourceError: a layer does not fit into memory, or nothing can be stored.
        """
        stored = self.store.block(task.number)
        if stored is not None:
            for layer in task.planned:
                self.meter.skip(layer.info.name)
            self.meter.skip(tuning_stage(task.number))
            return filled(copy, task.planned, stored)
        begun = time.perf_counter()
        added = drift.added_to(task.block, task.original, task.arguments)
        for stage in streams.stages(copy, task.given.calibration, task.arguments):
            layers = [layer for layer in task.planned if _inner(layer) in stage]
            self._stage(task, copy, layers, added)
        infos = self._tune(task, copy)
        tensors = {f"{task.name}.{name}": value for name, value in copy.state_dict().items()}
        facts: Document = {
            "layers": [layer.info.name for layer in task.planned if layer.scheme is not None],
            "tuning": [info._asdict() for info in infos],
            "seconds": time.perf_counter() - begun,
            "peak_bytes": machine.peak_memory(),
        }
        self.store.keep_block(task.number, tensors, facts)
        return copy

    def _stage(
        self, task: BlockTask, block: nn.Module, layers: list[PlannedLayer], added: dict[str, str]
    ) -> None:
        """Quantize the layers that share an input, and put them into the block."""
        found = {
            layer: self.store.layer(layer.info.name) for layer in layers if layer.scheme is not None
        }
        if any(weight is None for weight in found.values()):
            first, beat = _inner(layers[0]), self.meter.report
            sources = (block, task.block), (first, added.get(first))
            hidden = (task.given.calibration, task.original)
            moments = drift.measure(*sources, hidden, task.arguments, beat)
            heldout = streams.hessian(block, first, task.given.heldout, task.arguments, beat)
        for layer, kept in found.items():
            dense = block.get_submodule(_inner(layer))
            assert isinstance(dense, nn.Linear)
            if kept is None:
                aim = drift.target(dense.weight.detach(), moments, self.correction)
                weight = self._layer(layer, aim, moments.hessian, heldout)
            else:
                weight = kept
            self.meter.skip(layer.info.name)
            new = QuantizedLinear.from_weight(weight, dense.bias).to(dense.weight.device)
            linear.replace(block, _inner(layer), new)

    def _layer(
        self, layer: PlannedLayer, weight: Tensor, hessian: Tensor, heldout: Tensor
    ) -> AdditiveWeight:
        """Quantize one layer and keep it; its errors are those against what it aims at."""
        assert layer.scheme is not None
        name, config = layer.info.name, self.layer(layer.scheme)
        out, columns = weight.shape
        self.meter.begin(name)
        machine.require_memory(
            estimates.layer_bytes(config, out, columns), f"quantizing {name}", weight.device
        )
        try:
            problem = LayerProblem(weight, hessian, heldout)
        except ProblemError as error:
            raise ProblemError(f"layer {name}: {error}") from None
        clock = LayerClock(config, out, columns, weight.device)

        def seen(info: Phase | Tick) -> None:
            if isinstance(info, Tick):
                self.meter.part(clock.share(info), f"{name}: {clock.words(info)}")

        rng = torch.Generator().manual_seed(seed_of(self.seed, name))
        state = quantize(problem, config, rng, seen)
        rounded = _rounded(name, state.weight)
        self.store.keep_layer(name, rounded, _facts(layer, problem, state, rounded))
        return rounded

    def _tune(self, task: BlockTask, block: nn.Module) -> list[TuningInfo]:
        stage = tuning_stage(task.number)
        self.meter.begin(stage)
        epochs = max(1, self.tuning.epochs)
        calibration, heldout = map(Pairs, task.given, task.wanted)
        rng = torch.Generator().manual_seed(seed_of(self.seed, stage))
        return block_tuning.run(
            block,
            task.arguments,
            calibration,
            heldout,
            self.tuning,
            rng,
            lambda info: self.meter.part(info.epoch / epochs, f"{stage}, epoch {info.epoch}"),
        )


def filled(
    block: nn.Module, planned: tuple[PlannedLayer, ...], tensors: dict[str, Tensor]
) -> nn.Module:
    """A block, written to, with the tensors that a store keeps of it.

    Args:
        block: The original's, on any device.
        planned: Its layers.
        tensors: By full name.
    """
    device = next(block.parameters()).device
    for layer in planned:
        if layer.scheme is not None:
            dense = block.get_submodule(_inner(layer))
            info = layer.info
            new = QuantizedLinear(info.columns, info.out, layer.scheme, dense.bias is not None)
            linear.replace(block, _inner(layer), new.to(device))
    prefix = planned[0].info.name.removesuffix(_inner(planned[0]))
    block.load_state_dict({name.removeprefix(prefix): value for name, value in tensors.items()})
    return block


def tuning_stage(number: int) -> str:
    """What a block's tuning is called."""
    return f"tune block {number}"


def seed_of(seed: int, name: str) -> int:
    """A seed for each part of the work, so that none depends on what was drawn before it."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _facts(
    layer: PlannedLayer, problem: LayerProblem, state: LayerState, rounded: AdditiveWeight
) -> Document:
    """What the manifest says of a finished layer: its trace, and where it stands as stored."""
    entry = results.begin_run("", 0)
    for phase in state.trace:
        results.add_phase(entry, phase)
    errors = problem.errors(rounded)
    assert layer.scheme is not None
    return {
        **results.shape_facts(layer.scheme, layer.info.out, layer.info.columns),
        "error": errors.error,
        "relative_error": errors.relative,
        "heldout_relative_error": errors.heldout_relative,
        "init_relative_error": entry["init_relative_error"],
        "init_heldout_relative_error": entry["init_heldout_relative_error"],
        "seconds": entry["seconds"],
        "trace": entry["trace"],
    }


def _rounded(name: str, weight: AdditiveWeight) -> AdditiveWeight:
    """The weight as it is stored: codebooks and scales in float16's values."""
    books, scales = (
        shards.in_type(name, value, torch.float16).float()
        for value in (weight.codebooks, weight.scales)
    )
    return AdditiveWeight(weight.codes, books, scales)


def _inner(layer: PlannedLayer) -> str:
    """The layer's name in its block."""
    return layer.info.projection
