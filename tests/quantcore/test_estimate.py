import time

import cases
import pytest
import torch

from quantcore import estimate, layer
from quantcore.estimate import LayerClock, Rates
from quantcore.init import INITIALISERS, InitConfig
from quantcore.layer import LayerConfig, Tick
from quantcore.search import SEARCHES, SearchConfig
from quantcore.weight import Scheme

SCHEME = Scheme(2, 3, 4)


@pytest.fixture(autouse=True)
def unit_rates(monkeypatch):
    """A machine that takes a second for every piece of work."""
    monkeypatch.setattr(estimate, "rates_of", lambda device: Rates(*[1.0] * 6))


def test_seconds_by_hand():
    search = SearchConfig("beam", 2)
    config = LayerConfig(scheme=SCHEME, init=InitConfig("greedy"), search=search, sweeps=3)
    found = estimate.layer_seconds(config, 5, 12)  # 15 groups, 3 a row
    assert found.init == estimate.KMEANS_ROUNDS * 2 * 15 * 8
    assert found.search == 3 * (15 * (2 + 2) * 8 + 15 * 2 * 6)
    assert found.refit == 4 * 5 * 12**2
    assert found.total == found.init + found.refit + found.search


def test_feedback_by_hand():
    search = SearchConfig(candidates=4, feedback_sweeps=1)
    config = LayerConfig(scheme=SCHEME, init=InitConfig("greedy"), search=search, sweeps=2)
    found = estimate.layer_seconds(config, 5, 12)  # feedback and descent, then descent
    assert found.search == pytest.approx(12**3 / 3 + 3 * (15 * (1 + 4) * 8 + 15 * 6))
    assert found.refit == 4 * 5 * 12**2


def test_more_work_takes_longer():
    def total(out=64, columns=64, **settings):
        return estimate.layer_seconds(
            LayerConfig(**{"scheme": SCHEME, **settings}), out, columns
        ).total

    assert total(out=128) > total()
    assert total(columns=128) > total()
    assert total(search=SearchConfig(width=16)) > total()
    assert total(sweeps=8) > total()
    assert total(scheme=Scheme(2, 4, 4)) > total()
    assert total(init=InitConfig("oa-em")) > total(init=InitConfig("greedy"))


def test_bytes_cover_the_matrices_and_grow_with_the_codebooks():
    small = estimate.layer_bytes(LayerConfig(scheme=Scheme(2, 8, 8)), 4096, 4096)
    large = estimate.layer_bytes(LayerConfig(scheme=Scheme(1, 16, 8)), 4096, 4096)
    assert small > 4 * 5 * 4096**2  # three Hessians: two texts and the factor
    assert large > small + 8 * 65536 * 64  # the sums A_k
    plain = LayerConfig(search=SearchConfig("beam"))
    assert estimate.layer_bytes(plain, 64, 4096) < estimate.layer_bytes(LayerConfig(), 64, 4096)


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("search", SEARCHES)
def test_the_clock_runs_forward_and_ends_near_one(rng, name, search):
    problem = cases.make(rng, 24, 8, SCHEME).problem
    init, how = InitConfig(name), SearchConfig(search)
    config = LayerConfig(scheme=SCHEME, init=init, search=how, sweeps=3, rtol=-1.0)
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
    last = estimate.PHASES[how.steps(3)[-1]]
    assert f"{last}, sweep 3 of at most 3" in words


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the processor waits for the device")
def test_time_that_others_take_is_not_the_works():
    assert estimate._fastest(lambda: time.sleep(0.3)) < 0.1
