from dataclasses import replace

import cases
import pytest
import torch

from quantcore import feedback, layer, surface
from quantcore.alignment import Space
from quantcore.errors import InputError
from quantcore.feedback import FeedbackConfig
from quantcore.init import InitConfig
from quantcore.layer import LayerConfig
from quantcore.objective import LayerProblem, Regularisation
from quantcore.surface import Plane
from quantcore.weight import AdditiveWeight, Scheme

SCHEME = Scheme(2, 3, 4)
PLAIN = Regularisation()
PLACES = torch.tensor([[0.0, 0.0], [0.3, -0.1], [-0.2, 0.4]], dtype=torch.float64)


@pytest.fixture
def problem(rng):
    return cases.make(rng, 24, 8, SCHEME).problem


def ends_of(problem):
    """Two runs' ends and the first's start."""
    runs = []
    for name in ("greedy", "oa-em"):
        config = LayerConfig(SCHEME, InitConfig(name), sweeps=1)
        seen = []
        layer.quantize(problem, config, torch.Generator().manual_seed(0), reached=seen.append)
        runs.append(seen)
    return runs[0][-1], runs[1][-1], runs[0][0]


def surface_between(problem, rows=100, regularisation=PLAIN):
    a, b, start = ends_of(problem)
    space = Space(problem.weight.norm(dim=1), a.codes.shape[1])
    plane = surface.plane_through(
        *(space.point(one.codebooks, one.scales) for one in (a, b, start))
    )
    return surface.surface_of(problem, regularisation, plane, (a, b), rows), a, b


def weight_at(found, codes, place):
    """The whole layer at a point, by the definition of the plane."""
    point = found.plane.origin + place[0] * found.plane.axes[0] + place[1] * found.plane.axes[1]
    words, logs = found.space.split(point, found.like)
    scales = found.space.norms.double() * logs.exp()
    return AdditiveWeight(codes, words.float(), scales.float())


def test_the_plane_goes_through_its_three_points(rng):
    a, b, start = torch.randn(3, 7, generator=rng, dtype=torch.float64)
    plane = surface.plane_through(a, b, start)
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    points = torch.stack([a, b, start])
    found = plane.coordinates(points)
    assert torch.allclose(found[0], torch.zeros(2, dtype=torch.float64))
    assert torch.allclose(found[1], torch.stack([(b - a).norm(), torch.zeros(()).double()]))
    assert found[2, 1] > 0
    assert torch.allclose(plane.origin + found @ plane.axes, points)
    assert plane.distances(points).max() < 1e-12


def test_how_much_of_a_path_the_plane_shows():
    plane = Plane(torch.zeros(3).double(), torch.eye(3)[:2].double())
    path = torch.tensor([[0, 0, 1], [3, 0, 1], [3, 0, 5]], dtype=torch.float64)  # 9 in, 16 out
    assert plane.explained(path) == 9 / 25
    assert plane.distances(path).tolist() == [1, 1, 5]
    assert plane.explained(path[:1].repeat(2, 1)) is None


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_points_on_a_line_span_no_plane(end):
    start = torch.tensor([2.0, 2.0]).double()
    with pytest.raises(InputError, match="lie on one line, so they span no plane"):
        surface.plane_through(torch.zeros(2).double(), torch.full((2,), end).double(), start)


def test_fixed_codes_have_the_error_of_the_decoded_matrix(problem):
    found, a, b = surface_between(problem)
    for codes in (a.codes, b.codes):
        curve = found.fixed(codes, PLACES)
        want = [problem.errors(weight_at(found, codes, place)) for place in PLACES]
        assert curve["calibration"] == pytest.approx([one.relative for one in want], rel=1e-4)
        assert curve["heldout"] == pytest.approx([one.heldout_relative for one in want], rel=1e-4)


