"""`quantcore layer`: one layer from several initialisers, compared; a table and a JSON document."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quantcore import experiment, files, results
from quantcore.commands import console, one_layer
from quantcore.experiment import Experiment
from quantcore.progress import Progress
from quantcore.results import Document


@one_layer.with_experiment()
def layer(
    config: Experiment,
    windows: Annotated[
        int, typer.Option(help="Windows of held-out text for perplexity; 0 for none.")
    ] = Experiment.perplexity_windows,
    json_file: one_layer.JsonFile = None,
) -> None:
    """Quantize one layer from several initialisers with one search and compare them."""
    config = replace(config, perplexity_windows=windows)
    document = _run(config, _previous(json_file, config))
    _show(document)
    if json_file is not None:
        files.write_json(json_file, document)
        console.out.print(f"Written to {json_file}")
    if not _finished(document, config):
        one_layer.interrupted()


def _run(config: Experiment, previous: Document | None) -> Document:
    """The document, or what there is of it when the user interrupts."""
    latest: Document = results.begin(config.key(), config.layer, asdict(config))
    try:
        with console.bar() as show:

            def observe(progress: Progress, document: Document) -> None:
                nonlocal latest
                latest = document
                show(progress)

            return experiment.run(config, observe, previous)
    except KeyboardInterrupt:
        return latest


def _previous(json_file: Path | None, config: Experiment) -> Document | None:
    """What an earlier try of the same experiment left in the file."""
    found = console.previous(json_file, lambda document: "runs" in document)
    if found is not None and found["runs"] and found["key"] != config.key():
        other = files.differing(found["config"], asdict(config))
        console.refuse_other(json_file, "experiment", other)
    return found


def _finished(document: Document, config: Experiment) -> bool:
    runs = [run for run in document["runs"] if run["complete"]]
    evaluated = document["model"] is None or not config.perplexity_windows
    return len(runs) == len(config.inits) * len(config.seeds) and (
        evaluated or document["perplexity"] is not None
    )


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
