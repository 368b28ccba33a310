"""How the Triton kernels are launched: their settings as a table, and one launch as a value.

A kernel works on tiles of `rows` x `columns`, named at its rules below. A tile lives in registers,
so a setting holds for groups up to some size. That none of them spills, for the schemes in use, is
checked by compiling each for several architectures and reading the binaries
(`bench/gpu.py --compile`).

The settings are a table and not `@triton.autotune`: the first call costs no search, results do not
depend on a stopwatch, and the kernels run in Triton's interpreter on a machine without a GPU. They
are reckoned from registers and instructions, not yet measured on a GPU (`bench/gpu.py` does that);
so no rule names an architecture so far.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ANY = 1 << 30
WIDEST = 32  # group whose coordinates a thread can own; wider ones go through torch


@dataclass(frozen=True)
class Setting:
    """The tile of one program and the threads that share it."""

    rows: int
    columns: int
    warps: int
    stages: int = 2


@dataclass(frozen=True)
class Rule:
    """A setting and what it is for: the first rule that holds is taken.

    Attributes:
        setting: What is launched.
        arch: Compute capability times ten, from which on it holds.
        group: Largest group.
    """

    setting: Setting
    arch: int = 0
    group: int = ANY


TABLE: dict[str, tuple[Rule, ...]] = {
    # points; each thread measures one
    "measure": (Rule(Setting(1, 128, 4)),),
    # vectors x words: a thread owns rows / (32 warps) vectors and takes them through `columns`
    # words a turn; its vectors' coordinates fill up to 64 registers
    "assign": (
        Rule(Setting(512, 4, 2), group=4),
        Rule(Setting(256, 4, 2), group=16),
        Rule(Setting(128, 2, 2), group=32),
    ),
    # words: one warp, which needs no barrier to find a minimum, and columns / 32 words a thread
    "best": (
        Rule(Setting(1, 512, 1), group=4),
        Rule(Setting(1, 256, 1), group=8),
        Rule(Setting(1, 128, 1), group=16),
        Rule(Setting(1, 64, 1), group=32),
    ),
    "merge": (Rule(Setting(1, 1024, 4)),),  # keys
    # output rows x groups: 16 weights a thread
    "decode": (
        Rule(Setting(4, 128, 4), group=4),
        Rule(Setting(4, 64, 4), group=8),
        Rule(Setting(4, 32, 4), group=16),
        Rule(Setting(4, 8, 4)),
    ),
    "gemv": (
        Rule(Setting(4, 128, 4), group=4),
        Rule(Setting(4, 64, 4), group=8),
        Rule(Setting(4, 32, 4), group=16),
        Rule(Setting(4, 8, 4)),
    ),
    # output rows x groups: a product 64 deep for the tensor cores
    "gemm": (
        Rule(Setting(32, 16, 4), group=4),
        Rule(Setting(32, 8, 4), group=8),
        Rule(Setting(32, 4, 4), group=16),
        Rule(Setting(32, 1, 4)),
    ),
}
"""Kernel -> rules; the first that holds is taken."""


def choose(kernel: str, arch: int, group: int = 1) -> Setting:
    """The setting of a kernel on an architecture for a group.

    >>> choose("assign", 90, 8)
    Setting(rows=256, columns=4, warps=2, stages=2)
    """
    return next(rule.setting for rule in TABLE[kernel] if arch >= rule.arch and group <= rule.group)


@dataclass(frozen=True)
class Launch:
    """One kernel with everything it is called with."""

    kernel: Any
    grid: tuple[int, ...]
    args: tuple[Tensor | int, ...]
    constants: dict[str, int]
    setting: Setting


@dataclass(frozen=True)
class Device:
    """What a plan needs to know of the device: its architecture and its number of processors."""

    arch: int
    processors: int


def device_of(tensor: Tensor) -> Device:
    """The device a tensor lies on; in the interpreter, the oldest and smallest."""
    if not tensor.is_cuda:
        return Device(80, 1)
    facts = torch.cuda.get_device_properties(tensor.device)
    return Device(10 * facts.major + facts.minor, facts.multi_processor_count)


def run(launches: Iterable[Launch], like: Tensor) -> None:
    """Start the kernels one after the other on the device of `like`."""
    here = torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()
    with here:
        for one in launches:
            # fused multiply-adds are named because Triton 3.9 warns where they are not
            options = {"num_stages": one.setting.stages, "enable_fp_fusion": True}
            one.kernel[one.grid](*one.args, **one.constants, num_warps=one.setting.warps, **options)


def power_above(count: int) -> int:
    """The next power of two: Triton's tiles have no other sizes."""
    return 1 << (count - 1).bit_length()


def blocks(count: int, block: int) -> int:
    """How many blocks cover `count`."""
    return -(-count // block)
