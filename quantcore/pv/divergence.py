r"""How far a student's predictions are from its teacher's, from hidden states to nats.

    KL = mean over tokens of sum_w p_w (log p_w - log q_w),   p = softmax(T x'), q = softmax(S x)

with the last hidden states x and x' of student and teacher, and their heads S and T. A token's
logits are the size of the vocabulary, so nothing here holds those of all tokens: they are computed
from the hidden states a chunk of tokens at a time, and with them the gradient

    dKL/dx = (q - p) S / tokens,        dKL/dS = (q - p)^T x / tokens,

which is all that the model before the head needs for its backward pass.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from quantcore import evaluate

CHUNK = 1 << 23  # logits of one model held at once


class Sums(NamedTuple):
    """Nats summed over the tokens of some windows."""

    kl: float  # over all tokens
    nll: float  # of the next token, over all but the last


def kl(
    hidden: Float[Tensor, "tokens channels"],
    head: nn.Linear,
    target: Float[Tensor, "tokens other"],
    target_head: nn.Linear,
) -> Float[Tensor, ""]:
    """KL(teacher || student) in nats a token, differentiable in the student.

    Args:
        hidden: The student's last hidden states.
        head: Its output matrix; has a gradient too where it wants one.
        target: The teacher's last hidden states.
        target_head: Its output matrix.
    """
    apply: Callable[..., Tensor] = _Divergence.apply
    return apply(hidden, head.weight, head.bias, target, target_head)


@torch.inference_mode()
def sums(
    hidden: Float[Tensor, "tokens channels"],
    head: nn.Linear,
    target: Float[Tensor, "tokens other"],
    target_head: nn.Linear,
    ids: Int[Tensor, " tokens"],
) -> Sums:
    """KL and negative log-likelihood of one window, summed."""
    kl = nll = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for some in _chunks(hidden, head.weight):
        mine, theirs = _predictions(hidden[some], head.weight, head.bias, target[some], target_head)
        following = ids[some.start + 1 : some.stop + 1]
        nll = nll + evaluate.chosen(mine[: len(following)], following).sum()
        kl = kl + evaluate.divergences(theirs, mine).sum()
    return Sums(kl.item(), nll.item())


class _Divergence(torch.autograd.Function):
    """The loss; its gradients are computed on the way, from the same logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        target_head: nn.Linear,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        of_hidden = torch.empty_like(hidden)
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for some in _chunks(hidden, weight):
            mine, theirs = _predictions(hidden[some], weight, bias, target[some], target_head)
            wanted = theirs.exp()
            total += (wanted * theirs.sub_(mine)).sum(1).double().sum()
            excess = mine.exp_().sub_(wanted).div_(len(hidden))  # (q - p) / tokens
            torch.mm(excess, weight, out=of_hidden[some])
            if of_weight is not None:
                of_weight.addmm_(excess.T, hidden[some])
            if of_bias is not None:
                of_bias += excess.sum(0)
        ctx.gradients = of_hidden, of_weight, of_bias
        return (total / len(hidden)).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if part is None else part * given for part in ctx.gradients), None, None


def _chunks(hidden: Tensor, head: Tensor) -> Iterator[slice]:
    step = max(1, CHUNK // len(head))
    for first in range(0, len(hidden), step):
        yield slice(first, min(first + step, len(hidden)))


def _predictions(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, target_head: nn.Linear
) -> tuple[Tensor, Tensor]:
    """The log-probabilities of student and teacher."""
    mine = linear(hidden, weight, bias).log_softmax(-1)
    return mine, target_head(target).log_softmax(-1)
