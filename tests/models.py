"""Tiny random language models, a tokenizer and model files for tests."""

import hashlib
import string
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from quantcore import checkpoints

LETTERS = string.ascii_lowercase + " .\n"
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
}


def tiny_llama(**changes):
    """Three blocks of 16 channels, tied embeddings."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **{**SIZES, "tie_word_embeddings": True, "initializer_range": 0.3, **changes}
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def tiny_qwen():
    """The same size, with biases and its own output matrix."""
    torch.manual_seed(1)
    return (
        Qwen2ForCausalLM(Qwen2Config(**SIZES, initializer_range=0.3)).eval().requires_grad_(False)
    )


def tiny_tokenizer():
    """One token a letter."""
    words = {letter: n for n, letter in enumerate("?" + LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")


def save_model(folder: Path, model=None) -> Path:
    """A folder as a user has one: config, safetensors, tokenizer."""
    with checkpoints.quiet():
        (model or tiny_llama()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_in_hub_cache(cache: Path, name: str) -> Path:
    """A model as the Hub's client lays it out after fetching it."""
    revision = hashlib.sha1(name.encode()).hexdigest()
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "blobs").mkdir()
    return save_model(repository / "snapshots" / revision)


def windows(count=3, length=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SIZES["vocab_size"], (count, length), generator=generator)


def write_gguf(path: Path, seed=0) -> Path:
    """A llama of two blocks with a byte-level tokenizer, tied embeddings, float32."""
    rng = np.random.default_rng(seed)
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ", "<end>"]
    words = [*letters, "th", "the"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<end>" else 1 for word in words])
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(letters.index("<end>"))
    writer.add_add_bos_token(False)
    for name, shape in _gguf_shapes(len(words)):
        writer.add_tensor(name, rng.normal(scale=0.3, size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_shapes(words):
    yield "token_embd.weight", (words, 32)
    yield "output_norm.weight", (32,)
    for n in range(2):
        yield f"blk.{n}.attn_norm.weight", (32,)
        yield f"blk.{n}.ffn_norm.weight", (32,)
        yield f"blk.{n}.attn_q.weight", (32, 32)
        yield f"blk.{n}.attn_k.weight", (16, 32)
        yield f"blk.{n}.attn_v.weight", (16, 32)
        yield f"blk.{n}.attn_output.weight", (32, 32)
        yield f"blk.{n}.ffn_gate.weight", (64, 32)
        yield f"blk.{n}.ffn_up.weight", (64, 32)
        yield f"blk.{n}.ffn_down.weight", (32, 64)
