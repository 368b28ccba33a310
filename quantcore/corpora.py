"""Which text, from where, as windows of tokens.

Calibration text shapes the Hessian; evaluation text measures what came of it. They never overlap:
WikiText-2 and the built-in text have two parts of their own, documents (C4, parquet, JSON) give
every fourth to evaluation, and a plain text, which reads on, gives its last quarter.

A text is tokenised once, as a whole, and cut into full-length windows that do not overlap; the tail
is dropped. This is how GPTQ, AQLM and OA-EM (arXiv:2604.08118) measure WikiText-2.
"""

import difflib
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantcore import files, machine
from quantcore.errors import SourceError, as_name, first_line, quoted

Split = Literal["calibration", "evaluation"]

ASSETS = Path(__file__).parents[1] / "assets" / "texts"
NAMED = ("default", "wikitext2", "c4")
READERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}
PLAIN = (".txt", ".md")
COLUMN = "text"
EVALUATION_SHARE = 4  # one document in four, or the last quarter
C4_DOCUMENTS = 2000  # about a million tokens; the whole shard has 45,000

WIKITEXT_FILES: dict[Split, str] = {
    "calibration": "wikitext-2-raw-v1/train-00000-of-00001.parquet",
    "evaluation": "wikitext-2-raw-v1/test-00000-of-00001.parquet",
}
C4_FILE = "en/c4-validation.00000-of-00008.json.gz"


@dataclass(frozen=True)
class TextSource:
    """Where a text came from.

    Attributes:
        spec: What was asked for.
        note: One sentence saying which text was used.
        sha256: Of the text in UTF-8.
        origin: Who wrote it and on what terms, as far as that is known.
    """

    spec: str
    note: str
    sha256: str
    origin: str


def load_text(spec: str, split: Split) -> tuple[str, TextSource]:
    """The text that `spec` names.

    Args:
        spec: "default", "wikitext2", "c4", or a .txt, .md, .parquet, .json or .jsonl file; the last
            three have a column named "text".
        split: Which of its two parts, which never overlap.

    Raises:
        SourceError: there is no such text, it cannot be read or reached, or it is empty.
    """
    text, note, origin = _find(spec, split)
    if not text.strip():
        raise SourceError(f"the {split} part of text {quoted(spec)} is empty; give a longer text")
    return text, TextSource(spec, note, hashlib.sha256(text.encode()).hexdigest(), origin)


def windows(
    tokenizer: PreTrainedTokenizerBase, text: str, length: int, count: int | None = None
) -> Int[Tensor, "windows length"]:
    """Tokenise once and cut into windows of `length` tokens, at most `count`; the tail is dropped.

    Raises:
        SourceError: the text is too short for one window.
    """
    if length < 2:
        raise SourceError(f"a window must have at least 2 tokens, got {length}")
    if length > tokenizer.model_max_length:
        raise SourceError(
            f"windows of {length} tokens are longer than the {tokenizer.model_max_length} this "
            "model can see; use shorter windows"
        )
    # verbose: or the tokenizer warns that the whole text is longer than a window, which is the idea
    tokens = torch.tensor(tokenizer(text, verbose=False)["input_ids"], dtype=torch.long)
    full = len(tokens) // length
    if not full:
        raise SourceError(
            f"the text has {len(tokens)} tokens and one window needs {length}; "
            "give a longer text or a shorter window"
        )
    return tokens[: full * length].view(full, length)[:count]


def _find(spec: str, split: Split) -> tuple[str, str, str]:
    """Text, note and origin."""
    if spec == "default":
        return _default(split)
    if spec == "wikitext2":
        return _wikitext(split)
    if spec == "c4":
        return _c4(split)
    return _file(spec, split)


def _default(split: Split) -> tuple[str, str, str]:
    parts = sorted((ASSETS / split).glob("*.txt"))
    if not parts:
        raise SourceError(
            "the built-in texts are missing (assets/texts beside the quantcore folder); run from a "
            "complete checkout or give a text file"
        )
    text = "\n\n".join(part.read_text(encoding="utf-8").strip() for part in parts)
    return text, f"The built-in {split} text, {len(parts)} pieces.", "written for this project"


def _wikitext(split: Split) -> tuple[str, str, str]:
    path = _hub_file("wikitext2", "Salesforce/wikitext", WIKITEXT_FILES[split])
    # GPTQ's join: the documents of this data set are lines, each with its line break
    text = "\n\n".join(_documents(path))
    part = "train" if split == "calibration" else "test"
    return text, f"WikiText-2 raw, {part} split, from the Hub.", "Wikipedia, CC BY-SA"


def _c4(split: Split) -> tuple[str, str, str]:
    path = _hub_file("c4", "allenai/c4", C4_FILE)
    text = _share(_documents(path, limit=C4_DOCUMENTS), split)
    note = f"C4 English, {_part(split)} of {C4_DOCUMENTS} validation documents, from the Hub."
    return text, note, "Common Crawl, ODC-BY"


