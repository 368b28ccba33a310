r"""A linear layer whose weight stays in its codes.

    y = x W^T + b,   W[o, j] = s_o sum_m C_m[codes[o, j, m]]

Its state has the names, shapes and types of AQLM's checkpoints (arXiv:2401.06118), which
transformers reads: codes in the smallest signed type, the upper half of their values wrapped to
negative ones; codebooks [books, size, 1, group]; scales [out, 1, 1, 1]. Nothing is unpacked when it
is loaded: the kernels read the codes as they are stored.

Backward, with G = dL/dy: dL/dx = G W, and with D = G^T x, which a dense weight would get,

    dL/ds_o = D[o] . W[o] / s_o        dL/dC_m[k] = sum of s_o D[o, j] where codes[o, j, m] = k

and codes get none. W and D exist for some rows at a time.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from quantcore import kernels
from quantcore.weight import AdditiveWeight, Scheme

CHUNK = 1 << 22  # entries of W at a time in backward
HALVES = (torch.float16, torch.bfloat16)


class QuantizedLinear(nn.Module):
    """A linear layer over an additive weight; see the module's formula.

    Args:
        columns: Inputs, a multiple of the scheme's group.
        out: Outputs.
        scheme: Codebooks, bits and group size.
        bias: Whether there is a bias.

    >>> layer = QuantizedLinear(16, 4, Scheme(2, 3, 8), bias=True)
    >>> {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    {'codebooks': (2, 8, 1, 8), 'scales': (4, 1, 1, 1), 'bias': (4,), 'codes': (4, 2, 2)}
    """

    codes: Tensor

    def __init__(self, columns: int, out: int, scheme: Scheme, bias: bool = False):
        super().__init__()
        self.columns, self.out, self.scheme = columns, out, scheme
        shape = out, columns // scheme.group, scheme.codebooks
        self.register_buffer("codes", torch.zeros(shape, dtype=_code_type(scheme.bits)))
        self.codebooks = nn.Parameter(torch.zeros(scheme.codebooks, scheme.size, 1, scheme.group))
        self.scales = nn.Parameter(torch.ones(out, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    @classmethod
    def from_weight(
        cls, weight: AdditiveWeight, bias: Float[Tensor, " out"] | None = None
    ) -> "QuantizedLinear":
        """A layer that holds copies of a weight, with its device and type, and of a bias."""
        out, groups, _ = weight.codes.shape
        scheme = weight.scheme
        layer = cls(groups * scheme.group, out, scheme, bias is not None)
        layer.to(weight.codebooks)
        with torch.no_grad():
            layer.codes.copy_(_wrap(weight.codes, scheme.bits))
            layer.codebooks.copy_(weight.codebooks[:, :, None])
            layer.scales.copy_(weight.scales[:, None, None, None])
            if layer.bias is not None and bias is not None:
                layer.bias.copy_(bias)
        return layer

    def to_weight(self) -> AdditiveWeight:
        """The weight that the layer holds: codes from 0 on, a copy; codebooks and scales views."""
        codes = self.codes.int() & (self.scheme.size - 1)
        books, scales = self.codebooks.detach(), self.scales.detach()
        return AdditiveWeight(codes, books.squeeze(2), scales.flatten())

    def forward(self, x: Float[Tensor, "*tokens columns"]) -> Float[Tensor, "*tokens out"]:
        """The output of every token, in the input's type."""
        slow = x.dtype in HALVES and x.device.type == "cpu"  # a CPU computes halves in float32
        kind = torch.float32 if slow else x.dtype
        rows = _as(x.reshape(-1, x.shape[-1]), kind)
        books, scales = _as(self.codebooks.squeeze(2), kind), _as(self.scales.flatten(), kind)
        learning = rows.requires_grad or books.requires_grad or scales.requires_grad
        product = _Product.apply if learning and torch.is_grad_enabled() else kernels.matmul
        y: Tensor = product(rows, self.codes, books, scales)
        if self.bias is not None:
            y = y + self.bias
        return _as(y.reshape(*x.shape[:-1], self.out), x.dtype)

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        return f"{self.columns}, {self.out}, {self.scheme}, bias={self.bias is not None}"


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    """The model's quantized layers by full name, in the model's order."""
    named = model.named_modules()
    return {name: module for name, module in named if isinstance(module, QuantizedLinear)}


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of that name."""
    model.set_submodule(name, layer, strict=True)


class _Product(torch.autograd.Function):
    """x W^T, with the gradients of x, codebooks and scales."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "tokens columns"],
        codes: Int[Tensor, "out groups books"],
        codebooks: Float[Tensor, "books size group"],
        scales: Float[Tensor, " out"],
    ) -> Float[Tensor, "tokens out"]:
        ctx.save_for_backward(x, codes, codebooks, scales)
        return kernels.matmul(x, codes, codebooks, scales)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Float[Tensor, "tokens out"]) -> tuple[Tensor | None, ...]:
        x, codes, codebooks, scales = ctx.saved_tensors
        for_x, _, for_books, for_scales = ctx.needs_input_grad
        of_x, of_books, of_scales = [torch.zeros_like(value) for value in (x, codebooks, scales)]
        step = max(1, CHUNK // max(1, x.shape[1]))
        for first in range(0, len(codes), step):
            rows = slice(first, first + step)
            words = kernels.decode(codes[rows], codebooks, torch.ones_like(scales[rows]))
            if for_x:
                of_x.addmm_(given[:, rows] * scales[rows], words)
            if for_books or for_scales:
                dense = given[:, rows].T @ x  # D
                of_scales[rows] = (dense * words).sum(1)
                of_books += kernels.sum_by_code(dense, codes[rows], scales[rows], len(codebooks[0]))
        return of_x, None, of_books, of_scales  # autograd drops those that nobody asked for


def _as(value: Tensor, kind: torch.dtype) -> Tensor:
    """The value in a type; a type it already has costs no call."""
    return value if value.dtype == kind else value.to(kind)


def _code_type(bits: int) -> torch.dtype:
    return torch.int8 if bits <= 8 else torch.int16


def _wrap(codes: Int[Tensor, "out groups books"], bits: int) -> Int[Tensor, "out groups books"]:
    """Codes as signed numbers of so many bits: from half of the size on, less the size."""
    half = 1 << (bits - 1)
    return ((codes + half) & ((1 << bits) - 1)) - half
