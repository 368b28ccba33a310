"""Evaluation documents with invented losses, made by what makes the real ones."""

import torch

from quantcore import entries
from quantcore.compare import Comparison
from quantcore.weight import Scheme

TEXT = "The keeper <b>counts</b> the 12 boats, and\nwrites the number into a book."
WORDS = [piece if n == 0 else f" {piece}" for n, piece in enumerate(TEXT.split(" "))]
WINDOWS, SAMPLE = 6, 2
PREDICTED = len(WORDS) - 1
COST = {  # mean nats a token over the original
    "greedy": 0.50,
    "oa-em": 0.44,
    "oa-em-adam": 0.46,
    "greedy-tuned": 0.46,
    "oa-em-tuned": 0.41,
}
CURVE = [
    {"step": 0, "seconds": 1.0, "validation_kl": 0.9, "perplexity": 52.0},
    {"step": 5, "seconds": 30.0, "validation_kl": None, "perplexity": None},
    {"step": 10, "seconds": 60.0, "validation_kl": 0.6, "perplexity": 44.0},
    {"step": 20, "seconds": 120.0, "validation_kl": 0.7, "perplexity": 45.0},
]
GENERATIONS = {
    "kind": "generations",
    "config": {"tokens": 40, "temperature": 0.7, "seed": 3},
    "prompts": ["Is 1 < 2?"],
    "replies": {"original": ["Yes, <i>indeed</i>."], "oa-em-tuned": ["No & yes."]},
}


def losses(seed: int, cost: float) -> torch.Tensor:
    """Nats over the original at every token, of this mean in every window but the last."""
    rng = torch.Generator().manual_seed(seed)
    found = torch.randn(WINDOWS, PREDICTED, generator=rng, dtype=torch.float64)
    found += cost - found.mean(1, keepdim=True)
    found[-1] += 0.02 * seed
    return found


def comparison(seed: int, cost: float) -> Comparison:
    rng = torch.Generator().manual_seed(99)
    original = 1 + 4 * torch.rand(WINDOWS, PREDICTED, generator=rng, dtype=torch.float64)
    excess = losses(seed, cost)
    tops = torch.zeros(WINDOWS, PREDICTED, dtype=torch.long)
    ids = torch.zeros(WINDOWS, PREDICTED + 1, dtype=torch.long)
    return Comparison(ids, original, original + excess, excess.abs() + 0.01, tops, tops)


def quantization(key: str) -> dict:
    start, tuned = key.removesuffix("-tuned"), key.endswith("-tuned")
    init, _, search = start.partition("-with-")
    return {
        "schemes": [vars(Scheme(2, 8, 8))],
        "config": {"init": init, "search": search or "feedback-descent", "seed": 0},
        "ledger": {"layer_bits": 2.15},
        "tuning": {"best_step": 3, "steps": 4} if tuned else None,
        "seconds": 60.0,
    }


def document(costs: dict[str, float] = COST, *, old: bool = False) -> dict:
    """An evaluation of these models; `old` leaves out what older ones did not keep."""
    found = {key: comparison(n, cost) for n, (key, cost) in enumerate(costs.items(), start=1)}
    original = entries.of_original(next(iter(found.values())), SAMPLE)
    made = {
        "kind": "evaluation",
        "config": {"candidates": [f"q-{key}" for key in found], "text": "default", "window": 12},
        "text": {"spec": "default", "note": "A text."},
        "tokens": {"windows": WINDOWS, "length": PREDICTED + 1, "predicted": WINDOWS * PREDICTED},
        "sample": [WORDS] * SAMPLE,
        "original": {"model": {"name": "tiny", "note": "A tiny model."}, **original},
        "candidates": [_entry(key, one) for key, one in found.items()],
        "machine": {"cpu": "a test"},
        "date": "2026-09-01T10:00:00+00:00",
    }
    if old:
        del made["sample"]
        for entry in (made["original"], *made["candidates"]):
            del entry["window_nll"], entry["sample"]
    return made


def _entry(key: str, found: Comparison) -> dict:
    return {
        "model": {"name": f"q-{key}"},
        **entries.of_candidate(found, SAMPLE),
        "worst": [
            {
                "window": 0,
                "position": 3,
                "token": " <12>",
                "before": "the <u>keeper</u>",
                "after": "",
                "original_nll": 1.25,
                "nll": 9.5,
                "kl": 4.0,
                "original_top": "a",
                "top": " &",
            }
        ],
        "quantization": quantization(key),
    }
