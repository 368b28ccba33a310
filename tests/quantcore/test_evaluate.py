import math
import statistics

import pytest
import torch
from models import tiny_llama, tiny_qwen, windows

from quantcore import evaluate, machine
from quantcore.errors import Cancelled, InputError, ProblemError, ResourceError

LAYER = "model.layers.1.self_attn.q_proj"


def nll_ref(model, ids):
    """Nats of each window, token by token."""
    sums = []
    for row in ids:
        logits = model(input_ids=row[None]).logits[0].double()
        sums.append(
            sum(
                -math.log(math.exp(logits[t, row[t + 1]]) / logits[t].exp().sum().item())
                for t in range(len(row) - 1)
            )
        )
    return sums


def test_perplexity_sums_over_the_predicted_tokens():
    model, ids = tiny_llama(), windows(count=4, length=9)
    nll = nll_ref(model, ids)
    measured = evaluate.perplexity(model, ids)
    assert measured.window_nll == pytest.approx(nll, rel=1e-5)
    assert measured.value == pytest.approx(math.exp(sum(nll) / 32), rel=1e-5)
    assert (measured.windows, measured.tokens) == (4, 32)


@pytest.mark.parametrize("chunk", [1, 130, 1 << 20])
def test_the_losses_of_tokens_do_not_depend_on_the_chunk(chunk, monkeypatch):
    model, ids = tiny_llama(), windows(count=1, length=9)[0]
    logits = evaluate.logits(model, ids)
    want = evaluate.token_nll(logits, ids)
    assert want.sum().item() == pytest.approx(nll_ref(model, ids[None])[0], rel=1e-5)
    monkeypatch.setattr(evaluate, "CHUNK", chunk)
    assert torch.equal(evaluate.token_nll(logits, ids), want)


def test_standard_error_is_that_of_the_windows_means():
    measured = evaluate.perplexity(tiny_llama(), windows(count=4, length=9))
    means = [nll / 8 for nll in measured.window_nll]
    want = measured.value * statistics.stdev(means) / 2
    assert measured.standard_error == pytest.approx(want)


def test_uniform_predictions_have_the_vocabularys_perplexity():
    model = tiny_llama(tie_word_embeddings=False)
    model.lm_head.weight.data.zero_()
    measured = evaluate.perplexity(model, windows())
    assert measured.value == pytest.approx(64)
    assert measured.standard_error == pytest.approx(0, abs=1e-5)


def test_one_window_has_no_standard_error():
    model = tiny_llama()
    measured = evaluate.perplexity(model, windows(count=1))
    assert measured.standard_error is None
    assert measured.paired_difference(measured) == (0.0, None)


def test_a_paired_difference_is_taken_window_by_window():
    ids = windows(count=5)
    one, other = evaluate.perplexity(tiny_llama(), ids), evaluate.perplexity(tiny_qwen(), ids)
    each = [(a - b) / 11 for a, b in zip(one.window_nll, other.window_nll, strict=True)]
    mean, error = one.paired_difference(other)
    assert mean == pytest.approx(math.log(one.value / other.value))
    assert mean == pytest.approx(statistics.mean(each))
    assert error == pytest.approx(statistics.stdev(each) / math.sqrt(5))


def test_other_windows_are_no_pair():
    model = tiny_llama()
    one, other = (evaluate.perplexity(model, windows(count=n)) for n in (2, 3))
    with pytest.raises(InputError, match="on the same windows, got 2 of 22 tokens and 3 of 33"):
        one.paired_difference(other)


@pytest.mark.parametrize(("count", "length"), [(0, 8), (3, 1)])
def test_nothing_to_predict_is_refused(count, length):
    with pytest.raises(InputError, match=f"a window of 2 tokens, got {count} of {length}"):
        evaluate.perplexity(tiny_llama(), windows(count, length))


def test_predictions_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="predicting windows of 12 tokens needs about"):
        evaluate.perplexity(tiny_llama(), windows())


