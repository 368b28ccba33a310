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
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore.errors import InputError, ProblemError

CHUNK = 1 << 22  # numbers of a tall product held at once
PANEL = 1024  # columns of H held in float64 at once
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
        if not self.damping >= 0:
            raise InputError(f"damping must be at least 0, got {self.damping}")
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"shrinkage must be between 0 and 1, got {self.shrinkage}")


def regularise(
    hessian: Float[Tensor, "columns columns"], config: Regularisation
) -> Float[Tensor, "columns columns"]:
    """(1 - shrinkage) H + shrinkage diag(H) + damping mean(diag(H)) I."""
    diagonal = hessian.diagonal()
    extra = config.shrinkage * diagonal + config.damping * diagonal.mean()
    return (1 - config.shrinkage) * hessian + torch.diag(extra)


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

    def row_errors(self, approx: Float[Tensor, "out columns"]) -> Float[Tensor, " out"]:
        """Expected squared output error of each row on the calibration Hessian."""
        return _row_errors(self.weight - approx, self.hessian)

    def error(self, approx: Float[Tensor, "out columns"]) -> float:
        """The error of `approx` on the calibration Hessian."""
        return self.row_errors(approx).mean().item()

    def errors(self, approx: Float[Tensor, "out columns"]) -> "Errors":
        """The error of `approx`, absolute and relative, on calibration and held-out text."""
        delta = self.weight - approx
        error = _row_errors(delta, self.hessian).mean().item()
        heldout = None
        if self.heldout_hessian is not None and self.heldout_energy is not None:
            heldout = _row_errors(delta, self.heldout_hessian).mean().item() / self.heldout_energy
        return Errors(error, error / self.energy, heldout)

    @cached_property
    def row_energies(self) -> Float[Tensor, " out"]:
        """The error of Q = 0 in each row on the calibration Hessian."""
        return _row_errors(self.weight, self.hessian)

    @property
    def energy(self) -> float:
        """The same averaged over rows, what relative errors divide by."""
        return self.row_energies.mean().item()

    @cached_property
    def heldout_energy(self) -> float | None:
        """The same on the held-out Hessian, where there is one."""
        if self.heldout_hessian is None:
            return None
        return _row_errors(self.weight, self.heldout_hessian).mean().item()


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


def row_chunks(out: int, columns: int) -> list[slice]:
    """Slices of rows that hold no more than `CHUNK` numbers each."""
    rows = max(1, CHUNK // columns)
    return [slice(first, min(first + rows, out)) for first in range(0, out, rows)]


def pulls_of(
    delta: Float[Tensor, "rows columns"], hessian: Float[Tensor, "columns columns"]
) -> Float[Tensor, "rows columns"]:
    """The product delta H in float64: inputs with enormous outliers cancel badly in float32."""
    exact = delta.double()
    pulls = torch.empty_like(exact)
    for first in range(0, len(hessian), PANEL):
        some = slice(first, first + PANEL)
        pulls[:, some] = exact @ hessian[:, some].double()
    return pulls


def _row_errors(
    delta: Float[Tensor, "out columns"], hessian: Float[Tensor, "columns columns"]
) -> Float[Tensor, " out"]:
    """The error delta H delta^T of each row in float64, from one triangle of H."""
    errors = delta.new_zeros(len(delta), dtype=torch.float64)
    for first in range(0, len(hessian), PANEL):
        here, before = slice(first, first + PANEL), slice(0, first)
        own, across = hessian[here, here].double(), hessian[before, here].double()
        for rows in row_chunks(*delta.shape):
            part = delta[rows, here].double()
            pulls = part @ own
            if first:
                pulls.addmm_(delta[rows, before].double(), across, alpha=2)
            errors[rows] += (pulls * part).sum(1)
    return errors


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
        if ((hessian[some] - hessian[:, some].T).abs() > tolerance).any():
            return False
    return True


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape)
