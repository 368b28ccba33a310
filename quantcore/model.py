r"""A whole model, block by block, from its original to a folder that is a checkpoint.

    hidden states before the first block, of the original and of the quantized model (the same)
    for every block
      blockwise        its layers stage by stage, then its tuning
      hidden states    on, through the original block and through the quantized one

Held-out windows are calibration text that no Hessian and no tuning step has seen; evaluation text
is not touched. Each finished layer and block lies in the folder (`store`): the same command goes on
after anything, to the same bits. In memory are hidden states, one block in float32 and what its
largest layer needs; the model's own weights stay in their file, mapped.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quantcore import (
    blocks,
    corpora,
    files,
    ledger,
    linear,
    machine,
    problems,
    shards,
    sources,
    streams,
)
from quantcore import estimate as estimates
from quantcore import store as stores
from quantcore.block_tuning import TuningConfig
from quantcore.blockwise import BlockTask, Quantizer, Sides, tuning_stage
from quantcore.corpora import TextSource
from quantcore.errors import InputError, SourceError
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.ledger import PlannedLayer
from quantcore.linear import QuantizedLinear
from quantcore.objective import Regularisation
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.sources import LoadedModel
from quantcore.store import Store
from quantcore.weight import Scheme

PREPARE = "run the text up to the first block"


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines a quantized model.

    Attributes:
        model: What `sources.resolve` takes; None is the default model.
        bpp: Bits a weight, as the ledger counts them; None where `scheme` says it.
        scheme: One scheme for all layers, instead of `bpp`.
        mixed: Let every layer have its own scheme within `bpp`.
        init: The initialiser.
        search: How codes are searched, one of `search.SEARCHES`.
        beam: Hypotheses the search keeps for each row; None is the search's own default.
        sweeps: Most rounds of refit and search.
        damping: See `objective.Regularisation`.
        shrinkage: See `objective.Regularisation`.
        correction: How far a layer's target goes towards making up for what is already quantized,
            0 to 1; see `drift`.
        text: What `corpora.load_text` takes; its calibration part is used.
        samples: Windows that are learned from, if the text has so many.
        heldout_samples: Windows after them, for held-out errors and to choose between epochs.
        length: Tokens in a window.
        blocks: Which blocks; None is all.
        tuning: How each block is tuned.
        seed: All randomness.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    model: str | None = None
    bpp: float | None = 2.0
    scheme: Scheme | None = None
    mixed: bool = False
    init: str = "oa-em"
    search: str = SearchConfig.name
    beam: int | None = None
    sweeps: int = 4
    damping: float = 0.0
    shrinkage: float = 0.0
    correction: float = 0.5
    text: str = "default"
    samples: int = 64
    heldout_samples: int = 16
    length: int = 512
    blocks: tuple[int, ...] | None = None
    tuning: TuningConfig = field(default_factory=TuningConfig)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.bpp is None) == (self.scheme is None):
            raise InputError("give either bits per weight or a scheme")
        if self.bpp is not None and not self.bpp > 0:
            raise InputError(f"bits per weight must be above 0, got {self.bpp:g}")
        if not 0 <= self.correction <= 1:
            raise InputError(f"correction must be 0 to 1, got {self.correction:g}")
        for name in ("samples", "heldout_samples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.layer(Scheme())  # these check their own settings

    def layer(self, scheme: Scheme) -> LayerConfig:
        """How a layer is quantized."""
        return LayerConfig(
            scheme=scheme,
            init=InitConfig(self.init),
            search=SearchConfig(self.search, self.beam),
            sweeps=self.sweeps,
            regularisation=Regularisation(self.damping, self.shrinkage),
        )

    def budget(self) -> Scheme | float:
        """What the plan is made for."""
        if self.scheme is not None:
            return self.scheme
        assert self.bpp is not None
        return self.bpp

    def facts(self) -> Document:
        """The settings, for a document."""
        width = SearchConfig(self.search, self.beam).kept
        facts = asdict(self) | {"beam": width}  # named or left to the search, it is one run
        del facts["device"]
        return facts


def plan(config: ModelConfig) -> tuple[nn.Module, tuple[PlannedLayer, ...]]:
    """The model's shapes, without weights, and what is to become of its layers.

    Raises:
        SourceError: there is no such model, or it cannot be quantized here.
        InputError: its layers do not fit the budget.
    """
    skeleton = sources.skeleton(sources.resolve(config.model))
    if linear.quantized_layers(skeleton):
        raise SourceError(f"model {config.model} is already quantized; give its original weights")
    return skeleton, ledger.plan(skeleton, config.budget(), config.mixed, config.blocks)


def expected_seconds(
    config: ModelConfig, skeleton: nn.Module, planned: tuple[PlannedLayer, ...]
) -> dict[str, float]:
    """Expected seconds of each stage of `run`, by its name."""
    device = machine.resolve_device(config.device)
    flop = estimates.rates_of(device).forward_flop
    learned = config.samples * config.length
    tokens = learned + config.heldout_samples * config.length
    per_block = _weights(skeleton) * 2 * flop
    numbers = sorted({layer.info.block for layer in planned})
    only_passed = numbers[-1] + 1 - len(numbers)
    seconds = {PREPARE: only_passed * tokens * per_block}
    for layer in planned:
        if layer.scheme is not None:
            out, columns = layer.info.out, layer.info.columns
            known = estimates.layer_seconds(config.layer(layer.scheme), out, columns, device)
            seconds[layer.info.name] = known.total
    for number in numbers:
        passes = 5 * tokens + 3 * config.tuning.epochs * learned  # backward counts twice
        seconds[tuning_stage(number)] = passes * per_block
    return seconds


def expected_bytes(
    config: ModelConfig, skeleton: nn.Module, planned: tuple[PlannedLayer, ...]
) -> int:
    """Peak bytes of `run`: hidden states, the model's block in work, its largest layer."""
    words: Tensor = skeleton.get_input_embeddings().weight  # type: ignore[operator]
    windows = config.samples + config.heldout_samples
    hidden = 4 * windows * config.length * words.shape[1]
    layers = [
        estimates.layer_bytes(config.layer(layer.scheme), layer.info.out, layer.info.columns)
        for layer in planned
        if layer.scheme is not None
    ]
    # the two models' states and the next ones; the block, its copy and their gradients
    return 4 * hidden + 16 * _weights(skeleton) + max(layers) + 4 * words.numel()


