r"""Which recipe is best for a model quantized in sequence: judged by its layers and by the model.

    python bench/recipes.py [--text FILE] [--other FILE] [--blocks 12 14] [--recipes NAME ...]
                            [--seeds 2] [--json FILE]

Blocks of the default model are quantized one layer after another, 2x8 g8, everything measured again
on what the quantized part makes of the calibration text. A recipe is a `LayerConfig` and what the
layer is asked for. Let x be the layer's inputs in the original model and z now, r and s what its
output is added to (the residual stream; o_proj and down_proj have one), t a share:

    aware          H = E[z z^T]; unaware: H = E[x x^T]
    target t       Q z shall be near W x: W + t E[W (x - z) z^T] H^-1 is quantized (GPTAQ,
                   arXiv:2504.02692); with `residual`, s + Q z near r + W x
    importance     H = E[a z z^T], a the token's mean squared gradient of the loss by the layer's
                   outputs in the original model (GuidedQuant, arXiv:2505.07004, one group)
    compensated    EM's metric in the initialiser is what feedback will use: D instead of H_jj
    starts n       the best by H of n initialisations goes on

For every recipe: the layers' error on held-out inputs of the original model (geometric mean of the
ratios to the first recipe's); with all blocks in place the model's KL from the original, and by how
much its loss exceeds the original's, in nats a token, on two texts. Differences to the first recipe
are of means over seeds, with a standard error over windows.
"""

import argparse
import copy
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

from quantcore import compare, corpora, feedback, files, init, layer, machine, sources
from quantcore.evaluate import mean_and_error
from quantcore.init import EXACT, KMEANS, InitConfig
from quantcore.layer import LayerConfig, LayerState, Phase
from quantcore.objective import LayerProblem, Regularisation

STAGES = (  # layers that see the same inputs, in the order in which they run
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
STREAM = {  # what sees the residual stream that a layer's output is added to
    "self_attn.o_proj": "input_layernorm",
    "mlp.down_proj": "post_attention_layernorm",
}
WATCHED = (*(stage[0] for stage in STAGES), *STREAM.values())
RIDGE = 0.01  # of the mean diagonal, where targets are solved for
BATCH = 4  # windows in one pass


@dataclass(frozen=True)
class Recipe:
    """How a layer's problem is made from what it sees, and how it is quantized."""

    config: LayerConfig
    aware: bool = True
    target: float = 0.0
    residual: bool = False
    importance: bool = False
    compensated: bool = False
    starts: int = 1


def recipes(sweeps, rounds):
    """All of them by name; differences are to the first."""
    starting = InitConfig(
        kmeans=replace(KMEANS, rounds=rounds), exact=replace(EXACT, rounds=rounds)
    )
    plain = Recipe(LayerConfig(init=starting, sweeps=sweeps))

    def shrunk(recipe, share):
        return replace(
            recipe, config=replace(recipe.config, regularisation=Regularisation(shrinkage=share))
        )

    half = replace(plain, target=0.5)
    return {
        "default": plain,
        "unaware": replace(plain, aware=False),
        "target 0.5": half,
        "target 1": replace(plain, target=1.0),
        "residual 0.5": replace(half, residual=True),
        "residual 1": replace(plain, target=1.0, residual=True),
        "importance": replace(plain, importance=True),
        "shrinkage 0.1": shrunk(plain, 0.1),
        "shrinkage 0.2": shrunk(plain, 0.2),
        "residual 0.5, shrinkage 0.1": shrunk(replace(half, residual=True), 0.1),
        "residual 0.5, shrinkage 0.2": shrunk(replace(half, residual=True), 0.2),
        "compensated": replace(plain, compensated=True),
        "4 starts": replace(plain, starts=4),
    }


class Compensated(LayerProblem):
    """The problem whose blocks are what the later groups leave of an error: D."""

    def blocks(self, group):
        """D, groups in the layer's order."""
        factor = feedback.factor(self, group)
        return factor.blocks[factor.order.argsort()]


def quantize(problem, recipe, seed):
    """`layer.quantize` with the recipe's own start."""
    rng = torch.Generator().manual_seed(seed)
    run = layer.Run.of(problem, recipe.config, rng, lambda info: None)
    seen = Compensated(problem.weight, run.seen.hessian) if recipe.compensated else run.seen
    config, best = recipe.config, None
    for _ in range(recipe.starts):
        weight = init.run(seen, config.scheme, config.init, rng)
        error = run.seen.error(weight.dense())
        if best is None or error < best.error:
            phase = Phase("init", 0, problem.errors(weight.dense()), 0.0)
            best = LayerState(weight, error, (phase,))
    for _ in range(config.sweeps):
        before, best = best.error, layer.step(run, best)
        if before - best.error <= config.rtol * before:
            break
    return layer.refit(run, best, best.trace[-1].sweep + 1).weight.dense()


def moment(left, right, importance=None):
    """E[a left right^T] over tokens, in float64."""
    left, right = left.flatten(0, -2).double(), right.flatten(0, -2).double()
    if importance is not None:
        left = left * (importance / importance.mean())[:, None]
    return left.T @ right / len(left)


def make_problem(weight, recipe, before, now, stream, importance):
    """What is quantized in place of `weight`, whose inputs were `before` and are `now`.

    `stream` says by how much what the output is added to has moved, where it is added to something.
    """
    given = now if recipe.aware else before
    weights = importance if recipe.importance else None
    hessian = moment(given, given, weights)
    if recipe.target:
        wanted = weight.double() @ moment(before - now, now, weights)
        if recipe.residual and stream is not None:
            wanted += moment(stream, now, weights)
        ridge = RIDGE * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)
        weight = weight + recipe.target * torch.linalg.solve(hessian + ridge, wanted.T).T
    return LayerProblem(weight.float(), hessian.float())


