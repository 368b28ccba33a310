r"""The layer's error over a plane of codebooks and scales.

The plane lies in the space of `alignment`: its origin is the end of A, its first axis runs to the
end of B, its second, at right angles, towards the start of A. At a point of it, codes are either

    fixed        those of an end. With words q = q_0 + x q_1 + y q_2 decoded, the error of a row is
                 a polynomial in x and y but for its scale, so a surface of any size takes three
                 decodings and a product with H.
    reassigned   the best that error feedback (`feedback`) finds for the point's codebooks and
                 scales. It encodes from nothing, so the error depends on the point alone and not on
                 the way there; like any search it may miss the best codes, and an end, whose
                 codebooks were fitted to codes found with more effort, can lie below it.

A surface is measured on a sample of rows. Few rows may hold most of the error, so rows are drawn by
what theirs is at the ends: of so many equal parts of all error, each draws the row that its middle
falls in. A row drawn c times is stretched by sqrt(c / expected draws), which moves no code; errors
then add up to an estimate of the whole layer's, and its energy is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import feedback
from quantcore.alignment import Space
from quantcore.errors import InputError
from quantcore.feedback import FeedbackConfig
from quantcore.objective import LayerProblem, Regularisation
from quantcore.sweep import Metric
from quantcore.weight import AdditiveWeight, decode

MARGIN = 0.1  # around all places, as a share of the longer side
SAME = 1e-9  # of the plane's own lengths: closer points are one


Curve = dict[str, list[float] | None]
"""Relative errors at some points by text, "calibration" and "heldout"; None without the latter."""


class Plane(NamedTuple):
    """A point and two directions of length 1 at right angles."""

    origin: Float[Tensor, " numbers"]
    axes: Float[Tensor, "2 numbers"]

    def coordinates(self, points: Float[Tensor, "points numbers"]) -> Float[Tensor, "points 2"]:
        """Where on the plane points lie, or what of it is nearest."""
        return (points - self.origin) @ self.axes.T

    def distances(self, points: Float[Tensor, "points numbers"]) -> Float[Tensor, " points"]:
        """How far from the plane points lie."""
        off = points - self.origin - self.coordinates(points) @ self.axes
        return off.square().sum(1).sqrt()

    def explained(self, path: Float[Tensor, "points numbers"]) -> float | None:
        """The share of a path's squared steps that lies in the plane; None if it does not move."""
        steps = path.diff(dim=0)
        whole = float(steps.square().sum())
        return float((steps @ self.axes.T).square().sum()) / whole if whole else None


def plane_through(
    end_a: Float[Tensor, " numbers"],
    end_b: Float[Tensor, " numbers"],
    start_a: Float[Tensor, " numbers"],
) -> Plane:
    """The plane through three points.

    Raises:
        InputError: they lie on a line.
    """
    across, up = end_b - end_a, start_a - end_a
    longest = max(float(across.norm()), float(up.norm()))
    first = across / across.norm()
    rest = up - (up @ first) * first
    if not min(float(across.norm()), float(rest.norm())) > SAME * longest:
        raise InputError(
            "the two ends and the first start lie on one line, so they span no plane; choose runs "
            "with other initialisers or seeds"
        )
    return Plane(end_a, torch.stack([first, rest / rest.norm()]))


