"""Tensors as the compiled kernels read them."""

from typing import Any

from torch import Tensor


def array(tensor: Tensor) -> Any:
    """A contiguous numpy array, over the tensor's own memory where that is contiguous."""
    return tensor.detach().contiguous().numpy()