@torch.inference_mode()
def watch(block, hidden, settings):
    """The block's outputs, and the inputs of what is watched in it."""
    inputs = {name: [] for name in WATCHED}
    hooks = [
        block.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, name=name: inputs[name].append(arguments[0])
        )
        for name in WATCHED
    ]
    outputs = torch.cat([block(some, **settings) for some in hidden.split(BATCH)])
    for hook in hooks:
        hook.remove()
    return outputs, {name: torch.cat(parts) for name, parts in inputs.items()}


class Stretch:
    """The blocks to be quantized, and all that is known of them while they are the original's."""

    def __init__(self, model, first, last, calibration, heldout):
        self.blocks = {n: model.get_submodule(f"model.layers.{n}") for n in range(first, last + 1)}
        self.hidden, self.settings = _arriving(model, self.blocks[first], calibration)
        hidden, other = self.hidden, _arriving(model, self.blocks[first], heldout)[0]
        self.inputs, self.heldout = {}, {}
        for n, block in self.blocks.items():
            hidden, self.inputs[n] = watch(block, hidden, self.settings)
            other, seen = watch(block, other, self.settings)
            for stage in STAGES:
                hessian = moment(seen[stage[0]], seen[stage[0]]).float()
                for name in stage:
                    weight = block.get_submodule(name).weight.detach().clone()
                    self.heldout[n, name] = LayerProblem(weight, hessian)
        self.importance = _importance(model, self.blocks, calibration)

    @contextmanager
    def kept(self):
        """Whatever happens to the blocks inside, they leave as the original's."""
        saved = {n: copy.deepcopy(block.state_dict()) for n, block in self.blocks.items()}
        try:
            yield
        finally:
            for n, block in self.blocks.items():
                block.load_state_dict(saved[n])

    def quantize(self, recipe, seed):
        """Quantize all layers in place; their held-out errors."""
        hidden, errors = self.hidden, {}
        for n, block in self.blocks.items():
            for stage in STAGES:
                now = watch(block, hidden, self.settings)[1]
                before, shared = self.inputs[n], stage[0]
                stream = STREAM.get(shared)
                moved = None if stream is None else before[stream] - now[stream]
                for name in stage:
                    heldout, importance = self.heldout[n, name], self.importance[n, name]
                    problem = make_problem(
                        heldout.weight, recipe, before[shared], now[shared], moved, importance
                    )
                    dense = quantize(problem, recipe, seed)
                    block.get_submodule(name).weight.data.copy_(dense)
                    errors[f"{n}.{name}"] = heldout.errors(dense).relative
            hidden = watch(block, hidden, self.settings)[0]
        return errors


@torch.inference_mode()
def _arriving(model, block, windows):
    """What arrives at a block: hidden states, and the arguments that go with them."""
    hidden, settings = [], {}

    def catch(_, arguments, named):
        hidden.append(arguments[0])
        settings.update(named)

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    for ids in windows:
        model(ids[None], use_cache=False)
    hook.remove()
    return torch.cat(hidden), settings


