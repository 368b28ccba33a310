r"""The layer problem that every algorithm here minimizes.

A linear layer with weight W [out, in] sees inputs x with second moment H = E[x x^T] = X^T X /
tokens. Writing Q for W changes its output by (W - Q) x, whose expected square, averaged over rows,
is

    error(Q) = tr((W - Q) H (W - Q)^T) / out

(arXiv:2604.08118, equation 1, divided by tokens and rows). The relative error divides by the same
of Q = 0. Weight-only quantization is H = I.

H is estimated from a calibration text. What an algorithm gains there it may lose elsewhere, so a
problem also carries the Hessian of other text, held out: no algorithm sees it, every report shows
it.

Regularisation happens here and nowhere else: `regularise` damps H (adds a share of its mean
diagonal) and shrinks it towards its diagonal. Algorithms minimize over the regularised matrix; the
errors that are reported are always those of the plain ones.

H fills the memory more than anything else, W comes next. Whatever is as large as W and needed only
for a while is made a chunk of rows at a time (`row_chunks`), and H goes to float64 by panels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore.errors import InputError, ProblemError
from quantcore.weight import AdditiveWeight

CHUNK = 1 << 22  # numbers of a tall array that meet H at once
SLICE = 1 << 19  # numbers of one that does not
PANEL = 256  # columns of H held in float64 at once
MOST_DAMPING = 1e6  # which leaves nothing of H but its mean; more would not fit into float32
SYMMETRY = 1e-3  # largest |H - H^T| accepted, as a share of the largest |H|


@dataclass(frozen=True)
class Regularisation:
    """How far H is moved before an algorithm sees it.

    Attributes:
        damping: Added to the diagonal, as a share of its mean.
        shrinkage: Share by which entries off the diagonal are reduced, 0 to 1.
    """

    damping: float = 0.0
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.damping <= MOST_DAMPING:
            raise InputError(
                f"damping must be at least 0 and at most {MOST_DAMPING:g}, got {self.damping}"
            )
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"shrinkage must be between 0 and 1, got {self.shrinkage}")


def regularise(
    hessian: Float[Tensor, "columns columns"], config: Regularisation
) -> Float[Tensor, "columns columns"]:
    """(1 - shrinkage) H + shrinkage diag(H) + damping mean(diag(H)) I."""
    diagonal = hessian.diagonal()
    moved = (1 - config.shrinkage) * hessian
    moved.diagonal().add_(config.shrinkage * diagonal + config.damping * diagonal.mean())
    return moved


Approx = Float[Tensor, "out columns"] | AdditiveWeight
"""What may stand for W: a dense matrix, or codes that are decoded a chunk of rows at a time."""


@dataclass(frozen=True)
class LayerProblem:
    """A dense weight, the second moment of its inputs, and the same on held-out text.

    Raises:
        ProblemError: a tensor is not finite, or a Hessian is not square, not symmetric, not of
            the weight's size, or a row of the weight is all zeros.
    """

    weight: Float[Tensor, "out columns"]
    hessian: Float[Tensor, "_ _"]  # the checks below say more than a type error would
    heldout_hessian: Float[Tensor, "_ _"] | None = None

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        _check_hessian("hessian", self.hessian, self.weight)
        if self.heldout_hessian is not None:
            _check_hessian("heldout_hessian", self.heldout_hessian, self.weight)

    @classmethod
    def weight_only(cls, weight: Float[Tensor, "out columns"]) -> "LayerProblem":
        """The problem without data: H = I, so the error is the squared distance to W."""
        return cls(weight, torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device))

    def to(self, device: str | torch.device) -> "LayerProblem":
        """The same problem on another device."""
        heldout = self.heldout_hessian
        return LayerProblem(
            self.weight.to(device),
            self.hessian.to(device),
            None if heldout is None else heldout.to(device),
        )

    def regularised(self, config: Regularisation) -> "LayerProblem":
        """The problem an algorithm is given: the same weight, the calibration Hessian moved."""
        if config == Regularisation():
            return self
        return replace(self, hessian=regularise(self.hessian, config))

    def blocks(self, group: int) -> Float[Tensor, "groups group group"]:
        """The diagonal blocks of H, one g x g metric for each group of inputs."""
        groups = self.hessian.shape[0] // group
        tiles = self.hessian.unflatten(1, (groups, group)).unflatten(0, (groups, group))
        return torch.diagonal(tiles, dim1=0, dim2=2).permute(2, 0, 1).contiguous()

    def row_errors(self, approx: Approx) -> Float[Tensor, " out"]:
        """Expected squared output error of each row on the calibration Hessian."""
        return _row_errors(self.weight, approx, self.hessian)

    def row_gains(self, old: Approx, new: Approx) -> Float[Tensor, " out"]:
        """How much lower each row's error is under `new`, on the calibration Hessian.

        Of the changes a and b of W it is a H a^T - b H b^T = (a - b) H (a + b)^T: one product.
        """
        gains = self.weight.new_empty(len(self.weight), dtype=torch.float64)
        for rows in row_chunks(CHUNK, *self.weight.shape):
            before, after = _dense(old, rows), _dense(new, rows)
            both = (self.weight[rows] - before).add_(self.weight[rows]).sub_(after)
            moved = (after - before).double()
            gains[rows] = sum(
                pulls.mul_(both[:, here]).sum(1) for here, pulls in pulls_of(moved, self.hessian)
            )
        return gains

    def error(self, approx: Approx) -> float:
        """The error of `approx` on the calibration Hessian."""
        return self.row_errors(approx).mean().item()

    def errors(self, approx: Approx) -> "Errors":
        """The error of `approx`, absolute and relative, on calibration and held-out text."""
        error, heldout = self.error(approx), None
        if self.heldout_hessian is not None and self.heldout_energy is not None:
            lost = _row_errors(self.weight, approx, self.heldout_hessian).mean().item()
            heldout = lost / self.heldout_energy
        return Errors(error, error / self.energy, heldout)

    @cached_property
    def row_energies(self) -> Float[Tensor, " out"]:
        """The error of Q = 0 in each row on the calibration Hessian."""
        return _row_errors(self.weight, None, self.hessian)

    @property
    def energy(self) -> float:
        """The same averaged over rows, what relative errors divide by.

        Raises:
            ProblemError: the layer's output is zero.
        """
        return _some(self.row_energies, "calibration")

    @cached_property
    def heldout_energy(self) -> float | None:
        """The same on the held-out Hessian, where there is one."""
        if self.heldout_hessian is None:
            return None
        return _some(_row_errors(self.weight, None, self.heldout_hessian), "held-out")


@dataclass(frozen=True)
class Errors:
    """One approximation's error.

    Attributes:
        error: tr((W - Q) H (W - Q)^T) / out on the calibration Hessian.
        relative: The same over that of Q = 0.
        heldout_relative: The relative error on the held-out Hessian, where there is one.
    """

    error: float
    relative: float
    heldout_relative: float | None


def row_chunks(numbers: int, out: int, columns: int) -> list[slice]:
    """Slices of rows that hold no more than so many numbers each, and at least a row."""
    rows = max(1, numbers // columns)
    return [slice(first, min(first + rows, out)) for first in range(0, out, rows)]


def pulls_of(
    delta: Float[Tensor, "rows columns"], hessian: Float[Tensor, "columns columns"]
) -> Iterator[tuple[slice, Float[Tensor, "rows _"]]]:
    """The product delta H, a panel of columns at a time.

    Both are float64: inputs with enormous outliers cancel badly in float32.
    """
    step = max(PANEL, CHUNK // len(hessian))
    for first in range(0, len(hessian), step):
        here = slice(first, first + step)
        yield here, delta @ hessian[:, here].double()


def _row_errors(
    weight: Float[Tensor, "out columns"],
    approx: Approx | None,
    hessian: Float[Tensor, "columns columns"],
) -> Float[Tensor, " out"]:
    """The error of each row in float64; None stands for Q = 0."""
    errors = weight.new_empty(len(weight), dtype=torch.float64)
    for rows in row_chunks(CHUNK, *weight.shape):
        delta = weight[rows] if approx is None else weight[rows] - _dense(approx, rows)
        errors[rows] = _energies(delta.double(), hessian)
    return errors


def _some(row_energies: Float[Tensor, " out"], text: str) -> float:
    """The mean of an output's energies, which must not be zero."""
    energy = row_energies.mean().item()
    if not energy > 0:
        raise ProblemError(
            f"the layer's output is zero on the {text} text, so that no error is relative to it; "
            "measure the Hessian on other inputs"
        )
    return energy


