import math
import statistics
import weakref

import pytest
import torch
from models import tiny_llama, tiny_qwen, windows

from quantcore import compare, evaluate, machine
from quantcore.compare import Comparison
from quantcore.errors import Cancelled, InputError, ProblemError, ResourceError


def compare_ref(original, candidate, ids):
    """Every token's figures in loops over words, in float64."""
    rows = []
    for row in ids:
        p, q = (
            m(input_ids=row[None]).logits[0].double().softmax(-1) for m in (original, candidate)
        )
        for t in range(len(row) - 1):
            word = int(row[t + 1])
            kl = sum(float(p[t, w] * math.log(p[t, w] / q[t, w])) for w in range(p.shape[1]))
            tops = max(range(64), key=lambda w: p[t, w]), max(range(64), key=lambda w: q[t, w])
            rows.append((-math.log(p[t, word]), -math.log(q[t, word]), kl, *tops))
    return [torch.tensor(column).view(len(ids), -1) for column in zip(*rows, strict=True)]


def parts(found):
    return [found.original_nll, found.nll, found.kl, found.original_top, found.top]


def fixed(*rows):
    """A model of three words that says the same about every token: the rows' odds in turn."""
    model = tiny_llama(vocab_size=3, tie_word_embeddings=False)
    odds = torch.tensor(rows).log()

    def answer(_module, _inputs, logits):
        n = logits.shape[1]
        return odds.repeat(n // len(odds) + 1, 1)[None, :n]

    model.lm_head.register_forward_hook(answer)
    return model


def made(original_nll, nll, kl=None, top=None):
    """A comparison with these losses, one row a window."""
    losses = [torch.tensor(values, dtype=torch.float64) for values in (original_nll, nll)]
    kl = losses[0] * 0 if kl is None else torch.tensor(kl, dtype=torch.float64)
    tops = torch.zeros(kl.shape, dtype=torch.long)
    ids = torch.zeros(len(kl), kl.shape[1] + 1, dtype=torch.long)
    return Comparison(ids, *losses, kl, tops, tops if top is None else torch.tensor(top))


@pytest.mark.parametrize("chunk", [1, 192, evaluate.CHUNK])
def test_every_token_is_as_in_a_plain_loop(chunk, monkeypatch):
    monkeypatch.setattr(evaluate, "CHUNK", chunk)
    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=2, length=9)
    found = compare.run(compare.live(one, ids), other, ids)
    for mine, want in zip(parts(found), compare_ref(one, other, ids), strict=True):
        torch.testing.assert_close(mine, want.to(mine.dtype), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.windows, ids)


def test_the_perplexities_are_those_of_either_model_alone():
    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=4)
    found = compare.run(compare.live(one, ids), other, ids)
    assert found.original_perplexity == evaluate.perplexity(one, ids)
    assert found.perplexity == evaluate.perplexity(other, ids)
    mean, _ = found.perplexity.paired_difference(found.original_perplexity)
    assert found.excess.mean().item() == pytest.approx(mean)
    assert mean == pytest.approx(math.log(found.perplexity.value / found.original_perplexity.value))


def test_a_model_beside_itself_differs_nowhere():
    model, ids = tiny_llama(), windows()
    found = compare.run(compare.live(model, ids), model, ids)
    facts = found.facts()
    assert facts["kl"]["mean"] == 0
    assert set(facts["kl"]["quantiles"].values()) == {0}
    assert facts["top1"] == {"share": 1, "share_error": 0}
    assert found.excess.abs().max() == 0
    assert facts["worst_shares"][0]["of_excess"] is None
    assert facts["worst_shares"][0]["of_kl"] is None


