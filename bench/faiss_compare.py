"""Faiss' k-means and additive quantizers beside our initialisers: time and output error.

    pip install faiss-cpu
    python bench/faiss_compare.py [--problem FILE --layer NAME ...] [--scheme 2x8g8]
        [--rounds 3] [--skip lsq ...] [--json FILE]

FILE is a safetensors file with NAME.weight, NAME.hessian and perhaps NAME.heldout_hessian; without
one, a random layer with correlated inputs.

k-means: both start at the same words and see all points; faiss makes as many rounds as ours took
until it stopped. Additive quantizers: faiss' residual quantizer and local search quantizer, at
their default settings but trained on all points, get the row-normalised groups that our
initialisers get; their decoded groups times the row norms are the weight. They minimize the
squared distance to the weight, as our greedy does and oa-em does not; the output error is
`LayerProblem.errors`. All use the same number of threads. Compiling does not count.
"""

import argparse
import re
import time
from pathlib import Path

import torch
from layer import fastest, make_problem
from rich.console import Console
from rich.table import Table

from quantcore import clustering, files, init, layer, machine, problems
from quantcore.clustering import EMProblem
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem
from quantcore.weight import Scheme

try:
    import faiss
except ImportError:
    raise SystemExit("this benchmark needs faiss: pip install faiss-cpu") from None

METHODS = ("greedy", "oa-em", "quantize", "rq", "lsq")
NAMES = {
    "greedy": "ours, greedy initialisation",
    "oa-em": "ours, OA-EM initialisation",
    "quantize": "ours, the whole recipe",
    "rq": "faiss, residual quantizer",
    "lsq": "faiss, local search quantizer",
}


def kmeans(problem, scheme, rounds):
    """Seconds and errors of both k-means, from one start, in as many rounds."""
    plain = EMProblem.euclidean(init.residual(problem, init.start(problem, scheme)))
    first = clustering.start(plain, scheme.size, torch.Generator().manual_seed(0))
    infos = []
    fitted = clustering.run(plain, first, init.KMEANS, infos.append)
    points = plain.vectors.flatten(0, 1).numpy()

    def theirs():
        trained = faiss.Kmeans(
            scheme.group,
            scheme.size,
            niter=len(infos),
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
        )
        trained.train(points, init_centroids=first.codebook.numpy())
        return trained.centroids

    words = torch.from_numpy(theirs())
    return {
        "rounds": len(infos),
        "ours_seconds": fastest(lambda: clustering.run(plain, first, init.KMEANS), rounds),
        "faiss_seconds": fastest(theirs, rounds),
        "ours_error": clustering.objective(plain, fitted),
        "faiss_error": clustering.objective(plain, clustering.state_of(plain, words)),
    }


def additive(name, problem, scheme):
    """The dense weight that one of faiss' additive quantizers makes."""
    begun = init.start(problem, scheme)
    points = init.residual(problem, begun).flatten(0, 1).numpy()
    shape = scheme.group, scheme.codebooks, scheme.bits
    if name == "rq":
        quantizer = faiss.ResidualQuantizer(*shape)
        quantizer.cp.max_points_per_centroid = len(points)
        quantizer.cp.min_points_per_centroid = 1
    else:
        quantizer = faiss.LocalSearchQuantizer(*shape)
    quantizer.train(points)
    decoded = torch.from_numpy(quantizer.decode(quantizer.compute_codes(points)))
    return decoded.view_as(problem.weight) * begun.scales[:, None]


def ours(name, problem, scheme):
    """The dense weight of an initialiser or of the whole recipe."""
    rng = torch.Generator().manual_seed(0)
    if name == "quantize":
        return layer.quantize(problem, LayerConfig(scheme), rng).weight.dense()
    return init.run(problem, scheme, InitConfig(name), rng).dense()


def measure(problem, scheme, methods, rounds):
    """Both k-means, and one row for each method."""
    rows = []
    for name in methods:
        work = additive if name in {"rq", "lsq"} else ours
        seconds = []
        for _ in range(1 if name == "lsq" else rounds):
            begun = time.perf_counter()
            dense = work(name, problem, scheme)
            seconds.append(time.perf_counter() - begun)
        errors = problem.errors(dense)
        distance = ((dense - problem.weight).norm() / problem.weight.norm()).square()
        rows.append(
            {
                "method": NAMES[name],
                "seconds": min(seconds),
                "output_error": errors.relative,
                "heldout_output_error": errors.heldout_relative,
                "weight_error": float(distance),
            }
        )
    for row in rows:
        row["time_over_first"] = row["seconds"] / rows[0]["seconds"]
        row["output_error_over_first"] = row["output_error"] / rows[0]["output_error"]
    return {"kmeans": kmeans(problem, scheme, rounds), "rows": rows}


def show(console, title, found):
    """One layer's numbers as a table and a sentence."""
    table = Table("", "time", "output error", "held out", "weight error", title=title)
    for row in found["rows"]:
        heldout = row["heldout_output_error"]
        table.add_row(
            row["method"],
            f"{row['time_over_first']:.3g} x",
            f"{row['output_error']:.5f} ({row['output_error_over_first']:.3f} x)",
            "" if heldout is None else f"{heldout:.5f}",
            f"{row['weight_error']:.5f}",
        )
    console.print(table)
    both = found["kmeans"]
    console.print(
        f"k-means, {both['rounds']} rounds: faiss takes "
        f"{both['faiss_seconds'] / both['ours_seconds']:.2f} times our time and ends at "
        f"{both['faiss_error'] / both['ours_error']:.4f} times our error"
    )


def scheme_of(text):
    """A scheme from its short name, such as 2x8g8."""
    return Scheme(*(int(number) for number in re.split("x|g", text)))


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", type=Path)
    parser.add_argument("--layer", nargs="+", default=[])
    parser.add_argument("--scheme", type=scheme_of, default=Scheme())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", nargs="+", choices=METHODS, default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    faiss.omp_set_num_threads(torch.get_num_threads())
    problems_by_name = {name: problems.from_file(args.problem, name) for name in args.layer}
    if not problems_by_name:
        problems_by_name["random 576 x 576"] = make_problem(576, 576)
    methods = [name for name in METHODS if name not in args.skip]
    tiny = LayerProblem.weight_only(torch.randn(args.scheme.size, 2 * args.scheme.group))
    for name in set(methods) - {"lsq"}:  # compile
        (additive if name == "rq" else ours)(name, tiny, args.scheme)
    console, found = Console(width=120), {}
    for name, problem in problems_by_name.items():
        found[name] = measure(problem, args.scheme, methods, args.rounds)
        show(console, f"{name}, {args.scheme}", found[name])
    if args.json:
        facts = {"scheme": str(args.scheme), "machine": machine.describe()}
        versions = {**machine.versions(), "faiss": faiss.__version__}
        files.write_json(args.json, {**facts, "versions": versions, "layers": found})


if __name__ == "__main__":
    main()
