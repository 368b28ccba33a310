"""From a layer's name to its problem: weight, calibration Hessian, held-out Hessian.

A problem comes from a safetensors file that holds `PREFIX.weight`, `PREFIX.hessian` and perhaps
`PREFIX.heldout_hessian`, or from a model and a text. Measuring a Hessian means running the model,
so measured ones are kept in the cache, named by everything they depend on.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor

from quantcore import calibration, corpora, files, machine
from quantcore.blocks import find_layer, layer_info
from quantcore.corpora import Split, TextSource
from quantcore.errors import InputError, SourceError
from quantcore.objective import LayerProblem
from quantcore.sources import LoadedModel, ModelSource

Observe = Callable[[int, int], None]


@dataclass(frozen=True)
class TextConfig:
    """Which text, and how much of it.

    Attributes:
        text: What `corpora.load_text` takes.
        window: Tokens in one window.
        calibration_tokens: Tokens for the Hessian that algorithms see, rounded down to windows.
        heldout_tokens: Tokens of the other part of the text, for the Hessian that they do not.
    """

    text: str = "default"
    window: int = 256
    calibration_tokens: int = 8192
    heldout_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.window < 2:
            raise InputError(f"window must be at least 2 tokens, got {self.window}")
        for name in ("calibration_tokens", "heldout_tokens"):
            if getattr(self, name) < self.window:
                raise InputError(
                    f"{name} must be at least one window of {self.window} tokens, "
                    f"got {getattr(self, name)}"
                )


def from_file(path: Path, prefix: str) -> LayerProblem:
    """The problem stored under `prefix` in a safetensors file.

    Raises:
        SourceError: the file cannot be read or has no such tensors.
        ProblemError: its tensors make no problem.
    """
    weight, hessian, heldout = (f"{prefix}.{n}" for n in ("weight", "hessian", "heldout_hessian"))
    try:
        tensors = files.read_tensors(path, {weight: True, hessian: True, heldout: False})
    except SourceError as error:
        near = _prefixes(path)
        if near and prefix not in near:
            raise SourceError(
                f"{path.name} has no problem {prefix!r}; it holds {', '.join(near)}"
            ) from None
        raise error from None
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            raise SourceError(f"{name} in {path.name} must be a matrix, got {tensor.dim()} axes")
    held = tensors.get(heldout)
    return LayerProblem(
        tensors[weight].float(), tensors[hessian].float(), None if held is None else held.float()
    )


def from_model(
    loaded: LoadedModel, layer: str, config: TextConfig, observe: Observe
) -> tuple[LayerProblem, dict[Split, TextSource]]:
    """The problem of a model's layer on a text, and the text's two parts.

    `observe` hears of windows done and in all. A text that is shorter than asked gives what it has.
    """
    windows: dict[Split, Int[Tensor, "windows length"]] = {}
    texts: dict[Split, TextSource] = {}
    counts: dict[Split, int] = {
        "calibration": config.calibration_tokens // config.window,
        "evaluation": config.heldout_tokens // config.window,
    }
    for split, count in counts.items():
        text, texts[split] = corpora.load_text(config.text, split)
        windows[split] = corpora.windows(loaded.tokenizer, text, config.window, count)
    name = layer_info(loaded.model, layer).name
    total = sum(len(some) for some in windows.values())
    hessians: dict[Split, Tensor] = {}
    before = 0
    for split, some in windows.items():
        offset = before
        hessians[split] = _cached_hessian(
            loaded,
            name,
            some,
            texts[split],
            lambda done, _, offset=offset: observe(offset + done, total),  # type: ignore[misc]
        )
        before += len(some)
    weight = find_layer(loaded.model, name).weight.detach().clone()
    problem = LayerProblem(weight, hessians["calibration"], hessians["evaluation"])
    return problem, texts


def _cached_hessian(
    loaded: LoadedModel,
    layer: str,
    windows: Int[Tensor, "windows length"],
    text: TextSource,
    observe: Observe,
) -> Float[Tensor, "columns columns"]:
    """The layer's Hessian on these windows, from the cache or measured and then kept."""
    facts = [identity(loaded.source), layer, list(windows.shape), text.sha256]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    path = machine.cache_dir() / "hessians" / f"{name}.safetensors"
    try:
        kept = files.read_tensors(path, {"hessian": True})["hessian"]
    except SourceError:  # not there, or damaged: measure it (again)
        measured = calibration.hessian(loaded.model, layer, windows, observe)
        files.write_tensors(path, {"hessian": measured})
        return measured
    observe(len(windows), len(windows))
    return kept.to(loaded.model.device)


def identity(source: ModelSource) -> list[str]:
    """What a model's weights come from: its source, and its files' sizes and times."""
    path = Path(source.path)
    stored = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    marks = [f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in stored if f.is_file()]
    return [source.kind, source.name, *marks]


def _prefixes(path: Path) -> list[str]:
    """The problems in a file; empty where it cannot be read."""
    try:
        names = files.read_tensors(path)
    except SourceError:
        return []
    return [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
