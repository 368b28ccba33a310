r"""A language model taken apart: hidden states that go from block to block, one block at a time.

The model's own forward runs once for every window with blocks that only record what they are given
and pass the hidden states on. That yields the hidden states before the first block and, for every
block, its other arguments (masks and positions), whatever the architecture. A model whose forward
does anything else with the hidden states between its blocks, or gives a block more that depends on
the text, is refused: its blocks cannot be run one by one.

From then on nothing but hidden states [windows, length, channels] and one block is needed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcore.blocks import calling, find_blocks, linear_of
from quantcore.calibration import StreamingHessian
from quantcore.errors import SourceError

BATCH_TOKENS = 1024  # tokens in one pass through a block
Arguments = dict[str, Any]


class Start(NamedTuple):
    """What the blocks get from the model.

    Attributes:
        hidden: Hidden states before the first block, float32, on the CPU.
        arguments: Each block's other arguments, float32 where they are floating.
    """

    hidden: Float[Tensor, "windows length channels"]
    arguments: list[Arguments]


class _Reached(Exception):  # noqa: N818 - not an error: the layer has been reached
    """Stops a block's forward pass at a layer."""


@torch.no_grad()
def start(model: PreTrainedModel, windows: Int[Tensor, "windows length"]) -> Start:
    """The hidden states before the first block, and what else each block is given.

    What lies outside the blocks is turned into float32 in the model itself.

    Raises:
        SourceError: the model's blocks cannot be run one by one.
    """
    _, blocks = find_blocks(model)
    for module in _outside(model, blocks):
        module.float()
    hidden, arguments = [], None
    with _recording(blocks) as calls:
        for ids in windows:
            calls.clear()
            model(input_ids=ids[None].to(model.device), use_cache=False)
            if len(calls) != len(blocks):
                raise _not_a_chain("does not call each of its blocks once")
            found = [call.arguments for call in calls]
            if arguments is not None and not all(map(_same, arguments, found)):
                raise _not_a_chain("gives its blocks more of the text than hidden states")
            arguments = found
            hidden.append(calls[0].hidden.float().cpu())
    assert arguments is not None
    return Start(torch.cat(hidden), [_float(one) for one in arguments])


def run(
    block: nn.Module,
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
) -> Float[Tensor, "windows length channels"]:
    """A block's output for hidden states on its device."""
    output = block(hidden, **arguments)
    output = output[0] if isinstance(output, tuple) else output
    assert isinstance(output, Tensor)
    return output


def batches(hidden: Float[Tensor, "windows length channels"]) -> Iterator[slice]:
    """Slices of windows that make one pass."""
    size = max(1, BATCH_TOKENS // hidden.shape[1])
    return (slice(first, first + size) for first in range(0, len(hidden), size))


@torch.no_grad()
def through(
    block: nn.Module,
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
) -> Float[Tensor, "windows length channels"]:
    """Every window's output of a block; hidden states and output on the CPU."""
    device = next(block.parameters()).device
    parts = [run(block, hidden[some].to(device), arguments).cpu() for some in batches(hidden)]
    return torch.cat(parts)


@torch.no_grad()
def stages(
    block: nn.Module,
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
) -> list[list[str]]:
    """The block's linear layers in the order they run, those with one input together.

    For a llama: q, k, v; o; gate, up; down.

    Raises:
        SourceError: the block does not use one of its linear layers.
    """
    order: list[list[str]] = []
    seen: list[Tensor] = []  # the stages' inputs, kept so that no other takes their place

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if any(name in stage for stage in order):
                return
            for given, stage in zip(seen, order, strict=True):
                if given is inputs[0]:
                    stage.append(name)
                    return
            seen.append(inputs[0])
            order.append([name])

        return hook

    layers = linear_of(block)
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(watch(name)).remove)
        run(block, hidden[:1].to(next(block.parameters()).device), arguments)
    unused = sorted(set(layers) - {name for stage in order for name in stage})
    if unused:
        raise SourceError(f"text does not reach linear layer {unused[0]} of a block")
    return order


