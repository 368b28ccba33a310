import cases
import pytest
import torch

from quantcore import estimate, layer
from quantcore.beam import BeamConfig
from quantcore.estimate import LayerClock, Rates
from quantcore.init import INITIALISERS, InitConfig
from quantcore.layer import LayerConfig, Tick
from quantcore.weight import Scheme

SCHEME = Scheme(2, 3, 4)


@pytest.fixture(autouse=True)
def unit_rates(monkeypatch):
    """A machine that takes a second for every piece of work."""
    monkeypatch.setattr(estimate, "rates_of", lambda device: Rates(1.0, 1.0, 1.0, 1.0, 1.0, 1.0))


def test_seconds_by_hand():
    config = LayerConfig(scheme=SCHEME, init=InitConfig("greedy"), beam=BeamConfig(2), sweeps=3)
    found = estimate.layer_seconds(config, 5, 12)  # 15 groups, 3 a row
    assert found.init == estimate.KMEANS_ROUNDS * 2 * 15 * 8
    assert found.search == 3 * (3 * 2 + 15 * 2 * 2 * 8 + 15 * 2 * 6)
    steps = estimate.FIRST_REFIT_STEPS + 3 * estimate.REFIT_STEPS
    assert found.refit == steps * 2 * 5 * 12**2
    assert found.total == found.init + found.refit + found.search


def test_more_work_takes_longer():
    def total(out=64, columns=64, **settings):
        return estimate.layer_seconds(
            LayerConfig(**{"scheme": SCHEME, **settings}), out, columns
        ).total

    assert total(out=128) > total()
    assert total(columns=128) > total()
    assert total(beam=BeamConfig(16)) > total()
    assert total(sweeps=8) > total()
    assert total(scheme=Scheme(2, 4, 4)) > total()
    assert total(init=InitConfig("oa-em")) > total(init=InitConfig("greedy"))


def test_bytes_cover_the_matrices_and_grow_with_the_codebooks():
    small = estimate.layer_bytes(LayerConfig(scheme=Scheme(2, 8, 8)), 4096, 4096)
    large = estimate.layer_bytes(LayerConfig(scheme=Scheme(1, 16, 8)), 4096, 4096)
    assert small > 4 * 3 * 4096**2
    assert large > small + 7 * 4096 * 65536  # scores of one group of every row, in two copies


@pytest.mark.parametrize("name", INITIALISERS)
def test_the_clock_runs_forward_and_ends_near_one(rng, name):
    problem = cases.make(rng, 24, 8, SCHEME).problem
    config = LayerConfig(scheme=SCHEME, init=InitConfig(name), sweeps=3, rtol=-1.0)
    clock, shares, words = LayerClock(config, 24, 32), [], []

    def watch(info):
        if isinstance(info, Tick):
            shares.append(clock.share(info))
            words.append(clock.words(info))

    layer.quantize(problem, config, torch.Generator().manual_seed(0), watch)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert 0.9 < shares[-1] <= 1
    assert "codebook 1, EM in the metric of the weights" in words
    assert "beam search, sweep 3 of at most 3" in words
