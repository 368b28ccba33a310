"""Documents as quantcore.trial makes them, with invented numbers."""

import json
from dataclasses import asdict

from quantcore.trial import Trial, begin

START = {"greedy": 0.080, "oa-em": 0.060, "oa-em-adam": 0.064}
END = {"greedy": 0.050, "oa-em": 0.040, "oa-em-adam": 0.064}
REPLIES = {"original": "Light <b>scatters</b>.", "before": "The sky & the sea.", "after": "Blue!"}


def trial(config: Trial | None = None) -> dict:
    """A finished trial; OA-EM (Adam) never gets below its start."""
    config = config or Trial()
    made = json.loads(json.dumps(begin(config)))
    return made | {
        "complete": True,
        "model": {"kind": "folder", "name": "tiny", "note": "A tiny model."},
        "text": {"spec": "default", "note": "A text.", "windows": 32, "validation_windows": 6},
        "original": {"reply": REPLIES["original"]},
        "runs": [run(init) for init in config.inits],
        "config": json.loads(json.dumps(asdict(config))),
    }


def run(init: str) -> dict:
    curve = [point(0, 0.0, START[init])]
    curve += [point(step, 2.0 * step, None) for step in (1, 2)]
    curve.append(point(3, 7.0, END[init]))
    curve.append(point(4, 20.5, END[init] + 0.005))
    best = min((p for p in curve if p["validation_kl"]), key=lambda p: p["validation_kl"])
    return {
        "init": init,
        "complete": True,
        "quantize_seconds": 9.25,
        "layers": [],
        "blocks": [
            {"block": 0, "heldout_error": 0.02},
            {"block": 1, "heldout_error": 0.04},
        ],
        "curve": curve,
        "steps": 4,
        "seconds": 20.5,
        "start_kl": START[init],
        "best_kl": best["validation_kl"],
        "best_step": best["step"],
        "replies": {"before": REPLIES["before"], "after": REPLIES["after"]},
    }


def point(step: int, seconds: float, kl: float | None) -> dict:
    return {
        "step": step,
        "seconds": seconds,
        "train_kl": 0.1 if step else None,
        "changed": step,
        "validation_kl": kl,
        "perplexity": None if kl is None else 20.0,
    }
