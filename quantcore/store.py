r"""The folder that a model is quantized into: what is finished lies in it and is found again.

    quantcore.json              the manifest: settings, plan, and each finished part with its sha256
    layers/NAME.safetensors     finished layers of the block in work
    block-000.safetensors       finished blocks, in AQLM's names and types
    rest.safetensors, ...       what makes it a checkpoint, when all blocks are finished

A part is written whole (a temporary file, then a rename) and after that entered in the manifest,
which is written whole too; so a process that dies at any moment leaves finished parts and no half
ones. A part that is not in the manifest is made again, to the same bits. A part whose bytes have
changed is refused by name. One process at a time works in a folder.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

from quantcore import files, machine, shards
from quantcore.errors import InputError, ResourceError, SourceError, first_line
from quantcore.weight import AdditiveWeight

MANIFEST = "quantcore.json"
LAYERS = "layers"
FORMAT = 1
MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
"""what reading a document raises that is not formed as its writer forms it"""
Document = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """An open folder and its manifest, which grows as parts are finished."""

    folder: Path
    manifest: Document

    def layer(self, name: str) -> AdditiveWeight | None:
        """A finished layer; None if it is still to be made.

        Raises:
            SourceError: its file is damaged.
        """
        tensors = self._read(self.manifest["layers"].get(name), self._layer_path(name))
        return None if tensors is None else AdditiveWeight(**tensors)

    def keep_layer(self, name: str, weight: AdditiveWeight, facts: Document) -> None:
        """Keep a finished layer and what is known of it."""
        self.manifest["layers"][name] = facts | self._write(self._layer_path(name), vars(weight))
        self.save()

    def block(self, number: int) -> dict[str, Tensor] | None:
        """A finished block's tensors; None if it is still to be made.

        Raises:
            SourceError: its file is damaged.
        """
        return self._read(self.manifest["blocks"].get(str(number)), self.block_path(number))

    def keep_block(self, number: int, tensors: Mapping[str, Tensor], facts: Document) -> None:
        """Keep a finished block; the files of its layers are no longer needed."""
        entry = self._write(self.block_path(number), shards.as_held(dict(tensors)))
        self.manifest["blocks"][str(number)] = facts | entry
        self.save()
        for name in facts["layers"]:
            self._layer_path(name).unlink(missing_ok=True)

    def block_path(self, number: int) -> Path:
        """Where a block is kept."""
        return self.folder / shards.block_file(number)

    def save(self) -> None:
        """Write the manifest."""
        with writing(self.folder):
            files.write_json(self.folder / MANIFEST, self.manifest)

    def finish(self) -> None:
        """Enter that all is done."""
        self.manifest["complete"] = True
        self.save()
        layers = self.folder / LAYERS
        if layers.is_dir() and not any(layers.iterdir()):
            layers.rmdir()

    def _layer_path(self, name: str) -> Path:
        return self.folder / LAYERS / f"{name}.safetensors"

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> Document:
        with writing(self.folder):
            shards.write_part(path.parent, path.name, dict(tensors))
        return {"file": path.relative_to(self.folder).as_posix(), "sha256": checksum(path)}

    def _read(self, entry: Document | None, path: Path) -> dict[str, Tensor] | None:
        if entry is None or not path.exists():
            return None
        if checksum(path) != entry["sha256"]:
            raise SourceError(
                f"{path} is damaged (its checksum is not the one in {MANIFEST}); remove it and run "
                "the same command again, which makes this part anew and keeps all others"
            )
        return files.read_tensors(path)


@contextmanager
def opened(folder: Path, begun: Document) -> Iterator[Store]:
    """The folder, new or gone on with, while no other process has it.

    Args:
        folder: Created if it is not there.
        begun: A manifest without parts: "key" and "config" decide whether it is the same work.

    Raises:
        InputError: the folder holds other work, or something else.
        ResourceError: another process works in it, or it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0):
            manifest = _manifest(folder, begun)
            _clear_leftovers(folder)
            yield Store(folder, manifest)
    except Timeout:
        raise ResourceError(
            f"another process is writing {folder}; wait for it or name another folder"
        ) from None


def keep_latest(place: Path, count: int) -> None:
    """Remove all but the folders that were changed last; one that a process works in stays."""
    folders = [path for path in place.iterdir() if path.is_dir()]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[count:]:
        with suppress(Timeout, OSError), FileLock(folder / ".lock").acquire(timeout=0):
            shutil.rmtree(folder)


def begin(key: str, config: Document) -> Document:
    """A manifest before anything is done.

    Args:
        key: Names the work: the same key, the same bits.
        config: The settings, to say what differs.
    """
    return {
        "format": FORMAT,
        "key": key,
        "config": config,
        "model": None,
        "text": None,
        "versions": machine.versions(),
        "machine": machine.describe(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": [],
        "ledger": None,
        "layers": {},
        "blocks": {},
        "complete": False,
    }


def read_manifest(folder: Path) -> Document | None:
    """The manifest of a folder; None where there is none.

    Raises:
        SourceError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found["format"] == FORMAT and "key" in found and _is_formed(found)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        known = False
    if not known:
        raise SourceError(f"{path} is damaged or of another version; name another folder")
    assert isinstance(found, dict)
    return found


def _is_formed(manifest: Document) -> bool:
    """Whether the parts that are there are of the kinds that `begin` and those who add give."""
    kinds = {list: ("plan",), dict: ("config", "model", "text", "ledger", "tuning", "evaluation")}
    return all(
        isinstance(manifest.get(name), kind | NoneType)
        for kind, names in kinds.items()
        for name in names
    ) and all(
        isinstance(entry, dict)
        for name in ("layers", "blocks")
        for entry in manifest.get(name, {}).values()
    )


def checksum(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path, begun: Document) -> Document:
    """The manifest that is there, if it is of the same work, or the new one."""
    found = read_manifest(folder)
    if found is None:
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if others:
            raise InputError(f"{folder} holds other files ({others[0]}); name an empty folder")
        return begun
    if found["key"] != begun["key"]:
        other = files.differing(found["config"], begun["config"])
        raise InputError(
            f"{folder} holds the result of another command (with other "
            f"{', '.join(other) or 'versions or model files'}); name another folder"
        )
    return found


def _clear_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed."""
    for pattern in (".*.safetensors.*", f".{MANIFEST}.*"):
        for path in folder.rglob(pattern):
            path.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A folder that cannot be written becomes one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ResourceError(
            f"{folder} cannot be written ({reason}); everything finished is kept: make room and "
            "run the same command again"
        ) from None
