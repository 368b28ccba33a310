"""`quantcore trial`: some blocks quantized from each initialiser, tuned for a while, then asked."""

from typing import Annotated

import typer
from rich.table import Table

from quantcore import trial as trials
from quantcore.blocks import parse_numbers
from quantcore.commands import console, one_layer
from quantcore.commands.one_layer import number
from quantcore.results import Document
from quantcore.trial import Trial
from quantcore.weight import Scheme


def trial(
    model: console.Model = None,
    blocks: Annotated[
        str, typer.Option(help="The blocks to quantize, such as 10 or 0-3 or 0,2,5-7.")
    ] = ",".join(map(str, Trial.blocks)),
    scheme: Annotated[
        str, typer.Option(help="Of all their layers: codebooks x bits, g group.")
    ] = str(Trial().scheme).replace(" ", ""),
    init: console.Inits = None,
    search: console.Search = Trial.search,
    beam: console.Beam = Trial.beam,
    sweeps: console.Sweeps = Trial.sweeps,
    text: console.Text = Trial.text,
    window: Annotated[int, typer.Option(help="Tokens in a window.")] = Trial.window,
    samples: Annotated[
        int, typer.Option(help="Windows of text that are learned from.")
    ] = Trial.samples,
    heldout_samples: Annotated[
        int,
        typer.Option(help="Windows for held-out errors, and as many for the validation KL."),
    ] = Trial.heldout_samples,
    seconds: Annotated[
        float, typer.Option(help="Of tuning, for each initialiser.")
    ] = Trial.seconds,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps instead of --seconds, which gives the same numbers every time."),
    ] = None,
    every: Annotated[int, typer.Option(help="Steps between validations.")] = Trial.every,
    prompt: Annotated[str, typer.Option(help="What the models are asked.")] = Trial.prompt,
    reply_tokens: Annotated[int, typer.Option(help="Most tokens of a reply.")] = Trial.reply_tokens,
    seed: Annotated[int, typer.Option(help="All randomness.")] = Trial.seed,
    device: console.Device = Trial.device,
    json_file: console.JsonFile = None,
) -> None:
    """Quantize some blocks from each initialiser, tune for a while, and ask before and after.

    A small rehearsal of quantize, tune and generate: all other blocks stay as they are. Quantized
    blocks stay in the cache, so that another prompt or a longer tuning does not make them again.
    """
    config = Trial(
        model=model,
        blocks=parse_numbers(blocks),
        scheme=Scheme.parse(scheme),
        inits=tuple(dict.fromkeys(init)) if init else Trial.inits,
        search=search,
        beam=beam,
        sweeps=sweeps,
        text=text,
        window=window,
        samples=samples,
        heldout_samples=heldout_samples,
        seconds=seconds,
        steps=steps,
        every=every,
        prompt=prompt,
        reply_tokens=reply_tokens,
        seed=seed,
        device=device,
    )
    document, whole = one_layer.run(trials, config, json_file)
    _show(document)
    one_layer.finish(whole, json_file)


def _show(document: Document) -> None:
    """The KL before and after, and what each model said."""
    for part in ("model", "text"):
        if document[part] is not None:
            console.out.print(document[part]["note"])
    if document["runs"]:
        console.out.print(_table(document["runs"]))
    if document["original"] is not None:
        _say("the original", document["original"]["reply"])
    for run in document["runs"]:
        for when, reply in run["replies"].items():
            if reply is not None:
                _say(f"{run['init']}, {when} tuning", reply)


def _table(runs: list[Document]) -> Table:
    table = Table("initialiser", "quantized in, s", "KL before", "KL after", "at step")
    table.add_column("steps in seconds")
    for run in runs:
        table.add_row(
            run["init"],
            number(run["quantize_seconds"], 1),
            number(run["start_kl"], 5),
            number(run["best_kl"], 5),
            "-" if run["best_step"] is None else str(run["best_step"]),
            f"{run['steps']} in {run['seconds']:.1f}",
        )
    return table


def _say(who: str, reply: str) -> None:
    console.out.print(f"{who}: {reply}", markup=False, highlight=False)
