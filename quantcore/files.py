"""Files that are either whole or not there: written beside their place, then renamed into it.

And the names of what is kept: the same facts give the same name.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from quantcore.errors import SourceError


def named(words: str) -> Path | None:
    """The file or folder that words name, if there is one.

    Words may come from a link; such as no path can be made of (too long, another user's home that
    there is not) name none.
    """
    try:
        path = Path(words).expanduser()
        return path if words and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def digest(facts: object) -> str:
    """A name for what facts, as JSON, determine: the same facts in any order give the same."""
    written = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def read_text(path: Path) -> str:
    """The text of an ordinary file; a device or a pipe may have no end.

    Raises:
        OSError: it is none, or cannot be read.
        ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.read_text(encoding="utf-8")


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write one JSON document."""
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(path, lambda place: place.write_text(text + "\n", encoding="utf-8"))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda place: save_file(stored, place))


def read_tensors(path: Path, names: Mapping[str, bool] | None = None) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file.

    Args:
        path: The file.
        names: Which tensors, and whether each must be there; None reads all.

    Raises:
        SourceError: the file is not there, cut short or not safetensors, or lacks a tensor.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {str(path)!r}; give a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            there = list(file.keys())
            wanted = dict.fromkeys(there, True) if names is None else names
            missing = [name for name, needed in wanted.items() if needed and name not in there]
            if missing:
                raise SourceError(
                    f"{path.name} has no tensor {missing[0]!r}; it has {', '.join(there) or 'none'}"
                )
            return {name: file.get_tensor(name) for name in wanted if name in there}
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path.name} is cut short or is no safetensors file ({error}); fetch it again"
        ) from None


def differing(kept: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The settings asked for that a document, which has been JSON, does not hold like that."""
    as_kept = json.loads(json.dumps(asked))
    return [name for name in as_kept if kept.get(name) != as_kept[name]]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        place.touch()
        mode = place.stat().st_mode  # as any new file here; some writers give their own
        write(place)
        place.chmod(mode)
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)
