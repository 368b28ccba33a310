"""A model's folder: whole or not, how large, read without running anyone's code.

A model is a folder of safetensors, config.json and a tokenizer, read in float32. Everything is
checked before it is loaded, because the libraries below answer a damaged file with a traceback, and
weights that are missing with random ones.

Which layers are quantized is read off the tensors, not the configuration: published checkpoints
name layers there in ways that today's transformers takes for others, and one scheme for each layer
has no place in it. Layers stored in codes stay in codes; nothing but torch is needed to run them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from quantcore import linear, machine, shards
from quantcore.errors import SourceError, as_name, first_line
from quantcore.linear import QuantizedLinear
from quantcore.shards import INDEX, Header, Stored

READER = "quantcore"  # what transformers calls our layers
GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# what transformers and its parts raise on files they cannot use
UNUSABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError, ImportError),
    *(ArithmeticError, AssertionError, StrictDataclassError),
)
LONGEST = 200  # letters of a file's name; systems take 255 bytes
MOST = 1024  # layers, or experts in a layer: each is made, if without weights, to be looked at
COUNTS = re.compile(r"(layers?|experts|labels)$")  # names in config.json of what is so counted


def read(
    folder: Path, name: str, mapped: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal language model and tokenizer in a folder; float32, eval mode, no gradients.

    Layers that are stored in codes, as AQLM's checkpoints have them, become `QuantizedLinear`.

    Args:
        folder: Holds config.json, safetensors and a tokenizer.
        name: What messages call the model.
        mapped: Leave the weights in their files' type, to be read from there when they are used;
            they then take no memory of their own.

    Raises:
        SourceError: a file is missing, damaged or of another kind of model.
        ResourceError: the model does not fit into memory.
    """
    with quiet():
        config = _read_config(folder, name)
        _check_config(config, name)
        headers = _headers(folder, name)
        if not mapped:
            machine.require_memory(_loaded_bytes(headers), f"loading model {name}")
        dtype = "auto" if mapped else torch.float32
        model = _read_weights(folder, name, config, _stored(config, headers, name), dtype)
        tokenizer = _read_tokenizer(folder, name)
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context:  # not every tokenizer knows how far its model sees
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    return model.requires_grad_(False), tokenizer  # from_pretrained has set eval mode


def read_skeleton(folder: Path, name: str) -> PreTrainedModel:
    """The model that a folder's config.json describes, without weights (on the meta device).

    Where the folder holds safetensors, layers that are stored in codes become `QuantizedLinear`.

    Raises:
        SourceError: there is no usable config.json, or of another kind of model.
    """
    with quiet():
        config = _read_config(folder, name)
        _check_config(config, name)
        there = any(folder.glob("*.safetensors"))
        stored = _stored(config, _headers(folder, name), name) if there else {}
        vars(config).pop("quantization_config", None)
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except UNUSABLE as error:
            raise _unusable(name, error) from None
    assert isinstance(model, PreTrainedModel)
    _place(model, stored, name)
    return model


