r"""A quantized model's folder: the names, shapes and types of its tensors, file by file.

For a quantized layer X the files hold what AQLM's checkpoints hold (arXiv:2401.06118, output group
1), which is the state of `QuantizedLinear`:

    X.codes      [out, groups, books]      int8, or int16 above 8 bits, wrapped to signed
    X.codebooks  [books, size, 1, group]   float16
    X.scales     [out, 1, 1, 1]            float16
    X.bias       [out]                     where the layer has one

and for everything else the tensor under its own name, in the narrowest type that holds it exactly;
what is tied is stored once. A layer's scheme is that of its tensors' shapes, so layers may differ
in it. There is one file a block, one for the rest, and the index that transformers reads: a block's
file can be written as soon as the block is finished.

`write` stores what a model holds and adds config.json and the tokenizer; `checkpoints.read` gives
the same model back, bit for bit, once `round_` has been here.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from quantcore import files
from quantcore.errors import InputError, SchemeError, SourceError
from quantcore.linear import quantized_layers
from quantcore.weight import Scheme

Tensors = dict[str, Tensor]

INDEX = "model.safetensors.index.json"
REST = "rest.safetensors"
CODE_BYTES = {"I8": 1, "I16": 2}  # by safetensors' names


class Header(NamedTuple):
    """What a safetensors file says of a tensor."""

    shape: tuple[int, ...]
    dtype: str


class Stored(NamedTuple):
    """What the tensors of a quantized layer say of it."""

    scheme: Scheme
    out: int
    columns: int


def headers(path: Path) -> dict[str, Header]:
    """The tensors of a safetensors file, which is checked for its full length.

    Raises:
        SafetensorError: it is damaged.
        OSError: it cannot be read.
    """
    with safe_open(path, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
        return {key: Header(tuple(s.get_shape()), s.get_dtype()) for key, s in slices.items()}


def stored_layers(tensors: Mapping[str, Header], name: str) -> dict[str, Stored]:
    """The layers of which there are codes, by full name.

    Args:
        tensors: All tensors of a model.
        name: What messages call the model.

    Raises:
        SourceError: a layer lacks a tensor, or its tensors do not fit each other, or they have a
            form that is not read here.
    """
    places = [key.removesuffix(".codes") for key in tensors if key.endswith(".codes")]
    return {place: _stored_layer(tensors, place, name) for place in places}


def write(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a whole model: every block, the rest, the index and what describes them.

    Raises:
        InputError: codebooks or scales are beyond float16.
    """
    for file, tensors in parts(model).items():
        write_part(folder, file, as_held(tensors))
    complete(folder, model, tokenizer)