def _importance(model, blocks, windows):
    """Each token's mean squared gradient of the loss by a layer's outputs."""
    found = {(n, name): [] for n in blocks for stage in STAGES for name in stage}

    def remember(key):
        def hook(_, arguments, output):
            output.requires_grad_().register_hook(
                lambda gradient: found[key].append(gradient[0].square().mean(1))
            )

        return hook

    hooks = [
        blocks[n].get_submodule(name).register_forward_hook(remember((n, name)))
        for n, name in found
    ]
    for ids in windows:
        logits = model(ids[None], use_cache=False).logits[0, :-1]
        cross_entropy(logits, ids[1:], reduction="sum").backward()
    for hook in hooks:
        hook.remove()
    return {key: torch.cat(parts) for key, parts in found.items()}


def measure(model, stretch, texts, chosen, seeds, tell):
    """One row for each recipe and seed."""
    originals = {name: compare.Original(model, windows) for name, windows in texts.items()}
    for original in originals.values():
        for _ in original:  # kept while the model is the original
            pass
    rows = []
    for seed in range(seeds):
        for name, recipe in chosen.items():
            begun = time.perf_counter()
            with stretch.kept():
                errors = stretch.quantize(recipe, seed)
                row = {"recipe": name, "seed": seed, "errors": errors}
                row["seconds"] = time.perf_counter() - begun
                for text, windows in texts.items():
                    judged = compare.run(originals[text], model, windows)
                    row[f"{text} kl"] = judged.kl.mean(1).tolist()
                    row[f"{text} excess"] = judged.excess.mean(1).tolist()
            rows.append(row)
            figures = (f"{key} {sum(row[key]) / len(row[key]):.5f}" for key in row if " " in key)
            tell(f"{name}, seed {seed}: {', '.join(figures)} ({row['seconds']:.0f} s)")
    return rows


def summarise(rows, names):
    """A line for each recipe: error ratio, then each figure's mean, difference and its error."""

    def of(name, key):
        return [row[key] for row in rows if row["recipe"] == name]

    lines = []
    for name in names:
        pairs = zip(of(name, "errors"), of(names[0], "errors"), strict=True)
        logs = [math.log(mine[key] / first[key]) for mine, first in pairs for key in mine]
        line = {"recipe": name, "errors": math.exp(sum(logs) / len(logs))}
        for key in [key for key in rows[0] if " " in key]:
            mine, first = (torch.tensor(of(one, key)).double().mean(0) for one in (name, names[0]))
            line[key] = (mine.mean().item(), *mean_and_error(mine - first))
        lines.append(line)
    return lines


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default="default", help="calibration, and KL on its other part")
    parser.add_argument("--other", default="default", help="KL on this text, too")
    parser.add_argument("--blocks", type=int, nargs=2, default=[12, 14], help="first and last")
    parser.add_argument("--recipes", nargs="+", help="the first is what others are compared with")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sweeps", type=int, default=LayerConfig.sweeps)
    parser.add_argument("--rounds", type=int, default=EXACT.rounds, help="of k-means and of EM")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument(
        "--windows",
        type=int,
        nargs=2,
        default=[16, 4],
        help="for calibration; of each text, 2 or more",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console, every = Console(width=140), recipes(args.sweeps, args.rounds)
    chosen = {name: every[name] for name in args.recipes or every}
    loaded = sources.load(sources.resolve(None))

    def windows(spec, split, first, count):
        text, _ = corpora.load_text(spec, split)
        found = corpora.windows(loaded.tokenizer, text, args.window, first + count)
        return found[first:]

    many, few = args.windows
    texts = {
        "text": windows(args.text, "evaluation", 0, few),
        "other": windows(args.other, "evaluation", 0, few),
    }
    calibration = windows(args.text, "calibration", 0, many)
    heldout = windows(args.text, "evaluation", few, many)
    stretch = Stretch(loaded.model, *args.blocks, calibration, heldout)
    rows = measure(loaded.model, stretch, texts, chosen, args.seeds, console.print)
    lines = summarise(rows, list(chosen))
    keys = [key for key in lines[0] if " " in key]
    table = Table("recipe", "layer error", *keys)
    for line in lines:
        cells = (f"{m:.4f} {d:+.4f} ({e:.4f})" for m, d, e in map(line.get, keys))
        table.add_row(line["recipe"], f"{line['errors']:.3f}", *cells)
    console.print(table)
    if args.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        settings = {"settings": {**vars(args), "json": str(args.json)}}
        files.write_json(args.json, {**facts, **settings, "summary": lines, "rows": rows})


if __name__ == "__main__":
    main()
