"""Surveys and evaluations as quantcore makes them, with invented numbers."""

from quantcore.weight import Scheme

SHAPES = {
    "model.layers.10.self_attn.q_proj": (576, 576),
    "model.layers.10.mlp.down_proj": (576, 1536),
    "model.layers.20.self_attn.k_proj": (192, 576),
}
SCHEMES = ("1x8g8", "2x4g8", "2x6g8", "2x8g8", "3x8g8")
CONFIG = {"sweeps": 4, "text": "default", "heldout_tokens": 4096, "window": 256}
MACHINE = {"cpu": "a test", "cores": 2}


def run(layer, scheme, init, *figures, **changes):
    """One finished run of a survey; figures are the seed, the error at the start, at the end."""
    seed, start, end = figures
    out, columns = SHAPES[layer]
    parsed, seconds = Scheme.parse(scheme), changes.pop("seconds", 2.0)
    return {
        "layer": layer,
        "scheme": scheme,
        "rho": parsed.rho(out, columns),
        "bits_per_weight": parsed.bits_per_weight(out, columns),
        "init": init,
        "search": "beam",
        "beam": 8,
        "calibration_tokens": 8192,
        "shrinkage": 0.0,
        "seed": seed,
        "complete": True,
        "init_heldout_relative_error": start,
        "heldout_relative_error": end,
        "seconds": {"init": seconds / 4, "refit": 0.0, "search": 0.0, "total": seconds},
        **changes,
    }


def survey(runs):
    return {
        "kind": "survey",
        "key": "0",
        "config": CONFIG,
        "model": {"kind": "packaged", "name": "tiny", "note": "Invented."},
        "layers": {},
        "runs": list(runs),
        "refused": [],
        "machine": MACHINE,
        "date": "2026-11-22T10:00:00+00:00",
    }


def rho_survey(seeds=(0, 1, 2), searches=("beam", "feedback-descent")):
    """Greedy starts 2 to 6 times worse; it ends ahead at 3 bits and behind elsewhere."""
    made = []
    for layer_number, layer in enumerate(SHAPES):
        for scheme_number, scheme in enumerate(SCHEMES):
            for search in searches:
                left = 0.94 if scheme == "3x8g8" else 1.02 + 0.02 * scheme_number
                left = 1 + (left - 1) / (1 if search == "beam" else 5)
                for seed in seeds:
                    noise = 1 + 0.002 * seed
                    end = 0.01 * (1 + layer_number)
                    facts = {"search": search, "beam": 8 if search == "beam" else 1}
                    start = (2 + layer_number + 0.5 * scheme_number) * noise
                    greedy = run(
                        layer, scheme, "greedy", seed, 0.05 * start, end * left * noise, **facts
                    )
                    oa_em = run(layer, scheme, "oa-em", seed, 0.05, end, seconds=2.2, **facts)
                    made += [greedy, oa_em]
    return survey(made)


def frontier(oa_em=(1.0, 0.98, 0.96), greedy=(1.1, 1.05, 1.07), seeds=(0, 1, 2)):
    """Errors at beams 4, 8 and 16, in percent of output."""
    layer = next(iter(SHAPES))
    return survey(
        run(
            *(layer, "2x8g8", init, seed, 0.05, error / 100 * (1 + 0.0005 * seed)),
            beam=beam,
            seconds=beam / 2,
        )
        for init, errors in (("oa-em", oa_em), ("greedy", greedy))
        for beam, error in zip((4, 8, 16), errors, strict=True)
        for seed in seeds
    )


def candidate(init, value, windows, *, tuned=False, seconds=600.0, **config):
    """An evaluated model; `windows` are its summed losses, of 100 tokens each."""
    return {
        "model": {"kind": "folder", "name": f"{init}{'-tuned' if tuned else ''}", "note": ""},
        "perplexity": {
            "value": value,
            "standard_error": 2.5,
            "windows": len(windows),
            "tokens": 100 * len(windows),
            "difference": 0.1,
            "difference_error": 0.01,
        },
        "window_nll": list(windows),
        "quantization": {
            "schemes": [{"codebooks": 2, "bits": 8, "group": 8}],
            "config": {"init": init, **config},
            "tuning": {"steps": 10} if tuned else None,
            "seconds": seconds,
        },
    }


def evaluation(*candidates):
    return {
        "kind": "evaluation",
        "original": {"perplexity": {"value": 27.1}},
        "candidates": list(candidates),
        "machine": MACHINE,
    }
