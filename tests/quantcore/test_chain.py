"""Every architecture all the way: quantize, evaluate, export, and what is exported read again."""

import models
import pytest
import quantized
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from quantcore import corpora, evaluate, evaluation, export, linear, model, sources
from quantcore.block_tuning import TuningConfig
from quantcore.evaluation import Evaluation
from quantcore.model import ModelConfig
from quantcore.weight import Scheme

TEXT = "the quick brown fox jumps over the lazy dog. it was not amused by any of this. " * 30


def silent(progress, document):
    pass


def source_of(kind):
    """A small model of an architecture whose values are exact in 16 bits."""
    config, own = quantized.KINDS[kind]
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(
        config(**{**models.SIZES, **own, "initializer_range": 0.3, "num_hidden_layers": 2})
    )
    for value in made.parameters():
        value.data = value.data.half().float()
    return made.eval().requires_grad_(False)


def decoded(found):
    """A quantized model with dense layers of 16 bits in place of its own."""
    for name, layer in linear.quantized_layers(found).items():
        dense = nn.Linear(layer.columns, layer.out, layer.bias is not None)
        dense.weight = nn.Parameter(layer.to_weight().dense().half().float())
        dense.bias = layer.bias
        linear.replace(found, name, dense)
    return found.requires_grad_(False)


def read(folder):
    return sources.load(sources.resolve(str(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", quantized.KINDS)
def test_what_is_evaluated_is_what_others_read(kind, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    text = str(tmp_path / "text.txt")
    source = str(models.save_model(tmp_path / "source", source_of(kind)))
    config = ModelConfig(
        model=source,
        bpp=None,
        scheme=Scheme(2, 4, 4),
        text=text,
        samples=6,
        heldout_samples=2,
        length=16,
        sweeps=1,
        tuning=TuningConfig(epochs=0),  # norms stay exact in 16 bits
        device="cpu",
    )
    folder = tmp_path / "q"
    model.run(config, folder, silent)
    asked = Evaluation((str(folder),), text=text, windows=3, window=16, device="cpu")
    document = evaluation.run(asked, silent)
    assert document["original"]["model"]["name"] == source
    (entry,) = document["candidates"]
    assert 0 < entry["kl"]["mean"] < 1
    assert entry["quantization"]["ledger"]["quantized"] > 0

    made = read(folder)
    evaluated, _ = corpora.load_text(text, "evaluation")
    ids = corpora.windows(made.tokenizer, evaluated, 16, 3)
    for form in export.FORMATS:
        export.export(str(folder), tmp_path / form, form)
    again = read(tmp_path / "aqlm").model
    assert torch.equal(again(input_ids=ids).logits, made.model(input_ids=ids).logits)
    assert evaluate.perplexity(again, ids).value == entry["perplexity"]["value"]
    dense = read(tmp_path / "dense").model
    assert not linear.quantized_layers(dense)
    want = decoded(made.model)(input_ids=ids).logits
    assert torch.equal(dense(input_ids=ids).logits, want)
