r"""One quantized layer small enough to ship and keep, so that a page can open any of its groups.

Kept of the layer: its first rows as they were, the same rows from every initialiser (codes,
codebooks and scales, as a checkpoint stores them), the g x g diagonal blocks of the Hessian H, and
the inputs x of one token. A group's own part of the layer's error is, with d = w - q,

    error(o, j) = d[o, j] H_jj d[o, j]^T

what it alone adds to the mean square of output o. Groups also act together, through the blocks of
H off the diagonal: these are too large to keep, so each row's whole error is kept beside them. The
shapes of the model's other layers are kept too, so that a ledger of its bits needs no model.

One such layer is recorded; every finished comparison leaves another in the cache, by its key.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from aqviz import recordings
from quantcore import corpora, experiment, files, machine, problems, results, sources, study
from quantcore.blocks import LayerInfo, calling, find_layer, linear_layers
from quantcore.errors import InputError, QuantcoreError, SourceError, quoted
from quantcore.experiment import Experiment
from quantcore.ledger import BYTE
from quantcore.objective import LayerProblem
from quantcore.results import Document
from quantcore.sources import LoadedModel
from quantcore.weight import AdditiveWeight

PATH = recordings.FOLDER / "inside.safetensors"
RECORDED = Experiment(layer="model.layers.10.self_attn.q_proj", perplexity_windows=0)
ROWS = 192  # rows that are kept
TOKENS = 48  # of held-out text; the inputs are those of the last one
CONTEXT = 12  # tokens shown with it
KEY = re.compile(r"[0-9a-f]{8,64}")  # of an experiment
NOTHING = "nothing of a finished comparison {} is kept here; run it again in the race, then open it"
KEPT = ("config", "model", "text", "versions", "machine", "date")  # of the document
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)  # numbers are compared one by one
class Example:
    """Some rows of a layer, before and after.

    Attributes:
        weight: As they were.
        blocks: The diagonal blocks of H on calibration text.
        inputs: What one token gives the layer; of a file, where none are known, drawn ones.
        versions: The rows' codes, codebooks and scales by initialiser.
        totals: Each row's whole error d H d^T by initialiser, what groups do together included.
        facts: Where all of it is from (`take`).
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
    def drawings(self) -> dict[Any, Any]:
        """What was drawn of it, which is kept no longer than itself."""
        return {}

    @cached_property
    def model(self) -> nn.Module:
        """The whole model's shapes without its numbers: what a ledger counts."""
        facts, model = self.facts, nn.Module()
        model.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    name.replace(".", "_"): nn.Linear(columns, out, bias=False, device="meta")
                    for name, (out, columns) in block.items()
                }
            )
            for block in facts["blocks"]
        )
        linear = sum(value.numel() for value in model.parameters())
        model.rest = nn.Parameter(torch.empty(facts["parameters"] - linear, device="meta"))
        return model

    def errors(self, init: str) -> Float[Tensor, "rows groups"]:
        """The own part, d H_jj d^T, of every group."""
        delta = (self.weight - self.versions[init].dense()).unflatten(1, (self.groups, -1))
        return torch.einsum("rji,jik,rjk->rj", delta, self.blocks, delta)


def read(path: Path = PATH) -> Example | None:
    """An example, or None where there is none that can be read; the recorded one by default."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, SourceError):
        return None


def place(key: str) -> Path:
    """Where the example of a finished comparison is kept; of the empty key, the recorded one.

    Raises:
        InputError: this is no comparison's key.
    """
    if not key:
        return PATH
    if not KEY.fullmatch(key):
        raise InputError(f"a comparison's key is made of the digits 0-9 and a-f, got {quoted(key)}")
    return machine.cache_dir() / "inside" / f"{key}.safetensors"


def find(key: str) -> Example:
    """The example that is kept at a key's place.

    Raises:
        SourceError: nothing is kept of it.
    """
    example = read(place(key))
    if example is None:
        raise SourceError(NOTHING.format(key or "that is recorded"))
    return example


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Example:
    tensors = files.read_tensors(path)
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
    """Keep an example in a checkpoint's types, its facts as the bytes of their JSON."""
    tensors = {"weight": example.weight.half(), "blocks": example.blocks, "inputs": example.inputs}
    for init, version in example.versions.items():
        codes = torch.uint8 if version.scheme.bits <= BYTE else torch.int32
        tensors[f"{init}.codes"] = version.codes.to(codes)
        tensors[f"{init}.codebooks"] = version.codebooks.half()
        tensors[f"{init}.scales"] = version.scales.half()
        tensors[f"{init}.totals"] = example.totals[init].float()
    tensors["facts"] = torch.tensor(list(json.dumps(example.facts).encode()), dtype=torch.uint8)
    files.write_tensors(path, tensors)


