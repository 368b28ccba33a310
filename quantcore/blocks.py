"""What a language model is made of: a list of blocks, each with linear layers.

Both are found by structure, not by a list of names: the blocks are the longest `nn.ModuleList` that
holds linear layers and lies in no other such list (a block's experts can be more than the blocks).
"""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from quantcore.errors import InputError, SourceError, quoted

DIGITS = 4  # of a block's number, more than any model needs


@dataclass(frozen=True)
class LayerInfo:
    """One linear layer: y = W x with W [out, columns].

    Attributes:
        name: Full name, such as "model.layers.10.self_attn.q_proj".
        block: Which block holds it, from 0.
        projection: Its name inside the block, such as "self_attn.q_proj".
        out: Rows of the weight.
        columns: Inputs.
    """

    name: str
    block: int
    projection: str
    out: int
    columns: int


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The model's blocks and the name of their list.

    Raises:
        SourceError: the model has no list of blocks with linear layers.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and linear_of(module)
    }
    if not lists:
        raise SourceError("the model has no blocks with linear layers; choose another model")
    # the outermost lists only: a block's experts can be more than the blocks
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    name = max(outer, key=lambda name: len(lists[name]))
    return name, lists[name]


def linear_layers(model: nn.Module) -> dict[str, LayerInfo]:
    """The linear layers in the model's blocks, by full name, first block first.

    Raises:
        SourceError: the model has no list of blocks with linear layers.
    """
    name, blocks = find_blocks(model)
    infos = [
        LayerInfo(f"{name}.{n}.{projection}", n, projection, layer.out_features, layer.in_features)
        for n, block in enumerate(blocks)
        for projection, layer in linear_of(block).items()
    ]
    return {info.name: info for info in infos}


def layer_info(model: nn.Module, name: str) -> LayerInfo:
    """The layer of that name, which may lack what comes before the block's number.

    Raises:
        SourceError: there is no such layer.
    """
    layers = linear_layers(model)
    by_short_name = {f"{info.block}.{info.projection}": info for info in layers.values()}
    found = layers.get(name) or by_short_name.get(name)
    if found is not None:
        return found
    near = difflib.get_close_matches(name, [*layers, *by_short_name], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of them is {next(iter(layers))}"
    raise SourceError(f"there is no linear layer {quoted(name)} in the model's blocks; {hint}")


def find_layer(model: nn.Module, name: str) -> nn.Linear:
    """The module of `layer_info(model, name)`.

    Raises:
        SourceError: there is no such layer.
    """
    layer = model.get_submodule(layer_info(model, name).name)
    assert isinstance(layer, nn.Linear)
    return layer


def before(model: nn.Module, layer_name: str) -> list[nn.Module]:
    """The blocks that run before the one that holds the layer."""
    path = layer_name.split(".")
    for depth in range(1, len(path)):
        parent = model.get_submodule(".".join(path[:depth]))
        if isinstance(parent, nn.ModuleList):
            return list(parent)[: int(path[depth])]
    return []


def parse_numbers(words: str) -> tuple[int, ...]:
    """The blocks that words such as 0-3 or 0,2,5-7 name.

    >>> parse_numbers("5,0-1")
    (0, 1, 5)

    Raises:
        InputError: they name none.
    """
    found: set[int] = set()
    for part in words.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = (first, last if dash else first)
        if not all(end.isdecimal() and len(end) <= DIGITS for end in ends):
            raise InputError(f"blocks are numbers such as 0-3 or 0,2,5-7, got {quoted(words)}")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(found))


@contextmanager
def calling(module: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Within the context the module computes with another forward."""
    own = vars(module).get("forward")  # set where another library has wrapped the module
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


def linear_of(module: nn.Module) -> dict[str, nn.Linear]:
    """The dense linear layers in a module, by their names in it."""
    return {name: child for name, child in module.named_modules() if isinstance(child, nn.Linear)}
