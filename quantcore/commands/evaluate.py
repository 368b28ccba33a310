"""`quantcore evaluate`: whole models beside their original on the same text."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from quantcore import evaluation, files
from quantcore.commands import console
from quantcore.evaluation import Evaluation
from quantcore.results import Document


def evaluate(
    candidates: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Quantized models, or any others.")
    ],
    against: console.Against = None,
    text: console.Text = Evaluation.text,
    windows: Annotated[
        int | None, typer.Option(help="Windows of text; all there are if it is left out.")
    ] = Evaluation.windows,
    window: Annotated[int, typer.Option(help="Tokens in one window.")] = Evaluation.window,
    worst: Annotated[
        int, typer.Option(help="Tokens to list for each model, the worst first.")
    ] = Evaluation.worst,
    sample: Annotated[
        int, typer.Option(help="First windows to keep token by token, with every model's losses.")
    ] = Evaluation.sample,
    device: console.Device = Evaluation.device,
    json_file: console.JsonFile = None,
) -> None:
    """Measure whole models beside their original: perplexity, KL, agreement, the worst tokens."""
    names = tuple(dict.fromkeys(candidates))
    config = Evaluation(names, against, text, windows, window, worst, sample, device)
    previous = _previous(json_file, config)
    written = 0

    def seen(document: Document) -> None:
        nonlocal written
        if json_file is not None and len(document["candidates"]) > written:
            written = len(document["candidates"])
            files.write_json(json_file, document)

    document, whole = console.follow(
        lambda observe: evaluation.run(config, observe, previous),
        previous or evaluation.begin(config),
        seen,
    )
    _show(document)
    if json_file is not None:
        console.out.print(f"Written to {json_file}")
    if not whole:
        console.interrupted()


def _previous(json_file: Path | None, config: Evaluation) -> Document | None:
    """What an earlier try of the same evaluation left in the file; candidates may be others."""
    found = console.previous(json_file, lambda document: document.get("kind") == evaluation.KIND)
    if found is not None and found["key"] != config.key():
        asked = asdict(config) | {"candidates": found["config"].get("candidates")}
        console.refuse_other(json_file, "evaluation", files.differing(found["config"], asked))
    return found


def _show(document: Document) -> None:
    """The figures of every candidate, how its excess is spread, and its worst tokens."""
    if not document["candidates"]:
        return
    original, tokens = document["original"], document["tokens"]
    console.out.print(document["text"]["note"])
    console.out.print(
        f"{tokens['windows']} of {tokens['of_windows']} windows of {tokens['length']} tokens, "
        f"fingerprint {tokens['sha256'][:16]}: {tokens['convention']}",
        highlight=False,
    )
    value = console.with_error(original["perplexity"], "value", "standard_error", 3)
    console.out.print(f"Original {original['model']['name']}: perplexity {value}", highlight=False)
    console.out.print(_figures(document), _spread(document))
    for entry in document["candidates"]:
        if entry["worst"]:
            console.out.print(_worst(entry))


def _figures(document: Document) -> Table:
    table = Table(
        "model",
        "perplexity",
        "nats per token over the original's",
        "KL(original || model)",
        "KL median, 90 %, 99 %",
        "same top word",
    )
    for entry in document["candidates"]:
        kl, ppl = entry["kl"], entry["perplexity"]
        table.add_row(
            escape(entry["model"]["name"]),
            console.with_error(ppl, "value", "standard_error", 3),
            console.with_error(ppl, "difference", "difference_error", 4),
            console.with_error(kl, "mean", "mean_error", 4),
            ", ".join(f"{kl['quantiles'][share]:.4f}" for share in ("0.5", "0.9", "0.99")),
            console.with_error(entry["top1"], "share", "share_error", 4),
        )
    return table


def _spread(document: Document) -> Table:
    """Whether the excess is a few tokens' doing or uniform."""
    table = Table("model", "excess: 1 %, median, 99 %, largest")
    for facts in document["candidates"][0]["worst_shares"]:
        worst = f"worst {100 * facts['share']:g} % of tokens"
        table.add_column(f"{worst}: share of excess")
        table.add_column("of KL")
        table.add_column("perplexity without")
    for entry in document["candidates"]:
        found = entry["excess"]["quantiles"]
        cells = [", ".join(f"{found[share]:.2f}" for share in ("0.01", "0.5", "0.99", "1"))]
        for facts in entry["worst_shares"]:
            cells += [_percent(facts["of_excess"]), _percent(facts["of_kl"])]
            cells.append(f"{facts['perplexity_without']:.3f}")
        table.add_row(escape(entry["model"]["name"]), *cells)
    return table


def _worst(entry: Document) -> Table:
    title = f"{escape(entry['model']['name'])}: the worst tokens"
    table = Table("window", "position", "text before", "token", "said", "nats, original", "nats")
    table.title = title
    for token in entry["worst"]:
        table.add_row(
            str(token["window"]),
            str(token["position"]),
            *(escape(repr(token[part])) for part in ("before", "token", "top")),
            f"{token['original_nll']:.2f}",
            f"{token['nll']:.2f}",
        )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
