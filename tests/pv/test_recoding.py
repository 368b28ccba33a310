import math
from dataclasses import replace

import cases
import oracles
import pytest
import torch
from safetensors.torch import load_file

from quantcore.errors import InputError
from quantcore.pv import recoding
from quantcore.pv.recoding import RecodeConfig
from quantcore.weight import AdditiveWeight, Scheme

NATURAL = torch.arange(4)


@pytest.fixture(params=cases.SHAPES, ids=str)
def case(request, rng):
    out, groups, scheme = request.param
    return cases.make(rng, out, groups, scheme)


def recoded(weight, target, config, order=None, blocks=None):
    """The new weight, its groups that might change, and what the call said."""
    order = NATURAL[: weight.codes.shape[2]] if order is None else order
    found = recoding.recode(weight, weight.dense(), target, config, order, blocks)
    codes = weight.codes.clone()
    codes.view(-1, codes.shape[2])[found.groups] = found.codes
    return replace(weight, codes=codes), found


def metric_of(problem, group, metric):
    groups = problem.weight.shape[1] // group
    return problem.blocks(group) if metric == "hessian" else torch.eye(group).repeat(groups, 1, 1)


def slow(weight, target, share, order, blocks):
    """Coordinate descent over the groups that differ most, everything decoded in float64."""
    out, groups, _ = weight.codes.shape
    group = weight.codebooks.shape[2]
    codes = weight.codes.clone()

    def distance(o, j, words):
        one = oracles.decode(words[None, None], weight.codebooks, weight.scales[o : o + 1])[0]
        delta = target[o, j * group : (j + 1) * group].double() - one
        return float(delta @ blocks[j].double() @ delta)

    places = [(o, j) for o in range(out) for j in range(groups)]
    places.sort(key=lambda place: -distance(*place, codes[place]))
    for o, j in places[: math.ceil(share * len(places))]:
        for m in order.tolist():
            tried = []
            for k in range(weight.codebooks.shape[1]):
                words = codes[o, j].clone()
                words[m] = k
                tried.append((distance(o, j, words), k))
            codes[o, j, m] = min(tried)[1]
    return codes


@pytest.mark.parametrize("metric", ["plain", "hessian"])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_groups_that_differ_most_get_the_codes_of_coordinate_descent(case, metric, share):
    problem, weight = case
    blocks = metric_of(problem, weight.codebooks.shape[2], metric)
    order = NATURAL[: weight.codes.shape[2]].flip(0)
    expected = slow(weight, problem.weight, share, order, blocks)
    given = blocks if metric == "hessian" else None
    new, found = recoded(weight, problem.weight, RecodeConfig(share), order, given)
    assert torch.equal(new.codes, expected)
    assert found.changed == int((expected != weight.codes).any(2).sum())
    assert len(found.groups) == math.ceil(share * weight.codes[..., 0].numel())


def test_the_decoded_groups_are_those_of_the_whole_weight_to_the_bit(case):
    problem, weight = case
    new, found = recoded(weight, problem.weight, RecodeConfig(0.5))
    dense = weight.dense()
    dense.view(-1, weight.codebooks.shape[2])[found.groups] = found.dense
    assert torch.equal(dense, new.dense())


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_the_codes_are_those_of_the_released_code(shared, share):
    given = load_file(shared / "golden" / f"pv_code_update_f{100 * share:02.0f}.safetensors")
    weight = AdditiveWeight(given["codes_before"], given["codebooks"], given["row_scales"])
    new, _ = recoded(weight, given["straight_through_buffer"], RecodeConfig(share))
    assert torch.equal(new.codes, given["codes_after"])


def test_no_group_gets_further_from_its_target_and_a_beam_of_full_width_finds_the_nearest(rng):
    problem, weight = cases.make(rng, 6, 5, Scheme(2, 3, 4))
    parts = problem.weight.view(6, 5, 4)

    def distances(weight):
        return (parts - weight.dense().view(6, 5, 4)).square().sum(2)

    one, full = (recoded(weight, problem.weight, RecodeConfig(1.0, n))[0] for n in (1, 8))
    assert (distances(one) <= distances(weight) * (1 + 1e-5)).all()
    words = [a + b for a in weight.codebooks[0] for b in weight.codebooks[1]]
    sums = weight.scales[:, None, None] * torch.stack(words)[None]  # [out, words, group]
    nearest = (parts[:, :, None] - sums[:, None]).square().sum(3).amin(2)
    torch.testing.assert_close(distances(full), nearest)


def test_the_trust_ratio_is_passed_by_no_more_than_the_last_group(rng):
    problem, weight = cases.make(rng, 16, 8, Scheme(2, 3, 4))
    dense, free = weight.dense(), recoded(weight, problem.weight, RecodeConfig(1.0))[1]
    for trust in (1e-9, 0.05, 0.2, 100.0):
        new, found = recoded(weight, problem.weight, RecodeConfig(1.0, trust=trust))
        change = (new.dense() - dense).view(-1, 4)[found.groups]  # in the ranking's order
        moved = change.square().sum(1)
        last = int(moved.nonzero()[-1])
        assert moved[:last].sum().sqrt() < trust * dense.norm()
        assert moved.sum().sqrt() >= trust * dense.norm() or found.changed == free.changed
        assert torch.equal(found.codes[: last + 1], free.codes[: last + 1])
        assert found.changed >= 1


@pytest.mark.parametrize("skew", [1, 4])
def test_tables_hold_every_group_once_and_few_empty_cells(rng, skew):
    metric = (40 * torch.rand(300, generator=rng) ** skew).long()
    tables = list(recoding._tables(metric, 40))
    members = torch.cat([table.members for table in tables])
    assert members.sort().values.tolist() == list(range(300))
    cells = 0
    for table in tables:
        places = set(zip(table.rows.tolist(), table.columns.tolist(), strict=True))
        assert len(places) == len(table.members)
        assert torch.equal(table.metrics[table.columns], metric[table.members])
        assert int(table.rows.min()) == 0
        cells += (int(table.rows.max()) + 1) * len(table.metrics)
    assert cells <= 3 * 300 + 40
    assert len(tables) <= 3 * (1 + math.log2(300 / (300 // 40)))  # 40 metrics: 3 tables abreast


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"change": 1.5}, "share of groups to change must be 0 to 1, got 1.5"),
        ({"beam": 0}, "beam must be at least 1, got 0"),
        ({"trust": 0.0}, "trust ratio must be above 0, got 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RecodeConfig(**settings)
