r"""Adam and LAMB, one tensor at a time.

With g the gradient, t the step from 1 on, and running means

    m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2        u = m / (sqrt(v) + eps),

Adam (arXiv:1412.6980) moves a parameter p by -lr c u, where c = sqrt(1 - b2^t) / (1 - b1^t) makes
up for means that began at zero. LAMB (arXiv:1904.00962) also multiplies by |p| / |u|: every tensor
moves by about lr c of its own norm, whatever the size of its entries or gradients. b1 = 0 needs no
m: then u is g over its root mean square.

As in PV-tuning's release, eps is added before c is applied, |p| / |u| is taken without c, and there
is no weight decay.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore.errors import InputError, quoted

OPTIMIZERS = ("lamb", "adam")


@dataclass(frozen=True)
class OptimizerConfig:
    """How a tensor follows its gradients.

    Attributes:
        name: "lamb" or "adam".
        lr: Step size: for LAMB a share of the tensor's norm.
        betas: Decay of the means of the gradient and of its square.
        eps: Added to the root of the mean square.
    """

    name: str = "lamb"
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            known = " or ".join(OPTIMIZERS)
            raise InputError(f"there is no optimizer {quoted(self.name)}; choose {known}")
        if not self.lr >= 0:
            raise InputError(f"the learning rate must be at least 0, got {self.lr}")


class Moments(NamedTuple):
    """The running means of one tensor's gradients."""

    first: Tensor | None  # m; None where b1 is 0
    second: Tensor  # v

    @classmethod
    def zeros(cls, like: Tensor, config: OptimizerConfig) -> "Moments":
        """The means before the first step."""
        return cls(torch.zeros_like(like) if config.betas[0] else None, torch.zeros_like(like))


def step_(
    value: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    moments: Moments,
    step: int,
    config: OptimizerConfig,
) -> None:
    """Move `value`, in place, and its moments; `step` is the number of this step, from 1 on."""
    first, second = config.betas
    moments.second.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    mean = gradient if moments.first is None else moments.first.lerp_(gradient, 1 - first)
    update = mean / moments.second.sqrt().add_(config.eps)
    size = config.lr * math.sqrt(1 - second**step) / (1 - first**step)
    if config.name == "lamb":
        length, pace = value.norm().item(), update.norm().item()
        size *= length / pace if length and pace else 1.0
    value.add_(update, alpha=-size)
