r"""The format: a weight matrix as scaled sums of codewords, and what it costs in bits.

AQLM (arXiv:2401.06118, section 3, output group 1) cuts each row of W into groups of g consecutive
inputs and writes group j of row o as

    Q[o, j] = s_o * sum_m C_m[codes[o, j, m]]

with M codebooks C_m of K = 2^B words each and one scale a row. Every tensor here has the axes
`out` (rows), `groups` (in / g), `books` (M), `size` (K) and `group` (g).

rho = N / K^M (arXiv:2604.08118, definition 1.1) compares the layer's N = out * in / g groups with
the K^M sums that the codebooks can form: above 1 the groups outnumber them.
"""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import kernels
from quantcore.errors import SchemeError, quoted

MAX_CODEBOOKS = 4
MAX_BITS = 16
FAR = 4096  # from a group size that does not fit to one that is worth naming
FLOAT_BITS = 16  # codebooks and scales are stored as fp16


@dataclass(frozen=True, order=True)
class Scheme:
    """How many codebooks, how large, over groups of how many weights.

    Attributes:
        codebooks: M, codewords summed for each group, 1 to 4.
        bits: B, bits of one code; a codebook holds K = 2^B words; 1 to 16.
        group: g, consecutive input weights encoded together.

    >>> Scheme(2, 8, 8).code_bits
    2.0
    """

    codebooks: int = 2
    bits: int = 8
    group: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.codebooks <= MAX_CODEBOOKS:
            raise SchemeError(f"codebooks must be 1 to {MAX_CODEBOOKS}, got {self.codebooks}")
        if not 1 <= self.bits <= MAX_BITS:
            raise SchemeError(f"bits must be 1 to {MAX_BITS}, got {self.bits}")
        if self.group < 1:
            raise SchemeError(f"group must be at least 1, got {self.group}")

    def __str__(self) -> str:
        return f"{self.codebooks}x{self.bits} g{self.group}"

    @classmethod
    def parse(cls, words: str) -> "Scheme":
        """The scheme that words such as "2x8g8" or "2x8 g8" name.

        Raises:
            SchemeError: they name none.

        >>> Scheme.parse("2x8g8")
        Scheme(codebooks=2, bits=8, group=8)
        """
        found = re.fullmatch(r"(\d{1,9})x(\d{1,9}) ?g(\d{1,9})", words.strip(), re.ASCII)
        if found is None:
            raise SchemeError(f"a scheme is written like 2x8g8, got {quoted(words)}")
        return cls(*map(int, found.groups()))

    @property
    def size(self) -> int:
        """K, words in one codebook."""
        return 1 << self.bits

    @property
    def code_bits(self) -> float:
        """Bits of codes for one weight: M * B / g."""
        return self.codebooks * self.bits / self.group

    def groups(self, out: int, columns: int) -> int:
        """N, groups in a layer of this shape."""
        return out * (columns // self.group)

    def rho(self, out: int, columns: int) -> float:
        """Representational ratio N / K^M (arXiv:2604.08118, definition 1.1)."""
        return self.groups(out, columns) / float(self.size**self.codebooks)

    def bits_per_weight(self, out: int, columns: int) -> float:
        """Bits of codes, fp16 codebooks and fp16 scales, over the weights they stand for.

        AQLM (arXiv:2401.06118), equation 10.

        >>> round(Scheme(2, 8, 8).bits_per_weight(192, 576), 2)
        2.62
        """
        codes = self.groups(out, columns) * self.codebooks * self.bits
        books = self.codebooks * self.size * self.group * FLOAT_BITS
        return (codes + books + out * FLOAT_BITS) / (out * columns)

    def check(self, out: int, columns: int) -> None:
        """Refuse a layer that this scheme does not divide, naming the nearest that do.

        Raises:
            SchemeError: `columns` is no multiple of the group size, or there are fewer groups
                than codewords in a codebook.
        """
        if columns % self.group:
            near = _divisors_around(columns, self.group)
            choices = " or ".join(str(Scheme(self.codebooks, self.bits, g)) for g in near)
            raise SchemeError(
                f"scheme {self} does not fit a layer of {out}x{columns}: {columns} inputs do not "
                f"divide into groups of {self.group}; try {choices}"
            )
        groups = self.groups(out, columns)
        if self.size > groups:
            fits = Scheme(self.codebooks, max(1, groups.bit_length() - 1), self.group)
            raise SchemeError(
                f"scheme {self} does not fit a layer of {out}x{columns}: a codebook of {self.size} "
                f"words is more than the layer's {groups} groups can fill; try {fits}"
            )


PRESETS: dict[float, Scheme] = {
    1.0: Scheme(1, 8, 8),
    1.5: Scheme(2, 6, 8),
    2.0: Scheme(2, 8, 8),
    2.5: Scheme(2, 5, 4),  # 2x10 g8 has these code bits too, and codebooks as dear as 3x8 g8
    3.0: Scheme(3, 8, 8),
    4.0: Scheme(4, 8, 8),
}
"""Bits of codes a weight -> the scheme that `--bpp` stands for."""


def preset(bits_per_weight: float) -> Scheme:
    """The scheme of a `--bpp` preset.

    Raises:
        SchemeError: there is no such preset.

    >>> str(preset(2.0))
    '2x8 g8'
    """
    if bits_per_weight not in PRESETS:
        known = ", ".join(f"{bits:g}" for bits in PRESETS)
        raise SchemeError(
            f"there is no preset for {bits_per_weight:g} bits per weight; choose one of {known}, "
            "or name codebooks, bits and group"
        )
    return PRESETS[bits_per_weight]


@dataclass(frozen=True)
class AdditiveWeight:
    """A matrix as scaled sums of codewords (see the module's formula)."""

    codes: Int[Tensor, "out groups books"]
    codebooks: Float[Tensor, "_ size group"]  # as many as codes has books, checked below
    scales: Float[Tensor, " out"]

    def __post_init__(self) -> None:
        if self.codes.shape[-1] != self.codebooks.shape[0]:
            raise SchemeError(
                f"codes name {self.codes.shape[-1]} codebooks, "
                f"but {self.codebooks.shape[0]} are given"
            )

    @property
    def scheme(self) -> Scheme:
        """The scheme this weight is written in."""
        books, size, group = self.codebooks.shape
        return Scheme(books, size.bit_length() - 1, group)

    def __getitem__(self, rows: slice) -> "AdditiveWeight":
        """Some rows of the matrix."""
        return AdditiveWeight(self.codes[rows], self.codebooks, self.scales[rows])

    def dense(self) -> Float[Tensor, "out columns"]:
        """Decode to the dense matrix."""
        return kernels.decode(self.codes, self.codebooks, self.scales)

    def unscaled(self) -> Float[Tensor, "out columns"]:
        """Decode without the row scales."""
        return decode(self.codes, self.codebooks).flatten(1)

    def usage(self) -> Int[Tensor, "books size"]:
        """How many groups use each codeword."""
        size = self.codebooks.shape[1]
        books = self.codes.flatten(0, 1).T.long()  # [books, out * groups]
        return torch.stack([torch.bincount(codes, minlength=size) for codes in books])


def decode(
    codes: Int[Tensor, "out groups books"], codebooks: Float[Tensor, "books size group"]
) -> Float[Tensor, "out groups group"]:
    """Sum each group's codewords, without the row scales."""
    out, groups, _ = codes.shape
    return kernels.decode(codes, codebooks, codebooks.new_ones(out)).view(out, groups, -1)


def _divisors_around(columns: int, group: int) -> list[int]:
    """The largest divisor of `columns` below `group` and the smallest above it, as far as near."""
    lower = range(min(group - 1, columns), max(0, group - FAR), -1)
    upper = range(group + 1, min(group + FAR, columns) + 1)
    near = [next((d for d in some if columns % d == 0), None) for some in (lower, upper)]
    return [d for d in near if d is not None] or [1]
