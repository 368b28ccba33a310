import math

import pytest
import torch

from quantcore.errors import InputError
from quantcore.pv.optimizers import Moments, OptimizerConfig, step_


def slow(values, gradients, config):
    """The module's formulas in loops of float64."""
    b1, b2 = config.betas
    p, m, v = [list(map(float, part)) for part in (values, [0] * len(values), [0] * len(values))]
    for t, gradient in enumerate(gradients, 1):
        u = []
        for i, g in enumerate(gradient.tolist()):
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            u.append(m[i] / (math.sqrt(v[i]) + config.eps))
        size = config.lr * math.sqrt(1 - b2**t) / (1 - b1**t)
        if config.name == "lamb":
            size *= math.dist(p, [0] * len(p)) / math.dist(u, [0] * len(u))
        p = [a - size * b for a, b in zip(p, u, strict=True)]
    return torch.tensor(p, dtype=torch.float64)


@pytest.mark.parametrize("name", ["lamb", "adam"])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.0, 0.95)])
def test_steps_are_those_of_the_formulas(rng, name, betas):
    value = torch.randn(7, generator=rng, dtype=torch.float64)
    gradients = [torch.randn(7, generator=rng, dtype=torch.float64) * 3**n for n in range(5)]
    config = OptimizerConfig(name, 0.03, betas)
    expected, moments = slow(value, gradients, config), Moments.zeros(value, config)
    for number, gradient in enumerate(gradients, 1):
        step_(value, gradient, moments, number, config)
    torch.testing.assert_close(value, expected)


def test_adam_is_torchs_where_eps_does_not_count(rng):
    value = torch.nn.Parameter(torch.randn(5, 4, generator=rng))
    ours, config = value.detach().clone(), OptimizerConfig("adam", 0.01, (0.9, 0.95), eps=1e-12)
    theirs = torch.optim.Adam([value], 0.01, (0.9, 0.95), eps=1e-12)
    moments = Moments.zeros(ours, config)
    for number in range(1, 6):
        value.grad = torch.randn(5, 4, generator=rng)
        step_(ours, value.grad, moments, number, config)
        theirs.step()
    torch.testing.assert_close(ours, value.detach())


def test_lamb_moves_a_tensor_by_a_share_of_its_norm_whatever_its_gradients(rng):
    for size in (1e-3, 1e3):
        value, config = torch.randn(50, generator=rng), OptimizerConfig("lamb", 0.01, (0.0, 0.95))
        before, moments = value.clone(), Moments.zeros(value, config)
        assert moments.first is None
        step_(value, size * torch.randn(50, generator=rng), moments, 1, config)
        moved = (value - before).norm() / before.norm()
        torch.testing.assert_close(moved, torch.tensor(0.01 * math.sqrt(1 - 0.95)))


def test_a_tensor_of_zeros_and_one_without_gradient_stay_finite():
    config = OptimizerConfig("lamb", 0.01)
    for value, gradient in ((torch.zeros(3), torch.ones(3)), (torch.ones(3), torch.zeros(3))):
        step_(value, gradient, Moments.zeros(value, config), 1, config)
        assert value.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sgd"}, "there is no optimizer 'sgd'; choose lamb or adam"),
        ({"lr": -1.0}, "learning rate must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        OptimizerConfig(**settings)
