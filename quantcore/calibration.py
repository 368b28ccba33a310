r"""The second moment of a layer's inputs, measured on text.

For every token the layer sees an input row x; its Hessian is H = E[x x^T] = X^T X / tokens. The
model runs on windows of calibration text; a hook on the layer adds each batch's X^T X and then
stops the pass, so nothing behind the layer is computed. X^T X is summed in float64, because some
inputs are thousands of times larger than others; the batching then changes no digit that counts.
"""

from collections.abc import Callable
from contextlib import suppress

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcore import machine
from quantcore.errors import InputError, SourceError

Observer = Callable[[int, int], None]


class StreamingHessian:
    """Adds up X^T X over any chunking of the rows of X."""

    def __init__(self, columns: int, device: torch.device | None = None) -> None:
        self._sum = torch.zeros(columns, columns, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "*batch columns"]) -> None:
        """Add rows of inputs."""
        rows = inputs.flatten(0, -2).double()
        self._sum.addmm_(rows.T, rows)
        self.tokens += len(rows)

    def value(self) -> Float[Tensor, "columns columns"]:
        """X^T X / tokens in float64.

        Raises:
            InputError: no row was added.
        """
        if not self.tokens:
            raise InputError("a Hessian needs at least one token, got none")
        return self._sum / self.tokens


class _Reached(Exception):  # noqa: N818 - not an error: the layer has been reached
    """Stops a forward pass at the layer."""


def hessian(
    model: PreTrainedModel,
    layer_name: str,
    windows: Int[Tensor, "windows length"],
    observe: Observer = lambda done, total: None,
    batch: int = 1,
) -> Float[Tensor, "columns columns"]:
    """X^T X / tokens of one linear layer's inputs, in the type of its weight.

    Args:
        model: Runs up to the layer and no further.
        layer_name: Full name, as in `sources.linear_layers`.
        windows: Token ids.
        observe: Called with windows done and in all after each batch; what it raises ends the work.
        batch: Windows in one forward pass.

    Raises:
        SourceError: no window reaches the layer.
        ResourceError: the matrix does not fit into memory.
    """
    layer = model.get_submodule(layer_name)
    assert isinstance(layer, nn.Linear), layer_name
    device = layer.weight.device
    machine.require_memory(
        3 * 8 * layer.in_features**2, f"the Hessian of {layer.in_features} inputs", device
    )
    moments = StreamingHessian(layer.in_features, device)

    def catch(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        moments.add(arguments[0])
        raise _Reached

    hook = layer.register_forward_pre_hook(catch)
    try:
        _run_to_hook(model, windows.to(device), observe, batch)
    finally:
        hook.remove()
    if not moments.tokens:
        raise SourceError(f"no window of the text reached layer {layer_name}; choose another layer")
    return moments.value().to(layer.weight.dtype)


@torch.inference_mode()
def _run_to_hook(
    model: PreTrainedModel, windows: Int[Tensor, "windows length"], observe: Observer, batch: int
) -> None:
    for start in range(0, len(windows), batch):
        ids = windows[start : start + batch]
        with suppress(_Reached):
            model(input_ids=ids, use_cache=False)
        observe(start + len(ids), len(windows))
