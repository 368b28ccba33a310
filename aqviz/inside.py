r"""One quantized layer small enough to ship, so that a page can open any of its groups.

Kept of the layer: its first rows as they were, the same rows from every initialiser (codes,
codebooks and scales, as a checkpoint stores them), the g x g diagonal blocks of the Hessian H, and
the inputs x of one token. A group's own part of the layer's error is, with d = w - q,

    error(o, j) = d[o, j] H_jj d[o, j]^T

what it alone adds to the mean square of output o. Groups also act together, through the blocks of
H off the diagonal: these are too large to ship, so each row's whole error is kept beside them. The
shapes of the model's other layers are kept too, so that a ledger of its bits needs no model.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqviz import recordings
from quantcore import corpora, experiment, files, problems, results, sources
from quantcore.blocks import LayerInfo, calling, find_layer, linear_layers
from quantcore.errors import SourceError
from quantcore.experiment import Experiment
from quantcore.results import Document
from quantcore.sources import LoadedModel
from quantcore.weight import AdditiveWeight

PATH = recordings.FOLDER / "inside.safetensors"
RECORDED = Experiment(layer="model.layers.10.self_attn.q_proj", perplexity_windows=0)
ROWS = 192  # rows that are kept
TOKENS = 48  # of held-out text; the inputs are those of the last one
CONTEXT = 12  # tokens shown with it
STORED = {"codes": torch.uint8, "codebooks": torch.float16, "scales": torch.float16}


@dataclass(frozen=True, eq=False)  # numbers are compared one by one
class Example:
    """Some rows of a layer, before and after.

    Attributes:
        weight: As they were.
        blocks: The diagonal blocks of H on calibration text.
        inputs: What one token gives the layer.
        versions: The rows' codes, codebooks and scales by initialiser.
        totals: Each row's whole error d H d^T by initialiser, what groups do together included.
        facts: Where all of it is from (`_facts`).
    """

    weight: Float[Tensor, "rows columns"]
    blocks: Float[Tensor, "groups group group"]
    inputs: Float[Tensor, " columns"]
    versions: dict[str, AdditiveWeight]
    totals: dict[str, Float[Tensor, " rows"]]
    facts: Document

    @property
    def rows(self) -> int:
        """Rows that are kept."""
        return self.weight.shape[0]

    @property
    def groups(self) -> int:
        """Groups in a row."""
        return self.blocks.shape[0]

    @property
    def layer(self) -> LayerInfo:
        """The whole layer."""
        return LayerInfo(**self.facts["layer"])

    @cached_property
    def model(self) -> nn.Module:
        """The whole model's shapes without its numbers: what a ledger counts."""
        facts, model = self.facts, nn.Module()
        model.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: nn.Linear(columns, out, bias=False, device="meta")
                    for name, (out, columns) in facts["linear"].items()
                }
            )
            for _ in range(facts["blocks"])
        )
        linear = sum(value.numel() for value in model.parameters())
        model.rest = nn.Parameter(torch.empty(facts["parameters"] - linear, device="meta"))
        return model

    def errors(self, init: str) -> Float[Tensor, "rows groups"]:
        """The own part, d H_jj d^T, of every group."""
        delta = (self.weight - self.versions[init].dense()).unflatten(1, (self.groups, -1))
        return torch.einsum("rji,jik,rjk->rj", delta, self.blocks, delta)


@lru_cache(maxsize=1)
def read(path: Path = PATH) -> Example | None:
    """The recorded example, or None where there is none that can be read."""
    try:
        tensors = files.read_tensors(path)
    except SourceError:
        return None
    facts = json.loads(bytes(tensors["facts"].tolist()))
    versions = {
        init: AdditiveWeight(
            tensors[f"{init}.codes"].int(),
            tensors[f"{init}.codebooks"].float(),
            tensors[f"{init}.scales"].float(),
        )
        for init in facts["inits"]
    }
    totals = {init: tensors[f"{init}.totals"].float() for init in versions}
    return Example(
        weight=tensors["weight"].float(),
        blocks=tensors["blocks"].float(),
        inputs=tensors["inputs"].float(),
        versions=versions,
        totals=totals,
        facts=facts,
    )


