"""The problems of many layers, from one walk through the model.

`problems.from_model` runs the model up to one layer. For all layers of a model that is half the
model for every layer; here hidden states go from block to block (`streams`), and each block runs
twice, once up to the last input that is asked for and once to its end. Layers with one input share
their Hessian. What is measured goes to the cache under the names that `problems` uses, so it is
found again; blocks behind the last one that lacks a Hessian are not run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

import torch

from quantcore import machine, problems, streams
from quantcore.blocks import LayerInfo, find_blocks
from quantcore.corpora import Split
from quantcore.errors import ProblemError
from quantcore.objective import LayerProblem
from quantcore.problems import Passage
from quantcore.sources import LoadedModel

Observe = Callable[[int, float], None]


def run(
    loaded: LoadedModel,
    layers: Sequence[LayerInfo],
    parts: Mapping[Split, Passage],
    counts: Sequence[int],
    observe: Observe = lambda block, share: None,
) -> Iterator[tuple[LayerInfo, list[LayerProblem]]]:
    """The problems of these layers, first block first.

    One layer's problems are in memory, and one block's Hessians while they are measured.

    Args:
        loaded: The model, in float32.
        layers: Those asked for, of any blocks.
        parts: The text's two parts.
        counts: Rising numbers of calibration windows; a layer has a problem for each.
        observe: Called with a block's number and the share of its windows that have been seen;
            what it raises ends the work.

    Raises:
        SourceError: the model's blocks cannot be run one by one.
        ProblemError: a layer's weight or inputs cannot be used.
        ResourceError: a block's Hessians do not fit into memory.
    """
    learned = [parts["calibration"].first(count) for count in counts]
    walk = None
    for number, some in groupby(sorted(layers, key=_block), key=_block):
        here = list(some)
        missing = [info for info in here if _lacking(loaded, info, [*learned, parts["evaluation"]])]
        if missing:
            walk = walk or _Walk(loaded, learned, parts["evaluation"], observe)
            walk.measure(number, missing)
        for info in here:
            yield info, [_problem(loaded, info, part, parts["evaluation"]) for part in learned]


class _Walk:
    """Hidden states of both parts of the text, on their way through the blocks."""

    def __init__(
        self, loaded: LoadedModel, learned: list[Passage], heldout: Passage, observe: Observe
    ) -> None:
        self._loaded, self._observe = loaded, observe
        self._learned, self._heldout = learned, heldout
        windows = torch.cat([learned[-1].windows, heldout.windows])
        self._hidden, self._arguments = streams.start(loaded.model, windows)
        self._blocks, self._at = find_blocks(loaded.model)[1], 0

    def measure(self, number: int, layers: Sequence[LayerInfo]) -> None:
        """Go on to a block, and put its layers' Hessians into the cache."""
        self._go_to(number)
        block, arguments = self._blocks[number], self._here()
        stages = streams.stages(block, self._hidden, arguments)
        shared = [[info for info in layers if info.projection in stage] for stage in stages]
        firsts = {some[0].projection: some for some in shared if some}
        self._require_memory(number, [some[0].columns for some in firsts.values()])
        counts = [len(part.windows) for part in self._learned]
        both = (counts, self._learned), ([len(self._heldout.windows)], [self._heldout])
        hidden = self._hidden.split([counts[-1], len(self._heldout.windows)])
        beat = self._beat(number)
        for states, (ends, parts) in zip(hidden, both, strict=True):
            found = streams.hessians(block, list(firsts), states, arguments, ends, beat)
            for name, some in firsts.items():
                for info in some:
                    for part, hessian in zip(parts, found[name], strict=True):
                        problems.keep(self._loaded, info.name, part, hessian)

    def _go_to(self, number: int) -> None:
        while self._at < number:
            self._observe(number, 0.0)
            block = self._blocks[self._at]
            self._hidden = streams.through(block, self._hidden, self._here())
            self._at += 1

    def _here(self) -> streams.Arguments:
        return streams.to_device(self._arguments[self._at], self._loaded.model.device)

    def _beat(self, number: int) -> Callable[[], None]:
        """Counts batches; where the windows are cut there is one more than even batches make."""
        total, done = len(list(streams.batches(self._hidden))) + len(self._learned), 0

        def beat() -> None:
            nonlocal done
            done += 1
            self._observe(number, min(1.0, done / total))

        return beat

    def _require_memory(self, number: int, columns: list[int]) -> None:
        doubles = 2 + len(self._learned) / 2  # the sum and its mean, and what is found
        need = int(sum(8 * doubles * inputs**2 for inputs in columns))
        purpose = f"measuring the Hessians of block {number}"
        machine.require_memory(need, purpose, self._loaded.model.device)


def _block(info: LayerInfo) -> int:
    return info.block


def _lacking(loaded: LoadedModel, info: LayerInfo, parts: Sequence[Passage]) -> bool:
    return any(problems.kept(loaded, info.name, part) is None for part in parts)


def _problem(
    loaded: LoadedModel, info: LayerInfo, learned: Passage, heldout: Passage
) -> LayerProblem:
    try:
        return problems.from_kept(loaded, info.name, learned, heldout)
    except ProblemError as error:
        raise ProblemError(f"layer {info.name}: {error}") from None
