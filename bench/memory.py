"""How much memory quantizing one large layer takes, beside its weight, its Hessian and the factor.

    python bench/memory.py [--out 4096 --columns 14336 --sweeps 1 --json FILE]

Random weights and inputs. The figure is the process's peak less what it held before the problem
was made, less the Hessian and its factor (float32, columns x columns each), in units of the float32
weight, which is itself among what is counted.
"""

import argparse
import resource
import time
from pathlib import Path

import psutil
import torch
from rich.console import Console

from quantcore import files, machine
from quantcore.layer import LayerConfig, Phase, quantize
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme

TOKENS = 1024


def warm(config):
    """Load and compile everything on a small layer, so that only the large one is counted."""
    quantize(make_problem(64, 128), config, torch.Generator().manual_seed(0))


def make_problem(out, columns):
    """A random weight, and the Hessian of few inputs plus I, summed in place."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(TOKENS, columns, generator=rng)
    hessian = torch.eye(columns)
    hessian.addmm_(inputs.T, inputs, alpha=1 / TOKENS)
    return LayerProblem(torch.randn(out, columns, generator=rng), hessian)


def peak():
    """Most bytes this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(out, columns, sweeps, tell):
    """Peaks after each phase, and the figure."""
    config = LayerConfig(Scheme(2, 8, 8), sweeps=sweeps)
    warm(config)
    before, begun, phases = psutil.Process().memory_info().rss, time.perf_counter(), []
    problem = make_problem(out, columns)
    weight, hessian = 4 * out * columns, 4 * columns**2

    def seen(info):
        if isinstance(info, Phase):
            over = (peak() - before - 2 * hessian) / weight
            phases.append({"phase": info.phase, "sweep": info.sweep, "weights_over": over})
            tell(f"{time.perf_counter() - begun:.0f} s, {info.phase} {info.sweep}: {over:.2f}")

    quantize(problem, config, torch.Generator().manual_seed(0), seen)
    return {
        "peak_bytes": peak() - before,
        "weight_bytes": weight,
        "hessian_bytes": hessian,
        "weights_over": phases[-1]["weights_over"],
        "phases": phases,
        "seconds": time.perf_counter() - begun,
    }


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=14336)
    parser.add_argument("--sweeps", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=120)
    found = measure(args.out, args.columns, args.sweeps, console.print)
    console.print(f"{found['weights_over']:.2f} weights beside the Hessian and its factor")
    if args.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        settings = {"out": args.out, "columns": args.columns, "sweeps": args.sweeps}
        files.write_json(args.json, {**facts, **settings, **found})


if __name__ == "__main__":
    main()
