r"""A model of which only some blocks are quantized, in memory beside its original.

    the blocks     by the same code as a whole model (`model.quantize_blocks`), kept in a folder of
                   the cache that is named by all that determines them: codes, codebooks, scales and
                   norms of those blocks, about a megabyte each at 2 bits and 135M parameters
    all the rest   the original's own matrices, shared with it and not copied

What else is done with the model does not change its blocks, so the folder outlives the run: another
prompt or a longer tuning goes on from it. The last few folders are kept.
"""

import copy
import os
from typing import NamedTuple

from transformers import PreTrainedModel

from quantcore import blocks, blockwise, ledger, machine, model
from quantcore import store as stores
from quantcore.ledger import PlannedLayer
from quantcore.model import ModelConfig
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.sources import LoadedModel
from quantcore.store import Store

KEPT = 8  # folders
FOLDER = "blocks"


class Partial(NamedTuple):
    """A partly quantized model.

    Attributes:
        model: Float32, on the original's device; its matrices outside the chosen blocks are those
            of the original, so they must not be written to.
        manifest: How its blocks came about, as `docs/results.md` has it.
    """

    model: PreTrainedModel
    manifest: Document


def quantized(config: ModelConfig, original: LoadedModel, observe: Observe) -> Partial:
    """Quantize the blocks that the config names, or find them in the cache.

    Args:
        config: Which blocks, and how; its model is the one that is given.
        original: In float32; not changed.
        observe: Called with the progress and the manifest so far. May raise to stop, and the same
            call goes on later.

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory or the disk.
    """
    planned = ledger.plan(original.model, config.budget(), config.mixed, config.blocks)
    begun = model.begin(config, original.source, original.model, planned)
    place = machine.cache_dir() / FOLDER
    with stores.opened(place / begun["key"], begun) as store:
        os.utime(store.folder)  # it was used last
        if any(store.block(number) is None for number in _numbers(planned)):
            _quantize(config, original, planned, store, observe)
        made = _with_blocks(original.model, planned, store)
    stores.keep_latest(place, KEPT)
    return Partial(made, store.manifest)


def _quantize(
    config: ModelConfig,
    original: LoadedModel,
    planned: tuple[PlannedLayer, ...],
    store: Store,
    observe: Observe,
) -> None:
    need = model.expected_bytes(config, original.model, planned)
    machine.require_memory(need, f"quantizing blocks of {original.source.name}")
    meter = Meter(observe, store.manifest)
    for stage, seconds in model.expected_seconds(config, original.model, planned).items():
        meter.plan(stage, seconds)
    meter.begin(model.PREPARE)
    model.quantize_blocks(config, original, planned, store, meter)
    store.finish()


def _with_blocks(
    original: PreTrainedModel, planned: tuple[PlannedLayer, ...], store: Store
) -> PreTrainedModel:
    """A copy of the model that shares its other matrices, with the store's blocks."""
    _, theirs = blocks.find_blocks(original)
    own = {id(value) for n in _numbers(planned) for value in theirs[n].parameters()}
    shared = [v for v in original.parameters() if v.dim() > 1 and id(v) not in own]
    made = copy.deepcopy(original, {id(value): value for value in shared})
    _, modules = blocks.find_blocks(made)
    for number in _numbers(planned):
        tensors = store.block(number)
        assert tensors is not None, number
        layers = tuple(layer for layer in planned if layer.info.block == number)
        blockwise.filled(modules[number], layers, tensors)
    return made.requires_grad_(False)


def _numbers(planned: tuple[PlannedLayer, ...]) -> list[int]:
    return sorted({layer.info.block for layer in planned})