def _dense(approx: Approx, rows: slice) -> Float[Tensor, "rows columns"]:
    """Some rows of what stands for W."""
    return approx[rows].dense() if isinstance(approx, AdditiveWeight) else approx[rows]


def _energies(
    delta: Float[Tensor, "rows columns"], hessian: Float[Tensor, "columns columns"]
) -> Float[Tensor, " rows"]:
    """The error delta H delta^T of each row, from one triangle of H."""
    energies = delta.new_zeros(len(delta))
    for first in range(0, len(hessian), PANEL):
        here, before = slice(first, first + PANEL), slice(0, first)
        pulls = delta[:, here] @ hessian[here, here].double()
        if first:
            pulls.addmm_(delta[:, before], hessian[before, here].double(), alpha=2)
        energies += (pulls * delta[:, here]).sum(1)
    return energies


def _check_weight(weight: Tensor) -> None:
    if not torch.isfinite(weight).all():
        raise ProblemError("the weight has NaN or infinite entries; check the model file")
    empty = (weight == 0).all(1).nonzero()
    if len(empty):
        raise ProblemError(
            f"row {int(empty[0])} of the weight is all zeros ({len(empty)} such rows), so it has "
            "no scale; prune these rows before quantizing"
        )


def _check_hessian(name: str, hessian: Tensor, weight: Tensor) -> None:
    columns = weight.shape[1]
    if hessian.shape[0] != hessian.shape[1]:
        raise ProblemError(f"{name} must be square, got {_shape(hessian)}")
    if hessian.shape[0] != columns:
        raise ProblemError(
            f"{name} is {_shape(hessian)}, but the weight is {_shape(weight)}; "
            f"it must be {columns}x{columns}"
        )
    low, high = hessian.aminmax()  # NaN and infinity go through both
    largest = max(-low, high)
    if not torch.isfinite(largest):
        raise ProblemError(f"{name} has NaN or infinite entries; measure it again")
    if not _symmetric(hessian, SYMMETRY * float(largest)):
        raise ProblemError(f"{name} must be symmetric; it should be X^T X / tokens")
    if not (hessian.diagonal() >= 0).all() or not hessian.diagonal().any():
        raise ProblemError(
            f"{name} must have a diagonal that is nowhere negative and not all zero; "
            "it should be X^T X / tokens"
        )


def _symmetric(hessian: Tensor, tolerance: float) -> bool:
    """Whether no entry differs from its mirror by more; panel by panel, H may fill the memory."""
    for first in range(0, len(hessian), PANEL):
        some = slice(first, first + PANEL)
        if (hessian[some] - hessian[:, some].T).abs_().max() > tolerance:
            return False
    return True


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape)