def complete(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write what makes a folder that has all its tensors a checkpoint."""
    write_index(folder)
    words = model.get_input_embeddings().weight
    assert isinstance(words, Tensor)
    write_description(folder, model, tokenizer, narrowed(words).dtype, quantization_config(model))


def parts(model: nn.Module) -> dict[str, Tensors]:
    """The model's tensors by full name, under the file each is stored in; tied ones once."""
    blocks = _blocks(model)
    found: dict[str, Tensors] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            inside = re.match(rf"{re.escape(blocks)}\.(\d+)\.", name) if blocks else None
            file = block_file(int(inside[1])) if inside else REST
            found.setdefault(file, {})[name] = tensor.detach()
    return found


def block_file(number: int) -> str:
    """The file of a block."""
    return f"block-{number:03d}.safetensors"


def as_held(tensors: Tensors) -> Tensors:
    """Tensors in the types they are stored in: codebooks and scales float16, all else narrowed.

    Raises:
        InputError: codebooks or scales are beyond float16.
    """
    return {
        name: in_type(name, tensor, torch.float16) if _halved(name, tensors) else narrowed(tensor)
        for name, tensor in tensors.items()
    }


def narrowed(tensor: Tensor) -> Tensor:
    """A float tensor in bfloat16 or float16 where that changes no value."""
    if tensor.dtype is torch.float32:
        for kind in (torch.bfloat16, torch.float16):
            narrow = tensor.to(kind)
            if torch.equal(narrow.float(), tensor):
                return narrow
    return tensor


def in_type(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in a float type; integers stay.

    Raises:
        InputError: a value is beyond the type's range.
    """
    if not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    if not converted.isfinite().all():
        largest = tensor.abs().max().item()
        raise InputError(
            f"{name} holds values up to {largest:.3g}, beyond the range of "
            f"{str(dtype).removeprefix('torch.')}; choose another type"
        )
    return converted


def round_(model: nn.Module) -> None:
    """Round the codebooks and scales of all quantized layers to float16, in place.

    Raises:
        InputError: they are beyond its range.
    """
    for name, layer in quantized_layers(model).items():
        for part in (layer.codebooks, layer.scales):
            part.data.copy_(in_type(name, part.data, torch.float16))


def write_part(folder: Path, file: str, tensors: Tensors) -> None:
    """Write one file of a checkpoint, whole or not at all."""
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    files.write_whole(folder / file, partial(save_file, stored, metadata={"format": "pt"}))


def write_index(folder: Path) -> None:
    """Write the index of the safetensors files that are in the folder."""
    paths = sorted(folder.glob("*.safetensors"))
    places = {name: path.name for path in paths for name in headers(path)}
    size = sum(path.stat().st_size for path in paths)
    files.write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def write_description(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    quantization: Mapping[str, Any] | None,
) -> None:
    """Write config.json, the generation settings and the tokenizer."""
    kind = str(dtype).removeprefix("torch.")
    document = json.loads(model.config.to_json_string())
    document |= {"dtype": kind, "torch_dtype": kind}  # older readers know the second name only
    document["architectures"] = [type(model).__name__]
    if quantization is not None:
        document["quantization_config"] = dict(quantization)
    files.write_json(folder / "config.json", document)
    if model.generation_config is not None:
        settings = json.loads(model.generation_config.to_json_string())
        files.write_json(folder / "generation_config.json", settings)
    tokenizer.save_pretrained(folder)


def quantization_config(model: nn.Module) -> dict[str, Any] | None:
    """What AQLM's readers find in config.json; None where layers differ in their scheme.

    Readers take every linear layer for a quantized one that is not named. transformers 5 wants the
    names of modules, where a name counts as a regular expression for the beginning and as plain
    text for the end; other readers want the names of weights.
    """
    layers = quantized_layers(model)
    schemes = {layer.scheme for layer in layers.values()}
    if len(schemes) != 1:
        return None
    (scheme,) = schemes
    kept = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    patterns = [name if not caught(name, layers) else f"^{re.escape(name)}$" for name in kept]
    return {
        "quant_method": "aqlm",
        "nbits_per_codebook": scheme.bits,
        "num_codebooks": scheme.codebooks,
        "in_group_size": scheme.group,
        "out_group_size": 1,
        "linear_weights_not_to_quantize": patterns + [f"{name}.weight" for name in kept],
    }


def caught(pattern: str, names: Iterable[str]) -> list[str]:
    """The modules that transformers 5 takes an entry of the skip list for."""
    start = re.compile(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))")
    return [name for name in names if start.match(name) or name.endswith(pattern)]


def _halved(name: str, tensors: Tensors) -> bool:
    """Whether a tensor is a quantized layer's codebooks or scales."""
    place, _, part = name.rpartition(".")
    return part in {"codebooks", "scales"} and f"{place}.codes" in tensors


def _blocks(model: nn.Module) -> str | None:
    """The name of the list that holds the quantized blocks."""
    found = (re.match(r"(.+?)\.\d+\.", name) for name in quantized_layers(model))
    return next((match[1] for match in found if match), None)


def _stored_layer(tensors: Mapping[str, Header], place: str, name: str) -> Stored:
    parts = {part: tensors.get(f"{place}.{part}") for part in ("codes", "codebooks", "scales")}
    codes, books, scales = parts.values()
    if codes is None or books is None or scales is None:
        lost = next(part for part, header in parts.items() if header is None)
        raise SourceError(f"the weights of model {name} lack {place}.{lost}; fetch the model again")
    if len(codes.shape) != 3 or len(books.shape) != 4:
        raise _misfit(place, name, parts)
    if books.shape[2] != 1:
        raise SourceError(
            f"{place} of model {name} has codewords of {books.shape[2]} outputs; "
            "only checkpoints with out_group_size 1 are read here"
        )
    (out, groups, _), (count, size, _, group) = codes.shape, books.shape
    try:
        scheme = Scheme(count, size.bit_length() - 1, group)
    except SchemeError as error:
        raise SourceError(f"{place} of model {name} cannot be read: {error}") from None
    code_type = next(kind for kind, size in CODE_BYTES.items() if scheme.bits <= 8 * size)
    fits = (
        codes == Header((out, groups, count), code_type)
        and books.shape == (count, scheme.size, 1, group)
        and scales.shape == (out, 1, 1, 1)
        and "I" not in books.dtype + scales.dtype
    )
    if not fits:
        raise _misfit(place, name, parts)
    return Stored(scheme, out, groups * group)


def _misfit(place: str, name: str, parts: Mapping[str, Header | None]) -> SourceError:
    found = ", ".join(
        f"{part} {'x'.join(map(str, header.shape))} {header.dtype}"
        for part, header in parts.items()
        if header is not None
    )
    return SourceError(
        f"the tensors of {place} in model {name} do not fit each other ({found}); "
        "fetch the model again"
    )
