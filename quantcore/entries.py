"""What an evaluation's document says about one model, and about two of them.

An entry holds summaries over all tokens. Two things go beyond them: the loss of every window, so
that any two entries of a document can be compared in pairs, window by window; and the losses of
every token of the first few windows, so that a text can be shown as a model sees it.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from quantcore import compare, files, problems, results, store
from quantcore.compare import Comparison
from quantcore.errors import SourceError
from quantcore.evaluate import Perplexity
from quantcore.results import Document
from quantcore.sources import ModelSource

BEFORE, AFTER = 12, 4  # tokens shown around one of the worst
DIGITS = 4  # of a sampled token's nats
HALF = "\N{REPLACEMENT CHARACTER}"  # where a character's bytes are not all there yet


def begin(source: ModelSource) -> Document:
    """A model's entry before it is measured."""
    facts = {name: getattr(source, name) for name in ("kind", "name", "note")}
    empty = dict.fromkeys(("perplexity", "window_nll", "nll", "sample"))
    return {"model": facts, "fingerprint": fingerprint(source), **empty}


def fingerprint(source: ModelSource) -> str:
    """Changes with the names, sizes and times of a model's files."""
    return files.digest(problems.identity(source))


def of_original(found: Comparison, sample: int) -> Document:
    """What a comparison says about the original; losses by token for so many windows."""
    measured = found.original_perplexity
    facts = asdict(measured)
    return {
        "window_nll": list(facts.pop("window_nll")),
        "perplexity": facts,
        "nll": compare.distribution(found.original_nll, compare.NLL_RANGE),
        "sample": {"nll": _rounded(found.original_nll[:sample])},
    }


def of_candidate(found: Comparison, sample: int) -> Document:
    """What a comparison says about the candidate; losses by token for so many windows."""
    measured = found.perplexity
    return {
        "perplexity": results.perplexity_entry(measured, found.original_perplexity),
        "window_nll": list(measured.window_nll),
        **found.facts(),
        "sample": {"nll": _rounded(found.nll[:sample]), "kl": _rounded(found.kl[:sample])},
    }


def difference(one: Document, other: Document) -> tuple[float, float | None] | None:
    """Mean nats a token by which the loss of one entry exceeds that of another.

    Both are entries of the same document.

    Returns:
        The mean and its standard error over windows, paired (None for a single window); or None,
        where the document is from before the windows' losses were kept.
    """
    if not one.get("window_nll") or not other.get("window_nll"):
        return None
    return _perplexity(one).paired_difference(_perplexity(other))


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Int[Tensor, " length"]) -> list[str]:
    """The text of each token; joined they are the text of all.

    Every token is decoded behind the one before it: alone, some tokenizers leave out its space. A
    character that several tokens make up stands with the last of them.
    """
    decode, length = partial(tokenizer.decode, clean_up_tokenization_spaces=False), len(ids)
    found, before, begin = [], 0, 0
    for end in range(1, length + 1):
        old, text = str(decode(ids[before:begin])), str(decode(ids[before:end]))
        whole = end == length or not text.endswith(HALF)
        found.append(text[len(old) :] if whole else "")
        before, begin = (begin, end) if whole else (before, begin)
    return found


def worst(found: Comparison, tokenizer: PreTrainedTokenizerBase, count: int) -> list[Document]:
    """The tokens of the largest excess with the text around them, the worst first."""
    decode = partial(tokenizer.decode, clean_up_tokenization_spaces=False)
    listed = []
    for window, n in found.worst(count):
        ids, position = found.windows[window], n + 1
        listed.append(
            {
                "window": window,
                "position": position,
                "token": decode(ids[position]),
                "before": decode(ids[max(0, position - BEFORE) : position]),
                "after": decode(ids[position + 1 : position + 1 + AFTER]),
                "original_nll": found.original_nll[window, n].item(),
                "nll": found.nll[window, n].item(),
                "kl": found.kl[window, n].item(),
                "original_top": decode(found.original_top[window, n]),
                "top": decode(found.top[window, n]),
            }
        )
    return listed


def manifest(source: ModelSource) -> Document | None:
    """What a quantized model's folder says about itself, where it does."""
    return store.read_manifest(Path(source.path))


def made(source: ModelSource) -> Document | None:
    """How a model was quantized; None where its folder does not say."""
    told = manifest(source)
    try:
        return None if told is None else quantization(told)
    except store.MALFORMED:
        raise SourceError(f"{store.MANIFEST} of {source.name} is damaged; make it again") from None


def quantization(manifest: Document) -> Document:
    """How a model was made: of its manifest what a result says; seconds are of all the work."""
    planned = [entry["scheme"] for entry in manifest.get("plan", ())]
    schemes = [scheme for n, scheme in enumerate(planned) if scheme and scheme not in planned[:n]]
    seconds = sum(entry["seconds"] for entry in manifest.get("blocks", {}).values())
    tuned = _tuning(manifest.get("tuning"))
    return {
        "schemes": schemes,
        "config": manifest.get("config"),
        "ledger": manifest.get("ledger"),
        "tuning": tuned,
        "seconds": seconds + (0 if tuned is None else tuned["seconds"]) or None,
    }


def _tuning(found: Document | None) -> Document | None:
    """A run of PV-tuning without its curve: how long, and the state that was kept."""
    seen = [point for point in (found or {}).get("curve", ()) if point["validation_kl"] is not None]
    if found is None or not seen:
        return None
    best = min(seen, key=lambda point: float(point["validation_kl"]))
    return {
        "config": found["config"],
        "steps": found["curve"][-1]["step"],
        "seconds": found["curve"][-1]["seconds"],
        **{f"best_{name}": best[name] for name in ("step", "validation_kl", "perplexity")},
    }


def _perplexity(entry: Document) -> Perplexity:
    facts = entry["perplexity"]
    nll = torch.tensor(entry["window_nll"], dtype=torch.float64)
    return Perplexity.of(nll, facts["tokens"] // facts["windows"])


def _rounded(values: Float[Tensor, "windows predicted"]) -> list[list[float]]:
    return [[round(value, DIGITS) for value in row] for row in values.tolist()]
