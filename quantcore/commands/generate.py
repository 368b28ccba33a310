"""`quantcore generate` and `quantcore chat`: text from a model in the terminal."""

from typing import Annotated

import typer
from torch import nn

from quantcore import generate as generating
from quantcore import machine, sources
from quantcore.commands import console
from quantcore.generate import GenerateConfig, Message, Reply
from quantcore.sources import LoadedModel

Spec = Annotated[str, typer.Argument(help="A model, quantized or not: folder, Hub id or GGUF.")]
Tokens = Annotated[int, typer.Option(help="Most tokens of one reply.")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token every time.")]
Seed = Annotated[int, typer.Option(help="Of the draws.")]


def generate(
    model: Spec,
    prompt: Annotated[str, typer.Argument(help="What the model answers or goes on from.")],
    tokens: Tokens = GenerateConfig.tokens,
    temperature: Temperature = GenerateConfig.temperature,
    seed: Seed = GenerateConfig.seed,
    device: console.Device = "auto",
) -> None:
    """Write text with a model; quantized layers compute from their codes."""
    config = GenerateConfig(tokens=tokens, temperature=temperature, seed=seed)
    loaded = _load(model, device)
    try:
        _say(generating.reply(loaded, [_user(prompt)], config, _write))
    except KeyboardInterrupt:
        typer.echo()
        raise typer.Exit(console.INTERRUPTED) from None


def chat(
    model: Spec,
    tokens: Tokens = 500,
    temperature: Temperature = GenerateConfig.temperature,
    seed: Seed = GenerateConfig.seed,
    device: console.Device = "auto",
) -> None:
    """Talk with a model in the terminal; Ctrl-C or Ctrl-D ends it."""
    config = GenerateConfig(tokens=tokens, temperature=temperature, seed=seed)
    loaded = _load(model, device)
    messages: list[Message] = []
    try:
        while True:
            text = input("> ")
            if not text.strip():
                continue
            messages.append(_user(text))
            said = generating.reply(loaded, messages, config, _write)
            messages.append({"role": "assistant", "content": said.text})
            _say(said)
    except (EOFError, KeyboardInterrupt):
        typer.echo()


def _load(model: str, device: str) -> LoadedModel:
    place = machine.resolve_device(device)
    source = sources.resolve(model)
    console.err.print(source.note, markup=False, highlight=False)
    loaded = sources.load(source)
    nn.Module.to(loaded.model, place)
    return loaded


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _write(text: str) -> None:
    typer.echo(text, nl=False)


def _say(said: Reply) -> None:
    """The figures, apart from the text."""
    typer.echo()
    rate = "" if said.rate is None else f", {said.rate:.1f} tokens per second"
    console.err.print(
        f"{said.tokens} tokens, the prompt read in {said.read_seconds:.2f} s{rate}",
        highlight=False,
    )
