import models
import pytest
import quantized
import torch

from quantcore import calibration
from quantcore.blocks import linear_layers
from quantcore.errors import InputError
from quantcore.objective import LayerProblem
from quantcore.pv import teacher
from quantcore.pv.teacher import Teacher


def test_logits_are_the_head_of_the_hidden_states():
    model = models.tiny_qwen()
    ids = models.windows()[0]
    ours = teacher.head_of(model)(teacher.hidden(model, ids))
    torch.testing.assert_close(ours, model(ids[None]).logits[0])


def test_text_is_run_once_while_there_is_room(monkeypatch):
    model, calls = models.tiny_llama(), []
    wise = Teacher(model)
    model.model.register_forward_hook(lambda *_: calls.append(1))
    windows = models.windows(3, 8)
    monkeypatch.setattr(wise, "_left", 2 * 8 * 16 * 4)  # two windows of 16 channels
    first = [wise.hidden(ids) for ids in windows]
    again = [wise.hidden(ids.clone()) for ids in windows]
    assert len(calls) == 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_model_that_caps_its_logits_is_refused(rng):
    model = quantized.model(rng, "gemma2", final_logit_softcapping=1.0)
    with pytest.raises(InputError, match="gemma2 model changes its logits"):
        Teacher(model)


def test_metrics_are_the_diagonal_blocks_of_the_damped_hessians():
    model, windows = models.tiny_llama(), models.windows(3, 12)
    names = list(linear_layers(model))[5:8]
    found = Teacher(model).metrics(dict.fromkeys(names, 8), windows)
    for name in names:
        hessian = calibration.hessian(model, name, windows)
        damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
        weight = model.get_submodule(name).weight
        torch.testing.assert_close(found[name], LayerProblem(weight, damped).blocks(8))
    assert not any(model.get_submodule(name)._forward_pre_hooks for name in names)
