"""The code released with arXiv:2604.08118 and ours, on the same layers, in one process.

    git clone https://github.com/kenno94-IK/aqlm-oaem PATH
    python bench/against_released.py --repo PATH --problem FILE [--layer NAME ...] [--beam 8]
        [--sweeps 4] [--seeds 1] [--widths 1 4 8 16] [--quick] [--json FILE]

FILE is a safetensors file with NAME.weight, NAME.hessian and NAME.heldout_hessian. Both sides run
on the CPU with the same threads, in float32; the errors of both are `LayerProblem.errors`.

The released side is its own `AQEngine`, given the layer and its Hessian: k-means, OA-EM (3 rounds
of 100 Adam steps), then for each sweep 100 Adam steps on codebooks and scales and its beam search,
the groups shuffled. Its settings are its `main.py`'s defaults, so it stops early for nothing (its
recipe sets relative_mse_tolerance to 0.01) and runs all sweeps; its functions are not scripted,
as its recipe says. Its Adam runs in float64, the type in which the engine keeps the Hessian. A
subclass reads the clock and the errors between the phases and changes nothing.

Ours runs all sweeps too, every initialiser under every search: the beam as wide as the released
one, the others as wide as they are by default. Its seconds are the whole call of `layer.quantize`,
errors measured after every phase included, which the released side's leave out. Both sides run a
tiny problem first, so that compiling does not count.

Beam alone: one sweep of each search over the groups in turn, from the released side's OA-EM. Rows
whose codes differ are searched again by both in float64: where the codes are the same there,
float32 rounding made the difference. Ratios are released over ours: above 1, ours is better.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import random
import shlex
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch
from rich.console import Console
from rich.table import Table

from quantcore import beam, files, layer, machine, problems
from quantcore.beam import BeamConfig
from quantcore.init import INITIALISERS, InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem
from quantcore.search import SEARCHES, SearchConfig
from quantcore.weight import AdditiveWeight, Scheme

ROUNDS = {"greedy": 0, "oa-em": 3}  # the released initialisers, as its --oa_em_rounds
AGAINST = {"greedy": "greedy", "oa-em": "oa-em", "oa-em-adam": "oa-em"}  # ours -> the released one
RELEASED = {  # defaults of its main.py
    "out_group_size": 1,
    "scale_nbits": 0,
    "codebook_value_nbits": 16,
    "codebook_value_num_groups": 1,
    "init_max_iter": 100,
    "init_max_points_per_centroid": None,
    "oa_em_lr": 1e-4,
    "oa_em_steps": 100,
    "lr": 1e-4,
    "steps_per_epoch": 100,
    "relative_mse_tolerance": None,
}


@dataclass(frozen=True)
class Run:
    """One quantization by one side."""

    side: str
    init: str
    search: str
    seed: int
    seconds: float
    phases: list  # (name, seconds, errors at its end)


def ours(problem, init, search, width, sweeps, seed, scheme):
    """Quantize with our code; the only place that knows its configuration."""
    config = LayerConfig(
        scheme=scheme,
        init=InitConfig(init),
        search=SearchConfig(search, width if search == "beam" else None),
        sweeps=sweeps,
        rtol=float("-inf"),  # all sweeps
    )
    begun = time.perf_counter()
    state = layer.quantize(problem, config, torch.Generator().manual_seed(seed))
    seconds = time.perf_counter() - begun
    starts = [0.0, *(phase.seconds for phase in state.trace[:-1])]
    phases = [
        (phase.phase, phase.seconds - start, phase.errors)
        for phase, start in zip(state.trace, starts, strict=True)
    ]
    return Run("ours", init, search, seed, seconds, phases)


def our_sweep(problem, start, width):
    """One sweep of our beam search over the groups in turn."""
    return beam.run(problem, start, BeamConfig(width), torch.Generator()).codes


def load(repo):
    """The released engine and search from a clone; they need torch and tqdm only."""
    os.environ.setdefault("AQ_USE_JIT", "0")
    sys.path.insert(0, str(repo))
    engine = importlib.import_module("aq_engine").AQEngine
    search = importlib.import_module("src.beam_search_xtx").beam_search_optimal_codes
    sys.path.remove(str(repo))
    return SimpleNamespace(engine=clocked(engine), search=search)


def clocked(engine):
    """The engine, with the clock and the errors read between its phases."""

    class Clocked(engine):
        def follow(self, problem):
            """Start the clock."""
            self.problem, self.phases = problem, []
            self.begun = time.perf_counter()

        def _compute_mse(self, *args):
            if not self.phases:  # the first Adam step: the initialisation is done
                self.ends("init")
            return super()._compute_mse(*args)

        def beam_search_update_codes_(self, *args, **kwargs):
            self.ends("refit")
            super().beam_search_update_codes_(*args, **kwargs)
            self.ends("beam")

        @torch.no_grad()
        def ends(self, phase):
            """A phase ends; what is done here does not count."""
            seconds = time.perf_counter() - self.begun
            self.phases.append((phase, seconds, self.problem.errors(self.quantized_weight())))
            if phase == "init":
                self.start = as_ours(self.quantized_weight)
            self.begun = time.perf_counter()

    return Clocked


def as_ours(quantized):
    """The released side's present codes, codebooks and scales as our weight."""
    books, scales = quantized.get_codebooks()[:, :, 0], quantized.get_scales()[:, 0, 0, 0]
    return AdditiveWeight(quantized.get_codes().clone(), books.clone(), scales.clone())


