"""`quantcore starts`: many starts of one layer, and whether a better one ends better."""

from typing import Annotated

import typer
from rich.table import Table

from quantcore import results
from quantcore import starts as studies
from quantcore.commands import console, one_layer
from quantcore.commands.one_layer import number
from quantcore.experiment import Experiment
from quantcore.results import Document
from quantcore.starts import Starts

ERRORS = {
    "init": "init_relative_error",
    "init held-out": "init_heldout_relative_error",
    "final": "relative_error",
    "final held-out": "heldout_relative_error",
}


@one_layer.with_experiment(seeds=len(Starts().experiment.seeds))
def starts(
    config: Experiment,
    noise: Annotated[
        list[float] | None,
        typer.Option(
            help="Noise on a start's codebooks, as a share of their root mean square; repeatable, "
            f"{', '.join(f'{noise:g}' for noise in Starts.noises)} if left out."
        ),
    ] = None,
    json_file: console.JsonFile = None,
) -> None:
    """Run one search from many starts of a layer: does a better start end better?"""
    noises = tuple(dict.fromkeys(noise)) if noise else Starts.noises
    document, whole = one_layer.run(studies, Starts(config, noises), json_file)
    _show(document)
    one_layer.finish(whole, json_file)


def _show(document: Document) -> None:
    """Means of each initialiser and noise, and the rank correlations."""
    if not document["starts"]:
        return
    one_layer.show_layer(document, document["config"]["experiment"])
    table = Table("initialiser", "noise", "starts", *ERRORS)
    kinds = dict.fromkeys((start["init"], start["noise"]) for start in document["starts"])
    for kind in kinds:
        some = [one for one in document["starts"] if (one["init"], one["noise"]) == kind]
        means = [results.mean_and_spread(some, name) for name in ERRORS.values()]
        cells = [number(None if mean is None else mean[0], 5) for mean in means]
        table.add_row(kind[0], f"{kind[1]:g}", str(len(some)), *cells)
    console.out.print(table, _correlations(document["correlation"]))


def _correlations(correlation: Document) -> Table:
    table = Table("Spearman, init with final error", "calibration", "held-out")
    of = {text: found for text, found in correlation.items() if found is not None}
    table.add_row("all starts", *(_words(of, text, None) for text in correlation))
    for init in of["calibration"]["within"]:
        table.add_row(f"{init} alone", *(_words(of, text, init) for text in correlation))
    return table


def _words(correlation: Document, text: str, init: str | None) -> str:
    """One correlation and its interval, or why there is none."""
    if text not in correlation:
        return "-"
    whole = correlation[text]
    found = whole["overall"] if init is None else whole["within"][init]
    if found["spearman"] is None:
        return str(found["why"])
    return f"{found['spearman']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
