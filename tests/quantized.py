"""Tiny models of many kinds with random codes in their blocks."""

import torch
from models import SIZES, tiny_tokenizer
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from quantcore import linear, shards
from quantcore.linear import QuantizedLinear
from quantcore.weight import AdditiveWeight, Scheme

KINDS = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "llama-untied": (LlamaConfig, {"tie_word_embeddings": False}),
    "qwen2": (Qwen2Config, {}),  # with biases
    "qwen3": (Qwen3Config, {"head_dim": 8}),
    "mistral": (MistralConfig, {}),
    "gemma2": (Gemma2Config, {"head_dim": 8}),
    "gemma3": (Gemma3TextConfig, {"head_dim": 8}),
    "phi3": (Phi3Config, {"pad_token_id": 0}),
    "smollm3": (SmolLM3Config, {"pad_token_id": 0}),
    "olmo2": (Olmo2Config, {"pad_token_id": 0}),
}
SCHEME = Scheme(2, 4, 8)


def weight(rng, out, columns, scheme=SCHEME):
    """Random codes, codebooks and scales, rounded as files have them."""
    codes = torch.randint(
        scheme.size, (out, columns // scheme.group, scheme.codebooks), generator=rng
    )
    books = torch.randn(scheme.codebooks, scheme.size, scheme.group, generator=rng)
    scales = 0.05 + 0.2 * torch.rand(out, generator=rng)
    return AdditiveWeight(codes.int(), books.half().float(), scales.half().float())


def model(rng, kind="llama", scheme=SCHEME, **changes):
    """A model of three blocks whose linear layers are all quantized, all tensors random."""
    config, own = KINDS[kind]
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config(**{**SIZES, **own, **changes}))
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng) * 0.3
    made.tie_weights()
    for name, layer in list(made.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            found = weight(rng, layer.out_features, layer.in_features, scheme)
            linear.replace(made, name, QuantizedLinear.from_weight(found, layer.bias))
    return made.eval().requires_grad_(False)


def save(folder, made):
    """Its folder, as a quantizing run leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    shards.write(folder, made, tiny_tokenizer())
    return folder
