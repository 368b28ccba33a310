"""Which recipe ends lowest on held-out text, over many layers.

    python bench/recipes.py [--blocks 2 10 20] [--seeds 1] [--json FILE]

For every kind of projection in some blocks of the default model: the held-out and calibration error
of each recipe over that of the default one, 2x8 g8, and its seconds. Layers are given equal weight
(geometric means), with the smallest and the largest ratio beside the mean.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from quantcore import files, machine, problems, sources
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig, quantize
from quantcore.objective import Regularisation
from quantcore.problems import TextConfig
from quantcore.search import SearchConfig

PROJECTIONS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
PLAIN = LayerConfig()
RECIPES = {
    "default": PLAIN,
    "beam 8 (released search)": replace(PLAIN, search=SearchConfig("beam", 8)),
    "descent": replace(PLAIN, search=SearchConfig("descent")),
    "feedback": replace(PLAIN, search=SearchConfig("feedback")),
    "feedback in the first sweep only": replace(PLAIN, search=SearchConfig(feedback_sweeps=1)),
    "4 candidates": replace(PLAIN, search=SearchConfig(candidates=4)),
    "64 candidates": replace(PLAIN, search=SearchConfig(candidates=64)),
    "width 4": replace(PLAIN, search=SearchConfig(width=4)),
    "2 sweeps": replace(PLAIN, sweeps=2),
    "8 sweeps": replace(PLAIN, sweeps=8),
    "greedy": replace(PLAIN, init=InitConfig("greedy")),
    "oa-em-adam": replace(PLAIN, init=InitConfig("oa-em-adam")),
    "shrinkage 0.1": replace(PLAIN, regularisation=Regularisation(shrinkage=0.1)),
    "shrinkage 0.2": replace(PLAIN, regularisation=Regularisation(shrinkage=0.2)),
    "damping 0.01": replace(PLAIN, regularisation=Regularisation(damping=0.01)),
}


def layer_problems(blocks, text):
    """Name -> problem, measured on the default model."""
    loaded = sources.load(sources.resolve(None))
    for block in blocks:
        for projection in PROJECTIONS:
            name = f"model.layers.{block}.{projection}"
            yield name, problems.from_model(loaded, name, text, lambda done, total: None)[0]


def measure(blocks, seeds, text, tell):
    """One row for each layer, recipe and seed."""
    rows = []
    for name, problem in layer_problems(blocks, text):
        tell(name)
        for seed in range(seeds):
            for recipe, config in RECIPES.items():
                begun = time.perf_counter()
                state = quantize(problem, config, torch.Generator().manual_seed(seed))
                seconds, errors = time.perf_counter() - begun, state.trace[-1].errors
                rows.append(
                    {
                        "layer": name,
                        "recipe": recipe,
                        "seed": seed,
                        "relative_error": errors.relative,
                        "heldout_relative_error": errors.heldout_relative,
                        "seconds": seconds,
                    }
                )
    return rows


def against_default(rows, recipe, name):
    """Geometric mean, least and greatest ratio of a recipe's figure to the default's."""
    figures = {(row["layer"], row["seed"], row["recipe"]): row[name] for row in rows}
    logs = [
        math.log(figures[layer, seed, recipe] / figures[layer, seed, "default"])
        for layer, seed, one in figures
        if one == recipe
    ]
    return [math.exp(x) for x in (sum(logs) / len(logs), min(logs), max(logs))]


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 10, 20])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console, text = Console(width=140), TextConfig()
    rows = measure(args.blocks, args.seeds, text, console.print)
    table = Table("recipe", "held-out / default", "least", "most", "calibration", "seconds")
    summary = []
    for recipe in RECIPES:
        heldout = against_default(rows, recipe, "heldout_relative_error")
        calibration = against_default(rows, recipe, "relative_error")
        seconds = against_default(rows, recipe, "seconds")
        summary.append(
            {"recipe": recipe, "heldout": heldout, "calibration": calibration, "seconds": seconds}
        )
        cells = [*heldout, calibration[0], seconds[0]]
        table.add_row(recipe, *(f"{cell:.3f}" for cell in cells))
    console.print(table)
    if args.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        settings = {"blocks": args.blocks, "seeds": args.seeds, "text": vars(text)}
        files.write_json(args.json, {**facts, **settings, "summary": summary, "rows": rows})


if __name__ == "__main__":
    main()
