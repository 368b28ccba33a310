"""A tiny quantized model and the original it is an approximation of."""

import copy

import models
import quantized
import torch
from torch import nn

from quantcore import linear
from quantcore.pv import descent, student
from quantcore.pv.teacher import Teacher
from quantcore.weight import Scheme

SCHEME = Scheme(2, 4, 4)
NOISE = 0.3  # of a weight's standard deviation


def pair(rng, kind="llama", scheme=SCHEME):
    """Quantized, and the same with dense layers that differ from the quantized ones by noise."""
    approximate = quantized.model(rng, kind, scheme)
    original = copy.deepcopy(approximate)
    for name, layer in linear.quantized_layers(original).items():
        with torch.no_grad():
            weight = layer.to_weight().dense()
            weight += NOISE * weight.std() * torch.randn(weight.shape, generator=rng)
        dense = nn.Linear(layer.columns, layer.out, layer.bias is not None)
        dense.weight, dense.bias = nn.Parameter(weight), layer.bias
        linear.replace(original, name, dense)
    return approximate, original.requires_grad_(False)


def problem(rng, kind="llama", embeddings=False, count=12, length=16):
    """The quantized one learning from the original on random text; and its weights."""
    approximate, original = pair(rng, kind)
    learner, weights = student.take(approximate, embeddings)
    windows = models.windows(count, length)
    apart = count // 3
    return descent.Problem(learner, Teacher(original), windows[apart:], windows[:apart]), weights
