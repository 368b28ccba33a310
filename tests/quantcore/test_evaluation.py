import hashlib
import json
import math
import random
import shutil
from dataclasses import replace

import models
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from quantcore import checkpoints, compare, corpora, evaluation, files, sources
from quantcore.commands import console
from quantcore.errors import InputError, SourceError
from quantcore.evaluation import Evaluation


def ignore(progress, document):
    pass


def noisy(folder, seed, scale=0.05):
    """The tiny model with noise on its weights."""
    model = models.tiny_llama()
    rng = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.add_(scale * torch.randn(value.shape, generator=rng))
    return str(models.save_model(folder, model))


def say_origin(folder, name):
    manifest = {"format": 1, "key": "k", "model": {"kind": "folder", "name": name}}
    facts = {"config": {"init": "oa-em", "seed": 3}, "ledger": {"layer_bits": 2.1}, "tuning": None}
    files.write_json(folder / "quantcore.json", manifest | facts)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Two candidates of a tiny model on a little text."""
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    letters = random.Random(0)
    lines = ("".join(letters.choices(models.LETTERS[:-1], k=44)) for _ in range(30))
    text = tmp_path / "text.txt"
    text.write_text("\n".join(lines))
    return Evaluation(
        candidates=(noisy(tmp_path / "one", 1), noisy(tmp_path / "two", 2, 0.3)),
        against=str(models.save_model(tmp_path / "original")),
        text=str(text),
        window=32,
        worst=3,
        device="cpu",
    )


def windows_of(asked):
    loaded = sources.load(sources.resolve(asked.against))
    text, _ = corpora.load_text(asked.text, "evaluation")
    return loaded, corpora.windows(loaded.tokenizer, text, asked.window)


def plain_nll(folder, windows):
    """Nats of each predicted token by transformers alone."""
    with checkpoints.quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    logits = model(input_ids=windows).logits[:, :-1].double()
    nats = cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none")
    return nats.view(len(windows), -1).detach()


def test_figures_are_those_of_plain_transformers(asked):
    document = evaluation.run(asked, ignore)
    loaded, windows = windows_of(asked)
    assert document["tokens"]["windows"] == document["tokens"]["of_windows"] == len(windows) > 2
    original = plain_nll(asked.against, windows)
    value = document["original"]["perplexity"]
    assert value["value"] == pytest.approx(original.mean().exp().item(), rel=1e-5)
    assert value["tokens"] == document["tokens"]["predicted"] == original.numel()
    assert len(document["candidates"]) == 2
    for entry, folder in zip(document["candidates"], asked.candidates, strict=True):
        nll = plain_nll(folder, windows)
        each = (nll - original).mean(1)
        assert entry["model"]["name"] == folder
        ppl = entry["perplexity"]
        assert ppl["value"] == pytest.approx(nll.mean().exp().item(), rel=1e-5)
        assert ppl["difference"] == pytest.approx(each.mean().item(), abs=1e-6)
        error = each.std().item() / math.sqrt(len(each))
        assert ppl["difference_error"] == pytest.approx(error, rel=1e-4)
        assert entry["excess"]["quantiles"]["1"] == pytest.approx(
            (nll - original).max().item(), abs=1e-5
        )
        model = sources.load(sources.resolve(folder)).model
        same = compare.run(compare.live(loaded.model, windows), model, windows)
        facts = json.loads(json.dumps(same.facts()))
        assert {name: entry[name] for name in facts} == facts


def test_one_candidate_and_several_give_the_same(asked):
    both = evaluation.run(asked, ignore)["candidates"]
    for n, name in enumerate(asked.candidates):
        (alone,) = evaluation.run(replace(asked, candidates=(name,)), ignore)["candidates"]
        assert alone | {"seconds": 0} == both[n] | {"seconds": 0}


def test_the_worst_tokens_are_shown_in_their_context(asked):
    document = evaluation.run(asked, ignore)
    loaded, windows = windows_of(asked)
    original, nll = (plain_nll(f, windows) for f in (asked.against, asked.candidates[1]))
    worst = document["candidates"][1]["worst"]
    assert len(worst) == 3
    excess = [token["nll"] - token["original_nll"] for token in worst]
    want = (nll - original).flatten().topk(3).values.tolist()
    assert excess == pytest.approx(want, abs=1e-5)
    for token in worst:
        ids, n = windows[token["window"]], token["position"]
        assert token["token"] == loaded.tokenizer.decode(ids[n])
        assert token["nll"] == pytest.approx(nll[token["window"], n - 1].item(), abs=1e-5)
        assert token["before"] == loaded.tokenizer.decode(ids[max(0, n - 12) : n])
        assert token["after"] == loaded.tokenizer.decode(ids[n + 1 : n + 5])
        assert token["kl"] >= 0
        assert token["top"]


def test_the_losses_of_every_window_and_of_the_samples_tokens_are_kept(asked):
    document = json.loads(json.dumps(evaluation.run(asked, ignore)))
    loaded, windows = windows_of(asked)
    assert ["".join(window) for window in document["sample"]] == [
        loaded.tokenizer.decode(ids) for ids in windows[:2]
    ]
    assert {len(window) for window in document["sample"]} == {32}
    nll = [plain_nll(name, windows) for name in (asked.against, *asked.candidates)]
    entries = [document["original"], *document["candidates"]]
    for entry, losses in zip(entries, nll, strict=True):
        assert entry["window_nll"] == pytest.approx(losses.sum(1).tolist(), rel=1e-5)
        kept = torch.tensor(entry["sample"]["nll"], dtype=torch.float64)
        torch.testing.assert_close(kept, losses[:2], rtol=0, atol=1e-4)
        assert all(value == round(value, 4) for row in entry["sample"]["nll"] for value in row)
    for entry in document["candidates"]:
        model = sources.load(sources.resolve(entry["model"]["name"])).model
        found = compare.run(compare.live(loaded.model, windows), model, windows).kl[:2]
        kept = torch.tensor(entry["sample"]["kl"], dtype=torch.float64)
        torch.testing.assert_close(kept, found, rtol=0, atol=1e-4)


def test_no_sample_keeps_no_token(asked):
    document = evaluation.run(replace(asked, sample=0), ignore)
    assert document["sample"] == []
    assert document["candidates"][0]["sample"] == {"nll": [], "kl": []}


def test_a_sample_of_more_windows_than_there_are_is_all_of_them(asked):
    document = evaluation.run(replace(asked, sample=9, windows=1), ignore)
    assert len(document["sample"]) == len(document["original"]["sample"]["nll"]) == 1


def test_what_was_measured_on_is_said(asked):
    document = evaluation.run(replace(asked, windows=2), ignore)
    _, windows = windows_of(asked)
    tokens = document["tokens"]
    assert (tokens["windows"], tokens["of_windows"], tokens["length"]) == (2, len(windows), 32)
    ids = b"".join(int(n).to_bytes(4, "little") for n in windows[:2].flatten())
    assert tokens["sha256"] == hashlib.sha256(ids).hexdigest()
    assert tokens["bos"] is False
    assert "no BOS" in tokens["convention"]
    assert "all 31 positions" in tokens["convention"]
    evaluated, _ = corpora.load_text(asked.text, "evaluation")
    assert document["text"]["sha256"] == hashlib.sha256(evaluated.encode()).hexdigest()


def test_a_bos_at_the_start_is_said(asked, monkeypatch):
    real = sources.load

    def with_bos(source):
        loaded = real(source)
        loaded.tokenizer.bos_token = loaded.tokenizer.decode(windows[0, 0])
        return loaded

    _, windows = windows_of(asked)
    monkeypatch.setattr(sources, "load", with_bos)
    tokens = evaluation.run(replace(asked, windows=2), ignore)["tokens"]
    assert tokens["bos"] is True
    assert "BOS before the first window only" in tokens["convention"]


def counted(monkeypatch):
    """The candidates that are compared from now on."""
    real, done = compare.run, []

    def run(original, model, windows, observe):
        done.append(model)
        return real(original, model, windows, observe)

    monkeypatch.setattr(compare, "run", run)
    return done


def test_finished_candidates_are_not_computed_again(asked, monkeypatch):
    first = evaluation.run(replace(asked, candidates=asked.candidates[:1]), ignore)
    first = json.loads(json.dumps(first))
    done = counted(monkeypatch)
    whole = evaluation.run(asked, ignore, first)
    assert len(done) == 1
    assert whole["candidates"][0] == first["candidates"][0]
    assert whole["candidates"][1]["model"]["name"] == asked.candidates[1]
    assert whole["original"] == first["original"]
    again = evaluation.run(replace(asked, candidates=asked.candidates[1:]), ignore, whole)
    assert len(done) == 1
    assert again["candidates"] == whole["candidates"]  # nothing finished is dropped
    assert again["original"] == whole["original"]


def test_a_candidate_whose_files_changed_is_measured_again(asked, monkeypatch, tmp_path):
    first = evaluation.run(asked, ignore)
    noisy(tmp_path / "two", 5)
    done = counted(monkeypatch)
    second = evaluation.run(asked, ignore, first)
    assert len(done) == 1
    assert [entry["model"]["name"] for entry in second["candidates"]] == list(asked.candidates)
    assert second["candidates"][0] == first["candidates"][0]
    assert second["candidates"][1]["kl"] != first["candidates"][1]["kl"]


def test_more_of_a_sample_is_another_evaluation(asked):
    assert asked.key() != replace(asked, sample=1).key()
    assert asked.key() == replace(asked, candidates=asked.candidates[:1]).key()


@pytest.mark.parametrize("what", ["text", "original", "settings"])
def test_other_text_model_or_settings_begin_anew(asked, monkeypatch, tmp_path, what):
    first = evaluation.run(asked, ignore)
    if what == "text":
        path = tmp_path / "text.txt"
        path.write_text(path.read_text()[::-1])
    elif what == "original":
        noisy(tmp_path / "original", 9)
    else:
        asked = replace(asked, worst=2)
    done = counted(monkeypatch)
    assert len(evaluation.run(asked, ignore, first)["candidates"]) == 2
    assert len(done) == 2


def test_the_original_is_the_one_in_the_manifest(asked, tmp_path):
    for name in ("one", "two"):
        say_origin(tmp_path / name, asked.against)
    document = evaluation.run(replace(asked, against=None), ignore)
    assert document["original"]["model"]["name"] == asked.against
    named = evaluation.run(asked, ignore)
    assert document["candidates"][0]["kl"] == named["candidates"][0]["kl"]
    facts = document["candidates"][0]["quantization"]
    assert facts["config"] == {"init": "oa-em", "seed": 3}
    assert facts["ledger"] == {"layer_bits": 2.1}


def test_no_original_is_refused(asked):
    with pytest.raises(InputError, match="does not say which model it was made from"):
        evaluation.run(replace(asked, against=None), ignore)


def test_two_originals_are_refused(asked, tmp_path):
    say_origin(tmp_path / "one", "first")
    say_origin(tmp_path / "two", "second")
    with pytest.raises(InputError, match=r"made from different models \(first, second\)"):
        evaluation.run(replace(asked, against=None), ignore)


def test_another_tokenizer_is_refused(asked, tmp_path, monkeypatch):
    path = tmp_path / "two" / "tokenizer.json"
    path.write_text(path.read_text().replace('"a": 1,', '"a": 99,'))
    with pytest.raises(InputError, match="reads the text as other tokens than its original"):
        evaluation.run(asked, ignore)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"candidates": ()}, "at least one candidate, each named once"),
        ({"candidates": ("a", "a")}, "each named once"),
        ({"windows": 0}, "windows must be at least 1, got 0"),
        ({"window": 1}, "window must be at least 2 tokens, got 1"),
        ({"worst": -1}, "worst must be at least 0, got -1"),
        ({"sample": -1}, "sample must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_refused(asked, change, words):
    with pytest.raises(InputError, match=words):
        replace(asked, **change)


def test_a_window_the_model_cannot_see_is_refused(asked):
    with pytest.raises(SourceError, match="longer than the 64 this model can see"):
        evaluation.run(replace(asked, window=65), ignore)


@pytest.fixture
def run(command_line):
    """The command in this process: arguments -> exit code, stdout, stderr."""
    return lambda *arguments: command_line("evaluate", *arguments, width=240)


@pytest.fixture
def arguments(asked, tmp_path):
    options = ["--against", asked.against, "--text", asked.text, "--window", 32, "--worst", 2]
    return [*asked.candidates, *options, "--device", "cpu", "--json", tmp_path / "e.json"]


def test_the_command_shows_and_writes_every_figure(run, arguments, asked, tmp_path):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    document = json.loads((tmp_path / "e.json").read_text())
    original = document["original"]["perplexity"]
    assert f"perplexity {original['value']:.3f} ± {original['standard_error']:.3f}" in out
    assert document["tokens"]["sha256"][:16] in out
    for entry in document["candidates"]:
        assert f"{entry['perplexity']['value']:.3f} ± " in out
        assert f"{entry['perplexity']['difference']:.4f} ± " in out
        assert f"{entry['kl']['mean']:.4f} ± {entry['kl']['mean_error']:.4f}" in out
        assert f"{entry['top1']['share']:.4f} ± " in out
        assert f"{entry['worst_shares'][1]['perplexity_without']:.3f}" in out
        assert f"{entry['worst'][0]['nll']:.2f}" in out
        assert len(entry["worst"]) == 2
    assert len(document["candidates"]) == 2
    assert document["candidates"][0]["quantization"] is None


def test_an_interrupted_command_goes_on(run, arguments, tmp_path, monkeypatch):
    real, seen = compare.run, []

    def interrupted(original, model, windows, observe):
        if seen:
            raise KeyboardInterrupt
        seen.append(model)
        return real(original, model, windows, observe)

    monkeypatch.setattr(compare, "run", interrupted)
    code, _, err = run(*arguments)
    assert code == console.INTERRUPTED
    assert "the same command goes on from here" in err
    half = json.loads((tmp_path / "e.json").read_text())
    assert len(half["candidates"]) == 1
    monkeypatch.setattr(compare, "run", real)
    done = counted(monkeypatch)
    assert run(*arguments)[0] == 0
    assert len(done) == 1
    whole = json.loads((tmp_path / "e.json").read_text())
    assert whole["candidates"][0] == half["candidates"][0]


def test_other_results_are_not_overwritten(run, arguments, tmp_path):
    path = tmp_path / "e.json"
    path.write_text('{"runs": []}')
    code, _, err = run(*arguments)
    assert (code, path.read_text()) == (2, '{"runs": []}')
    assert "is no result of this command" in err
    path.unlink()
    assert run(*arguments)[0] == 0
    before = path.read_text()
    code, _, err = run(*arguments, "--windows", 2)
    assert code == 2
    assert "the result of another evaluation (with other windows)" in err
    assert path.read_text() == before


def test_a_candidate_that_is_not_there_is_one_sentence(run, asked, tmp_path):
    shutil.rmtree(tmp_path / "two")
    code, _, err = run(*asked.candidates, "--against", asked.against)
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.model
def test_the_default_model_is_as_in_plain_transformers(tmp_path):
    source = sources.resolve(None)
    loaded = sources.load(source)
    with torch.no_grad():
        loaded.model.model.layers[3].mlp.down_proj.weight *= 1.02
    folder = tmp_path / "candidate"
    with checkpoints.quiet():
        loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    asked = Evaluation((str(folder),), source.name, windows=2, window=128, device="cpu")
    document = evaluation.run(asked, ignore)
    text, _ = corpora.load_text("default", "evaluation")
    windows = corpora.windows(loaded.tokenizer, text, 128, 2)
    nll = plain_nll(folder, windows)
    with torch.no_grad():
        loaded.model.model.layers[3].mlp.down_proj.weight /= 1.02
        logits = loaded.model(input_ids=windows).logits[:, :-1].double().flatten(0, 1)
    original = cross_entropy(logits, windows[:, 1:].flatten())
    (entry,) = document["candidates"]
    assert entry["perplexity"]["value"] == pytest.approx(nll.mean().exp().item(), rel=1e-5)
    value = document["original"]["perplexity"]["value"]
    assert value == pytest.approx(original.exp().item(), rel=1e-5)
    assert 0 < entry["kl"]["mean"] < 0.1