def test_three_words_by_hand():
    ids = torch.tensor([[0, 0, 1, 2]])
    one = fixed((0.5, 0.25, 0.25), (0.25, 0.5, 0.25), (0.6, 0.2, 0.2))
    other = fixed((0.25, 0.5, 0.25), (0.25, 0.5, 0.25), (0.2, 0.6, 0.2))
    found = compare.run(compare.live(one, ids), other, ids)
    kl = [0.25 * math.log(2), 0.0, 0.4 * math.log(3)]
    assert found.kl[0].tolist() == pytest.approx(kl, abs=1e-6)
    assert found.original_nll[0].tolist() == pytest.approx([math.log(2), math.log(2), math.log(5)])
    assert found.excess[0].tolist() == pytest.approx([math.log(2), 0, 0], abs=1e-6)
    assert found.agree[0].tolist() == [False, True, False]
    facts = found.facts()
    assert facts["kl"]["mean"] == pytest.approx(sum(kl) / 3)
    assert facts["kl"]["quantiles"]["0.5"] == pytest.approx(kl[0])
    assert facts["kl"]["quantiles"]["0.9"] == pytest.approx(kl[0] + 0.8 * (kl[2] - kl[0]))
    assert facts["kl"]["quantiles"]["0.99"] == pytest.approx(kl[0] + 0.98 * (kl[2] - kl[0]))
    assert facts["top1"]["share"] == pytest.approx(1 / 3)


def test_uniform_predictions_cost_the_logarithm_of_the_vocabulary():
    ids = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])
    third = (1 / 3, 1 / 3, 1 / 3)
    found = compare.run(compare.live(fixed((0.5, 0.25, 0.25)), ids), fixed(third), ids)
    assert found.perplexity.value == pytest.approx(3)
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert found.kl.flatten().tolist() == pytest.approx([math.log(3) - entropy] * 6)


def test_errors_are_over_the_windows_means():
    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=5)
    found = compare.run(compare.live(one, ids), other, ids)
    facts = found.facts()
    kl = [statistics.mean(row) for row in found.kl.tolist()]
    assert facts["kl"]["mean_error"] == pytest.approx(statistics.stdev(kl) / math.sqrt(5))
    same = [statistics.mean(map(float, row)) for row in found.agree.tolist()]
    assert facts["top1"]["share_error"] == pytest.approx(statistics.stdev(same) / math.sqrt(5))
    alone = compare.run(compare.live(one, ids[:1]), other, ids[:1]).facts()
    assert alone["kl"]["mean_error"] is None
    assert alone["top1"]["share_error"] is None


def test_what_the_worst_tokens_make_of_the_excess():
    excess = torch.zeros(2, 500, dtype=torch.float64)
    excess[1, 3], excess[0, 7], excess[0, 8] = 6, 3, -1
    kl = torch.full((2, 500), 0.001, dtype=torch.float64)
    kl[0, 0] = 1
    found = made([[1.0] * 500] * 2, (1 + excess).tolist(), kl.tolist())
    thousandth, hundredth = found.facts()["worst_shares"]
    assert thousandth["tokens"] == 1
    assert thousandth["of_excess"] == pytest.approx(6 / 8)
    assert thousandth["of_kl"] == pytest.approx(1 / 1.999)
    assert thousandth["perplexity_without"] == pytest.approx(math.exp(1 + 0.002))
    assert hundredth["tokens"] == 10
    assert hundredth["of_excess"] == pytest.approx(9 / 8)
    assert hundredth["of_kl"] == pytest.approx(1.009 / 1.999)
    assert hundredth["perplexity_without"] == pytest.approx(math.exp(1 - 0.001))
    assert found.worst(3) == [(1, 3), (0, 7), (0, 0)]
    assert found.worst(0) == []


def test_a_uniform_excess_is_everyones():
    found = made([[1.0] * 100] * 10, [[1.5] * 100] * 10)
    shares = found.facts()["worst_shares"]
    assert [s["of_excess"] for s in shares] == pytest.approx([0.001, 0.01])


def test_positions_are_bands_that_double():
    excess = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 16.0, 32.0]
    bands = made([[0.0] * 8], [excess], [excess]).facts()["positions"]
    assert [(band["from"], band["to"]) for band in bands] == [(1, 1), (2, 3), (4, 7), (8, 8)]
    assert [band["excess"] for band in bands] == [1, 3, 10, 32]
    assert [band["kl"] for band in bands] == [1, 3, 10, 32]


@pytest.mark.parametrize("predicted", [1, 2, 3, 11, 16])
def test_every_position_is_in_one_band(predicted):
    bands = made([[0.0] * predicted], [[1.0] * predicted]).positions()
    covered = [n for band in bands for n in range(band["from"], band["to"] + 1)]
    assert covered == list(range(1, predicted + 1))