def test_broken_predictions_are_no_number():
    model = tiny_llama()
    model.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(ProblemError, match="NaN or infinite"):
        evaluate.perplexity(model, windows())


def candidates(model, name, rng):
    weight = model.get_submodule(name).weight
    noisy = weight + 0.3 * torch.randn(weight.shape, generator=rng)
    return {"original": None, "noisy": noisy, "zero": torch.zeros_like(weight)}


@pytest.mark.parametrize("make", [tiny_llama, tiny_qwen])
@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.up_proj", LAYER, "model.layers.2.mlp.down_proj"]
)
def test_swapping_is_the_plain_model_with_that_weight(make, name, rng):
    model, ids = make(), windows()
    weights = candidates(model, name, rng)
    measured = evaluate.swapped_perplexities(model, name, weights, ids)
    for key, weight in weights.items():
        plain = make()
        if weight is not None:
            plain.get_submodule(name).weight.data = weight
        assert measured[key] == evaluate.perplexity(plain, ids), key
    assert len({p.value for p in measured.values()}) == 3


def test_blocks_before_the_layer_run_once_a_window(rng):
    model, ids = tiny_llama(), windows(count=2)
    runs = [0, 0, 0]
    for n, block in enumerate(model.model.layers):
        block.mlp.register_forward_hook(lambda *_, n=n: runs.__setitem__(n, runs[n] + 1))
    evaluate.swapped_perplexities(model, LAYER, candidates(model, LAYER, rng), ids)
    assert runs == [2, 6, 6]


def intact(model, state):
    now = model.state_dict()
    return (
        all(torch.equal(now[key], value) for key, value in state.items())
        and model.lm_head.weight is model.model.embed_tokens.weight
        and not any("forward" in vars(block) for block in model.model.layers)
        and not any(block._forward_hooks for block in model.model.layers)
    )


@pytest.mark.parametrize("last", [1, 2, 3, 4, 99])
def test_the_model_is_as_it_was_even_when_stopped(rng, last):
    def observe(done, total):
        assert total == 9
        if done == last:
            raise Cancelled

    model = tiny_llama()
    parameter = model.get_submodule(LAYER).weight
    state = {key: value.clone() for key, value in model.state_dict().items()}
    weights = candidates(model, LAYER, rng)
    try:
        evaluate.swapped_perplexities(model, LAYER, weights, windows(), observe)
    except Cancelled:
        assert last < 99
    assert intact(model, state)
    assert model.get_submodule(LAYER).weight is parameter


def test_a_failing_candidate_leaves_the_model_as_it_was():
    model = tiny_llama()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    name = "model.layers.1.mlp.down_proj"
    overflowing = {"overflowing": torch.full((16, 24), 1e38)}
    with pytest.raises(ProblemError, match="predictions are NaN or infinite"):
        evaluate.swapped_perplexities(model, name, overflowing, windows())
    assert intact(model, state)


def test_a_block_wrapped_by_others_keeps_its_wrapping(rng, monkeypatch):
    model = tiny_llama()
    wrapped = model.model.layers[0].forward
    monkeypatch.setattr(model.model.layers[0], "forward", wrapped)
    weights = candidates(model, LAYER, rng)
    evaluate.swapped_perplexities(model, LAYER, weights, windows())
    assert vars(model.model.layers[0])["forward"] is wrapped


def test_a_weight_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"weight 'mine' is \(4, 4\), but layer .* has \(16, 16\)"):
        evaluate.swapped_perplexities(tiny_llama(), LAYER, {"mine": torch.ones(4, 4)}, windows())


def test_a_weight_that_is_not_finite_is_refused():
    with pytest.raises(ProblemError, match="weight 'mine' has NaN or infinite entries"):
        evaluate.swapped_perplexities(
            tiny_llama(), LAYER, {"mine": torch.full((16, 16), math.nan)}, windows()
        )
