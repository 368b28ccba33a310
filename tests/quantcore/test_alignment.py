import itertools
from dataclasses import replace

import cases
import pytest
import torch

from quantcore import alignment
from quantcore.alignment import Alignment, Space
from quantcore.weight import AdditiveWeight, Scheme


@pytest.fixture
def case(rng):
    return cases.make(rng, 12, 6, Scheme(3, 3, 4))


def space_of(case):
    return Space(case.problem.weight.norm(dim=1), case.weight.codes.shape[1])


def shuffled(weight, rng):
    """The same matrix, its books rolled and words in a random order, one code at a time."""
    books, size, _ = weight.codebooks.shape
    order = torch.arange(books).roll(1)
    words = [torch.randperm(size, generator=rng) for _ in range(books)]
    codes = torch.empty_like(weight.codes)
    for place in itertools.product(*map(range, codes.shape)):
        *where, book = place
        old = int(weight.codes[(*where, int(order[book]))])
        codes[place] = words[book].tolist().index(old)
    copied = torch.stack([weight.codebooks[order[m]][words[m]] for m in range(books)])
    return AdditiveWeight(codes, copied, weight.scales)


def words_of(space, weight):
    return space.split(space.point(weight.codebooks, weight.scales), weight)[0]


@pytest.mark.parametrize("matched", [alignment.MATCHED, 1])
def test_a_permuted_copy_aligns_back_exactly(case, rng, monkeypatch, matched):
    monkeypatch.setattr(alignment, "MATCHED", matched)
    copy, space = shuffled(case.weight, rng), space_of(case)
    assert torch.allclose(copy.dense(), case.weight.dense(), atol=1e-5)
    order = alignment.align(words_of(space, case.weight), words_of(space, copy))
    back = alignment.relabelled(copy, order)
    assert torch.equal(back.codes, case.weight.codes)
    assert torch.equal(back.codebooks, case.weight.codebooks)
    assert order.exact == (matched > 1)


def test_the_order_is_the_nearest_of_all(rng):
    a, b = torch.randn(2, 2, 3, 2, generator=rng, dtype=torch.float64)
    b += 3 * a.flip(0)  # the books nearest to each other are not in the same place
    found = float((a - alignment.reordered(b, alignment.align(a, b))).square().sum())
    orders = list(itertools.permutations(range(3)))
    every = [
        float((a - torch.stack([b[one][list(first)], b[1 - one][list(second)]])).square().sum())
        for one in range(2)
        for first in orders
        for second in orders
    ]
    assert found == pytest.approx(min(every))


def test_another_order_is_the_same_matrix(case, rng):
    order = Alignment(
        torch.tensor([2, 0, 1]), torch.stack([torch.randperm(8, generator=rng)] * 3), True
    )
    turned = alignment.relabelled(case.weight, order)
    assert not torch.equal(turned.codes, case.weight.codes)
    assert torch.allclose(turned.dense(), case.weight.dense(), atol=1e-5)


@pytest.mark.parametrize("change", ["scale", "constant"])
def test_what_changes_nothing_does_not_move_the_point(case, change):
    weight, space = case.weight, space_of(case)
    if change == "scale":
        other = replace(weight, codebooks=3 * weight.codebooks, scales=weight.scales / 3)
    else:
        given = torch.tensor([2.0, -3.0, 1.0])[:, None, None]  # adds up to 0 over the books
        other = replace(weight, codebooks=weight.codebooks + given)
    assert torch.allclose(other.dense(), weight.dense(), atol=1e-5)
    points = [space.point(one.codebooks, one.scales) for one in (weight, other)]
    assert torch.allclose(*points, atol=1e-6)


def test_a_point_decodes_to_the_matrix(case):
    weight, space = case.weight, space_of(case)
    words, logs = space.split(space.point(weight.codebooks, weight.scales), weight)
    found = AdditiveWeight(weight.codes, words, space.norms.double() * logs.exp())
    assert torch.allclose(found.dense(), weight.dense().double(), atol=1e-5)
    assert float(logs.mean()) == pytest.approx(0, abs=1e-12)


def test_a_distance_is_the_relative_change_of_the_matrix():
    # one book, every word used once by the only row, which is 5 long and has scale 5
    weight = AdditiveWeight(
        torch.tensor([[[0], [1]]]), torch.tensor([[[0.6], [-0.6]]]), torch.tensor([5.0])
    )
    other = replace(weight, codebooks=torch.tensor([[[0.8], [-0.8]]]))
    space = Space(torch.tensor([5.0]), 2)
    moved = space.point(other.codebooks, other.scales) - space.point(
        weight.codebooks, weight.scales
    )
    change = (other.dense() - weight.dense()).norm() / 5
    assert float(moved.norm()) == pytest.approx(float(change), rel=1e-6)


def test_differing_counts_codes():
    some = torch.tensor([[[0, 1], [2, 3]]])
    assert alignment.differing(some, torch.tensor([[[0, 1], [2, 0]]])) == 0.25
    assert alignment.differing(some, some) == 0
