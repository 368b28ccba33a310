"""How much memory quantizing one large layer takes, beside its weight, its Hessian and the factor.

    python bench/memory.py [--out 4096 --columns 14336 --sweeps 1 --json FILE]

Random weights and inputs. The figure of a phase is the most that the process held in it (Linux
keeps it, and starts it anew when asked), less what it held before the problem was made, less the
Hessian and, once error feedback has made it, the factor (float32, columns x columns each), in
units of the float32 weight, itself among what is counted. The layer has the largest of these.
"""

import argparse
import time
from pathlib import Path

import psutil
import torch
from rich.console import Console

from quantcore import estimate, files, machine
from quantcore.layer import LayerConfig, Phase, quantize
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme

TOKENS = 1024
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
    """Most bytes this process has held since it was last asked."""
    found = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    CLEAR.write_text("5")
    return int(found.split()[1]) * 1024


def measure(out, columns, sweeps, tell):
    """Peaks of each phase, and the figure."""
    config = LayerConfig(Scheme(2, 8, 8), sweeps=sweeps)
    warm(config)
    before, begun, phases = psutil.Process().memory_info().rss, time.perf_counter(), []
    problem = make_problem(out, columns)
    weight, hessian = 4 * out * columns, 4 * columns**2
    peak()

    def seen(info):
        if isinstance(info, Phase):
            held = peak() - before
            matrices = 1 + ("feedback" in [info.phase, *(phase["phase"] for phase in phases)])
            over = (held - matrices * hessian) / weight
            phases.append(
                {"phase": info.phase, "sweep": info.sweep, "bytes": held, "weights_over": over}
            )
            tell(f"{time.perf_counter() - begun:.0f} s, {info.phase} {info.sweep}: {over:.2f}")

    quantize(problem, config, torch.Generator().manual_seed(0), seen)
    return {
        "peak_bytes": max(phase["bytes"] for phase in phases),
        "estimated_bytes": estimate.layer_bytes(config, out, columns),
        "weight_bytes": weight,
        "hessian_bytes": hessian,
        "weights_over": max(phase["weights_over"] for phase in phases),
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
