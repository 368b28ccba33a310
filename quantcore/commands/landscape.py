"""`quantcore landscape`: the error over a plane between two runs, and on the line across it."""

from typing import Annotated

import typer
from rich.table import Table

from quantcore import landscape as landscapes
from quantcore.commands import console, one_layer
from quantcore.commands.one_layer import number
from quantcore.experiment import Experiment
from quantcore.landscape import Landscape
from quantcore.results import Document

MODES = {"reassigned": "found anew", "fixed_a": "those of A", "fixed_b": "those of B"}


@one_layer.with_experiment()
def landscape(
    config: Experiment,
    rows: Annotated[
        int, typer.Option(help="Rows of the layer that the surface is measured on.")
    ] = Landscape.rows,
    resolution: Annotated[
        int, typer.Option(help="Points of the surface along each axis.")
    ] = Landscape.resolution,
    points: Annotated[
        int, typer.Option(help="Points of the line, both ends included.")
    ] = Landscape.points,
    json_file: console.JsonFile = None,
) -> None:
    """Measure the error between two runs of one layer, over a plane and along the straight line.

    Run A has the first initialiser and seed, run B the last of both.
    """
    study = Landscape(config, rows, resolution, points)
    document, whole = one_layer.run(landscapes, study, json_file)
    _show(document)
    one_layer.finish(whole, json_file)


def _show(document: Document) -> None:
    """Both runs, how near they came to each other, and the line between them."""
    if not document["trajectories"]:
        return
    one_layer.show_layer(document, document["config"]["experiment"])
    console.out.print(_runs(document))
    if document["line"] is None:
        return
    found = document["alignment"]
    console.out.print(
        f"The ends lie {found['distance']:.3f} apart, {found['distance_before']:.3f} before books "
        f"and words were put in one order; 1 is about the size of the weight. "
        f"{100 * found['equal_codes']:.1f} % of their codes are the same.",
        highlight=False,
    )
    if found["why"] is not None:
        console.out.print(f"Not the nearest order: {found['why']}.", highlight=False)
    console.out.print(
        f"On the line, measured on {document['rows']} of {document['shape'][0]} rows:",
        highlight=False,
    )
    console.out.print(_line(document["line"]))


def _runs(document: Document) -> Table:
    table = Table("run", "initialiser", "seed", "init", "final", "final held-out", "seconds")
    table.add_column("squared steps in the plane")
    for end, run in document["trajectories"].items():
        phases = run["phases"]
        if not phases:
            continue
        plane = document["plane"]
        share = None if plane is None else plane["explained"][end]
        table.add_row(
            end,
            run["init"],
            str(run["seed"]),
            number(phases[0]["relative_error"], 5),
            number(phases[-1]["relative_error"], 5),
            number(phases[-1]["heldout_relative_error"], 5),
            number(phases[-1]["seconds"], 1),
            "-" if share is None else f"{100 * share:.0f} %",
        )
    return table


def _line(line: Document) -> Table:
    table = Table("codes", "at A", "highest", "at B", "barrier", "barrier held-out")
    for mode, words in MODES.items():
        errors, barrier = line["errors"][mode]["calibration"], line["barrier"][mode]
        cells = [number(error, 5) for error in (errors[0], max(errors), errors[-1])]
        table.add_row(words, *cells, *(number(barrier[text], 3) for text in barrier))
    return table