@dataclass(frozen=True)
class Surface:
    """What an error at a point of the plane is measured with.

    Attributes:
        problem: The sampled rows of the layer, stretched.
        factor: The Hessian's block factors, of the matrix that the runs' search saw.
        space: The points of the whole layer.
        rows: The sampled rows' numbers.
        plane: Where points lie.
        like: A weight of the layer, for its shape.
        shares: The sample's energy over the layer's, calibration and held-out.
    """

    problem: LayerProblem
    factor: Metric
    space: Space
    rows: Int[Tensor, " rows"]
    plane: Plane
    like: AdditiveWeight
    shares: tuple[float, float | None]

    def reassigned(
        self,
        places: Float[Tensor, "places 2"],
        observe: Callable[[int], None] = lambda done: None,
    ) -> Curve:
        """The errors at points, codes found anew; `observe` hears how many points are done."""
        found = []
        for done, place in enumerate(places):
            observe(done)
            weight = self._weight(place)
            weight = feedback.run(self.problem, weight, self.factor, FeedbackConfig())
            found.append(self.problem.errors(weight))
        heldout = [one.heldout_relative for one in found if one.heldout_relative is not None]
        return self._curve([one.relative for one in found], heldout)

    def fixed(
        self, codes: Int[Tensor, "out groups books"], places: Float[Tensor, "places 2"]
    ) -> Curve:
        """The errors at points under codes of the whole layer."""
        parts = [self.space.split(one, self.like) for one in (self.plane.origin, *self.plane.axes)]
        decoded = torch.stack([decode(codes[self.rows], words).flatten(1) for words, _ in parts])
        logs = torch.stack([logs[self.rows] for _, logs in parts])
        mixes = torch.cat([places.new_ones(len(places), 1), places], 1)  # 1, x, y of every place
        scales = self._norms() * (mixes @ logs).exp()  # [places, rows]
        weight, heldout = self.problem.weight.double(), self.problem.heldout_hessian

        def errors(hessian: Float[Tensor, "columns columns"]) -> list[float]:
            pulls = decoded @ hessian.double()  # [3, rows, columns]
            shared = mixes @ (pulls * weight).sum(2)
            bent = torch.einsum("iro,jro->rij", pulls, decoded)
            energy = torch.einsum("pi,rij,pj->pr", mixes, bent, mixes)
            zero = ((weight @ hessian.double()) * weight).sum()  # the error of Q = 0
            found = 1 + (scales * (scales * energy - 2 * shared)).sum(1) / zero
            return found.tolist()

        return self._curve(errors(self.problem.hessian), [] if heldout is None else errors(heldout))

    def _curve(self, calibration: list[float], heldout: list[float]) -> Curve:
        """The sample's relative errors as the layer's."""
        own, others = self.shares
        return {
            "calibration": [own * error for error in calibration],
            "heldout": None if others is None else [others * error for error in heldout],
        }

    def _norms(self) -> Float[Tensor, " rows"]:
        """|w_o| of the sampled rows, by which a point's scales are relative."""
        return self.problem.weight.double().square().sum(1).sqrt()

    def _weight(self, place: Float[Tensor, " 2"]) -> AdditiveWeight:
        """The sampled rows at a point, with codes of no meaning."""
        words, logs = self.space.split(self.plane.origin + place @ self.plane.axes, self.like)
        return AdditiveWeight(
            self.like.codes[self.rows],
            words.to(self.like.codebooks.dtype),
            (self._norms() * logs[self.rows].exp()).to(self.like.scales.dtype),
        )


def surface_of(
    problem: LayerProblem,
    regularisation: Regularisation,
    plane: Plane,
    ends: tuple[AdditiveWeight, AdditiveWeight],
    rows: int,
) -> Surface:
    """What measures errors over a plane.

    Args:
        problem: The layer; errors are measured with its Hessians.
        regularisation: Of the Hessian that codes are found with.
        plane: Where points lie.
        ends: A and B.
        rows: How many rows are drawn; all are taken once if there are no more.
    """
    like = ends[0]
    drawn, stretch = sampled(problem.row_errors(ends[0]) + problem.row_errors(ends[1]), rows)
    sample = replace(
        problem, weight=problem.weight[drawn] * stretch.to(problem.weight.dtype)[:, None]
    )
    return Surface(
        sample,
        feedback.factor(problem.regularised(regularisation), like.codebooks.shape[2]),
        Space(problem.weight.norm(dim=1), like.codes.shape[1]),
        drawn,
        plane,
        like,
        _shares(sample, problem),
    )


def sampled(
    errors: Float[Tensor, " out"], rows: int
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """The rows that stand for all, and what each is stretched by."""
    if rows >= len(errors):
        return torch.arange(len(errors), device=errors.device), torch.ones_like(errors)
    reach = errors.cumsum(0)
    middles = (torch.arange(rows).to(reach) + 0.5) / rows * reach[-1]
    drawn, counts = torch.searchsorted(reach, middles).unique(return_counts=True)
    return drawn, (counts * reach[-1] / (rows * errors[drawn])).sqrt()


def _shares(sample: LayerProblem, problem: LayerProblem) -> tuple[float, float | None]:
    """The sample's energy over the layer's, both summed over rows."""
    part = len(sample.weight) / len(problem.weight)
    own = part * sample.energy / problem.energy
    if sample.heldout_energy is None or problem.heldout_energy is None:
        return own, None
    return own, part * sample.heldout_energy / problem.heldout_energy


def axes_around(
    places: Float[Tensor, "places 2"], count: int
) -> tuple[Float[Tensor, " count"], Float[Tensor, " count"]]:
    """Evenly spaced values of x and y around all places, with a margin."""
    low, high = places.aminmax(dim=0)
    margin = MARGIN * (high - low).max()
    steps = torch.linspace(0, 1, count, dtype=places.dtype, device=places.device)
    x, y = (low - margin)[:, None] + (high - low + 2 * margin)[:, None] * steps
    return x, y


def barrier(curve: Curve) -> dict[str, float | None]:
    """How much higher than its higher end a curve rises, as a share of that, on each text.

    >>> barrier({"calibration": [1.0, 3.0, 2.0], "heldout": None})
    {'calibration': 0.5, 'heldout': None}
    """
    return {
        split: None if errors is None else max(errors) / max(errors[0], errors[-1]) - 1
        for split, errors in curve.items()
    }
