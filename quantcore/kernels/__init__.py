"""The inner loops, each in several makes with one signature; `chosen` picks.

    naive.py       plain torch, any device and dtype: the meaning of each kernel
    cpu_*.py       compiled for the CPU, float32
    *_triton.py    for CUDA devices

Bare tensors in, bare tensors out; nothing here knows a layer or a scheme. A compiled module is
imported when it is first called: starting numba or Triton takes a while. Compiled kernels give no
gradient; where one is asked for, the naive make runs.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from quantcore.kernels import naive
from quantcore.kernels.panel import Panel, Rows, Visited

_FAST = {
    "cpu": {
        "assign": "cpu_assign",
        "codeword_sums": "cpu_assign",
        "solve": "cpu_assign",
        "visit": "cpu_search",
        "decode": "cpu_decode",
        "sum_by_code": "cpu_sums",
        "matmul": "cpu_matmul",
    },
    "cuda": {
        "assign": "assign_triton",
        "best": "best_triton",
        "decode": "decode_triton",
        "matmul": "matmul_triton",
    },
}


def chosen(kernel: str, device: str, dtype: torch.dtype) -> Callable[..., Any]:
    """The make of `kernel` for such tensors: the fast one where there is one, else naive."""
    fast = _FAST.get(device, {}).get(kernel)
    halves = device == "cuda" and kernel in ("decode", "matmul")  # these take fp16 and bf16 too
    usual = torch.float64 if kernel == "solve" else torch.float32
    if dtype != usual and not (halves and dtype.itemsize == 2):
        fast = None
    if device == "cuda" and find_spec("triton") is None:
        fast = None
    return getattr(_module(fast or "naive"), kernel)  # type: ignore[no-any-return]


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"quantcore.kernels.{name}")


def _for(kernel: str, like: Tensor, *others: Tensor) -> Callable[..., Any]:
    """The make for `like`, unless one of the tensors wants a gradient."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (like, *others)):
        return getattr(naive, kernel)  # type: ignore[no-any-return]
    device = "cpu" if like.is_cpu else like.device.type  # this makes an object, in 0.2 us
    return chosen(kernel, device, like.dtype)


def assign(vectors: Tensor, metrics: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Each vector's nearest codeword in its group's metric, and the squared distance."""
    return _for("assign", codebook)(vectors, metrics, codebook)  # type: ignore[no-any-return]


def codeword_sums(
    vectors: Tensor, metrics: Tensor, row_weights: Tensor, codes: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The sums A_k and b_k of every codeword, in float64."""
    make = _for("codeword_sums", vectors)
    return make(vectors, metrics, row_weights, codes, size)  # type: ignore[no-any-return]


def solve(lhs: Tensor, rhs: Tensor) -> Tensor:
    """The solution of many small symmetric positive definite systems, in float64."""
    return _for("solve", lhs)(lhs, rhs)  # type: ignore[no-any-return]


def decode(codes: Tensor, codebooks: Tensor, scales: Tensor) -> Tensor:
    """The dense weight."""
    return _for("decode", codebooks, scales)(codes, codebooks, scales)  # type: ignore[no-any-return]


def sum_by_code(pulls: Tensor, codes: Tensor, scales: Tensor, size: int) -> Tensor:
    """Scaled groups summed by code in float64, the adjoint of `decode`."""
    return _for("sum_by_code", pulls)(pulls, codes, scales, size)  # type: ignore[no-any-return]


def matmul(x: Tensor, codes: Tensor, codebooks: Tensor, scales: Tensor) -> Tensor:
    """Inputs times the transposed weight, which is not written out."""
    return _for("matmul", x, codebooks, scales)(x, codes, codebooks, scales)  # type: ignore[no-any-return]


def visit(panel: Panel, codebooks: Tensor, rows: Rows, widths: tuple[int, ...]) -> Visited:
    """Search the codes of one panel of groups; see `panel`."""
    make = _for("visit", codebooks)
    if make is naive.visit:
        return naive.visit(panel, codebooks, rows, widths, _for("best", codebooks))
    return make(panel, codebooks, rows, widths)  # type: ignore[no-any-return]
