r"""The original model that a quantized one learns from: its predictions, and what its layers see.

A prediction is kept as the last hidden states of its window, which are the vocabulary's size over
the channels smaller than the logits; the output matrix is applied to a few tokens at a time
(`divergence`). Text that is read again, epoch after epoch, is run through the teacher once.
"""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcore.errors import InputError

REMEMBERED = 1 << 30  # bytes of hidden states
DAMPING = 0.01  # of a metric's mean diagonal, added to it: OA-EM's
TOLERANCE = 1e-3  # relative difference at which logits are not the output matrix's


class Teacher:
    """The original model.

    Args:
        model: Its logits are its output matrix times its last hidden states.

    Raises:
        InputError: they are not.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        check_head(model)
        self.model, self.head = model, head_of(model)
        self._known: dict[bytes, Tensor] = {}
        self._left = REMEMBERED

    @torch.inference_mode()
    def hidden(self, ids: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens channels"]:
        """The last hidden states of one window."""
        key = ids.cpu().numpy().tobytes()
        if key in self._known:
            return self._known[key]
        found = hidden(self.model, ids)
        if found.nbytes <= self._left:
            self._left -= found.nbytes
            self._known[key] = found
        return found

    @torch.inference_mode()
    def metrics(
        self, layers: Mapping[str, int], windows: Int[Tensor, "windows length"]
    ) -> dict[str, Float[Tensor, "groups group group"]]:
        """The diagonal blocks of the Hessian of each layer's inputs, damped.

        Args:
            layers: Linear layers by full name; the group size of each.
            windows: Text.
        """
        sums: dict[str, Tensor] = {}
        hooks = [
            self.model.get_submodule(name).register_forward_pre_hook(
                partial(_add, sums, name, group)
            )
            for name, group in layers.items()
        ]
        try:
            for ids in windows:
                hidden(self.model, ids)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: _damped(blocks / windows.numel()) for name, blocks in sums.items()}


def hidden(model: PreTrainedModel, ids: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens channels"]:
    """A model's last hidden states of one window."""
    states: Tensor = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state
    return states[0]


def head_of(model: PreTrainedModel) -> nn.Linear:
    """A model's output matrix."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return head


@torch.inference_mode()
def check_head(model: PreTrainedModel) -> None:
    """Refuse a model whose logits are not its output matrix times its last hidden states.

    Raises:
        InputError: they are scaled or capped afterwards.
    """
    ids = torch.arange(2, device=model.device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    ours = head_of(model)(hidden(model, ids))
    if (logits - ours).norm() > TOLERANCE * logits.norm():
        raise InputError(
            f"a {model.config.model_type} model changes its logits after the output matrix, "
            "which tuning does not follow; choose another model"
        )


def _add(
    sums: dict[str, Tensor], name: str, group: int, _: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """Add a window's second moments, in float64."""
    parts = inputs[0].flatten(0, -2).unflatten(1, (-1, group)).transpose(0, 1).double()
    moment = parts.mT @ parts  # [groups, group, group]
    sums[name] = sums[name] + moment if name in sums else moment


def _damped(blocks: Tensor) -> Tensor:
    extra = DAMPING * torch.diagonal(blocks, dim1=1, dim2=2).mean()
    return (blocks + extra * torch.eye(blocks.shape[1]).to(blocks)).float()
