import pytest
import torch
from models import tiny_llama, tiny_qwen, windows

from quantcore import calibration, machine
from quantcore.calibration import StreamingHessian
from quantcore.errors import Cancelled, InputError, ResourceError, SourceError

LAYER = "model.layers.1.mlp.down_proj"


def inputs_of(model, name, ids):
    """What the layer sees in an ordinary pass, as rows."""
    seen = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(input_ids=ids)
    hook.remove()
    return seen[0].flatten(0, 1).double()


@pytest.mark.parametrize("chunks", [[37], [1] * 37, [5, 30, 2], [20, 0, 17]])
def test_streaming_is_the_second_moment_in_any_chunking(rng, chunks):
    rows = torch.randn(37, 6, generator=rng) * torch.tensor([1, 1, 1e3, 1, 1e-3, 1])
    moments = StreamingHessian(6)
    for chunk in rows.split(chunks):
        moments.add(chunk)
    exact = rows.double()
    torch.testing.assert_close(moments.value(), exact.T @ exact / 37)
    assert moments.tokens == 37


def test_leading_axes_are_rows(rng):
    inputs = torch.randn(2, 3, 4, generator=rng)
    flat, deep = StreamingHessian(4), StreamingHessian(4)
    flat.add(inputs.flatten(0, 1))
    deep.add(inputs)
    torch.testing.assert_close(deep.value(), flat.value())


def test_no_rows_have_no_second_moment():
    with pytest.raises(InputError, match="at least one token, got none"):
        StreamingHessian(4).value()


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen])
@pytest.mark.parametrize("name", [LAYER, "model.layers.0.self_attn.q_proj"])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_hessian_is_that_of_the_layers_inputs(make, name, batch):
    model, ids = make(), windows(count=5)
    rows = inputs_of(model, name, ids)
    measured = calibration.hessian(model, name, ids, batch=batch)
    torch.testing.assert_close(measured, (rows.T @ rows / len(rows)).float())


def test_nothing_behind_the_layer_is_run(monkeypatch):
    model = tiny_llama()
    reached = []
    monkeypatch.setattr(model.model.layers[1], "forward", lambda *_, **__: reached.append("block"))
    monkeypatch.setattr(model.lm_head, "forward", lambda *_: reached.append("head"))
    calibration.hessian(model, "model.layers.0.mlp.up_proj", windows())
    assert not reached


def test_progress_counts_windows():
    seen = []
    calibration.hessian(
        tiny_llama(), LAYER, windows(count=5), lambda *step: seen.append(step), batch=2
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_a_cancelled_measurement_leaves_no_hook():
    def stop(done, total):
        raise Cancelled

    model, ids = tiny_llama(), windows()
    before = model(input_ids=ids).logits
    with pytest.raises(Cancelled):
        calibration.hessian(model, LAYER, ids, stop)
    assert not model.get_submodule(LAYER)._forward_pre_hooks
    torch.testing.assert_close(model(input_ids=ids).logits, before)


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="the Hessian of 24 inputs needs about"):
        calibration.hessian(tiny_llama(), LAYER, windows())


def test_a_layer_that_no_window_reaches_is_named(monkeypatch):
    model = tiny_llama()  # as an expert that the router never picks
    monkeypatch.setattr(model.model.layers[1].mlp, "forward", lambda x: x)
    with pytest.raises(SourceError, match=f"no window of the text reached layer {LAYER}"):
        calibration.hessian(model, LAYER, windows())
