import cases
import pytest
import torch
from safetensors.torch import load_file

from quantcore import layer
from quantcore.beam import BeamConfig
from quantcore.errors import Cancelled, InputError
from quantcore.init import INITIALISERS, InitConfig
from quantcore.layer import LayerConfig, Phase
from quantcore.objective import LayerProblem, Regularisation
from quantcore.weight import Scheme

SCHEME = Scheme(2, 3, 4)


@pytest.fixture
def problem(rng):
    return cases.make(rng, 24, 8, SCHEME).problem


def quantize(problem, seed=0, observe=lambda info: None, **settings):
    config = LayerConfig(**{"scheme": SCHEME, **settings})
    return layer.quantize(problem, config, torch.Generator().manual_seed(seed), observe)


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("outliers", [False, True])
def test_no_phase_raises_the_error(rng, name, outliers):
    problem = cases.make(rng, 24, 8, SCHEME, outliers).problem
    state = quantize(problem, init=InitConfig(name), rtol=0.0)
    errors = [phase.errors.error for phase in state.trace]
    assert errors == sorted(errors, reverse=True)
    assert [phase.phase for phase in state.trace[:4]] == ["init", "refit", "search", "refit"]
    assert state.trace[-1].phase == "refit"
    assert problem.errors(state.weight.dense()) == state.trace[-1].errors


def test_the_regularised_error_never_rises_either(problem):
    moved = Regularisation(damping=0.1, shrinkage=0.5)
    seen = problem.regularised(moved)
    state = quantize(problem, regularisation=moved, sweeps=0)
    config = LayerConfig(scheme=SCHEME, regularisation=moved)
    before = seen.errors(state.weight.dense()).error
    for _ in range(3):
        state = layer.step(problem, state, config, torch.Generator(), lambda info: None)
        after = seen.errors(state.weight.dense()).error
        assert after <= before
        before = after


def test_shrinkage_pays_on_held_out_text_where_calibration_is_short(rng):
    # 40 columns known from 30 tokens: the search fits what is noise in H
    inputs = torch.randn(4000, 40, generator=rng) * torch.linspace(0.5, 2, 40)
    calibration, heldout = inputs[:30], inputs[30:]
    problem = LayerProblem(
        torch.randn(32, 40, generator=rng),
        calibration.T @ calibration / 30,
        heldout.T @ heldout / 3970,
    )
    plain = quantize(problem).trace[-1].errors
    shrunk = quantize(problem, regularisation=Regularisation(shrinkage=0.5)).trace[-1].errors
    assert shrunk.relative > plain.relative
    assert shrunk.heldout_relative < 0.8 * plain.heldout_relative


def test_sweeps_stop_once_the_error_stalls(problem):
    long = quantize(problem, sweeps=50)
    assert long.trace[-1].sweep < 50
    short = quantize(problem, sweeps=50, rtol=0.2)
    assert short.trace[-1].sweep < long.trace[-1].sweep


def test_no_sweeps_leaves_the_initialisation(problem):
    assert [phase.phase for phase in quantize(problem, sweeps=0).trace] == ["init"]


def test_seconds_only_grow_and_the_observer_sees_the_trace(problem):
    seen = []
    state = quantize(problem, observe=seen.append)
    phases = [info for info in seen if isinstance(info, Phase)]
    assert tuple(phases) == state.trace
    seconds = [phase.seconds for phase in phases]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert len(seen) > 3 * len(phases)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(problem):
    one, two, three = quantize(problem, 1), quantize(problem, 1), quantize(problem, 2)
    assert torch.equal(one.weight.codes, two.weight.codes)
    assert torch.equal(one.weight.codebooks, two.weight.codebooks)
    assert not torch.equal(one.weight.codes, three.weight.codes)


def test_an_observer_can_stop_it(problem):
    def stop(info):
        if isinstance(info, Phase) and info.phase == "refit":
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        quantize(problem, observe=stop)


def test_sweeps_must_not_be_negative():
    with pytest.raises(InputError, match="sweeps must be at least 0, got -1"):
        LayerConfig(sweeps=-1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reference_layer_ends_where_it_should(shared, seed):
    """The released code ends at .01112 (greedy) and .01054 (its OA-EM) on this layer."""
    tensors = load_file(shared / "data" / "smollm2_layers.safetensors")
    prefix = "model.layers.10.self_attn.q_proj"
    problem = LayerProblem(
        *(tensors[f"{prefix}.{name}"] for name in ("weight", "hessian", "heldout_hessian"))
    )
    ends = {}
    for name in ("greedy", "oa-em"):
        config = LayerConfig(init=InitConfig(name), beam=BeamConfig(8), sweeps=4)
        state = layer.quantize(problem, config, torch.Generator().manual_seed(seed))
        ends[name] = [state.trace[i].errors.relative for i in (0, -1)]
    assert ends["greedy"][0] >= 4 * ends["oa-em"][0]
    assert ends["greedy"][1] <= 0.0111
    assert ends["oa-em"][1] <= 0.0108