def record(path: Path = PATH) -> None:
    """Run the experiment and keep its weights as the example.

    Raises:
        QuantcoreError: the experiment cannot be run.
    """
    document = experiment.run(RECORDED, lambda progress, document: None)
    write(take(RECORDED, document), path)


def keep(config: Experiment, document: Document, locate: Callable[[str], Path] = Path) -> None:
    """Keep the example of a finished comparison, which is finished whether that can be done or not.

    Args:
        config: The comparison.
        document: What came of it.
        locate: As for `experiment.run`.
    """
    try:
        write(take(config, document, locate), place(document["key"]))
    except (QuantcoreError, OSError) as error:
        log.warning("nothing can be opened of the comparison %s: %s", document["key"], error)


def take(config: Experiment, document: Document, locate: Callable[[str], Path] = Path) -> Example:
    """The example that a finished comparison makes, of its first seed.

    Args:
        config: The comparison.
        document: What came of it.
        locate: As for `experiment.run`.

    Raises:
        QuantcoreError: a weight, the model or the file is no longer there.
    """
    if config.problem is None:
        problem, inputs, facts = _of_model(config, document)
    else:
        problem, inputs, facts = _of_file(config, locate(config.problem))
    seed = config.seeds[0]
    weights = {
        init: results.load_weight(results.weight_path(document["key"], init, seed))
        for init in config.inits
    }
    return Example(
        weight=problem.weight[:ROWS],
        blocks=problem.blocks(config.scheme.group),
        inputs=inputs,
        versions={init: weight[:ROWS] for init, weight in weights.items()},
        totals={init: problem.row_errors(weight)[:ROWS] for init, weight in weights.items()},
        facts=facts | _found(document, seed),
    )


Opened = tuple[LayerProblem, Float[Tensor, " columns"], Document]


def _of_model(config: Experiment, document: Document) -> Opened:
    """A model's layer, what a token gives it, and what is told of both."""
    source = sources.resolve(config.model)
    loaded = study.loaded(source, machine.resolve_device(config.device))
    name = document["layer"]
    problem, _ = problems.from_model(loaded, name, config.texts(), lambda done, total: None)
    text, _ = corpora.load_text(config.text, "evaluation")
    ids = corpora.windows(loaded.tokenizer, text, TOKENS, 1)
    layers = linear_layers(loaded.model)
    blocks: list[Document] = [{} for _ in range(1 + max(one.block for one in layers.values()))]
    for info in layers.values():
        blocks[info.block][info.projection] = [info.out, info.columns]
    facts = {
        "layer": asdict(layers[name]),
        "parameters": sum(value.numel() for value in loaded.model.parameters()),
        "blocks": blocks,
        "token": loaded.tokenizer.decode(ids[0, -1:]),
        "context": loaded.tokenizer.decode(ids[0, -CONTEXT:-1]),
    }
    return problem.to(torch.device("cpu")), _inputs(loaded, name, ids), facts


def _of_file(config: Experiment, path: Path) -> Opened:
    """A file's layer, inputs drawn with the mean squares its Hessian has, and what is told."""
    problem = problems.from_file(path, config.layer)
    out, columns = problem.weight.shape
    drawn = torch.randn(columns, generator=torch.Generator().manual_seed(0))
    facts = {
        "layer": asdict(LayerInfo(config.layer, 0, config.layer, out, columns)),
        "parameters": out * columns,
        "blocks": [{config.layer: [out, columns]}],
        "token": None,
        "context": None,
    }
    return problem, drawn * problem.hessian.diagonal().sqrt(), facts


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
        loaded.model(input_ids=ids.to(loaded.model.device), use_cache=False)
    return seen[-1].flatten(0, -2)[-1].cpu().clone()


def _found(document: Document, seed: int) -> Document:
    """The comparison's settings and errors, when and where it was made."""
    runs = {run["init"]: run for run in document["runs"] if run["seed"] == seed}
    return {
        "inits": list(runs),
        "errors": {init: run["relative_error"] for init, run in runs.items()},
        **{name: document[name] for name in KEPT},
    }
