r"""A quantized model that learns: each layer computes from a dense weight that follows its codes.

    Q = decode(codes, half(C), half(s)),    dL/dQ = G by autograd

What learns is kept in float32 and used as it is stored, rounded to float16. So a loss measured on
the student is that of the folder written from it. The gradient passes the rounding unchanged and
goes on to

    dL/dC_m[k] = sum of s_o G[o, j] where codes[o, j, m] = k        dL/ds_o = G[o] . Q[o] / s_o.

What else is trained are the vectors, norms and biases, and, where that is asked for, the embedding
and the output matrix; tied ones are one parameter.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from quantcore import blocks, kernels, linear, machine
from quantcore.errors import InputError
from quantcore.linear import QuantizedLinear
from quantcore.pv.teacher import head_of
from quantcore.weight import AdditiveWeight

FREE_SHARE = 2  # blocks are computed twice where their activations take more than 1 / 2 of memory


@dataclass(frozen=True)
class Student:
    """The model and its learning parts.

    Attributes:
        model: Its quantized layers are dense ones now.
        layers: Those layers by full name.
        others: The other parameters that learn, by name.
    """

    model: PreTrainedModel
    layers: dict[str, nn.Linear]
    others: dict[str, nn.Parameter]


def take(
    model: PreTrainedModel, embeddings: bool = False
) -> tuple[Student, dict[str, AdditiveWeight]]:
    """Turn a quantized model, in place, into a student; also the weights its layers had.

    Args:
        model: Has quantized layers.
        embeddings: Whether the embedding and the output matrix learn too.

    Raises:
        InputError: the model has no quantized layer.
    """
    quantized = linear.quantized_layers(model)
    if not quantized:
        raise InputError("the model has no quantized layer to tune; quantize it first")
    weights = {name: _own(layer) for name, layer in quantized.items()}
    layers = {name: _dense(layer) for name, layer in quantized.items()}
    for name, layer in layers.items():
        linear.replace(model, name, layer)
    matrices = {id(part.weight) for part in _ends(model)} if embeddings else set()
    dense = {id(layer.weight) for layer in layers.values()}
    others = {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) not in dense and (parameter.ndim == 1 or id(parameter) in matrices)
    }
    for parameter in (*(layer.weight for layer in layers.values()), *others.values()):
        parameter.requires_grad_(True)
    return Student(model, layers, others), weights


def give_back(
    student: Student, weights: Mapping[str, AdditiveWeight], others: Mapping[str, Tensor]
) -> None:
    """Put quantized layers with these weights back into the model, without gradients."""
    show(student, {}, others)
    for name, layer in student.layers.items():
        stored = QuantizedLinear.from_weight(as_stored(weights[name]), layer.bias)
        linear.replace(student.model, name, stored)
    student.model.requires_grad_(False)


@torch.no_grad()
def show(
    student: Student, weights: Mapping[str, AdditiveWeight], others: Mapping[str, Tensor]
) -> None:
    """Let the model compute from these weights and other parameters."""
    for name, weight in weights.items():
        student.layers[name].weight.copy_(as_stored(weight).dense())
    for name, value in others.items():
        student.others[name].copy_(rounded(value))


def as_stored(weight: AdditiveWeight) -> AdditiveWeight:
    """Codebooks and scales rounded to float16."""
    return replace(weight, codebooks=rounded(weight.codebooks), scales=rounded(weight.scales))


def rounded(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A tensor as it is stored."""
    return value.half().to(value)


def gradients(
    weight: AdditiveWeight,
    dense: Float[Tensor, "out columns"],
    given: Float[Tensor, "out columns"],
) -> tuple[Float[Tensor, "books size group"], Float[Tensor, " out"]]:
    """The gradients of codebooks and scales from that of the dense weight."""
    size = weight.codebooks.shape[1]
    of_books = kernels.sum_by_code(given, weight.codes, weight.scales, size).to(given)
    along = torch.linalg.vecdot(given, dense)
    return of_books, torch.where(weight.scales == 0, 0, along / weight.scales)


@contextmanager
def lean(student: Student, tokens: int) -> Iterator[bool]:
    """Within the context blocks keep their inputs only, if memory needs it; says whether.

    Their activations are then computed again in the backward pass, a third more arithmetic.
    """
    infos = blocks.linear_layers(student.model).values()
    kept = 4 * tokens * sum(info.out + info.columns for info in infos)
    needed = kept * FREE_SHARE > machine.available_memory(student.model.device)
    _, modules = blocks.find_blocks(student.model)
    with ExitStack() as stack:
        for block in modules if needed else ():
            again = partial(checkpoint, block.forward, use_reentrant=False)
            stack.enter_context(blocks.calling(block, again))
        yield needed


def _own(layer: QuantizedLinear) -> AdditiveWeight:
    """A layer's weight, copied."""
    weight = layer.to_weight()
    books, scales = weight.codebooks.float().clone(), weight.scales.float().clone()
    return AdditiveWeight(weight.codes, books, scales)


def _dense(layer: QuantizedLinear) -> nn.Linear:
    """A dense layer of the same size with the same bias; its weight is still to be set."""
    with torch.device("meta"):
        dense = nn.Linear(layer.columns, layer.out, bias=False)
    dense.weight = nn.Parameter(torch.empty(layer.out, layer.columns, device=layer.codes.device))
    dense.register_parameter("bias", layer.bias)
    return dense


def _ends(model: PreTrainedModel) -> list[nn.Module]:
    return [model.get_input_embeddings(), head_of(model)]