def count_parameters(folder: Path, name: str) -> int:
    """Entries in a folder's safetensors, all of which are checked for their full length.

    Raises:
        SourceError: there are none, or one is missing, cut short or not a safetensors file.
    """
    return sum(math.prod(header.shape) for header in _headers(folder, name).values())


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers and the Hub's client."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    gguf = vars(modeling_gguf_pytorch_utils)
    bar = gguf["tqdm"]  # which listens to no setting
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    gguf["tqdm"] = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf["tqdm"] = bar
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _read_config(folder: Path, name: str) -> PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise SourceError(f"model {name} has no config.json; give the folder that holds it")
    try:
        _check_counts(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except UNUSABLE as error:
        if "trust_remote_code" in str(error):
            raise SourceError(
                f"model {name} brings its own code, which is never run here; "
                "choose a model that transformers knows"
            ) from None
        raise _unusable(name, error) from None
    assert isinstance(config, PretrainedConfig)
    return config


def _unusable(name: str, error: Exception) -> SourceError:
    return SourceError(f"config.json of model {name} cannot be used: {first_line(error)}")


def _check_counts(document: Any) -> None:
    """Refuse more parts than any model has, before transformers makes one after the other.

    Raises:
        ValueError: there are so many.
    """
    inner = document.items() if isinstance(document, dict) else ()
    for key, value in inner:
        if isinstance(value, int) and value > MOST and COUNTS.search(key):
            raise ValueError(f"{key} must be at most {MOST}, got {value}")
        _check_counts(value)


def _check_config(config: PretrainedConfig, name: str) -> None:
    told: Any = config.architectures  # of config.json, so of any type
    architectures = list(map(str, told)) if isinstance(told, list) else []
    generates = not architectures or any(kind.endswith(GENERATIVE) for kind in architectures)
    if not generates or type(config) not in AutoModelForCausalLM._model_mapping:
        kind = as_name(", ".join(architectures) or config.model_type)
        raise SourceError(
            f"model {name} is no causal language model ({kind}); choose one that predicts text"
        )
    quantization = getattr(config, "quantization_config", None)
    known = quantization if isinstance(quantization, Mapping) else {}
    method = known.get("quant_method", "an unknown method") if quantization else "aqlm"
    if method != "aqlm":
        raise SourceError(
            f"model {name} is already quantized ({as_name(str(method))}); give its original weights"
        )


def _stored(
    config: PretrainedConfig, headers: Mapping[str, Header], name: str
) -> dict[str, Stored]:
    """The layers that a checkpoint stores in codes."""
    stored = shards.stored_layers(headers, name)
    if getattr(config, "quantization_config", None) and not stored:
        raise SourceError(
            f"config.json of model {name} says that it is quantized and none of its tensors are "
            "codes; fetch the model again"
        )
    return stored


@register_quantization_config(READER)
class _Reader(QuantizationConfigMixin):
    """Tells transformers to load into our layers."""

    dequantize = True  # once it is loaded transformers need not know that it was quantized

    def __init__(self, layers: dict[str, Stored], name: str, **_: object) -> None:
        self.quant_method = READER  # type: ignore[assignment]
        self.layers, self.name = layers, name


@register_quantizer(READER)
class _Placer(HfQuantizer):
    """Called by transformers between making the modules and loading their tensors."""

    quantization_config: _Reader
    is_trainable = True

    def is_serializable(self) -> bool:
        return False

    def _process_model_before_weight_loading(self, model: nn.Module, **_: object) -> None:
        _place(model, self.quantization_config.layers, self.quantization_config.name)


def _place(model: nn.Module, layers: Mapping[str, Stored], name: str) -> None:
    """Put empty quantized layers where the checkpoint has codes."""
    modules = dict(model.named_modules())
    for place, (scheme, out, columns) in layers.items():
        old = modules.get(place)
        if not isinstance(old, nn.Linear):
            raise SourceError(
                f"model {name} has codes for {place}, which is no linear layer of a "
                f"{type(model).__name__}; its config.json belongs to another model"
            )
        if (old.out_features, old.in_features) != (out, columns):
            raise SourceError(
                f"codes of {place} in model {name} are those of a {out}x{columns} layer and it is "
                f"{old.out_features}x{old.in_features}; its config.json belongs to another model"
            )
        with torch.device("meta"):
            linear.replace(
                model, place, QuantizedLinear(columns, out, scheme, old.bias is not None)
            )


def _read_weights(
    folder: Path,
    name: str,
    config: PretrainedConfig,
    stored: dict[str, Stored],
    dtype: torch.dtype | str,
) -> PreTrainedModel:
    if stored:
        config.quantization_config = {"quant_method": READER, "layers": stored, "name": name}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # with the report it is a pair
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except SourceError:
        raise
    except UNUSABLE as error:
        raise SourceError(
            f"the weights of model {name} cannot be used: {first_line(error)}"
        ) from None
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise SourceError(
            f"the weights of model {name} lack {missing[0]} ({len(missing)} are missing); "
            "fetch the model again"
        )
    for place, layer in linear.quantized_layers(model).items():
        if not (layer.codebooks.isfinite().all() and layer.scales.isfinite().all()):
            raise SourceError(
                f"{place} of model {name} has infinite codebooks or scales; fetch the model again"
            )
    assert isinstance(model, PreTrainedModel)
    return model


def _read_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except UNUSABLE as error:
        raise SourceError(
            f"the tokenizer of model {name} cannot be used: {first_line(error)}"
        ) from None
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _weight_files(folder: Path, name: str) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            files = sorted(folder / shard for shard in names)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            raise SourceError(f"{INDEX} of model {name} is damaged; fetch it again") from None
        strange = [
            file for file in files if not (folder / file.name == file and _is_name(file.name))
        ]
        if strange:
            raise SourceError(f"{INDEX} of model {name} names files that are not beside it")
    else:
        files = sorted(folder.glob("*.safetensors"))
    lost = next((file for file in files if not file.is_file()), None)
    if lost is not None:
        raise SourceError(f"model {name} lacks {lost.name}; fetch the model again")
    if not files:
        raise SourceError(
            f"model {name} has no safetensors file; convert its weights (pickles are never loaded)"
        )
    return files


def _is_name(name: str) -> bool:
    return name.isprintable() and len(name) <= LONGEST


def _headers(folder: Path, name: str) -> dict[str, Header]:
    """Every tensor in a folder's safetensors, all of which are checked for their full length."""
    headers: dict[str, Header] = {}
    for path in _weight_files(folder, name):
        try:
            headers |= shards.headers(path)
        except (SafetensorError, OSError) as error:
            raise SourceError(
                f"{path.name} of model {name} is cut short or not a safetensors file ({error}); "
                "fetch it again"
            ) from None
    return headers


def _loaded_bytes(headers: Mapping[str, Header]) -> int:
    """Bytes in memory: codes as they are, all else in float32."""
    return sum(
        math.prod(header.shape) * shards.CODE_BYTES.get(header.dtype, 4)
        for header in headers.values()
    )
