"""A model's folder: whole or not, how large, read without running anyone's code.

A model is a folder of safetensors, config.json and a tokenizer, read in float32. Everything is
checked before it is loaded, because the libraries below answer a damaged file with a traceback, and
weights that are missing with random ones.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging

from quantcore import machine
from quantcore.errors import SourceError, first_line

INDEX = "model.safetensors.index.json"
GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
# what transformers and its parts raise on files they cannot use
UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError, ImportError)


def read(folder: Path, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal language model and tokenizer in a folder; float32, eval mode, no gradients.

    Args:
        folder: Holds config.json, safetensors and a tokenizer.
        name: What messages call the model.

    Raises:
        SourceError: a file is missing, damaged or of another kind of model.
        ResourceError: the model does not fit into memory.
    """
    with quiet():
        config = _read_config(folder, name)
        _check_config(config, name)
        machine.require_memory(4 * count_parameters(folder, name), f"loading model {name}")
        model = _read_weights(folder, name)
        tokenizer = _read_tokenizer(folder, name)
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context:  # not every tokenizer knows how far its model sees
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    return model.requires_grad_(False), tokenizer  # from_pretrained has set eval mode


def read_skeleton(folder: Path, name: str) -> PreTrainedModel:
    """The model that a folder's config.json describes, without weights (on the meta device).

    Raises:
        SourceError: there is no usable config.json, or of another kind of model.
    """
    with quiet():
        config = _read_config(folder, name)
        _check_config(config, name)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    assert isinstance(model, PreTrainedModel)
    return model


def count_parameters(folder: Path, name: str) -> int:
    """Entries in a folder's safetensors, all of which are checked for their full length.

    Raises:
        SourceError: there are none, or one is missing, cut short or not a safetensors file.
    """
    return sum(_count_entries(path, name) for path in _weight_files(folder, name))


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
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except UNUSABLE as error:
        if "trust_remote_code" in str(error):
            raise SourceError(
                f"model {name} brings its own code, which is never run here; "
                "choose a model that transformers knows"
            ) from None
        raise SourceError(
            f"config.json of model {name} cannot be used: {first_line(error)}"
        ) from None
    assert isinstance(config, PretrainedConfig)
    return config


def _check_config(config: PretrainedConfig, name: str) -> None:
    architectures = config.architectures or []
    generates = not architectures or any(kind.endswith(GENERATIVE) for kind in architectures)
    if not generates or type(config) not in AutoModelForCausalLM._model_mapping:
        kind = ", ".join(architectures) or config.model_type
        raise SourceError(
            f"model {name} is no causal language model ({kind}); choose one that predicts text"
        )
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        method = dict(quantization).get("quant_method", "an unknown method")
        raise SourceError(
            f"model {name} is already quantized ({method}); give its original weights"
        )


def _read_weights(folder: Path, name: str) -> PreTrainedModel:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(  # with the report it is a pair
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
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
        except (ValueError, LookupError, AttributeError):
            raise SourceError(f"{INDEX} of model {name} is damaged; fetch it again") from None
        files = sorted(folder / shard for shard in names)
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


def _count_entries(path: Path, name: str) -> int:
    try:
        with safe_open(path, "pt") as file:
            keys = file.keys()  # it is no dict: it cannot be iterated
            return sum(math.prod(file.get_slice(key).get_shape()) for key in keys)
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path.name} of model {name} is cut short or not a safetensors file ({error}); "
            "fetch it again"
        ) from None
