"""Documents as quantcore.experiment makes them, with invented numbers, and a fast fake of it."""

import copy
import json
import math
import time
from dataclasses import asdict, dataclass

from aqviz.engine import Engine
from quantcore.blocks import LayerInfo
from quantcore.experiment import Experiment
from quantcore.progress import Progress
from quantcore.search import SearchConfig
from quantcore.weight import Scheme

SHAPE = (192, 576)
LAYER = "model.layers.0.self_attn.k_proj"
START = {"greedy": 0.060, "oa-em": 0.042, "oa-em-adam": 0.055}
END = {"greedy": 0.0262, "oa-em": 0.0231, "oa-em-adam": 0.0255}
ROSE = ("feedback", 3)  # a phase that ends higher than it began
ORIGINAL = {"value": 18.21, "standard_error": 1.4, "windows": 8, "tokens": 4088}


def experiment(**changes) -> Experiment:
    return Experiment(**{"layer": LAYER, **changes})


def document(config: Experiment | None = None, *, heldout: bool = True) -> dict:
    """A finished run of `config`."""
    config = config or experiment()
    made = opening(config)
    made["runs"] = [
        _run(init, seed, config, heldout) for seed in config.seeds for init in config.inits
    ]
    if config.perplexity_windows:
        made["perplexity"] = {"original": dict(ORIGINAL)}
        for run in made["runs"]:
            run["perplexity"] = _perplexity(run)
    return made


def opening(config: Experiment) -> dict:
    """The document before anything has run."""
    return {
        "key": config.key(),
        "layer": config.layer,
        "shape": list(SHAPE),
        "scheme": asdict(config.scheme),
        "rho": config.scheme.rho(*SHAPE),
        "bits_per_weight": config.scheme.bits_per_weight(*SHAPE),
        "groups": config.scheme.groups(*SHAPE),
        "config": json.loads(json.dumps(asdict(config))),
        "runs": [],
        "perplexity": None,
        "model": {
            "kind": "packaged",
            "name": "SmolLM2-135M",
            "note": "SmolLM2-135M from the installed package, because the Hub cannot be reached.",
        },
        "text": {
            "spec": "default",
            "note": "The texts that come with this program.",
            "sha256": "0",
        },
        "versions": {"torch": "2.13.0", "quantcore": "0.1.0"},
        "machine": {"cpu": "a test", "cores": 2, "memory": 8 << 30},
        "date": "2026-09-01T10:00:00+00:00",
    }


def stages(config: Experiment):
    """(progress, document) after every step of a run, growing as the real one does."""
    whole, made = document(config), opening(config)
    total = sum(len(run["trace"]) for run in whole["runs"])
    done = 0
    for run in whole["runs"]:
        made["runs"].append(
            {**copy.deepcopy(run), "complete": False, "trace": [], "perplexity": None}
        )
        for step in run["trace"]:
            made["runs"][-1]["trace"].append(step)
            made["runs"][-1].update({key: step[key] for key in ("error", "relative_error")})
            done += 1
            stage = f"{run['init']} seed {run['seed']}: {step['phase']} sweep {step['sweep']}"
            yield Progress(stage, done, total, float(total - done)), made
        made["runs"][-1] = {**copy.deepcopy(run), "perplexity": None}
    yield Progress("perplexity", total, total, 0.0), whole


def _phases(config: Experiment) -> list[tuple[str, int]]:
    """One point a codebook, then what quantcore.layer does."""
    steps = SearchConfig(config.search).steps
    sweeps = range(1, config.sweeps + 1)
    searched = [(s, name) for s in sweeps for name in steps(s)]
    middle = [step for s, name in searched for step in (("refit", s), (name, s))]
    return [("init", 0)] * config.scheme.codebooks + middle + [("refit", config.sweeps + 1)]


def _run(init: str, seed: int, config: Experiment, heldout: bool) -> dict:
    shift = 1 + 0.02 * seed
    slow = 1.3 if init == "oa-em" else 1.0
    trace, seconds = [], 0.0
    phases = _phases(config)
    last = max(1, len(phases) - config.scheme.codebooks)
    for i, (phase, sweep) in enumerate(phases):
        seconds += {"init": 0.8, "refit": 0.2}.get(phase, 1.5) * slow
        late = max(0, i - config.scheme.codebooks + 1)
        relative = END[init] + (START[init] - END[init]) * math.exp(-5.6 * late / last)
        relative = (relative if phase != "init" or late else relative * 1.4) * shift
        relative *= 1.1 if (phase, sweep) == ROSE else 1.0
        trace.append(
            {
                "phase": phase,
                "sweep": sweep,
                "error": relative * 2.5,
                "relative_error": relative,
                "heldout_relative_error": relative * 1.25 if heldout else None,
                "seconds": seconds,
            }
        )
    first, last = trace[config.scheme.codebooks - 1], trace[-1]
    groups, size = config.scheme.groups(*SHAPE), config.scheme.size
    weights = [1 / (1 + k / size * (6 if init == "greedy" else 2)) for k in range(size)]
    counts = [round(groups * w / sum(weights)) for w in weights]
    return {
        "init": init,
        "seed": seed,
        "complete": True,
        "init_error": first["error"],
        "init_relative_error": first["relative_error"],
        "init_heldout_relative_error": first["heldout_relative_error"],
        "error": last["error"],
        "relative_error": last["relative_error"],
        "heldout_relative_error": last["heldout_relative_error"],
        "seconds": {"init": first["seconds"], "refit": 1.0, "search": 6.0, "total": seconds},
        "trace": trace,
        "usage": [counts] * config.scheme.codebooks,
        "used": [sum(c > 0 for c in counts)] * config.scheme.codebooks,
        "perplexity": None,
    }


def _perplexity(run: dict) -> dict:
    difference = run["relative_error"] * 0.9
    return {
        **ORIGINAL,
        "value": ORIGINAL["value"] * math.exp(difference),
        "difference": difference,
        "difference_error": 0.004,
    }


PROJECTIONS = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}


def layers(model: str | None) -> dict[str, LayerInfo]:
    names = [(f"model.layers.{b}.{p}", b, p, *s) for b in range(4) for p, s in PROJECTIONS.items()]
    return {name: LayerInfo(name, *rest) for name, *rest in names}


@dataclass
class FakeRun:
    """Stands for quantcore.experiment.run; waits `pause` seconds between steps."""

    pause: float = 0.0
    calls: int = 0

    def __call__(self, config, observe, previous=None) -> dict:
        self.calls += 1
        kept = len(previous["runs"]) if previous else 0
        for progress, made in stages(config):
            if len(made["runs"]) >= kept:
                time.sleep(self.pause)
            observe(progress, made)
        return document(config)


def engine(pause: float = 0.0) -> Engine:
    return Engine(
        run=FakeRun(pause),
        estimate=lambda config, out, columns: 1e-4 * out * columns / 100 * len(config.inits),
        layers=layers,
        seconds=lambda config: 1.0,
        models=lambda: ["SmolLM2-135M (packaged)"],
    )


WIDE = Scheme(1, 16, 8)
