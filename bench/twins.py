"""Each compiled path against its twin in torch, the arithmetic it reaches, and how its cost grows.

    OMP_WAIT_POLICY=passive python bench/twins.py [--out 576 --columns 576 --rounds 5 --json FILE]

A random layer with correlated inputs at 2x8 g8. Times are the fastest of `--rounds`; what is
printed are ratios of times of this run. The arithmetic of a beam sweep counts the scores (group + 1
multiply-adds a word and hypothesis) and the pulls (group multiply-adds a later column and
hypothesis); it is compared with a float32 matmul of the same layer.
"""

import argparse
from pathlib import Path

import torch
from layer import fastest, make_problem
from rich.console import Console
from rich.table import Table

from quantcore import beam, feedback, files, init, kernels, machine
from quantcore.beam import BeamConfig
from quantcore.feedback import FeedbackConfig
from quantcore.init import InitConfig
from quantcore.kernels import cpu_assign, cpu_decode, cpu_search, cpu_sums, naive
from quantcore.weight import Scheme

TWINS = {
    "assign": cpu_assign.assign,
    "codeword_sums": cpu_assign.codeword_sums,
    "visit": cpu_search.visit,
    "decode": cpu_decode.decode,
    "sum_by_code": cpu_sums.sum_by_code,
}


def start(out, columns, scheme):
    """A problem and a weight to search from: a few rounds of k-means are enough here."""
    problem = make_problem(out, columns)
    config = InitConfig("greedy", kmeans=init.EMConfig(rounds=3))
    return problem, init.run(problem, scheme, config, torch.Generator().manual_seed(0))


def twins(problem, weight, rounds):
    """How many times faster each compiled path is."""
    vectors = problem.weight.unflatten(1, (-1, weight.codebooks.shape[2]))
    metrics, rows = problem.blocks(vectors.shape[2]), weight.scales.square()
    codes, words = weight.codes[..., 0].contiguous(), weight.codebooks[0]
    given = {
        "assign": (vectors, metrics, words),
        "codeword_sums": (vectors, metrics, rows, codes, len(words)),
        "decode": (weight.codes, weight.codebooks, weight.scales),
        "sum_by_code": (problem.weight, weight.codes, weight.scales, len(words)),
    }
    found = []
    for name, args in given.items():
        slow = fastest(lambda n=name, a=args: getattr(naive, n)(*a), rounds)
        fast = fastest(lambda n=name, a=args: TWINS[n](*a), rounds)
        found.append({"what": name, "against": "its twin in torch", "ratio": slow / fast})
    for width in (1, 4, 8, 16):
        fast = sweep_seconds(problem, weight, width, rounds)
        chosen, kernels.chosen = kernels.chosen, lambda name, *_: getattr(naive, name)
        try:
            slow = sweep_seconds(problem, weight, width, 1)
        finally:
            kernels.chosen = chosen
        name = f"search sweep, beam {width}"
        found.append({"what": name, "against": "its twin in torch", "ratio": slow / fast})
    return found


def sweep_seconds(problem, weight, width, rounds):
    """Seconds of one beam sweep."""
    rng = torch.Generator()
    return fastest(lambda: beam.run(problem, weight, BeamConfig(width), rng), rounds)


def arithmetic(problem, weight, rounds):
    """The rates of the searches, as shares of a matmul's."""
    (out, columns), books = problem.weight.shape, len(weight.codebooks)
    size, group = weight.codebooks.shape[1:]
    groups = out * columns // group
    many = problem.weight.repeat(8, 1)
    matmul = 2 * many.numel() * columns / fastest(lambda: many @ problem.hessian, rounds)
    factor = feedback.factor(problem, group)
    found = []

    def add(name, widths, seconds):
        scored = widths[-1] + sum(widths[:-1])
        work = groups * (scored * size * (group + 1) + widths[-1] * group * columns / 2)
        found.append({"what": name, "share": 2 * work / seconds / matmul})

    for width in (1, 4, 8, 16):
        seconds = sweep_seconds(problem, weight, width, rounds)
        add(f"beam {width}", BeamConfig(width).widths(books), seconds)
    config = BeamConfig(1, 16)
    seconds = fastest(lambda: beam.run(problem, weight, config, torch.Generator()), rounds)
    add("descent, 16 candidates", config.widths(books), seconds)
    fed = FeedbackConfig()
    seconds = fastest(lambda: feedback.run(problem, weight, factor, fed), rounds)
    add("feedback, 16 candidates", fed.widths(books), seconds)
    return {"matmul_gflops": matmul / 1e9, "searches": found}


def growth(rounds):
    """One beam-8 sweep where one size doubles, as a ratio to the sweep before."""
    plain = {"out": 256, "columns": 512, "bits": 8}

    def seconds(out, columns, bits):
        return sweep_seconds(*start(out, columns, Scheme(2, bits, 8)), 8, rounds)

    base, found = seconds(**plain), []
    for name, larger in (("out", 512), ("columns", 1024), ("bits", 9)):
        ratio = seconds(**{**plain, name: larger}) / base
        found.append({"doubled": name if name != "bits" else "words in a codebook", "ratio": ratio})
    return found


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=int, default=576)
    parser.add_argument("--columns", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    problem, weight = start(args.out, args.columns, Scheme(2, 8, 8))
    console, table = Console(width=120), Table("what", "against", "times faster")
    found = {"twins": twins(problem, weight, args.rounds)}
    for row in found["twins"]:
        table.add_row(row["what"], row["against"], f"{row['ratio']:.3g}")
    console.print(table)
    found["arithmetic"] = arithmetic(problem, weight, args.rounds)
    table = Table("search", "share of a float32 matmul's arithmetic rate")
    for row in found["arithmetic"]["searches"]:
        table.add_row(row["what"], f"{row['share']:.3f}")
    console.print(table)
    found["growth"] = growth(args.rounds)
    table = Table("doubled", "a beam-8 sweep takes so many times longer")
    for row in found["growth"]:
        table.add_row(row["doubled"], f"{row['ratio']:.2f}")
    console.print(table)
    if args.json:
        facts = {"out": args.out, "columns": args.columns, "machine": machine.describe()}
        files.write_json(args.json, {**facts, "versions": machine.versions(), **found})


if __name__ == "__main__":
    main()
