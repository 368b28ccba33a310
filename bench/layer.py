"""What one layer costs, as ratios measured in one run.

    python bench/layer.py [--out 576 --columns 576 --rounds 3 --json FILE]

A random layer with correlated inputs. Each figure is a time over another time of the same run (the
fastest of `--rounds`), so that machines can be compared; only one sweep's seconds are absolute.
"""

import argparse
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from quantcore import beam, clustering, codebooks, files, init, machine
from quantcore.beam import BeamConfig
from quantcore.clustering import Adam, EMProblem
from quantcore.codebooks import RefitConfig
from quantcore.init import InitConfig
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme


def fastest(work, rounds):
    """Seconds of the fastest of `rounds` calls."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def make_problem(out, columns):
    """A random weight, and the Hessian of correlated random inputs."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(columns, columns, generator=rng) / columns**0.5 + torch.eye(columns)
    inputs = torch.randn(4 * columns, columns, generator=rng) @ mix
    return LayerProblem(torch.randn(out, columns, generator=rng), inputs.T @ inputs / len(inputs))


def adam_steps(problem, weight, steps=100, rate=1e-4):
    """The 100 Adam steps on codebooks and scales that the least squares replace."""
    books, scales = (
        weight.codebooks.clone().requires_grad_(),
        weight.scales.clone().requires_grad_(),
    )
    optimiser = torch.optim.Adam([books, scales], lr=rate, betas=(0.0, 0.95), amsgrad=True)
    for _ in range(steps):
        optimiser.zero_grad()
        words = sum(books[m][weight.codes[..., m].long()] for m in range(len(books)))
        delta = problem.weight - words.flatten(1) * scales[:, None]
        ((delta @ problem.hessian) * delta).sum().div(len(delta)).backward()
        optimiser.step()
    return type(weight)(weight.codes, books.detach(), scales.detach())


def measure(out, columns, rounds):
    """Rows of (what, against what, ratio)."""
    problem, scheme = make_problem(out, columns), Scheme(2, 8, 8)

    def start(name):
        return init.run(problem, scheme, InitConfig(name), torch.Generator().manual_seed(0))

    greedy = start("greedy")
    rows = []

    def add(what, against, ratio):
        rows.append({"what": what, "against": against, "ratio": ratio})

    seconds = {name: fastest(lambda name=name: start(name), rounds) for name in init.INITIALISERS}
    for name in init.INITIALISERS[1:]:
        add(f"initialise, {name}", "initialise, greedy", seconds[name] / seconds["greedy"])

    rng = torch.Generator()
    search = {
        width: fastest(lambda w=width: beam.run(problem, greedy, BeamConfig(w), rng), rounds)
        for width in (1, 2, 4, 8, 16)
    }
    for width in (2, 4, 8, 16):
        add(f"search sweep, beam {width}", "search sweep, beam 1", search[width] / search[1])
    exact = fastest(lambda: codebooks.run(problem, greedy, RefitConfig()), rounds)
    adam = fastest(lambda: adam_steps(problem, greedy), 1)
    add("refit, least squares", "refit, 100 Adam steps", exact / adam)
    fitted = codebooks.run(problem, greedy, RefitConfig())
    stepped = adam_steps(problem, greedy)
    add(
        "error after least squares",
        "error after 100 Adam steps",
        problem.errors(fitted.dense()).error / problem.errors(stepped.dense()).error,
    )

    vectors = problem.weight.unflatten(1, (-1, scheme.group))
    metric = EMProblem(vectors, problem.blocks(scheme.group), greedy.scales.square())
    codes, words = greedy.codes[..., 0], greedy.codebooks[0]
    solve = fastest(lambda: clustering.refit(metric, codes, words), rounds)
    steps = fastest(lambda: clustering.refit_adam(metric, codes, words, Adam()), rounds)
    add("M-step, exact", "M-step, 100 Adam steps on the sums", solve / steps)
    return {"beam_1_sweep_seconds": search[1], "rows": rows}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=int, default=576)
    parser.add_argument("--columns", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args.out, args.columns, args.rounds)
    table = Table("what", "against", "ratio", title=f"a layer of {args.out} x {args.columns}")
    for row in found["rows"]:
        table.add_row(row["what"], row["against"], f"{row['ratio']:.3g}")
    Console(width=120).print(table)
    if args.json:
        facts = {"out": args.out, "columns": args.columns, "machine": machine.describe()}
        files.write_json(args.json, {**facts, "versions": machine.versions(), **found})


if __name__ == "__main__":
    main()