def run(config: ModelConfig, folder: Path, observe: Observe) -> Document:
    """Quantize a model into a folder, or go on with it.

    Args:
        config: What to do.
        folder: New, empty, or of the same configuration.
        observe: Called with the progress and the manifest so far. May raise to stop.

    Returns:
        The manifest.

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory or the disk.
    """
    source = sources.resolve(config.model)
    skeleton, planned = plan(config)
    machine.resolve_device(config.device)  # refused before the folder is there
    machine.require_memory(expected_bytes(config, skeleton, planned), f"quantizing {source.name}")
    with stores.opened(folder, begin(config, source, skeleton, planned)) as store:
        meter = Meter(observe, store.manifest)
        if store.manifest["complete"]:
            return store.manifest
        for stage, seconds in expected_seconds(config, skeleton, planned).items():
            meter.plan(stage, seconds)
        meter.begin(PREPARE)
        loaded = meter.patiently(lambda: sources.load(source, mapped=True))
        quantize_blocks(config, loaded, planned, store, meter)
        _finish(loaded, planned, store)
        meter.end()
        return store.manifest


def begin(
    config: ModelConfig,
    source: sources.ModelSource,
    skeleton: nn.Module,
    planned: tuple[PlannedLayer, ...],
) -> Document:
    """The manifest before anything is done."""
    facts = config.facts()
    key = files.digest([problems.identity(source), machine.versions(), facts])
    return stores.begin(key, facts) | {
        "model": {name: getattr(source, name) for name in ("kind", "name", "note")},
        "plan": [_entry(layer) for layer in planned],
        "ledger": ledger.ledger(skeleton, planned).facts(),
    }


