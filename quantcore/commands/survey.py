"""`quantcore survey`: a grid of runs over layers and settings, and what the layers are like."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from quantcore import files, grid, results
from quantcore import survey as surveys
from quantcore.commands import console, one_layer
from quantcore.commands.one_layer import number
from quantcore.errors import InputError
from quantcore.grid import Plan, Survey
from quantcore.results import Document
from quantcore.weight import Scheme

SAVE_SECONDS = 20.0  # between writes of a document that grows
AHEAD = ("greedy", "oa-em")  # whose errors are set over whose
FIGURES = {
    "init_relative_error": "init",
    "init_heldout_relative_error": "init held-out",
    "relative_error": "final",
    "heldout_relative_error": "final held-out",
}

T = TypeVar("T")


def survey(
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer, or a PREFIX in --problem; repeatable, all if left out."),
    ] = None,
    model: console.Model = None,
    problem: Annotated[
        Path | None, typer.Option(help="A safetensors problem file, instead of a model.")
    ] = None,
    scheme: Annotated[
        list[str] | None, typer.Option(help="Such as 2x8g8, which is used if left out; repeatable.")
    ] = None,
    init: console.Inits = None,
    facts: Annotated[
        bool, typer.Option("--facts", help="No runs, only what the layers are like.")
    ] = False,
    search: Annotated[
        list[str] | None, typer.Option(help="As in `quantcore layer`; repeatable.")
    ] = None,
    beam: Annotated[
        list[int] | None, typer.Option(help="As in `quantcore layer`; repeatable.")
    ] = None,
    calibration_tokens: Annotated[
        list[int] | None, typer.Option(help="Tokens for the calibration Hessian; repeatable.")
    ] = None,
    shrinkage: Annotated[
        list[float] | None, typer.Option(help="As in `quantcore layer`; repeatable.")
    ] = None,
    sweeps: console.Sweeps = Survey.sweeps,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable; 0 if left out.")] = None,
    damping: console.Damping = Survey.damping,
    text: console.Text = Survey.text,
    heldout_tokens: Annotated[
        int, typer.Option(help="Tokens for the held-out Hessian.")
    ] = Survey.heldout_tokens,
    window: Annotated[int, typer.Option(help="Tokens in one window.")] = Survey.window,
    device: console.Device = Survey.device,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be done, and how long it takes.")
    ] = False,
    json_file: console.JsonFile = None,
) -> None:
    """Run every combination of layers and settings, and say what the layers are like.

    Repeat an option to vary what it names. Hessians stay in the cache: of all layers of the default
    model about 1 GB for every amount of text.
    """
    if facts and init:
        raise InputError("--facts makes no runs, so it takes no --init")
    config = Survey(
        model=model,
        problem=None if problem is None else str(problem),
        layers=tuple(layer or ()),
        schemes=_given(list(map(Scheme.parse, scheme or ())), Survey.schemes),
        inits=() if facts else _given(init, Survey.inits),
        searches=_given(search, Survey.searches),
        beams=_given(beam, Survey.beams),
        calibration_tokens=_given(calibration_tokens, Survey.calibration_tokens),
        shrinkages=_given(shrinkage, Survey.shrinkages),
        seeds=_given(seed, Survey.seeds),
        sweeps=sweeps,
        damping=damping,
        text=text,
        heldout_tokens=heldout_tokens,
        window=window,
        device=device,
    )
    if plan:
        _show_plan(grid.plan(config))
        return
    document, whole = _run(config, _previous(json_file, config), json_file)
    _show(document)
    one_layer.finish(whole, json_file)


def _given(values: Sequence[T] | None, default: tuple[T, ...]) -> tuple[T, ...]:
    """The values of a repeatable option, each once, or its default."""
    return tuple(dict.fromkeys(values)) if values else default


def _run(
    config: Survey, previous: Document | None, json_file: Path | None
) -> tuple[Document, bool]:
    """The document, or what there is of it when the user interrupts, and whether it is whole.

    It is also written while it grows: a survey may take hours.
    """
    latest = surveys.begin(config) if previous is None else previous
    written = time.monotonic()

    def seen(document: Document) -> None:
        nonlocal latest, written
        latest = document
        if json_file is not None and time.monotonic() - written > SAVE_SECONDS:
            files.write_json(json_file, document)
            written = time.monotonic()

    try:
        latest, whole = console.follow(
            lambda observe: surveys.run(config, observe, previous), latest, seen
        )
    finally:
        if json_file is not None:
            files.write_json(json_file, latest)
    return latest, whole


def _previous(json_file: Path | None, config: Survey) -> Document | None:
    """What an earlier try of the same survey left in the file."""
    found = console.previous(json_file, lambda document: document.get("kind") == surveys.KIND)
    if found is not None and found["key"] != config.key():
        console.refuse_other(json_file, "survey", files.differing(found["config"], asdict(config)))
    return found


def _show_plan(planned: Plan) -> None:
    for entry in planned.refused:
        console.out.print(f"Left out: {entry['why']}", highlight=False)
    console.out.print(
        f"{len(planned.layers)} layers, {planned.runs} runs, "
        f"{len(planned.refused)} combinations of layer and scheme left out; "
        f"about {sum(planned.seconds.values()) / 60:.0f} minutes here.",
        highlight=False,
    )


def _show(document: Document) -> None:
    """What the layers are like, then one row for each setting: means over seeds."""
    for part in ("model", "text"):
        if document[part] is not None:
            console.out.print(document[part]["note"])
    if document["runs"]:
        console.out.print(_errors(document))
    elif document["layers"]:
        console.out.print(_facts(document["layers"]))
    if document["refused"]:
        count = len(document["refused"])
        console.out.print(f"{count} combinations of layer and scheme left out: see --plan")


def _facts(layers: Document) -> Table:
    groups = list(next(iter(layers.values()))["block_share"])
    table = Table("layer", "out x in", "kurtosis", "rows' norms, cv", "outlier share")
    for group in groups:
        table.add_column(f"block share, g {group}")
        table.add_column(f"condition, g {group}")
    for name, facts in layers.items():
        row = [f"{facts['shape'][0]} x {facts['shape'][1]}"]
        row += [number(facts[part], 3) for part in ("kurtosis", "row_norm_cv", "outlier_share")]
        for group in groups:
            row.append(number(facts["block_share"].get(group), 3))
            row.append(number(facts["block_condition"].get(group), 0))
        table.add_row(name, *row)
    return table


def _errors(document: Document) -> Table:
    """Figures of each initialiser; what is the same in all rows stands over the table."""
    inits = document["config"]["inits"]
    rows = grid.settings(document["runs"])
    columns = zip(grid.SHARED, zip(*rows, strict=True), strict=True)
    same = {name: values[0] for name, values in columns if len(set(values)) == 1}
    table = Table(*(name for name in grid.SHARED if name not in same), "rho", "seeds")
    table.columns[0].no_wrap = True
    table.title = ", ".join(f"{name} {value}" for name, value in same.items() if value is not None)
    for init in inits:
        table.add_column(f"{init}: init")
        table.add_column("final")
        table.add_column("held-out")
    compared = set(AHEAD) <= set(inits)
    if compared:
        for words in FIGURES.values():
            table.add_column(f"{AHEAD[0]} / {AHEAD[1]}, {words}")
    for setting, runs in rows.items():
        shown = zip(grid.SHARED, setting, strict=True)
        cells = [str(value) for name, value in shown if name not in same]
        cells += [f"{runs[0]['rho']:.3g}", str(len({run["seed"] for run in runs}))]
        for init in inits:
            cells += _means([run for run in runs if run["init"] == init])
        if compared:
            cells += [_ratio(grid.ratio(runs, name, *AHEAD)) for name in FIGURES]
        table.add_row(*cells)
    return table


def _means(runs: list[Document]) -> list[str]:
    """One initialiser's figures, means over seeds."""
    names = ("init_relative_error", "relative_error", "heldout_relative_error")
    found = [results.mean_and_spread(runs, name) for name in names]
    return [number(None if one is None else one[0], 5) for one in found]


def _ratio(found: tuple[float, float | None] | None) -> str:
    if found is None:
        return "-"
    mean, spread = found
    return number(mean, 3) + ("" if spread is None else f" ± {spread:.3f}")