def _file(spec: str, split: Split) -> tuple[str, str, str]:
    path = files.named(spec)
    if path is None or not path.is_file():
        raise SourceError(_no_such(spec))
    suffix = path.suffix.lower()
    if suffix in PLAIN:
        text = _cut(_read_plain(path), split)
    elif suffix in READERS:
        text = _share(_documents(path), split)
    else:
        known = ", ".join((*PLAIN, *READERS))
        raise SourceError(f"{path.name} is not a text that can be read; use one of {known}")
    return text, f"{path.name}, {_part(split)}.", "a local file"


def _no_such(spec: str) -> str:
    near = difflib.get_close_matches(spec, NAMED, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(NAMED)} or a file"
    return f"there is no text {quoted(spec)}: it is no name and no file; {hint}"


def _part(split: Split) -> str:
    return "three quarters" if split == "calibration" else "the other quarter"


def _read_plain(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise SourceError(f"{path.name} cannot be read as UTF-8 text ({error})") from None


def _cut(text: str, split: Split) -> str:
    """The first three quarters or the rest, cut at the end of a line, or else of a word."""
    start = len(text) - len(text) // EVALUATION_SHARE
    ends = (text.find(mark, start) for mark in ("\n", " "))
    end = next((end for end in ends if end >= 0), start)
    return text[:end] if split == "calibration" else text[end:].lstrip()


def _share(documents: list[str], split: Split) -> str:
    """Every fourth document, or the other three, joined by blank lines."""
    if len(documents) < EVALUATION_SHARE:
        return _cut("\n\n".join(documents), split)
    last = EVALUATION_SHARE - 1
    chosen = [
        document
        for n, document in enumerate(documents)
        if (n % EVALUATION_SHARE == last) == (split == "evaluation")
    ]
    return "\n\n".join(chosen)


def _documents(path: Path, limit: int | None = None) -> list[str]:
    """The column named "text" of a parquet or JSON file."""
    kind = READERS[Path(path.name.removesuffix(".gz")).suffix.lower()]
    if kind == "parquet":
        return _parquet_documents(path, limit)
    try:
        return _column(path, islice(_json_rows(path), limit))
    except SourceError:
        raise
    except (ValueError, OSError, EOFError, RecursionError) as error:
        raise _unreadable(path, kind, error) from None


def _json_rows(path: Path) -> Iterator[Any]:
    """An object in each line, or one list of all.

    They are not read by pyarrow, which ends the process where the first of them is null.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = (line for line in file if line.strip())
        first = next(lines, None)
        if first is None:
            raise ValueError("it is empty")
        if first.lstrip().startswith("["):
            yield from json.loads(first + "".join(lines))
        else:
            yield from map(json.loads, chain([first], lines))


def _parquet_documents(path: Path, limit: int | None) -> list[str]:
    """The same of a parquet file, through `datasets`."""
    import datasets  # here: it takes most of a second, and the built-in text does not need it

    level = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it also logs what it raises
    try:
        # streaming reads the file in place, but still leaves a lock in the cache
        with tempfile.TemporaryDirectory() as scratch:
            rows = datasets.load_dataset(
                "parquet", data_files=str(path), split="train", streaming=True, cache_dir=scratch
            )
            return _column(path, islice(rows, limit))
    except SourceError:
        raise
    # pyarrow's errors are ValueErrors, `datasets` has its own
    except (ValueError, OSError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise _unreadable(path, "parquet", error) from None
    finally:
        datasets.logging.set_verbosity(level)


def _unreadable(path: Path, kind: str, error: Exception) -> SourceError:
    return SourceError(f"{path.name} cannot be read as {kind}: {first_line(error)}")


def _column(path: Path, rows: Iterable[Any]) -> list[str]:
    texts = []
    for row in rows:
        if isinstance(row, dict) and COLUMN not in row:
            raise SourceError(
                f"{path.name} has no column {COLUMN!r}; its columns are {as_name(', '.join(row))}"
            )
        found = row[COLUMN] if isinstance(row, dict) else row  # a list may be of texts
        if found is not None:
            found = str(found)
            found.encode()  # half a letter is a ValueError
            texts.append(found)
    return texts


def _hub_file(spec: str, repository: str, name: str) -> Path:
    """One file of a data set, from the Hub's local cache or from the Hub."""
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    if not machine.hub_reachable():
        raise SourceError(
            f"text {quoted(spec)} comes from the Hub, which cannot be reached from here; "
            "use default or a local file"
        )
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except machine.HUB_ERRORS as error:
        raise SourceError(
            f"text {quoted(spec)} could not be fetched from the Hub: {first_line(error)}"
        ) from None