def test_a_histogram_keeps_every_token():
    values = torch.tensor([[-9.0, -1.0, -0.6, 0.0], [0.4, 0.5, 0.99, 7.0]], dtype=torch.float64)
    found = compare.distribution(values, (-1.0, 1.0))
    assert found["histogram"] == {"from": -1.0, "step": 0.5, "counts": [3, 0, 2, 3]}
    assert found["quantiles"]["0"] == -9
    assert found["quantiles"]["0.5"] == pytest.approx(0.2)
    assert found["quantiles"]["1"] == 7


def test_an_original_that_is_kept_says_the_same_again():
    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=3)
    kept, runs = compare.Original(one, ids), []
    one.model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    want = parts(compare.run(compare.live(one, ids), other, ids))
    assert len(runs) == 3
    for _ in range(3):
        found = parts(compare.run(kept, other, ids))
        assert all(map(torch.equal, found, want))
        assert len(runs) == 6  # the first time only
    assert "forward" not in vars(one.model)
    assert not one.model._forward_hooks


def test_an_original_can_be_stopped_and_asked_again():
    def stop(done, total):
        assert total == 3
        if done == 2:
            raise Cancelled

    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=3)
    kept = compare.Original(one, ids)
    with pytest.raises(Cancelled):
        compare.run(kept, other, ids, stop)
    found = compare.run(kept, other, ids)
    want = compare.run(compare.live(one, ids), other, ids)
    assert all(map(torch.equal, parts(found), parts(want)))


def test_a_list_of_logits_is_an_original_too():
    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=3)
    listed = list(compare.live(one, ids))
    found = compare.run(listed, other, ids)
    assert torch.equal(found.kl, compare.run(compare.live(one, ids), other, ids).kl)
    with pytest.raises(InputError, match=r"predicts 11 x 64 .* and its original none"):
        compare.run(listed[:2], other, ids)


def test_one_windows_logits_are_alive_at_a_time(monkeypatch):
    alive, most, real = weakref.WeakSet(), [], evaluate.logits

    def watched(model, ids):
        found = real(model, ids).clone()
        alive.add(found)
        most.append(len(alive))
        return found

    one, other, ids = tiny_llama(), tiny_qwen(), windows(count=4)
    monkeypatch.setattr(evaluate, "logits", watched)
    compare.run(compare.live(one, ids), other, ids)
    assert most == [1, 2] * 4
    del most[:]
    evaluate.perplexity(one, ids)
    assert most == [1] * 4


def test_other_words_are_refused():
    ids = windows()
    other = tiny_llama(vocab_size=70)
    with pytest.raises(InputError, match=r"predicts 11 x 70 .* its original 11 x 64"):
        compare.run(compare.live(tiny_llama(), ids), other, ids)


@pytest.mark.parametrize("broken", ["original", "candidate"])
def test_broken_predictions_name_whose(broken):
    models, ids = {"original": tiny_llama(), "candidate": tiny_llama()}, windows()
    models[broken].model.norm.weight.data.fill_(math.nan)
    with pytest.raises(ProblemError, match=f"the {broken}'s predictions are NaN or infinite"):
        compare.run(compare.live(models["original"], ids), models["candidate"], ids)


def test_what_does_not_fit_is_refused(monkeypatch):
    model, ids = tiny_llama(), windows()
    monkeypatch.setattr(machine, "available_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="predicting windows of 12 tokens needs about"):
        compare.run([], model, ids)
    with pytest.raises(ResourceError, match="keeping the original's hidden states needs about"):
        compare.Original(model, ids)


def test_the_logits_of_two_models_must_fit(monkeypatch):
    model, ids = tiny_llama(), windows()
    need = []
    monkeypatch.setattr(machine, "require_memory", lambda n, *_: need.append(n))
    evaluate.perplexity(model, ids)
    compare.run(compare.live(model, ids), model, ids)
    assert need[1] == 2 * need[0] > 2 * 4 * 12 * 64


def test_nothing_to_predict_is_refused():
    with pytest.raises(InputError, match="a window of 2 tokens, got 3 of 1"):
        compare.run([], tiny_llama(), windows(3, 1))


def test_a_body_that_is_wrapped_by_others_keeps_its_wrapping():
    model, ids = tiny_llama(), windows()
    wrapped = model.model.forward
    vars(model.model)["forward"] = wrapped
    kept = compare.Original(model, ids)
    first, again = list(kept), list(kept)
    assert all(map(torch.equal, first, again))
    assert vars(model.model)["forward"] is wrapped
