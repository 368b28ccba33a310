r"""After a block's layers are quantized: its codebooks, scales and norms, tuned together.

The layers were quantized one by one, each against its own inputs. Here the block as a whole learns
to give what the **original** model has after it, from what the quantized model has before it; so it
also makes up for what earlier blocks got wrong. (The released code's targets are those of the block
as it is when a part of it is quantized; they drift.) Codes stay.

The error of a token is |y' - y|^2 / |y|^2, so that all tokens count alike: the norms behind the
block divide by the length, and some tokens are a thousand times longer than others. Adam steps
through the calibration windows; a tensor's rate is a share of its own root mean square. After each
epoch everything tuned is rounded to float16, as it will be stored, and the state with the lowest
error on held-out windows is kept, the untuned one among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcore import streams
from quantcore.errors import InputError
from quantcore.streams import Arguments

BETAS = (0.9, 0.95)
EPSILON = 1e-12


@dataclass(frozen=True)
class TuningConfig:
    """How long and how fast.

    Attributes:
        epochs: Passes through the calibration windows; 0 leaves blocks as they are.
        rate: Adam's step, as a share of a tensor's root mean square.
    """

    epochs: int = 3
    rate: float = 3e-3

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise InputError(f"tuning epochs must be at least 0, got {self.epochs}")
        if not self.rate > 0:
            raise InputError(f"the tuning rate must be above 0, got {self.rate}")


class Pairs(NamedTuple):
    """What goes into a block and what should come out; on the CPU."""

    given: Float[Tensor, "windows length channels"]
    wanted: Float[Tensor, "windows length channels"]


class TuningInfo(NamedTuple):
    """Errors before tuning (epoch 0) or after an epoch."""

    epoch: int
    error: float  # over the calibration windows, while they were learned; on them as they are at 0
    heldout: float


def run(
    block: nn.Module,
    arguments: Arguments,
    calibration: Pairs,
    heldout: Pairs,
    config: TuningConfig,
    rng: torch.Generator,
    observe: Callable[[TuningInfo], None] = lambda info: None,
) -> list[TuningInfo]:
    """Tune a block in place, and round what was tuned to float16.

    Args:
        block: Holds quantized layers, all on one device; in float32.
        arguments: Its arguments beside hidden states, on its device.
        calibration: What it learns from.
        heldout: What decides which state is kept.
        config: How long and how fast.
        rng: The order of windows.
        observe: Called before and after each epoch; what it raises ends the work.

    Returns:
        What the observer was told.
    """
    tuned = parameters(block)
    _round(tuned)
    before = [error(block, arguments, pairs) for pairs in (calibration, heldout)]
    infos = [TuningInfo(0, *before)]
    observe(infos[0])
    best, kept = infos[0].heldout, [value.detach().clone() for value in tuned]
    optimizer = _adam(tuned, config.rate)
    for epoch in range(1, config.epochs + 1):
        learned = _epoch(block, arguments, calibration, optimizer, rng)
        _round(tuned)
        infos.append(TuningInfo(epoch, learned, error(block, arguments, heldout)))
        observe(infos[-1])
        if infos[-1].heldout < best:
            best, kept = infos[-1].heldout, [value.detach().clone() for value in tuned]
    with torch.no_grad():
        for value, good in zip(tuned, kept, strict=True):
            value.copy_(good)
            value.requires_grad_(False)
            value.grad = None
    return infos


@torch.inference_mode()
def error(block: nn.Module, arguments: Arguments, pairs: Pairs) -> float:
    """Mean error of the tokens; the arguments on the block's device."""
    device = next(block.parameters()).device
    total = torch.zeros((), dtype=torch.float64)
    for some in streams.batches(pairs.given):
        found = streams.run(block, pairs.given[some].to(device), arguments)
        total += _errors(found, pairs.wanted[some].to(device)).double().sum().cpu()
    return total.item() / pairs.given[..., 0].numel()


def parameters(block: nn.Module) -> list[nn.Parameter]:
    """What is tuned: everything but the weights of dense linear layers, in the block's order."""
    frozen = {id(m.weight) for m in block.modules() if isinstance(m, nn.Linear)}
    return [value for value in block.parameters() if id(value) not in frozen]


def _epoch(
    block: nn.Module,
    arguments: Arguments,
    pairs: Pairs,
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
) -> float:
    """One pass through the windows in random order; the mean error on the way."""
    device = next(block.parameters()).device
    order = torch.randperm(len(pairs.given), generator=rng)
    total = 0.0
    for some in streams.batches(pairs.given):
        windows = order[some]
        found = streams.run(block, pairs.given[windows].to(device), arguments)
        loss = _errors(found, pairs.wanted[windows].to(device)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(windows)
    return total / len(order)


def _errors(
    found: Float[Tensor, "windows length channels"],
    wanted: Float[Tensor, "windows length channels"],
) -> Float[Tensor, "windows length"]:
    return (found - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(EPSILON)


def _adam(tuned: list[nn.Parameter], rate: float) -> torch.optim.Adam:
    groups = []
    for value in tuned:
        value.requires_grad_(True)
        size = value.detach().square().mean().sqrt().clamp_min(EPSILON).item()
        groups.append({"params": [value], "lr": rate * size})
    return torch.optim.Adam(groups, betas=BETAS, eps=EPSILON)


def _round(tuned: list[nn.Parameter]) -> None:
    """To float16 and back, in place."""
    with torch.no_grad():
        for value in tuned:
            value.copy_(value.half())
