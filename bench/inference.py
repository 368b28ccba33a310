"""What a product with a 2-bit weight costs on this CPU, against dense float32.

    python bench/inference.py [--seconds 0.3 --threads N --json FILE]

Each figure is a time over another time of the same run, the fastest of many, so that machines can
be compared. A layer is timed twice: again and again, when its weight stays in the cache, and in
turn with others like it, as a model's layers are when it writes a token; there the dense weights
come from memory. `aqlm on N` is the kernel that transformers uses for such models on a CPU, on N
threads (`pip install aqlm[cpu]`); without the package it is left out. It comes last and by itself,
because it sets the number of torch's threads too.
"""

import argparse
import itertools
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import torch
from rich.console import Console
from rich.table import Table

from quantcore import files, kernels, machine

SHAPES = [(576, 1536), (1536, 576), (576, 576), (192, 576), (4096, 4096)]  # out, columns
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128)
MEMORY = 1 << 26  # bytes of dense weights that do not stay in a core's cache
BOOKS, SIZE, GROUP = 2, 256, 8


def race(works, seconds):
    """Seconds of the fastest call of each, in turns of ten calls, for so long in all."""
    best = dict.fromkeys(works, float("inf"))
    end = time.perf_counter() + seconds * len(works)
    while time.perf_counter() < end:
        for name, work in works.items():
            for _ in range(10):
                begun = time.perf_counter()
                work()
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


def draw(out, columns, rng):
    """A random weight as AQLM's files have it: codes, codebooks, scales."""
    codes = torch.randint(-128, 128, (out, columns // GROUP, BOOKS), generator=rng)
    return (
        codes.to(torch.int8),
        torch.randn(BOOKS, SIZE, GROUP, generator=rng),
        0.5 + torch.rand(out, generator=rng),
    )


def ours(layer):
    """A layer's product, as a function of the input."""
    return lambda x: kernels.matmul(x, *layer)


def dense(layer):
    """The product with the weight written out."""
    weight = kernels.decode(*layer)
    return lambda x: torch.nn.functional.linear(x, weight)


def aqlm(threads):
    """The same for the package's kernel on so many threads; None without the package."""
    try:
        from aqlm.inference_kernels.numba_kernel import numba_gemm_lut
    except ImportError:
        return None

    def prepare(layer):
        codes, codebooks, scales = layer
        turned = codes.transpose(0, 1).contiguous()  # as the package does when it first runs
        rest = turned, codebooks[:, :, None], scales[:, None, None, None], None

        def product(x):
            numba.set_num_threads(threads)
            return numba_gemm_lut(x, *rest)

        return product

    return prepare


def relative_error(work, wanted, rounds):
    """The largest error of many calls, over the largest output: a race shows in some."""
    errors = [(work() - y).abs().max() / y.abs().max() for _ in range(rounds) for y in wanted]
    return float(max(errors))


def one_token(makers, seconds, rng):
    """A row for each layer, place of its weights and kernel: microseconds and error."""
    rows = []
    for out, columns in SHAPES:
        x = torch.randn(1, columns, generator=rng)
        for place, count in (("cache", 1), ("memory", max(2, MEMORY // (4 * out * columns)))):
            layers = [draw(out, columns, rng) for _ in range(count)]
            wanted = [x.double() @ kernels.decode(*layer).double().T for layer in layers]
            works = {}
            for name, make in makers.items():
                following = itertools.cycle([make(layer) for layer in layers])
                works[name] = lambda following=following, x=x: next(following)(x)
            # whole rounds, so that the next layer is the first again
            errors = {name: relative_error(w, wanted, -(-20 // count)) for name, w in works.items()}
            key = {"out": out, "columns": columns, "weights": place}
            for name, best in race(works, seconds).items():
                time_and_error = {"microseconds": 1e6 * best, "error": errors[name]}
                rows.append({**key, "kernel": name, **time_and_error})
    return rows


def against_dense(rows):
    """The rows with the dense product's time over theirs."""

    def key(row):
        return row["out"], row["columns"], row["weights"]

    times = {key(row): row["microseconds"] for row in rows if row["kernel"] == "dense"}
    return [{**row, "dense over this": times[key(row)] / row["microseconds"]} for row in rows]


def batches(seconds, rng):
    """More tokens at once: the dense product's time over ours."""
    rows = []
    for (out, columns), tokens in itertools.product(((576, 1536), (4096, 4096)), TOKENS):
        layer, x = draw(out, columns, rng), torch.randn(tokens, columns, generator=rng)
        makers = {"ours": ours(layer), "dense": dense(layer)}
        best = race({name: lambda w=w, x=x: w(x) for name, w in makers.items()}, seconds)
        ratio = best["dense"] / best["ours"]
        rows.append({"out": out, "columns": columns, "tokens": tokens, "dense over ours": ratio})
    return rows


def tables(token, batch):
    """The figures for reading."""
    names = list(dict.fromkeys(row["kernel"] for row in token))
    one = Table("layer", "weights from", *names, title="one token: dense time / time (error)")
    for key in dict.fromkeys((row["out"], row["columns"], row["weights"]) for row in token):
        same = [r for r in token if (r["out"], r["columns"], r["weights"]) == key]
        cells = [f"{r['dense over this']:.2f} ({r['error']:.0e})" for r in same]
        one.add_row(f"{key[0]} x {key[1]}", key[2], *cells)
    many = Table("layer", *map(str, TOKENS), title="tokens at once: dense time / our time")
    for out, columns in dict.fromkeys((row["out"], row["columns"]) for row in batch):
        ratios = [r["dense over ours"] for r in batch if r["out"] == out]
        many.add_row(f"{out} x {columns}", *(f"{ratio:.2f}" for ratio in ratios))
    return one, many


def measure(seconds):
    """All rows."""
    rng = torch.Generator().manual_seed(0)
    token = one_token({"ours": ours, "dense": dense}, seconds, rng)
    batch = batches(seconds, rng)
    for threads in sorted({1, numba.config.NUMBA_NUM_THREADS}):
        make = aqlm(threads)
        if make:
            token += one_token({f"aqlm on {threads}": make}, seconds, rng)
    return against_dense(token), batch


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    parser.add_argument("--threads", type=int, help="torch's; its own choice if not given")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    facts = {**machine.describe(), "threads": torch.get_num_threads()}
    with torch.inference_mode():
        token, batch = measure(args.seconds)
    for table in tables(token, batch):
        Console(width=120).print(table)
    try:
        found = version("aqlm")
    except PackageNotFoundError:
        found = "not installed"
    Console().print(f"aqlm: {found}")
    if args.json:
        versions = {**machine.versions(), "numba": numba.__version__, "aqlm": found}
        rows = {"token": token, "batches": batch}
        files.write_json(args.json, {**facts, "versions": versions, **rows})


if __name__ == "__main__":
    main()
