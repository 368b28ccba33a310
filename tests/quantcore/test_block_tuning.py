import copy

import models
import pytest
import torch

from quantcore import block_tuning, linear, streams
from quantcore.block_tuning import Pairs, TuningConfig
from quantcore.errors import InputError
from quantcore.linear import QuantizedLinear
from quantcore.weight import AdditiveWeight


@pytest.fixture
def case(rng):
    """A block with a disturbed quantized layer, its arguments, and pairs from the true one."""
    model = models.tiny_llama()
    begin = streams.start(model, models.windows(12, 16))
    block = model.model.layers[0].float()
    wanted = streams.through(block, begin.hidden, begin.arguments[0])
    disturbed = copy.deepcopy(block)
    dense = block.mlp.up_proj.weight
    books = torch.randn(2, 4, 8, generator=rng) * 0.3
    codes = torch.randint(4, (24, 2, 2), generator=rng, dtype=torch.int32)
    weight = AdditiveWeight(codes, books, dense.norm(dim=1))
    linear.replace(disturbed, "mlp.up_proj", QuantizedLinear.from_weight(weight))
    sides = [Pairs(begin.hidden[some], wanted[some]) for some in (slice(8), slice(8, 12))]
    return disturbed, begin.arguments[0], *sides


def relative(block, arguments, pairs):
    """The mean error of tokens, one at a time."""
    found = streams.through(block, pairs.given, arguments).double()
    total = 0.0
    for window, wanted in zip(found, pairs.wanted.double(), strict=True):
        for y, goal in zip(window, wanted, strict=True):
            total += ((y - goal) @ (y - goal) / (goal @ goal)).item()
    return total / (found.shape[0] * found.shape[1])


def test_the_error_is_the_mean_over_tokens(case):
    block, arguments, calibration, _ = case
    found = block_tuning.error(block, arguments, calibration)
    assert found == pytest.approx(relative(block, arguments, calibration), rel=1e-5)


def test_tuning_lowers_both_errors(case, rng):
    block, arguments, calibration, heldout = case
    codes = block.mlp.up_proj.codes.clone()
    dense = block.mlp.down_proj.weight.clone()
    told = []
    infos = block_tuning.run(
        block, arguments, calibration, heldout, TuningConfig(8, 1e-2), rng, told.append
    )
    assert told == infos
    assert [info.epoch for info in infos] == list(range(9))
    assert relative(block, arguments, calibration) < 0.9 * infos[0].error
    assert relative(block, arguments, heldout) == pytest.approx(
        min(info.heldout for info in infos), rel=1e-5
    )
    assert torch.equal(block.mlp.up_proj.codes, codes)
    assert torch.equal(block.mlp.down_proj.weight, dense)  # dense weights are not ours to change


def test_what_is_tuned_is_what_can_be_stored(case, rng):
    block, arguments, *sides = case
    block_tuning.run(block, arguments, *sides, TuningConfig(2), rng)
    for value in block_tuning.parameters(block):
        assert torch.equal(value, value.half().float())
        assert not value.requires_grad
        assert value.grad is None


def test_an_epoch_that_harms_is_undone(case, rng):
    block, arguments, *sides = case
    infos = block_tuning.run(block, arguments, *sides, TuningConfig(1, rate=3.0), rng)
    assert infos[1].heldout > infos[0].heldout
    assert relative(block, arguments, sides[1]) == pytest.approx(infos[0].heldout, rel=1e-5)


def test_no_epoch_only_rounds(case, rng):
    block, arguments, *sides = case
    before = [value.half().float() for value in block_tuning.parameters(block)]
    assert len(block_tuning.run(block, arguments, *sides, TuningConfig(0), rng)) == 1
    for value, rounded in zip(block_tuning.parameters(block), before, strict=True):
        assert torch.equal(value, rounded)


def test_the_same_generator_gives_the_same_bits(case):
    states = []
    for _ in range(2):
        block = copy.deepcopy(case[0])
        rng = torch.Generator().manual_seed(3)
        block_tuning.run(block, *case[1:], TuningConfig(2), rng)
        states.append([value.clone() for value in block_tuning.parameters(block)])
    assert all(map(torch.equal, *states))


@pytest.mark.parametrize("bad", [{"epochs": -1}, {"rate": 0.0}])
def test_settings_are_checked(bad):
    with pytest.raises(InputError):
        TuningConfig(**bad)
