"""Whole models beside their original on the same evaluation text, as one document.

    resolve and load the original, cut the evaluation text into windows
    for every candidate: load it, compare it with the original token by token (`compare`)

One candidate is in memory at a time, beside the original. The original's hidden states before its
output matrix are kept for the candidates that follow, where there are any, so that only its output
matrix is computed again for each. Finished candidates of an earlier document are kept as long as
settings, tokens and both models' files are the same.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantcore import compare, corpora, entries, files, machine, results, sources
from quantcore import estimate as estimates
from quantcore.errors import InputError
from quantcore.problems import TextConfig
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.sources import LoadedModel, ModelSource

KIND = "evaluation"
MARKS = (("tokens", "sha256"), ("original", "fingerprint"))  # of what was measured
LOAD, ORIGINAL = "load {}", "load original"


@dataclass(frozen=True)
class Evaluation:
    """Everything that determines what candidates are measured on.

    Attributes:
        candidates: Models, as `sources.resolve` takes them.
        against: Their original; None is the one that the candidates' manifests name.
        text: What `corpora.load_text` takes; its evaluation part is used.
        windows: How many windows, from the first on; None is all of the text.
        window: Tokens in one window.
        worst: Tokens to list for each candidate, those of the largest excess.
        sample: Windows, from the first on, whose every token is kept with its losses.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    candidates: tuple[str, ...]
    against: str | None = None
    text: str = TextConfig.text
    windows: int | None = None
    window: int = 2048
    worst: int = 10
    sample: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.candidates or len(set(self.candidates)) < len(self.candidates):
            raise InputError("an evaluation needs at least one candidate, each named once")
        if self.windows is not None and self.windows < 1:
            raise InputError(f"windows must be at least 1, got {self.windows}")
        if self.window < 2:
            raise InputError(f"window must be at least 2 tokens, got {self.window}")
        for name in ("worst", "sample"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")

    def key(self) -> str:
        """A name for what is measured: other candidates of the same settings have the same key."""
        settings = {name: value for name, value in asdict(self).items() if name != "candidates"}
        facts = [settings, results.NUMBERS]
        return files.digest(facts)


def begin(evaluation: Evaluation) -> Document:
    """The document before anything is known."""
    return {
        "kind": KIND,
        "key": evaluation.key(),
        "config": asdict(evaluation),
        "text": None,
        "tokens": None,
        "sample": [],
        "original": None,
        "candidates": [],
        "versions": machine.versions(),
        "machine": machine.describe(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run(evaluation: Evaluation, observe: Observe, previous: Document | None = None) -> Document:
    """Measure every candidate.

    Args:
        evaluation: What to measure.
        observe: Called with the progress and the document so far, which goes on growing: copy what
            you keep. May raise to stop.
        previous: An earlier document. What it has finished is kept if it has the same key, tokens
            and files, candidates that are not asked for now too.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory.
    """
    device = machine.resolve_device(evaluation.device)
    document = begin(evaluation)
    meter = Meter(observe, document)
    candidates = [sources.resolve(name) for name in evaluation.candidates]
    source = _original(evaluation, candidates)
    meter.begin(ORIGINAL)
    original = meter.patiently(lambda: _load(source, device))
    text, where = corpora.load_text(evaluation.text, "evaluation")
    windows = _enter_tokens(document, evaluation, original.tokenizer, text)
    document["text"] = asdict(where)
    document["original"] = entries.begin(source)
    todo = _resume(previous, document, candidates)
    given = _given(original, windows, len(todo))
    _plan(meter, original, todo, windows)
    for one in todo:
        _measure(one, given, windows, text, meter, device)
    meter.end()
    return document


def _original(evaluation: Evaluation, candidates: list[ModelSource]) -> ModelSource:
    """The model that is named, or that the candidates were made from."""
    if evaluation.against is not None:
        return sources.resolve(evaluation.against)
    named = {one.name: (entries.manifest(one) or {}).get("model") or {} for one in candidates}
    lost = next((name for name, model in named.items() if "name" not in model), None)
    if lost is not None:
        raise InputError(f"{lost} does not say which model it was made from; name the original")
    origins = {str(model["name"]) for model in named.values()}
    if len(origins) > 1:
        raise InputError(
            f"the candidates were made from different models ({', '.join(sorted(origins))}); "
            "name one original for all"
        )
    return sources.resolve(origins.pop())


def _load(source: ModelSource, device: torch.device) -> LoadedModel:
    loaded = sources.load(source)
    loaded.model.to(device)  # type: ignore[arg-type]  # transformers' own stub of Module.to
    return loaded


def _enter_tokens(
    document: Document, evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase, text: str
) -> Int[Tensor, "windows length"]:
    """The windows, and how they were made in the document."""
    every = corpora.windows(tokenizer, text, evaluation.window)
    windows = every[: evaluation.windows]
    count, length = windows.shape
    begins = tokenizer.bos_token_id is not None and windows[0, 0].item() == tokenizer.bos_token_id
    document["tokens"] = {
        "sha256": hashlib.sha256(windows.int().numpy().astype("<i4").tobytes()).hexdigest(),
        "windows": count,
        "of_windows": len(every),
        "length": length,
        "predicted": count * (length - 1),
        "bos": begins,
        "convention": (
            "the text tokenised once as a whole, windows that do not overlap, the tail dropped, "
            f"all {length - 1} positions of a window scored, "
            + ("BOS before the first window only" if begins else "no BOS")
        ),
    }
    document["sample"] = [entries.pieces(tokenizer, ids) for ids in windows[: evaluation.sample]]
    return windows


def _resume(
    previous: Document | None, document: Document, candidates: list[ModelSource]
) -> list[ModelSource]:
    """Enter what an earlier document has that still stands; the candidates that are left to do."""
    if previous is None or previous["key"] != document["key"] or not previous["candidates"]:
        return candidates
    if any(previous[part][mark] != document[part][mark] for part, mark in MARKS):
        return candidates
    now = {one.name: entries.fingerprint(one) for one in candidates}
    document["original"] = previous["original"]
    for entry in previous["candidates"]:
        if entry["fingerprint"] == now.get(entry["model"]["name"], entry["fingerprint"]):
            document["candidates"].append(entry)
    done = [entry["model"]["name"] for entry in document["candidates"]]
    return [one for one in candidates if one.name not in done]


def _given(
    original: LoadedModel, windows: Int[Tensor, "windows length"], passes: int
) -> Iterable[Tensor]:
    """The original's logits, kept as hidden states where they are needed more than once."""
    if passes > 1:
        return compare.Original(original.model, windows)
    return compare.live(original.model, windows)


def _plan(
    meter: Meter,
    original: LoadedModel,
    todo: list[ModelSource],
    windows: Int[Tensor, "windows length"],
) -> None:
    """What is still to come, in expected seconds."""
    model = original.model
    parameters = sum(value.numel() for value in model.parameters())
    head = model.get_output_embeddings().weight.numel()
    rates = meter.patiently(lambda: estimates.rates_of(model.device))
    flop = 2 * windows.numel() * rates.forward_flop
    for n, one in enumerate(todo):
        meter.plan(LOAD.format(one.name), estimates.load_seconds(parameters))
        meter.plan(one.name, flop * (parameters + (head if n else parameters)))


def _measure(
    source: ModelSource,
    given: Iterable[Tensor],
    windows: Int[Tensor, "windows length"],
    text: str,
    meter: Meter,
    device: torch.device,
) -> None:
    """Enter one candidate in the document; it is let go of at the end."""
    document = meter.document
    meter.begin(LOAD.format(source.name))
    loaded = meter.patiently(lambda: _load(source, device))
    _check_tokenizer(source, loaded, windows, text)
    meter.begin(source.name)
    begun = perf_counter()
    found = compare.run(given, loaded.model, windows, meter.counted(source.name))
    sample = len(document["sample"])
    document["original"] |= entries.of_original(found, sample)
    document["candidates"].append(
        entries.begin(source)
        | entries.of_candidate(found, sample)
        | {
            "worst": entries.worst(found, loaded.tokenizer, document["config"]["worst"]),
            "quantization": entries.made(source),
            "seconds": perf_counter() - begun,
        }
    )
    meter.report()


def _check_tokenizer(
    source: ModelSource, loaded: LoadedModel, windows: Int[Tensor, "windows length"], text: str
) -> None:
    count, length = windows.shape
    if not torch.equal(corpora.windows(loaded.tokenizer, text, length, count), windows):
        raise InputError(
            f"{source.name} reads the text as other tokens than its original; "
            "compare models with the same tokenizer"
        )