def quantize_blocks(
    config: ModelConfig,
    loaded: LoadedModel,
    planned: tuple[PlannedLayer, ...],
    store: Store,
    meter: Meter,
) -> None:
    """Quantize the planned blocks into an open store, or go on with them.

    Args:
        config: How.
        loaded: The original; what lies outside its blocks is float32 afterwards.
        planned: Its plan.
        store: Begun with this plan.
        meter: Hears of progress.

    Raises:
        QuantcoreError: text or model cannot be used, or do not fit into memory or the disk.
    """
    device = machine.resolve_device(config.device)
    quantizer = Quantizer(config.layer, config.correction, config.tuning, config.seed, store, meter)
    for number in _blocks_in_turn(config, loaded, planned, quantizer, device):
        meter.skip(tuning_stage(number))
        meter.report()  # blocks that are only run through tell nothing themselves


def _blocks_in_turn(
    config: ModelConfig,
    loaded: LoadedModel,
    planned: tuple[PlannedLayer, ...],
    quantizer: Quantizer,
    device: torch.device,
) -> Iterator[int]:
    """Quantize block after block; yields the number of each that text has been through."""
    windows, text = _windows(config, loaded)
    learned, heldout = map(len, windows)
    facts = {"windows": learned, "heldout_windows": heldout, "length": config.length}
    quantizer.store.manifest["text"] = asdict(text) | facts
    begin = streams.start(loaded.model, torch.cat(windows))
    original = quantized = begin.hidden
    name, modules = blocks.find_blocks(loaded.model)
    last = max(layer.info.block for layer in planned)
    for number, module in enumerate(modules[: last + 1]):
        layers = tuple(layer for layer in planned if layer.info.block == number)
        block = copy.deepcopy(module).float().to(device)
        arguments = streams.to_device(begin.arguments[number], device)
        ahead = streams.through(block, original, arguments)
        if layers:
            given, wanted = (
                Sides(*hidden.split([learned, heldout])) for hidden in (quantized, ahead)
            )
            task = BlockTask(
                number=number,
                name=f"{name}.{number}",
                block=block,
                arguments=arguments,
                planned=layers,
                original=original[:learned],
                given=given,
                wanted=wanted,
            )
            block = quantizer.run(task, copy.deepcopy(block))
        same = quantized is original and not layers
        quantized = ahead if same else streams.through(block, quantized, arguments)
        original = ahead
        yield number


def _windows(config: ModelConfig, loaded: LoadedModel) -> tuple[Sides, TextSource]:
    """Calibration windows and, behind them, held-out ones; of a shorter text the same shares."""
    text, found = corpora.load_text(config.text, "calibration")
    wanted = config.samples + config.heldout_samples
    windows = corpora.windows(loaded.tokenizer, text, config.length, wanted)
    heldout = max(1, len(windows) * config.heldout_samples // wanted)
    if len(windows) <= heldout:
        raise InputError(
            f"the text has {len(windows)} window of {config.length} tokens and two are the least, "
            "one to learn from and one held out; give a longer text or shorter windows"
        )
    return Sides(windows[:-heldout], windows[-heldout:]), found


def _finish(loaded: LoadedModel, planned: tuple[PlannedLayer, ...], store: Store) -> None:
    """Write what makes the folder a checkpoint."""
    model = loaded.model
    for layer in planned:
        if layer.scheme is not None:
            dense = blocks.find_layer(model, layer.info.name)
            with torch.device("meta"):
                new = QuantizedLinear(
                    dense.in_features, dense.out_features, layer.scheme, dense.bias is not None
                )
            linear.replace(model, layer.info.name, new)
    with stores.writing(store.folder):
        for file, tensors in shards.parts(model).items():
            if not (store.folder / file).exists() or file == shards.REST:
                shards.write_part(store.folder, file, shards.as_held(tensors))
        shards.complete(store.folder, model, loaded.tokenizer)
    store.finish()


def _entry(layer: PlannedLayer) -> dict[str, Any]:
    scheme = None if layer.scheme is None else asdict(layer.scheme)
    return asdict(layer.info) | {"scheme": scheme, "why": layer.why}


def _weights(skeleton: nn.Module) -> int:
    """Weights of the largest block."""
    _, modules = blocks.find_blocks(skeleton)
    return max(sum(value.numel() for value in block.parameters()) for block in modules)
