"""A GGUF file as a folder of safetensors, converted once.

The folder lies in the cache under a name made of the file's identity. It is written beside its
place and moved there in one step: a reader sees all of it or nothing, two writers end with one,
and a writer that is killed leaves a leftover that a later one clears.
"""

import hashlib
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from quantcore import checkpoints, machine
from quantcore.errors import ResourceError, SourceError, first_line

MAGIC = b"GGUF"
ORIGIN = "origin.txt"
PARTIAL = ".partial-"
LEFTOVER_SECONDS = 24 * 3600
SAMPLE = 1 << 20  # bytes of a file's head and tail that go into its identity


class _Reader(GGUFReader):
    """Reads nothing beyond the file's end.

    The library's reader takes nothing for what is not there, and goes on: a file of a few bytes
    that speaks of 2^60 entries is read until memory is full.
    """

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("it ends before what it speaks of")
        return super()._get(offset, dtype, count, override_order)


def converted(path: Path) -> Path:
    """The cached folder of safetensors of a GGUF file, written if it is not there yet.

    Raises:
        SourceError: the file is cut short, not a GGUF file or of an unknown kind of model.
        ResourceError: there is not enough memory, or the cache cannot be written.
    """
    target = machine.cache_dir() / "models" / identity(path)
    if _is_whole(target):
        return target
    # the tensors and the model they are copied into live side by side
    machine.require_memory(2 * 4 * check_gguf(path), f"converting {path.name}")
    with checkpoints.quiet():
        model, tokenizer = _read_gguf(path)
    try:
        _write(model, tokenizer, path, target)
    except (OSError, SafetensorError) as error:
        raise ResourceError(
            f"the converted {path.name} cannot be written to {target.parent} ({error}); "
            "free space there or set QUANTCORE_CACHE to another folder"
        ) from None
    return target


def check_gguf(path: Path) -> int:
    """Entries in a GGUF file's tensors.

    Raises:
        SourceError: the file is cut short or not a GGUF file.
    """
    check_gguf_start(path)
    try:
        return sum(int(tensor.n_elements) for tensor in _Reader(path).tensors)
    except (ValueError, LookupError, OverflowError) as error:
        raise SourceError(
            f"{path.name} is cut short or damaged ({error}); fetch it again"
        ) from None


def check_gguf_start(path: Path) -> None:
    """Refuse a file that does not begin as GGUF files do.

    Raises:
        SourceError: it does not.
    """
    start = b""
    with suppress(OSError):  # such as of /proc, where not every file can be read
        if path.is_file():  # a pipe or a terminal would be waited for
            with path.open("rb") as file:
                start = file.read(len(MAGIC))
    if start != MAGIC:
        raise SourceError(
            f"{path.name} is not a GGUF file; give a GGUF file or a folder with config.json"
        )


def identity(path: Path) -> str:
    """A name for a file's content: hash of its size, its time and samples of both ends."""
    stat = path.stat()
    digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(SAMPLE))
        file.seek(max(0, stat.st_size - SAMPLE))
        digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]


def origins() -> dict[Path, Path]:
    """Cached folder -> the GGUF file it was made from, where that still exists."""
    marks = sorted((machine.cache_dir() / "models").glob(f"[!.]*/{ORIGIN}"))
    found = {mark.parent: Path(mark.read_text(encoding="utf-8")) for mark in marks}
    return {folder: path for folder, path in found.items() if path.is_file()}


def _read_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            trust_remote_code=False,  # else it would be asked for, of whoever runs this
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, trust_remote_code=False, local_files_only=True
        )
    except checkpoints.UNUSABLE as error:
        raise SourceError(f"{path.name} cannot be converted: {first_line(error)}") from None
    # it has been dequantized: without this save_pretrained refuses it
    vars(model)["hf_quantizer"] = None
    del model.config.quantization_config
    return model, tokenizer


def _write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, origin: Path, target: Path
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target.parent)
    if target.exists():
        shutil.rmtree(target)  # it was not whole
    partial_folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
    try:
        with checkpoints.quiet():
            model.save_pretrained(partial_folder)
            tokenizer.save_pretrained(partial_folder)
        (partial_folder / ORIGIN).write_text(str(origin.resolve()), encoding="utf-8")
        try:
            partial_folder.rename(target)
        except OSError:
            if not _is_whole(target):  # another process was first
                raise
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _clear_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{PARTIAL}*"):
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        return checkpoints.count_parameters(folder, folder.name) > 0 and (folder / ORIGIN).is_file()
    except SourceError:
        return False