def released(clone, problem, init, width, sweeps, seed, scheme):
    """Quantize with the released code; also its state after initialisation."""
    linear = torch.nn.Linear(*problem.weight.shape[::-1], bias=False)
    linear.weight.data = problem.weight.clone()
    engine = clone.engine(linear)
    engine.XTX.copy_(problem.hessian)
    args = Namespace(
        **RELEASED,
        devices=[torch.device("cpu")],
        num_codebooks=scheme.codebooks,
        nbits_per_codebook=scheme.bits,
        in_group_size=scheme.group,
        oa_em_rounds=ROUNDS[init],
        beam_size=width,
        max_epochs=sweeps,
    )
    random.seed(seed)
    torch.manual_seed(seed)
    engine.follow(problem)
    with quiet():
        engine.quantize(args=args, verbose=False)
    seconds = sum(seconds for _, seconds, _ in engine.phases)
    return Run("released", init, "beam", seed, seconds, engine.phases), engine.start


def released_sweep(clone, problem, start, width):
    """One sweep of the released beam search over the groups in turn."""
    with quiet():
        return clone.search(
            XTX=problem.hessian,
            reference_weight=problem.weight,
            codebooks=start.codebooks[:, :, None],
            prev_codes=start.codes,
            scales=start.scales[:, None, None, None],
            beam_size=width,
            verbose=False,
        )


@contextlib.contextmanager
def quiet():
    """Swallow what the released code prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def warm(clone, scheme):
    """Both sides once on a tiny problem, just large enough for the scheme."""
    rng = torch.Generator().manual_seed(0)
    columns = 8 * scheme.group
    inputs = torch.randn(4 * columns, columns, generator=rng)
    weight = torch.randn(max(16, scheme.size // 4), columns, generator=rng)
    problem = LayerProblem(weight, inputs.T @ inputs / len(inputs))
    for init in INITIALISERS:
        for search in SEARCHES:
            ours(problem, init, search, 2, 1, 0, scheme)
    released(clone, problem, "oa-em", 2, 1, 0, scheme)


def sweep_alone(clone, problem, start, width, rounds):
    """The fastest of `rounds` sweeps of each side, in turn, and where their codes differ."""
    sides = {
        "released": lambda: released_sweep(clone, problem, start, width),
        "ours": lambda: our_sweep(problem, start, width),
    }
    seconds, codes = dict.fromkeys(sides, float("inf")), {}
    for _ in range(rounds):
        for side, work in sides.items():
            begun = time.perf_counter()
            codes[side] = work()
            seconds[side] = min(seconds[side], time.perf_counter() - begun)
    return {
        "width": width,
        **{f"{side}_seconds": value for side, value in seconds.items()},
        "seconds_ratio": seconds["released"] / seconds["ours"],
        **differences(clone, problem, start, codes, width),
    }


def differences(clone, problem, start, codes, width):
    """How many codes and rows differ, how far those rows' errors lie apart, and float64's view."""
    differ = (codes["released"] != codes["ours"]).flatten(1)
    rows = differ.any(1).nonzero()[:, 0]
    found = {
        "codes": differ.numel(),
        "differing_codes": int(differ.sum()),
        "rows": len(differ),
        "differing_rows": len(rows),
    }
    if not len(rows):
        return found
    theirs, mine = (
        problem.row_errors(replace(start, codes=codes[side]))[rows] for side in ("released", "ours")
    )
    exact = LayerProblem(problem.weight[rows].double(), problem.hessian.double())
    there = AdditiveWeight(start.codes[rows], start.codebooks.double(), start.scales[rows].double())
    again = our_sweep(exact, there, width)
    same = (released_sweep(clone, exact, there, width) == again).flatten(1).all(1)
    return found | {
        "rows_equal_in_float64": int(same.sum()),
        "released_rows_as_in_float64": int((codes["released"][rows] == again).all((1, 2)).sum()),
        "our_rows_as_in_float64": int((codes["ours"][rows] == again).all((1, 2)).sum()),
        "error_ratio": float(theirs.sum() / mine.sum()),
        "largest_gap": float(((theirs - mine).abs() / mine).max()),
    }


def measure(clone, problem, args, tell):
    """All runs on one layer, and the search alone."""
    inits = ("oa-em",) if args.quick else INITIALISERS
    runs, starts, alone = [], {}, []

    def keep(run):
        error = run.phases[-1][2].relative
        tell(f"{run.side} {run.init} {run.search} {run.seed}: {run.seconds:.1f} s, {error:.5f}")
        runs.append(run)

    for seed in range(args.seeds):
        how = (args.beam, args.sweeps, seed, args.scheme)
        for init in (name for name in inits if name in ROUNDS):
            run, starts[init] = released(clone, problem, init, *how)
            keep(run)
        for init in inits:
            for search in SEARCHES:
                keep(ours(problem, init, search, *how))
    for width in [args.beam] if args.quick else args.widths:
        alone.append(sweep_alone(clone, problem, starts["oa-em"], width, args.rounds))
        tell(f"beam alone, width {width}: {alone[-1]['seconds_ratio']:.1f} times")
    return runs, alone


def summarise(runs):
    """One row for each side, initialiser and search: the fastest seed's seconds, mean errors."""
    kinds = {}
    for run in runs:
        kinds.setdefault((run.side, run.init, run.search), []).append(figures(run))
    rows = []
    for kind, some in kinds.items():
        fastest = min(some, key=lambda one: one["seconds"])
        mean = {name: sum(one[name] for one in some) / len(some) for name in fastest}
        seconds = {name: value for name, value in fastest.items() if name.endswith("seconds")}
        rows.append(dict(zip(("side", "init", "search"), kind, strict=True)) | mean | seconds)
    theirs = {row["init"]: row for row in rows if row["side"] == "released"}
    for row in rows:
        if row["side"] == "ours":
            other = theirs[AGAINST[row["init"]]]
            for name in ("seconds", "relative_error", "heldout_relative_error"):
                if name in row:
                    row[f"{name}_ratio"] = other[name] / row[name]
    return rows


