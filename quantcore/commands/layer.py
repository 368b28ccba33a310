"""`quantcore layer`: one layer from several initialisers, compared; a table and a JSON document."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quantcore import experiment, files, results
from quantcore.commands import console, one_layer
from quantcore.experiment import Experiment
from quantcore.results import Document


@one_layer.with_experiment()
def layer(
    config: Experiment,
    windows: Annotated[
        int, typer.Option(help="Windows of held-out text for perplexity; 0 for none.")
    ] = Experiment.perplexity_windows,
    json_file: console.JsonFile = None,
) -> None:
    """Quantize one layer from several initialisers with one search and compare them."""
    config = replace(config, perplexity_windows=windows)
    previous = _previous(json_file, config)
    begun = previous or results.begin(config.key(), config.layer, asdict(config))
    document, whole = console.follow(
        lambda observe: experiment.run(config, observe, previous), begun
    )
    _show(document)
    if json_file is not None:
        files.write_json(json_file, document)
    one_layer.finish(whole, json_file)


def _previous(json_file: Path | None, config: Experiment) -> Document | None:
    """What an earlier try of the same experiment left in the file."""
    found = console.previous(json_file, lambda document: "runs" in document)
    if found is not None and found["runs"] and found["key"] != config.key():
        other = files.differing(found["config"], asdict(config))
        console.refuse_other(json_file, "experiment", other)
    return found


def _show(document: Document) -> None:
    """The document as a table, one row for each initialiser: means over seeds."""
    if not document["runs"]:
        return
    one_layer.show_layer(document, document["config"])
    table = Table(
        "initialiser", "seeds", "init", "init held-out", "final", "final held-out", "seconds"
    )
    evaluated = document["perplexity"] is not None
    if evaluated:
        table.add_column("perplexity")
        table.add_column("nats per token over the original's")
    for init in dict.fromkeys(run["init"] for run in document["runs"]):
        runs = [run for run in document["runs"] if run["init"] == init]
        errors = (
            "init_relative_error",
            "init_heldout_relative_error",
            "relative_error",
            "heldout_relative_error",
        )
        cells = [_spread(results.mean_and_spread(runs, name), 5) for name in errors]
        seconds = sum(run["seconds"]["total"] for run in runs) / len(runs)
        cells.append(f"{seconds:.1f}")
        if evaluated:
            cells += _perplexity_cells(runs)
        table.add_row(init, str(len(runs)), *cells)
    console.out.print(table)
    if evaluated:
        original = document["perplexity"]["original"]
        console.out.print(
            f"Original perplexity {console.with_error(original, 'value', 'standard_error', 3)}"
        )


def _perplexity_cells(runs: list[Document]) -> list[str]:
    first = runs[0]["perplexity"]
    return [
        console.with_error(first, "value", "standard_error", 3),
        console.with_error(first, "difference", "difference_error", 5),
    ]


def _spread(found: tuple[float, float] | None, digits: int) -> str:
    if found is None:
        return "-"
    mean, spread = found
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread else "")
