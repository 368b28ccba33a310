"""Layers that visitors bring: safetensors files, checked, then kept under what they contain.

A file is looked at from outside to inside: its size, the length of its header, the header's names,
types and shapes (that offsets fit the file is safetensors' own check), and only then its numbers
(`objective.LayerProblem`). Nothing in it is ever run: the format holds no code.

A kept file is named by its bytes, "upload-" and the first 16 digits of their SHA-256. So the same
bytes are kept once, an experiment on them has one key, and a link can name no other file of this
machine. The folder is bounded: what was not used for longest goes first.
"""

import hashlib
import math
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from aqviz.limits import Limits
from aqviz.retention import MIB, make_room
from quantcore import feedback, files, problems
from quantcore.errors import InputError, SourceError, quoted

HEADER = 1 << 17  # bytes; three tensors of a layer take about 300
KEPT = 32  # files
KEPT_BYTES = 8  # times the largest file
FLOATS = ("F16", "BF16", "F32", "F64")
PARTS = ("weight", "hessian", "heldout_hessian")
NORMS = (1e-12, 1e12)  # of rows; float32 must hold the squares
NAME = re.compile(r"upload-[0-9a-f]{16}")
TENSOR = re.compile(rf"(\w[\w.-]{{0,127}})\.({'|'.join(PARTS)})", re.ASCII)
FILE = "FILE.safetensors"  # what commands call a kept file: they are run where it has another name
WRITE = "write it with safetensors.torch.save_file"
Shape = tuple[int, int]


@dataclass(frozen=True)
class Upload:
    """A kept file.

    Attributes:
        name: What links and experiments call it.
        file: Where it is.
        layers: (out, columns) of the layers in it, by prefix.
    """

    name: str
    file: Path
    layers: dict[str, Shape]


class Uploads:
    """The kept files: a folder and the most bytes that one file may have."""

    def __init__(self, folder: Path, largest: int) -> None:
        self.largest = largest
        self._folder = folder
        self._one = threading.Lock()

    @classmethod
    def here(cls, limits: Limits | None = None) -> "Uploads":
        """Those of this machine.

        Raises:
            InputError: a setting of the environment is wrong.
        """
        limits = limits or Limits.here()
        return cls(limits.folder("uploads"), int(limits.largest_upload * MIB))

    def keep(self, path: Path) -> Upload:
        """Check a file and keep a copy of it.

        Raises:
            InputError: it is too large, holds anything but layers, or cannot be kept.
        """
        self._check_size(path)
        layers = _layers(path)
        with self._one:  # its tensors fill memory
            name = _name_of(path)
            file = self._file(name)
            if not file.is_file():
                for prefix in layers:
                    _check_numbers(path, prefix)
                self._store(path, file)
            return Upload(name, self.path(name), layers)

    def open(self, name: str) -> Upload:
        """A kept file.

        Raises:
            InputError: this is no upload's name, or its file is no longer kept.
        """
        file = self.path(name)
        return Upload(name, file, _layers(file))

    def path(self, name: str) -> Path:
        """Where a kept file is; it counts as used.

        Raises:
            InputError: this is no upload's name, or its file is no longer kept.
        """
        file = self._file(checked(name))
        try:
            os.utime(file)
        except FileNotFoundError:
            raise SourceError(
                f"the file {name} is no longer kept here; choose it again under Your own layer"
            ) from None
        return file

    def whole(self, name: str) -> Path:
        """Where a kept file is, whose bytes are those it is named by.

        Raises:
            InputError: as `path`, or the file was changed since it was kept.
        """
        file = self.path(name)
        if _name_of(file) != name:
            file.unlink(missing_ok=True)
            raise SourceError(
                f"the file {name} was damaged here since it was kept; choose it again under Your "
                "own layer"
            )
        return file

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def _check_size(self, path: Path) -> None:
        size = path.stat().st_size
        if size > self.largest:
            raise InputError(
                f"the file {path.name} has {size / MIB:.1f} MiB and at most "
                f"{self.largest / MIB:g} MiB are taken here; store fewer layers, or in 16 bits"
            )

    def _store(self, path: Path, file: Path) -> None:
        try:
            files.write_whole(file, lambda place: shutil.copyfile(path, place))
        except OSError as error:
            raise InputError(
                f"the file {path.name} cannot be kept here ({error.strerror}); try again later"
            ) from None
        others = set(self._folder.glob("upload-*")) - {file}
        room = float(KEPT_BYTES * self.largest - file.stat().st_size)
        make_room(others, KEPT - 1.0, room, math.inf)


