"""A quantized model as others read it: AQLM's checkpoint, or dense weights.

    aqlm   codes, with codebooks, scales and all else in float16; transformers reads it with the
           package aqlm, which knows one scheme for a whole model
    dense  every weight decoded, in float16 or bfloat16; what reads the original model reads it

A folder is written beside its place and moved there when it is whole. With it comes a model card
that says what was done and measured, as far as the manifest knows.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import nn

from quantcore import shards, sources, store
from quantcore.errors import InputError, SchemeError, quoted
from quantcore.linear import quantized_layers
from quantcore.shards import Tensors
from quantcore.sources import LoadedModel

FORMATS = ("aqlm", "dense")
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
TOLD = ("ledger", "evaluation", "tuning")  # the parts of a manifest that a card repeats
SETTINGS = ("config", "text")  # of a part of the manifest: no figures


def export(spec: str, target: Path, form: str = "aqlm", dtype: str = "float16") -> None:
    """Write a quantized model for other programs.

    Args:
        spec: The model, as `sources.resolve` takes it.
        target: A folder that is not there yet, or an empty one.
        form: aqlm or dense.
        dtype: float16, or bfloat16 for dense weights.

    Raises:
        InputError: the model is not quantized or not finished, the format cannot hold it, a value
            is beyond its type's range, or there is something at the target.
        ResourceError: the model does not fit into memory.
    """
    _check(target, form, dtype)
    source = sources.resolve(spec)
    manifest = store.read_manifest(sources.folder(source)) or {}
    if not manifest.get("complete", True):
        raise InputError(f"{spec} is not finished; run `quantcore quantize` on it to its end first")
    loaded = sources.load(source)
    quantization = _quantization(loaded) if form == "aqlm" else None
    layers, kind = quantized_layers(loaded.model), TYPES[dtype]
    if not layers:
        raise InputError(f"model {spec} has no quantized layers; give one that has")
    with _whole(target) as place:
        for file, tensors in shards.parts(loaded.model).items():
            kept = tensors if form == "aqlm" else _decoded(loaded.model, tensors)
            halves = {name: shards.in_type(name, value, kind) for name, value in kept.items()}
            shards.write_part(place, file, halves)
        shards.write_index(place)
        shards.write_description(place, loaded.model, loaded.tokenizer, kind, quantization)
        card = _card(loaded, manifest, form, kind, place)
        (place / "README.md").write_text(card, encoding="utf-8")


def _check(target: Path, form: str, dtype: str) -> None:
    if form not in FORMATS:
        raise InputError(f"there is no format {quoted(form)}; choose one of {', '.join(FORMATS)}")
    if dtype not in TYPES:
        raise InputError(f"there is no type {quoted(dtype)}; choose one of {', '.join(TYPES)}")
    if form == "aqlm" and dtype != "float16":
        raise InputError("AQLM's checkpoints are float16; --dtype goes with --format dense")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} is there and not empty; name a new folder")


def _quantization(loaded: LoadedModel) -> dict[str, Any] | None:
    found = shards.quantization_config(loaded.model)
    schemes = {str(layer.scheme) for layer in quantized_layers(loaded.model).values()}
    if len(schemes) > 1:
        raise SchemeError(
            f"layers of {loaded.source.name} differ in their scheme ({', '.join(sorted(schemes))}) "
            "and AQLM's config.json has room for one; use --format dense"
        )
    return found


def _decoded(model: nn.Module, tensors: Tensors) -> Tensors:
    """Tensors with the dense weight of each layer in the place of its codes."""
    layers, dense = quantized_layers(model), {}
    for name, tensor in tensors.items():
        place, _, part = name.rpartition(".")
        if place not in layers or part == "bias":
            dense[name] = tensor
        elif part == "codes":
            dense[f"{place}.weight"] = layers[place].to_weight().dense()
    return dense


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` at the end, or is gone if there is no end."""
    place = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    place.mkdir(parents=True)
    try:
        yield place
        if target.is_dir():
            target.rmdir()  # which only an empty folder allows
        place.rename(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _card(
    loaded: LoadedModel, manifest: Mapping[str, Any], form: str, kind: torch.dtype, folder: Path
) -> str:
    """The README that goes with the files."""
    made_from = manifest.get("model") or {}
    origin = made_from.get("name", loaded.source.name)
    head = ["---", "library_name: transformers", "tags:", "- quantcore", f"- {form}"]
    if made_from.get("kind") == "hub":
        head.insert(1, f"base_model: {origin}")
    parts = [
        "\n".join([*head, "---"]),
        f"# {Path(origin).name}, quantized",
        _scheme_words(loaded, form, kind, folder),
        _history(manifest),
        _measured(manifest),
        "## Loading it",
        (AQLM_WORDS if form == "aqlm" else DENSE_WORDS).strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scheme_words(loaded: LoadedModel, form: str, kind: torch.dtype, folder: Path) -> str:
    layers = quantized_layers(loaded.model)
    schemes = ", ".join(sorted({str(layer.scheme) for layer in layers.values()}))
    weights = sum(layer.out * layer.columns for layer in layers.values())
    bits = sum(
        layer.scheme.bits_per_weight(layer.out, layer.columns) * layer.out * layer.columns
        for layer in layers.values()
    )
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    said = (
        f"{len(layers)} linear layers with {weights:,} weights are quantized additively (AQLM, "
        f"arXiv:2401.06118) in scheme {schemes} (codebooks x bits, group): {bits / weights:.3f} "
        "bits per weight, counting codes, float16 codebooks and float16 row scales. "
    )
    name = str(kind).removeprefix("torch.")
    if form == "dense":
        return said + f"Here they are decoded to {name}: {size:,} bytes of weights in all."
    return said + f"All else is {name}; {size:,} bytes of weights in all."


def _history(manifest: Mapping[str, Any]) -> str:
    """From which model, on which text and with which seed."""
    model, text, config = [manifest.get(name) or {} for name in ("model", "text", "config")]
    said = []
    if "name" in model:
        said.append(f"The original model was {model['name']}.")
    if "spec" in text:
        said.append(f"It was calibrated on {text['spec']} (sha256 {text.get('sha256')}).")
    if {"windows", "length"} <= text.keys():
        said.append(f"Calibration took {text['windows']} windows of {text['length']} tokens.")
    if "seed" in config:
        said.append(f"The seed was {config['seed']}.")
    return "\n".join(said)


def _measured(manifest: Mapping[str, Any]) -> str:
    """A table of the figures in a manifest."""
    rows = [row for name in TOLD for row in _figures(name, manifest.get(name))]
    layers = (manifest.get("layers") or {}).values()
    for name in ("relative_error", "heldout_relative_error"):
        found = [entry[name] for entry in layers if entry.get(name) is not None]
        if found:
            mean = sum(found) / len(found)
            rows.append(f"| {name}, mean of {len(found)} layers before tuning | {mean:.6g} |")
    if not rows:
        return ""
    return "\n".join(["## What was measured", "", "| what | value |", "|---|---|", *rows])


def _figures(name: str, found: object) -> Iterator[str]:
    if isinstance(found, Mapping):
        for key, value in found.items():
            if key not in SETTINGS:
                yield from _figures(f"{name} {key}", value)
    elif isinstance(found, int | float | str):
        yield f"| {name} | {found:.6g} |" if isinstance(found, float) else f"| {name} | {found} |"


AQLM_WORDS = """
With transformers 5 and the package aqlm (`pip install transformers accelerate aqlm[cpu]==1.1.7`):

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```

On a CPU set `NUMBA_NUM_THREADS=1` before Python starts and take float32: with codebooks of 256
words, aqlm 1.1.7's compiled CPU product adds to the same sums from several threads and takes no
16-bit floats. On a CUDA device take `dtype=torch.float16`. vLLM dropped this format after version
0.10. `quantcore generate FOLDER "prompt"` needs neither aqlm nor a setting.
"""

DENSE_WORDS = """
These are ordinary weights: load them as you load the original model.
"""