def test_an_end_with_its_own_codes_has_its_own_error(problem):
    found, a, b = surface_between(problem)
    places = found.plane.coordinates(
        torch.stack([found.space.point(end.codebooks, end.scales) for end in (a, b)])
    )
    for place, end in zip(places, (a, b), strict=True):
        own, curve = problem.errors(end), found.fixed(end.codes, place[None])
        assert curve["calibration"][0] == pytest.approx(own.relative, rel=1e-5)
        assert curve["heldout"][0] == pytest.approx(own.heldout_relative, rel=1e-5)


def test_reassigned_codes_are_those_of_error_feedback(problem):
    regularisation = Regularisation(damping=0.1, shrinkage=0.3)
    found, a, b = surface_between(problem, regularisation=regularisation)
    factor = feedback.factor(problem.regularised(regularisation), 4)
    want = []
    for place in PLACES:
        weight = weight_at(found, b.codes, place)
        want.append(problem.errors(feedback.run(problem, weight, factor, FeedbackConfig())))
    done = []
    curve = found.reassigned(PLACES, done.append)
    assert curve["calibration"] == pytest.approx([one.relative for one in want], rel=1e-5)
    assert curve["heldout"] == pytest.approx([one.heldout_relative for one in want], rel=1e-5)
    assert done == [0, 1, 2]
    # the codes at hand have no part in it
    other = replace(found, like=replace(a, codes=torch.zeros_like(a.codes)))
    assert other.reassigned(PLACES) == curve


def test_with_independent_groups_reassigning_is_exact_and_never_above_fixed_codes(problem):
    plain = LayerProblem.weight_only(problem.weight)  # 8 words, 16 candidates: all are tried
    found, a, b = surface_between(plain)
    places = torch.cartesian_prod(*[torch.linspace(-0.5, 0.5, 4, dtype=torch.float64)] * 2)
    best = found.reassigned(places)["calibration"]
    for codes in (a.codes, b.codes):
        fixed = found.fixed(codes, places)["calibration"]
        assert all(low <= high * (1 + 1e-6) for low, high in zip(best, fixed, strict=True))


def test_no_heldout_hessian_no_heldout_errors(problem):
    found, a, _ = surface_between(replace(problem, heldout_hessian=None))
    assert found.fixed(a.codes, PLACES)["heldout"] is None
    assert found.reassigned(PLACES)["heldout"] is None
    assert found.reassigned(PLACES[:0]) == {"calibration": [], "heldout": None}


def test_rows_are_drawn_by_their_error():
    errors = torch.tensor([1.0, 6.0, 1.0])
    drawn, stretch = surface.sampled(errors, 2)  # the middles of 8 cut in two: 2 and 6
    assert drawn.tolist() == [1]
    assert stretch.square().tolist() == pytest.approx([4 / 3])  # twice, for 1.5 draws expected
    drawn, stretch = surface.sampled(errors, 3)
    assert drawn.tolist() == [0, 1, 2]
    assert stretch.tolist() == [1, 1, 1]


def test_a_sample_keeps_the_sum_that_it_was_drawn_by(problem):
    found, a, b = surface_between(problem, rows=7)
    assert len(found.rows) <= 7 < len(problem.weight)
    ends = [found.space.point(end.codebooks, end.scales) for end in (a, b)]
    places = found.plane.coordinates(torch.stack(ends))
    of_sample = sum(
        found.fixed(end.codes, place[None])["calibration"][0]
        for end, place in zip((a, b), places, strict=True)
    )
    of_layer = sum(problem.errors(end).relative for end in (a, b))
    assert of_sample == pytest.approx(of_layer, rel=1e-4)


def test_axes_have_a_margin_of_the_longer_side():
    x, y = surface.axes_around(torch.tensor([[0.0, 1.0], [10.0, 3.0], [5.0, 2.0]]), 3)
    assert x.tolist() == [-1, 5, 11]
    assert y.tolist() == [0, 2, 4]


def test_a_barrier_is_over_the_higher_end():
    curve = {"calibration": [2.0, 5.0, 4.0], "heldout": [3.0, 1.0, 2.0]}
    assert surface.barrier(curve) == {"calibration": 0.25, "heldout": 0.0}