def checked(name: str) -> str:
    """The name of an upload.

    Raises:
        InputError: it is not one.
    """
    if not NAME.fullmatch(str(name)):
        raise InputError(
            f"an uploaded file is named like upload-0123456789abcdef, got {quoted(name)}"
        )
    return name


def _name_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"upload-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _check_numbers(path: Path, prefix: str) -> None:
    problem = problems.from_file(path, prefix)
    feedback.check(f"{prefix}.hessian", problem.hessian)
    if problem.heldout_hessian is not None:
        feedback.check(f"{prefix}.heldout_hessian", problem.heldout_hessian)
    norms = problem.weight.norm(dim=1)
    low, high = NORMS
    if not (norms.min() >= low and norms.max() <= high):
        raise InputError(
            f"the rows of {prefix}.weight in {path.name} have norms from {norms.min():.3g} to "
            f"{norms.max():.3g}; scale it so that all are between {low:g} and {high:g}"
        )


def _layers(path: Path) -> dict[str, Shape]:
    """(out, columns) of every layer in a file, by its prefix; no tensor is read."""
    shapes = _shapes(path)
    prefixes = sorted({prefix for prefix, _ in shapes})
    if not prefixes:
        raise InputError(f"no tensor is in {path.name}; store PREFIX.weight and PREFIX.hessian")
    for prefix in prefixes:
        for part in ("weight", "hessian"):
            if (prefix, part) not in shapes:
                raise InputError(f"there is no {prefix}.{part} in {path.name}; store it too")
        columns = shapes[prefix, "weight"][1]
        for part in PARTS[1:]:
            rows, width = shapes.get((prefix, part), (columns, columns))
            if (rows, width) != (columns, columns):
                raise InputError(
                    f"the tensor {prefix}.{part} in {path.name} is {rows}x{width}, but the weight "
                    f"has {columns} columns; it must be {columns}x{columns}"
                )
    return {prefix: shapes[prefix, "weight"] for prefix in prefixes}


def _shapes(path: Path) -> dict[tuple[str, str], Shape]:
    """The shape of every tensor in a file, by its prefix and part."""
    found = {}
    for name, (dtype, shape) in _header(path).items():
        named = TENSOR.fullmatch(name)
        if named is None:
            raise InputError(
                f"the file {path.name} holds {quoted(name)}; its tensors must be PREFIX.weight, "
                "PREFIX.hessian and perhaps PREFIX.heldout_hessian, PREFIX of letters, digits, "
                "'.', '_' and '-'"
            )
        if dtype not in FLOATS:
            kinds = ", ".join(FLOATS)
            raise InputError(f"the tensor {name} in {path.name} is {dtype}; store it as {kinds}")
        if len(shape) != 2 or 0 in shape:
            raise InputError(
                f"the tensor {name} in {path.name} must be a matrix with rows and columns"
            )
        found[named[1], named[2]] = (shape[0], shape[1])
    return found


def _header(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of every tensor in a file, by name."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER:  # what text, a zip or a pickle seems to have
        raise InputError(
            f"the file {path.name} is no safetensors file, or its header has more than "
            f"{HEADER >> 10} KiB; {WRITE}"
        )
    try:
        with safe_open(path, "pt") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
            return {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}
    except (SafetensorError, OSError):
        raise InputError(
            f"the file {path.name} is cut short or is no safetensors file; {WRITE}"
        ) from None