def figures(run):
    """A run's seconds by phase, and its errors after the initialisation and at the end."""
    row = {"seconds": run.seconds, "init_seconds": 0.0, "refit_seconds": 0.0, "search_seconds": 0.0}
    for phase, seconds, _ in run.phases:
        row[f"{phase if phase in ('init', 'refit') else 'search'}_seconds"] += seconds
    for when, (_, _, errors) in (("init_", run.phases[0]), ("", run.phases[-1])):
        row[f"{when}relative_error"] = errors.relative
        if errors.heldout_relative is not None:
            row[f"{when}heldout_relative_error"] = errors.heldout_relative
    return row


def table(title, rows):
    """Rows as a table, a column for each of their keys; what a row lacks stays empty."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    drawn = Table(title=title)
    for key in keys:
        drawn.add_column(key.replace("_", " "), no_wrap=isinstance(rows[0].get(key), str))
    for row in rows:
        values = [row.get(key, "") for key in keys]
        drawn.add_row(*(f"{one:.4g}" if isinstance(one, float) else str(one) for one in values))
    return drawn


def facts(args):
    """What was run, on what; paths by their last names only."""
    git = ["git", "-C", str(args.repo), "describe", "--always", "--dirty", "--abbrev=40"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    with args.problem.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "bench/against_released.py", *words]),
        "released_commit": commit or "unknown",
        "released_settings": {**RELEASED, "AQ_USE_JIT": os.environ["AQ_USE_JIT"]},
        "problem": {"file": args.problem.name, "sha256": digest},
        "machine": machine.describe(),
        "versions": machine.versions(),
        "threads": torch.get_num_threads(),
        "load_before": psutil.getloadavg()[0],  # much above 0: something else ran, beware
    }


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", type=Path, required=True, help="a clone of the released code")
    parser.add_argument("--problem", type=Path, required=True, help="a safetensors file")
    parser.add_argument("--layer", nargs="+", help="problems in it; all by default")
    parser.add_argument("--scheme", type=int, nargs=3, default=[2, 8, 8], help="books bits group")
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--sweeps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 4, 8, 16], help="beam alone")
    parser.add_argument("--rounds", type=int, default=2, help="beam alone: the fastest of so many")
    parser.add_argument("--quick", action="store_true", help="OA-EM and one width only")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not (args.repo / "aq_engine.py").is_file():
        parser.error(f"{args.repo} has no aq_engine.py; clone kenno94-IK/aqlm-oaem there")
    args.scheme = Scheme(*args.scheme)
    if max(args.beam, *args.widths) > args.scheme.size:
        parser.error(f"the released search keeps no more than its {args.scheme.size} words")
    if args.layer is None:
        there = files.read_tensors(args.problem)
        args.layer = [name.removesuffix(".weight") for name in there if name.endswith(".weight")]
    return args


def main():
    """Measure, print, write."""
    args = arguments()
    console, progress = Console(width=180), Console(stderr=True)
    clone, document = load(args.repo), {**facts(args), "layers": []}
    warm(clone, args.scheme)
    for name in args.layer:
        problem = problems.from_file(args.problem, name)
        progress.print(name)
        runs, alone = measure(clone, problem, args, progress.print)
        rows, (out, columns) = summarise(runs), problem.weight.shape
        how = f"{args.scheme}, beam {args.beam}, {args.sweeps} sweeps, {args.seeds} seeds"
        console.print(table(f"{name}, {out} x {columns}, {how}", rows))
        console.print(table("beam alone, from the released OA-EM", alone))
        found = {"layer": name, "shape": [out, columns], "summary": rows, "beam_alone": alone}
        document["layers"].append(found | {"runs": [asdict(run) for run in runs]})
        if args.json:  # after every layer: a run takes long
            files.write_json(args.json, document)


if __name__ == "__main__":
    main()
