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
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from quantcore import calibration, corpora, files, machine
from quantcore.blocks import find_layer, layer_info
from quantcore.corpora import Split, TextSource
from quantcore.errors import InputError, SourceError, quoted
from quantcore.objective import LayerProblem
from quantcore.sources import LoadedModel, ModelSource

MOST_TOKENS = 10**9
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
        for name in ("window", "calibration_tokens", "heldout_tokens"):
            if getattr(self, name) > MOST_TOKENS:
                given = quoted(getattr(self, name))
                raise InputError(f"{name} must be at most {MOST_TOKENS} tokens, got {given}")
        if self.window < 2:
            raise InputError(f"window must be at least 2 tokens, got {self.window}")
        for name in ("calibration_tokens", "heldout_tokens"):
            if getattr(self, name) < self.window:
                raise InputError(
                    f"{name} must be at least one window of {self.window} tokens, "
                    f"got {getattr(self, name)}"
                )


class Passage(NamedTuple):
    """A part of a text, cut into windows of tokens."""

    windows: Int[Tensor, "windows length"]
    source: TextSource

    def first(self, count: int) -> "Passage":
        """Its first windows."""
        return Passage(self.windows[:count], self.source)


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
                f"{path.name} has no problem {quoted(prefix)}; it holds {', '.join(near)}"
            ) from None
        raise error from None
    for name, tensor in tensors.items():
        _check_matrix(path, name, tensor)
    held = tensors.get(heldout)
    return LayerProblem(
        tensors[weight].float(), tensors[hessian].float(), None if held is None else held.float()
    )


def shapes(path: Path) -> dict[str, tuple[int, int]]:
    """(out, columns) of every problem in a safetensors file, by its prefix.

    Raises:
        SourceError: the file cannot be read, or holds no problem.
    """
    found = {}
    for name, tensor in files.read_tensors(path).items():
        if name.endswith(".weight"):
            _check_matrix(path, name, tensor)
            found[name.removesuffix(".weight")] = (tensor.shape[0], tensor.shape[1])
    if not found:
        raise SourceError(f"{path.name} holds no problem: no tensor PREFIX.weight is in it")
    return found


def passages(loaded: LoadedModel, config: TextConfig) -> dict[Split, Passage]:
    """The two parts of a text in the model's tokens; a text shorter than asked gives what it has.

    Raises:
        SourceError: there is no such text, or it is too short for one window.
    """
    counts: dict[Split, int] = {
        "calibration": config.calibration_tokens // config.window,
        "evaluation": config.heldout_tokens // config.window,
    }
    found = {}
    for split, count in counts.items():
        text, source = corpora.load_text(config.text, split)
        windows = corpora.windows(loaded.tokenizer, text, config.window, count)
        found[split] = Passage(windows, source)
    return found


def from_model(
    loaded: LoadedModel, layer: str, config: TextConfig, observe: Observe
) -> tuple[LayerProblem, dict[Split, TextSource]]:
    """The problem of a model's layer on a text, and the text's two parts.

    `observe` hears of windows done and in all. A text that is shorter than asked gives what it has.
    """
    parts = passages(loaded, config)
    name = layer_info(loaded.model, layer).name
    total = sum(len(part.windows) for part in parts.values())
    before = 0
    for part in parts.values():
        if kept(loaded, name, part) is None:
            measured = calibration.hessian(
                loaded.model,
                name,
                part.windows,
                lambda done, _, offset=before: observe(offset + done, total),  # type: ignore[misc]
            )
            keep(loaded, name, part, measured)
        before += len(part.windows)
        observe(before, total)
    problem = from_kept(loaded, name, parts["calibration"], parts["evaluation"])
    return problem, {split: part.source for split, part in parts.items()}


def from_kept(loaded: LoadedModel, layer: str, learned: Passage, heldout: Passage) -> LayerProblem:
    """The problem of a model's layer, given its full name, whose Hessians are in the cache."""
    weight = find_layer(loaded.model, layer).weight.detach().clone()
    hessian = kept(loaded, layer, learned)
    assert hessian is not None, layer
    return LayerProblem(weight, hessian, kept(loaded, layer, heldout))


def kept(loaded: LoadedModel, layer: str, part: Passage) -> Float[Tensor, "columns columns"] | None:
    """A layer's Hessian on these windows from the cache; None if it is not there, or damaged."""
    try:
        found = files.read_tensors(_path(loaded, layer, part), {"hessian": True})["hessian"]
    except SourceError:
        return None
    return found.to(loaded.model.device, copy=True)  # off the file, which is mapped


def keep(
    loaded: LoadedModel, layer: str, part: Passage, hessian: Float[Tensor, "columns columns"]
) -> None:
    """Put a layer's Hessian on these windows into the cache."""
    files.write_tensors(_path(loaded, layer, part), {"hessian": hessian})


def _path(loaded: LoadedModel, layer: str, part: Passage) -> Path:
    """Where a Hessian is kept: named by everything it depends on."""
    facts = [identity(loaded.source), layer, list(part.windows.shape), part.source.sha256]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return machine.cache_dir() / "hessians" / f"{name}.safetensors"


def identity(source: ModelSource) -> list[str]:
    """What a model's weights come from: its source, and its files' sizes and times."""
    path = Path(source.path)
    stored = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    marks = [f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in stored if f.is_file()]
    return [source.kind, source.name, *marks]


def _check_matrix(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.dim() != 2:
        raise SourceError(f"{name} in {path.name} must be a matrix, got {tensor.dim()} axes")


def _prefixes(path: Path) -> list[str]:
    """The problems in a file; empty where it cannot be read."""
    try:
        names = files.read_tensors(path)
    except SourceError:
        return []
    return [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
