import cases
import oracles
import pytest
import torch
from safetensors.torch import load_file

from quantcore import beam, sweep
from quantcore.beam import BeamConfig
from quantcore.errors import Cancelled, InputError
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, Scheme


def row_errors(case, weight):
    return case.problem.row_errors(weight.dense())


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize(("out", "groups", "scheme"), cases.SHAPES)
def test_search_equals_decoding_every_hypothesis(rng, out, groups, scheme, width):
    case = cases.make(rng, out, groups, scheme)
    found = beam.run(case.problem, case.weight, BeamConfig(width), rng)
    hessian, books = case.problem.hessian, case.weight.codebooks
    for o in range(out):
        row, scale, codes = case.problem.weight[o], case.weight.scales[o], case.weight.codes[o]
        want = oracles.beam_row(row, hessian, books, scale, codes, width)
        assert torch.equal(found.codes[o], want)


def test_full_width_is_exhaustive_search(rng):
    case = cases.make(rng, 3, 2, Scheme(2, 1, 2))
    found = beam.run(case.problem, case.weight, BeamConfig(width=16), rng)
    for o in range(3):
        want, error = oracles.best_row_codes(
            case.problem.weight[o],
            case.problem.hessian,
            case.weight.codebooks,
            case.weight.scales[o],
        )
        assert torch.equal(found.codes[o], want)
        assert float(row_errors(case, found)[o]) == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_no_row_gets_worse(rng, width, outliers, shuffle):
    case = cases.make(rng, 8, 6, Scheme(2, 3, 4), outliers)
    weight = case.weight
    for _ in range(3):
        after = beam.run(case.problem, weight, BeamConfig(width, shuffle=shuffle), rng)
        assert (row_errors(case, after) <= row_errors(case, weight)).all()
        weight = after
    assert row_errors(case, weight).sum() < row_errors(case, case.weight).sum()


def test_rows_in_chunks_find_the_same(rng, monkeypatch):
    case = cases.make(rng, 7, 5)
    whole = beam.run(case.problem, case.weight, BeamConfig(4), rng)
    monkeypatch.setattr(sweep, "CHUNK", 1)
    monkeypatch.setattr(sweep, "PANEL", 2)
    seen = []
    parts = beam.run(case.problem, case.weight, BeamConfig(4), rng, seen.append)
    assert torch.equal(whole.codes, parts.codes)
    assert [info.done for info in seen] == list(range(1, 7 * 5 + 1))
    assert seen[-1].total == 7 * 5


def test_shuffled_order_follows_the_generator(rng):
    case = cases.make(rng, 8, 8)

    def search(seed):
        config = BeamConfig(2, shuffle=True)
        return beam.run(case.problem, case.weight, config, torch.Generator().manual_seed(seed))

    assert torch.equal(search(1).codes, search(1).codes)
    assert not torch.equal(search(1).codes, search(2).codes)


def test_shuffled_search_is_the_natural_one_on_shuffled_columns(rng):
    case = cases.make(rng, 8, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    columns = torch.arange(32).view(8, 4)[order].flatten()
    moved = LayerProblem(case.problem.weight[:, columns], case.problem.hessian[columns][:, columns])
    start = AdditiveWeight(case.weight.codes[:, order], case.weight.codebooks, case.weight.scales)
    want = beam.run(moved, start, BeamConfig(3), rng)
    shuffled = BeamConfig(3, shuffle=True)
    got = beam.run(case.problem, case.weight, shuffled, torch.Generator().manual_seed(5))
    assert torch.equal(got.codes[:, order], want.codes)
    assert not torch.equal(got.codes, beam.run(case.problem, case.weight, BeamConfig(3), rng).codes)


@pytest.mark.parametrize("books", [1, 2, 3])
def test_descent_over_all_candidates_leaves_no_better_words_for_any_group(rng, books):
    """With all partial choices kept, each group ends at its best words given the other groups."""
    case = cases.make(rng, 4, 1, Scheme(books, 2, 3))
    found = beam.run(case.problem, case.weight, BeamConfig(1, candidates=4**books), rng)
    assert torch.equal(found.codes, oracles.best_codes(case.problem, case.weight))


def test_scaling_the_hessian_moves_no_code(rng):
    case = cases.make(rng, 6, 5)
    scaled = LayerProblem(case.problem.weight, 64 * case.problem.hessian)
    one = beam.run(case.problem, case.weight, BeamConfig(4), rng)
    assert torch.equal(one.codes, beam.run(scaled, case.weight, BeamConfig(4), rng).codes)


def test_nothing_is_written_to_and_stopping_is_immediate(rng, monkeypatch):
    monkeypatch.setattr(sweep, "PANEL", 1)
    case = cases.make(rng, 6, 5)
    before = case.weight.codes.clone()

    def stop(info):
        assert info.done == 1
        raise Cancelled("asked to")

    with pytest.raises(Cancelled, match="asked to"):
        beam.run(case.problem, case.weight, BeamConfig(4), rng, stop)
    beam.run(case.problem, case.weight, BeamConfig(4), rng)
    assert torch.equal(case.weight.codes, before)


@pytest.mark.parametrize("width", [1, 4, 8])
def test_search_equals_the_released_code(shared, rng, width):
    golden = load_file(shared / "golden" / f"beam_search_b{width}.safetensors")
    problem = LayerProblem(golden["weight"], golden["hessian"])
    before = AdditiveWeight(golden["codes_before"], golden["codebooks"], golden["row_scales"])
    after = beam.run(problem, before, BeamConfig(width), rng)
    assert torch.equal(after.codes, golden["codes_after"])
    torch.testing.assert_close(
        problem.row_errors(after.dense()).float(), golden["row_loss_after"], rtol=1e-4, atol=1e-5
    )


def test_width_must_be_positive():
    with pytest.raises(InputError, match="beam width must be at least 1, got 0"):
        BeamConfig(width=0)
