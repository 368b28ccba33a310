"""When does initialisation determine the basin? The gap from greedy to OA-EM, dial by dial.

    python bench/basins.py [--seeds 3] [--json FILE]

For layers of the default model: greedy's error over OA-EM's, after initialisation and at the end,
under the beam search of the released code, where one dial at a time leaves its default (2x8 g8,
beam 8, 8,192 calibration tokens): the scheme and with it rho, the width of the search, the amount
of calibration text. Means over seeds, with the standard error of the ratio.
"""

import argparse
import math
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantcore import experiment, files, machine
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

LAYERS = ("model.layers.10.self_attn.q_proj", "model.layers.10.mlp.down_proj")
DIALS = {
    "default": {},
    "1x8 g8": {"scheme": Scheme(1, 8, 8)},
    "2x6 g8": {"scheme": Scheme(2, 6, 8)},
    "3x8 g8": {"scheme": Scheme(3, 8, 8)},
    "beam 1": {"beam": 1},
    "2,048 calibration tokens": {"calibration_tokens": 2048},
    "shrinkage 0.2": {"shrinkage": 0.2},
}


def ratio(runs, name):
    """Mean of greedy's figure over OA-EM's, seed by seed, and its standard error."""
    pairs = {}
    for run in runs:
        pairs.setdefault(run["seed"], {})[run["init"]] = run[name]
    ratios = [pair["greedy"] / pair["oa-em"] for pair in pairs.values()]
    mean = sum(ratios) / len(ratios)
    spread = sum((one - mean) ** 2 for one in ratios) / max(1, len(ratios) - 1)
    return mean, math.sqrt(spread / len(ratios))


def mean(runs, init, name):
    """Mean of one figure over an initialiser's seeds."""
    values = [run[name] for run in runs if run["init"] == init]
    return sum(values) / len(values)


def measure(seeds, tell):
    """One row for each layer and dial."""
    rows = []
    for layer in LAYERS:
        for dial, change in DIALS.items():
            tell(f"{layer}, {dial}")
            seen = tuple(range(seeds))
            plain = Experiment(layer=layer, seeds=seen, search="beam", perplexity_windows=0)
            document = experiment.run(replace(plain, **change), lambda progress, so_far: None)
            runs = document["runs"]
            row = {"layer": layer, "dial": dial, "rho": document["rho"]}
            for when in ("init_", ""):
                for text in ("", "heldout_"):
                    name = f"{when}{text}relative_error"
                    row[f"{name}_ratio"], row[f"{name}_ratio_error"] = ratio(runs, name)
                    row[f"{name}_greedy"] = mean(runs, "greedy", name)
                    row[f"{name}_oa_em"] = mean(runs, "oa-em", name)
            rows.append(row)
    return {"rows": rows, "settings": asdict(Experiment()), "model": document["model"]}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=140)
    found = measure(args.seeds, console.print)
    table = Table(
        "layer",
        "dial",
        "rho",
        "greedy / OA-EM after init",
        "after search",
        "held-out, after search",
    )
    for row in found["rows"]:
        ratios = [
            f"{row[f'{name}_ratio']:.3f} ± {row[f'{name}_ratio_error']:.3f}"
            for name in ("init_relative_error", "relative_error", "heldout_relative_error")
        ]
        table.add_row(row["layer"], row["dial"], f"{row['rho']:.3g}", *ratios)
    console.print(table)
    if args.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        files.write_json(args.json, {**facts, "seeds": args.seeds, **found})


if __name__ == "__main__":
    main()
