import itertools

import pytest
import quantized
import torch
import typer
from models import save_model, tiny_llama, tiny_tokenizer
from typer.testing import CliRunner

from quantcore import generate, sources
from quantcore.commands import console
from quantcore.commands import generate as commands
from quantcore.errors import InputError
from quantcore.generate import GenerateConfig, Reply, reply
from quantcore.sources import LoadedModel, ModelSource

SOURCE = ModelSource("folder", "tiny", "tiny", "")
GREEDY = GenerateConfig(tokens=6, temperature=0.0)


def asked(text="the cat"):
    return [{"role": "user", "content": text}]


@pytest.fixture(params=["dense", "quantized"])
def loaded(request, rng):
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 64
    sizes = {"vocab_size": len(tokenizer)}
    made = tiny_llama(**sizes) if request.param == "dense" else quantized.model(rng, **sizes)
    return LoadedModel(SOURCE, made, tokenizer)


def test_the_likeliest_tokens_come_piece_by_piece(loaded):
    ids = loaded.tokenizer("the cat", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(GREEDY.tokens):  # the model over all of it again for every token
        following = loaded.model(ids).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, following], 1)
    pieces = []
    said = reply(loaded, asked(), GREEDY, pieces.append)
    assert said.text == "".join(pieces) == loaded.tokenizer.decode(ids[0, start:])
    assert said.tokens == GREEDY.tokens
    assert len([piece for piece in pieces if piece]) > 1
    assert said.read_seconds > 0
    assert said.rate == pytest.approx((said.tokens - 1) / said.seconds)


def test_a_character_of_several_tokens_comes_whole():
    came = []
    pieces = generate._Pieces(
        lambda tokens, **_: bytes(tokens).decode(errors="replace"), came.append
    )
    pieces.put(torch.tensor([[1, 2]]))
    for byte in "aé€".encode() + b"\xe2":
        pieces.put(torch.tensor([byte]))
    assert came == ["a", "é", "€"]
    pieces.end()
    assert pieces.reply().text == "".join(came) == "aé€\N{REPLACEMENT CHARACTER}"


def test_the_seed_decides_and_nothing_else_is_touched(loaded):
    def say(seed):
        config = GenerateConfig(tokens=12, temperature=5.0, seed=seed)
        return reply(loaded, asked(), config, lambda _: None).text

    before = torch.get_rng_state()
    said = [say(1), say(1), say(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert said[0] == said[1] != said[2]


def test_a_template_is_used_where_there_is_one(loaded):
    plain = reply(loaded, asked("b" + "a" * 5), GREEDY, lambda _: None)
    loaded.tokenizer.chat_template = "b{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert reply(loaded, asked("a" * 5), GREEDY, lambda _: None).text == plain.text


def test_a_reply_ends_where_the_context_does(loaded):
    config = GenerateConfig(tokens=1000, temperature=0.0)
    assert reply(loaded, asked("a" * 60), config, lambda _: None).tokens == 4
    with pytest.raises(InputError, match="the prompt has 64 tokens and the model sees 64; shorten"):
        reply(loaded, asked("a" * 64), config, lambda _: None)
    with pytest.raises(InputError, match="the prompt is empty"):
        reply(loaded, asked(""), config, lambda _: None)


def test_what_the_reader_raises_ends_the_reply(loaded):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reply(loaded, asked(), GREEDY, stop)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="tokens must be at least 1, got 0"):
        GenerateConfig(tokens=0)
    for value in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="temperature must be 0 or more"):
            GenerateConfig(temperature=value)
    assert Reply("a", 1, 0.1, 0.0).rate is None


# the commands


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(console, "err", console.Console(stderr=True, width=200))
    app = typer.Typer()
    app.command()(commands.generate)
    app.command()(commands.chat)

    def run(*arguments, said=""):
        monkeypatch.setattr(console, "err", console.Console(stderr=True, width=200))
        return CliRunner().invoke(app, [str(part) for part in arguments], input=said)

    return run


@pytest.fixture(params=["dense", "quantized"])
def folder(request, tmp_path, rng):
    sizes = {"vocab_size": len(tiny_tokenizer())}
    if request.param == "dense":
        return save_model(tmp_path / "tiny", tiny_llama(**sizes))
    return quantized.save(tmp_path / "tiny", quantized.model(rng, **sizes))


def test_generate_writes_the_reply(run, folder):
    options = ["--tokens", 5, "--temperature", 0, "--device", "cpu"]
    done = run("generate", folder, "the cat", *options)
    assert done.exit_code == 0
    loaded = sources.load(sources.resolve(str(folder)))
    config = GenerateConfig(tokens=5, temperature=0.0)
    want = reply(loaded, asked(), config, lambda _: None).text
    assert done.stdout == want + "\n"
    assert "5 tokens, the prompt read in" in done.stderr
    assert "tokens per second" in done.stderr


def test_interrupting_a_reply_ends_cleanly(run, folder, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_write", stop)
    done = run("generate", folder, "the cat", "--device", "cpu")
    assert done.exit_code == console.INTERRUPTED
    assert run("chat", folder, "--device", "cpu", said="hello\n").exit_code == 0


def test_chat_remembers_what_was_said(run, folder, monkeypatch):
    heard = []
    replies = (Reply(f"reply {n}", 2, 0.1, 0.1) for n in itertools.count())

    def listen(loaded, messages, config, write):
        heard.append([dict(message) for message in messages])
        return next(replies)

    monkeypatch.setattr(commands.generating, "reply", listen)
    done = run("chat", folder, "--device", "cpu", said="one\n\ntwo\n")
    assert done.exit_code == 0
    assert heard[0] == asked("one")
    assert heard[1] == [*asked("one"), {"role": "assistant", "content": "reply 0"}, *asked("two")]
