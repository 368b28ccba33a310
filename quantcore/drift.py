r"""Targets that make up for what is already quantized.

When a layer's turn comes its inputs have drifted: the original model gives it x, the quantized one
z; and what its output is added to has drifted from r to s. The output that would put everything
right is W x + r - s, and the least-squares weight for it on z is

    W + E[(W (x - z) + r - s) z^T] (H + ridge)^-1,   H = E[z z^T].

Half a step towards it is better than a whole one: the drift that later layers can make up for, and
noise, are left alone (`docs/experiments.md`). With r - s left out and a whole step this is GPTAQ's
asymmetric calibration. r - s counts only where a layer's output is added to the stream as it is,
which is found by trying; where a norm comes between there is no such term.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from quantcore import streams
from quantcore.blocks import linear_of
from quantcore.calibration import StreamingHessian
from quantcore.streams import Arguments

RIDGE = 0.01  # of the mean diagonal of H

Hidden = Float[Tensor, "windows length channels"]


class Moments(NamedTuple):
    """What is known of a stage's inputs z, means over tokens."""

    hessian: Float[Tensor, "columns columns"]  # z z^T
    inputs: Float[Tensor, "columns columns"]  # (x - z) z^T
    stream: Float[Tensor, "channels columns"] | None  # (r - s) z^T; none where nothing is added


@torch.no_grad()
def added_to(block: nn.Module, hidden: Hidden, arguments: Arguments) -> dict[str, str]:
    """The layers whose outputs are added to a stream, and the module whose input that stream is.

    The block itself has the name "". A llama's o_proj is added to the block's input, its down_proj
    to the input of the norm before the MLP.
    """
    seen = _watch(block, hidden[:1].to(next(block.parameters()).device), arguments)
    found = {}
    for name, (output, before) in seen.outputs.items():
        sums = [state for _, state in seen.states[before:]]
        for stream, state in seen.states[:before]:
            if any(_close(state + output, later) for later in sums):
                found[name] = stream
                break
    return found


@torch.no_grad()
def measure(
    blocks: tuple[nn.Module, nn.Module],
    places: tuple[str, str | None],
    hidden: tuple[Hidden, Hidden],
    arguments: Arguments,
    observe: Callable[[], None] = lambda: None,
) -> Moments:
    """The moments of a stage's inputs.

    Args:
        blocks: The block as far as it is quantized, and the original.
        places: A layer of the stage, and the module whose input its output is added to, if any.
        hidden: What the two blocks are given, by the quantized model and the original.
        arguments: The blocks' other arguments, on their device.
        observe: Called after each batch of windows; what it raises ends the work.
    """
    layer, stream = places
    device = next(blocks[0].parameters()).device
    hessian, tokens = None, 0
    inputs = moved = torch.zeros(())
    for some in streams.batches(hidden[0]):
        now, before = (
            streams.reaching(block, [layer, stream], states[some].to(device), arguments)
            for block, states in zip(blocks, hidden, strict=True)
        )
        z = now[layer].flatten(0, -2)
        hessian = hessian or StreamingHessian(z.shape[1], device)
        hessian.add(z)
        inputs = inputs + ((before[layer].flatten(0, -2) - z).T @ z).double().cpu()
        if stream is not None:
            moved = moved + ((before[stream] - now[stream]).flatten(0, -2).T @ z).double().cpu()
        tokens += len(z)
        observe()
    assert hessian is not None
    return Moments(
        hessian.value().float(),
        (inputs / tokens).to(device),
        None if stream is None else (moved / tokens).to(device),
    )


def target(
    weight: Float[Tensor, "out columns"], moments: Moments, step: float
) -> Float[Tensor, "out columns"]:
    """The weight moved so far towards the one that makes up for the drift."""
    if not step:
        return weight
    wanted = weight.double() @ moments.inputs
    if moments.stream is not None:
        wanted += moments.stream
    ridged = moments.hessian.double()
    ridged.diagonal().add_(RIDGE * ridged.diagonal().mean())
    change = torch.cholesky_solve(wanted.T, torch.linalg.cholesky(ridged)).T
    return weight + (step * change).to(weight.dtype)


class _Watch:
    """Hidden states in the order they come up, and linear layers' outputs of their shape.

    A state is the block's input, what a module is given, or the block's output at the end. With an
    output stands how many states came before it.
    """

    def __init__(self, hidden: Hidden) -> None:
        self.shape = hidden.shape
        self.states: list[tuple[str, Tensor]] = [("", hidden)]
        self.outputs: dict[str, tuple[Tensor, int]] = {}

    def given(self, name: str, inputs: tuple[object, ...]) -> None:
        """A module is given something."""
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].shape == self.shape:
            self.states.append((name, inputs[0]))

    def gives(self, name: str, output: Tensor) -> None:
        """A linear layer has an output."""
        if output.shape == self.shape:
            self.outputs[name] = (output, len(self.states))


def _watch(block: nn.Module, hidden: Hidden, arguments: Arguments) -> _Watch:
    """What comes up in one pass."""
    seen = _Watch(hidden)
    with ExitStack() as stack:
        for name, module in list(block.named_modules())[1:]:
            hook = module.register_forward_pre_hook(lambda _, x, name=name: seen.given(name, x))
            stack.callback(hook.remove)
        for name, layer in linear_of(block).items():
            hook = layer.register_forward_hook(lambda _, x, y, name=name: seen.gives(name, y))
            stack.callback(hook.remove)
        seen.given("the end", (streams.run(block, hidden, arguments),))
    return seen


def _close(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.abs().max())
    return bool(torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale))