def write(example: Example, path: Path = PATH) -> None:
    """Keep an example, its facts as the bytes of their JSON."""
    tensors = {"weight": example.weight.half(), "blocks": example.blocks, "inputs": example.inputs}
    for init, version in example.versions.items():
        stored = {name: value.to(STORED[name]) for name, value in vars(version).items()}
        tensors |= {f"{init}.{name}": value for name, value in stored.items()}
        tensors[f"{init}.totals"] = example.totals[init].float()
    tensors["facts"] = torch.tensor(list(json.dumps(example.facts).encode()), dtype=torch.uint8)
    files.write_tensors(path, tensors)
    read.cache_clear()


def record(path: Path = PATH) -> None:
    """Run the experiment and keep its weights as the example.

    Raises:
        QuantcoreError: the experiment cannot be run.
    """
    document = experiment.run(RECORDED, lambda progress, document: None)
    write(take(RECORDED, document), path)


def take(config: Experiment, document: Document) -> Example:
    """The example that a finished experiment on a model makes."""
    loaded = sources.load(sources.resolve(config.model))
    name = document["layer"]
    problem, _ = problems.from_model(loaded, name, config.texts(), lambda done, total: None)
    seed = config.seeds[0]
    weights = {
        init: results.load_weight(results.weight_path(document["key"], init, seed))
        for init in config.inits
    }
    ids = _token(config, loaded)
    return Example(
        weight=problem.weight[:ROWS],
        blocks=problem.blocks(config.scheme.group),
        inputs=_inputs(loaded, name, ids),
        versions={init: weight[:ROWS] for init, weight in weights.items()},
        totals={init: problem.row_errors(weight)[:ROWS] for init, weight in weights.items()},
        facts=_facts(document, loaded, ids),
    )


def _token(config: Experiment, loaded: LoadedModel) -> Int[Tensor, "1 tokens"]:
    text, _ = corpora.load_text(config.text, "evaluation")
    return corpora.windows(loaded.tokenizer, text, TOKENS, 1)


@torch.inference_mode()
def _inputs(
    loaded: LoadedModel, name: str, ids: Int[Tensor, "1 tokens"]
) -> Float[Tensor, " columns"]:
    """What the last token gives the layer."""
    layer, seen = find_layer(loaded.model, name), []

    def watch(x: Tensor) -> Tensor:
        seen.append(x)
        return nn.functional.linear(x, layer.weight, layer.bias)

    with calling(layer, watch):
        loaded.model(input_ids=ids, use_cache=False)
    return seen[-1].flatten(0, -2)[-1].clone()


def _facts(document: Document, loaded: LoadedModel, ids: Int[Tensor, "1 tokens"]) -> Document:
    """The layer and the model, the run's settings and errors, the token, when and where."""
    layers = linear_layers(loaded.model)
    infos = list(layers.values())
    shapes = {info.projection.rpartition(".")[2]: (info.out, info.columns) for info in infos}
    blocks = 1 + max(info.block for info in infos)
    every = Counter((info.out, info.columns) for info in infos)
    assert every == Counter(list(shapes.values()) * blocks), "blocks must be alike"
    seed = document["config"]["seeds"][0]
    runs = {run["init"]: run for run in document["runs"] if run["seed"] == seed}
    kept = ("config", "model", "text", "versions", "machine", "date")
    return {
        "layer": asdict(layers[document["layer"]]),
        "inits": list(runs),
        "errors": {init: run["relative_error"] for init, run in runs.items()},
        "parameters": sum(value.numel() for value in loaded.model.parameters()),
        "blocks": blocks,
        "linear": {name: list(shape) for name, shape in shapes.items()},
        "token": loaded.tokenizer.decode(ids[0, -1:]),
        "context": loaded.tokenizer.decode(ids[0, -CONTEXT:-1]),
        **{name: document[name] for name in kept},
    }