@torch.no_grad()
def reaching(
    block: nn.Module,
    names: Iterable[str | None],
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
) -> dict[str, Tensor]:
    """What reaches modules of the block; the pass ends at the last of them.

    The block itself has the name ""; None is no module.
    """
    wanted = {name for name in names if name}
    found = {"": hidden}

    def catch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = inputs[0]
            if wanted <= set(found):
                raise _Reached

        return hook

    with ExitStack() as stack:
        for name in wanted:
            module = block.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(catch(name)).remove)
        with suppress(_Reached):
            run(block, hidden, arguments)
    return found


def hessian(
    block: nn.Module,
    layer: str,
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
    observe: Callable[[], None] = lambda: None,
) -> Float[Tensor, "columns columns"]:
    """`hessians` of one layer on all windows."""
    return hessians(block, [layer], hidden, arguments, [len(hidden)], observe)[layer][0]


@torch.no_grad()
def hessians(
    block: nn.Module,
    layers: Sequence[str],
    hidden: Float[Tensor, "windows length channels"],
    arguments: Arguments,
    counts: Sequence[int],
    observe: Callable[[], None] = lambda: None,
) -> dict[str, list[Float[Tensor, "columns columns"]]]:
    """X^T X / tokens of what reaches linear layers of the block, float32, on its device.

    Args:
        block: Runs once for all layers.
        layers: Names in the block.
        hidden: What the block is given.
        arguments: Its other arguments, on its device.
        counts: Rising numbers of windows; each layer gets a Hessian of the first so many.
        observe: Called after each batch of windows; what it raises ends the work.
    """
    device = next(block.parameters()).device
    found: dict[str, list[Tensor]] = {name: [] for name in layers}
    moments: dict[str, StreamingHessian] = {}
    for first, last in pairwise((0, *counts)):
        for some in batches(hidden[first:last]):
            given = hidden[first:last][some].to(device)
            inputs = reaching(block, layers, given, arguments)
            for name in layers:
                if name not in moments:
                    moments[name] = StreamingHessian(inputs[name].shape[-1], device)
                moments[name].add(inputs[name])
            observe()
        for name in layers:
            found[name].append(moments[name].value().float())
    return found


def to_device(arguments: Arguments, device: torch.device) -> Arguments:
    """A block's arguments on its device."""
    moved: Arguments = _mapped(arguments, lambda value: value.to(device))
    return moved


class _Call(NamedTuple):
    hidden: Tensor
    arguments: Arguments


@contextmanager
def _recording(blocks: nn.ModuleList) -> Iterator[list[_Call]]:
    """Blocks that record what they are given and return their hidden states."""
    calls: list[_Call] = []

    def forward(hidden_states: Tensor, *others: object, **named: Any) -> Tensor:
        if others:
            raise _not_a_chain("gives its blocks arguments without names")
        if calls and hidden_states is not calls[-1].hidden:
            raise _not_a_chain("changes hidden states between its blocks")
        calls.append(_Call(hidden_states, named))
        return hidden_states

    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(calling(block, forward))
        yield calls


def _outside(model: nn.Module, blocks: nn.ModuleList) -> Iterator[nn.Module]:
    """The outermost modules that hold none of the blocks."""
    for child in model.children():
        if child is blocks:
            continue
        if any(module is blocks for module in child.modules()):
            yield from _outside(child, blocks)
        else:
            yield child


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and all(_same(one[k], other.get(k)) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return True  # flags and caches


def _float(arguments: Arguments) -> Arguments:
    def change(value: Tensor) -> Tensor:
        return value.float() if value.is_floating_point() else value

    changed: Arguments = _mapped(arguments, change)
    return changed


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(inner, change) for inner in value)
    return value


def _not_a_chain(why: str) -> SourceError:
    return SourceError(
        f"the model {why}, so its blocks cannot be quantized one by one; choose another model"
    )
