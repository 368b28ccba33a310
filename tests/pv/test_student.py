import copy

import models
import pairs
import pytest
import quantized
import torch

from quantcore import linear, machine
from quantcore.errors import InputError
from quantcore.pv import student


@pytest.fixture(params=["llama", "qwen2", "phi3"])
def model(request, rng):
    return quantized.model(rng, request.param)


def test_a_student_computes_what_the_quantized_model_does_and_gives_it_back(model):
    before = copy.deepcopy(model)
    learner, weights = student.take(model)
    student.show(learner, weights, {})
    assert not linear.quantized_layers(model)
    expected = before(models.windows()).logits
    torch.testing.assert_close(model(models.windows()).logits, expected)
    student.give_back(learner, weights, {})
    torch.testing.assert_close(model(models.windows()).logits, expected)
    assert list(model.state_dict()) == list(before.state_dict())
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_vectors_learn_and_matrices_that_are_not_quantized_do_only_when_asked(rng):
    learner, _ = student.take(quantized.model(rng, "qwen2"))
    assert all(value.ndim == 1 for value in learner.others.values())
    assert "model.norm.weight" in learner.others
    assert "model.layers.0.self_attn.q_proj.bias" in learner.others
    learner, _ = student.take(quantized.model(rng, "qwen2"), embeddings=True)
    assert {"lm_head.weight", "model.embed_tokens.weight"} < set(learner.others)
    asked = [value for value in learner.model.parameters() if value.requires_grad]
    assert len(asked) == len(learner.layers) + len(learner.others)


def test_tied_embeddings_are_one_parameter(rng):
    learner, _ = student.take(quantized.model(rng, "llama"), embeddings=True)
    ends = [name for name, value in learner.others.items() if value.ndim > 1]
    assert ends == ["model.embed_tokens.weight"]
    assert learner.model.lm_head.weight is learner.others[ends[0]]


def test_gradients_are_those_of_the_quantized_layers_themselves(model):
    """`QuantizedLinear` has a backward pass of its own."""
    direct = copy.deepcopy(model).requires_grad_(True)
    direct(models.windows()).logits.square().mean().backward()
    learner, weights = student.take(model)
    student.show(learner, weights, {})
    model(models.windows()).logits.square().mean().backward()
    for name, layer in linear.quantized_layers(direct).items():
        dense = learner.layers[name].weight
        books, scales = student.gradients(weights[name], dense.detach(), dense.grad)
        torch.testing.assert_close(books, layer.codebooks.grad[:, :, 0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(scales, layer.scales.grad.flatten(), rtol=1e-3, atol=1e-5)
    for name, value in learner.others.items():
        wanted = direct.get_parameter(name).grad
        torch.testing.assert_close(value.grad, wanted, rtol=1e-3, atol=1e-5)


def test_a_row_of_scale_zero_gets_a_finite_gradient(rng):
    weight = quantized.weight(rng, 3, 16)
    weight.scales[1] = 0
    _, scales = student.gradients(weight, weight.dense(), torch.ones(3, 16))
    assert scales.isfinite().all()


def test_blocks_computed_twice_give_the_same_gradients(rng, monkeypatch):
    found = {}
    for free in (1 << 40, 0):
        monkeypatch.setattr(machine, "available_memory", lambda device, free=free: free)
        rng.manual_seed(0)
        learner, weights = student.take(quantized.model(rng, "qwen2"))
        student.show(learner, weights, {})
        block, calls = learner.model.model.layers[0], []
        forward = block.forward
        block.mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        with student.lean(learner, tokens=36) as needed:
            assert needed == (not free)
            learner.model(models.windows()).logits.square().mean().backward()
        assert len(calls) == (1 if free else 2)
        assert block.forward == forward
        found[free] = [layer.weight.grad for layer in learner.layers.values()]
    for one, two in zip(*found.values(), strict=True):
        assert torch.equal(one, two)


def test_what_learns_is_used_as_it_is_stored(rng):
    problem, weights = pairs.problem(rng)
    weights = {name: student.AdditiveWeight(*vars(w).values()) for name, w in weights.items()}
    name, weight = next(iter(weights.items()))
    weight.codebooks.mul_(1.0003)  # no longer exact in float16
    others = {key: 1.0003 * value.detach() for key, value in problem.student.others.items()}
    student.show(problem.student, weights, others)
    used = problem.student.layers[name].weight.clone()
    shown = problem.student.model(models.windows()).logits
    student.give_back(problem.student, weights, others)
    layer = linear.quantized_layers(problem.student.model)[name]
    assert torch.equal(layer.to_weight().dense(), used)
    assert torch.equal(layer.codebooks, layer.codebooks.half().float())
    torch.testing.assert_close(problem.student.model(models.windows()).logits, shown)


def test_a_model_without_quantized_layers_is_refused():
    with pytest.raises(InputError, match="no quantized layer to tune"):
        student.take(models.tiny_llama())
