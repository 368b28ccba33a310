"""`quantcore layer`: one layer from several initialisers, compared; a table and a JSON document."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quantcore import experiment, files, results
from quantcore.commands import console
from quantcore.commands.console import Model, PresetBits
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.init import INITIALISERS
from quantcore.progress import Progress
from quantcore.results import Document
from quantcore.search import SearchConfig
from quantcore.weight import Scheme


def layer(
    layer: Annotated[
        str | None, typer.Option(help="A layer's name; `quantcore layers` lists them.")
    ] = None,
    model: Model = None,
    problem: Annotated[
        Path | None, typer.Option(help="A safetensors problem file, instead of a model.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The PREFIX of PREFIX.weight in --problem.")
    ] = None,
    bpp: PresetBits = None,
    codebooks: Annotated[
        int | None, typer.Option(help="Codebooks, 1 to 4, instead of --bpp.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of one code, 1 to 16.")] = None,
    group: Annotated[int | None, typer.Option(help="Weights encoded together.")] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(INITIALISERS)}; repeatable, greedy and oa-em if left out."),
    ] = None,
    search: console.Search = Experiment.search,
    beam: console.Beam = Experiment.beam,
    sweeps: console.Sweeps = Experiment.sweeps,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from the first one up.")] = 1,
    damping: console.Damping = 0.0,
    shrinkage: console.Shrinkage = 0.0,
    text: console.Text = Experiment.text,
    calibration_tokens: Annotated[
        int, typer.Option(help="Tokens for the calibration Hessian.")
    ] = Experiment.calibration_tokens,
    heldout_tokens: Annotated[
        int, typer.Option(help="Tokens for the held-out Hessian.")
    ] = Experiment.heldout_tokens,
    window: Annotated[int, typer.Option(help="Tokens in one window.")] = Experiment.window,
    windows: Annotated[
        int, typer.Option(help="Windows of held-out text for perplexity; 0 for none.")
    ] = Experiment.perplexity_windows,
    device: console.Device = Experiment.device,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the result here; go on from it if it is there."),
    ] = None,
) -> None:
    """Quantize one layer from several initialisers with one search and compare them."""
    config = Experiment(
        model=model,
        layer=_layer_name(layer, problem, name),
        problem=None if problem is None else str(problem),
        scheme=console.scheme(bpp, codebooks, bits, group),
        inits=tuple(dict.fromkeys(init)) if init else Experiment.inits,
        seeds=_seeds(seed, seeds),
        search=search,
        beam=beam,
        sweeps=sweeps,
        damping=damping,
        shrinkage=shrinkage,
        text=text,
        calibration_tokens=calibration_tokens,
        heldout_tokens=heldout_tokens,
        window=window,
        perplexity_windows=windows,
        device=device,
    )
    document = _run(config, _previous(json_file, config))
    _show(document)
    if json_file is not None:
        files.write_json(json_file, document)
        console.out.print(f"Written to {json_file}")
    if not _finished(document, config):
        console.err.print("Interrupted: the same command goes on from here if it was given --json.")
        raise typer.Exit(console.INTERRUPTED)


def _layer_name(layer: str | None, problem: Path | None, name: str | None) -> str:
    if problem is not None:
        if name is None or layer is not None:
            raise InputError("--problem takes --name PREFIX, and no --layer")
        return name
    if layer is None:
        raise InputError(
            "give --layer NAME (see `quantcore layers`), or --problem FILE --name PREFIX"
        )
    return layer


def _seeds(first: int, count: int) -> tuple[int, ...]:
    if count < 1:
        raise InputError(f"--seeds must be at least 1, got {count}")
    return tuple(range(first, first + count))


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
    scheme = Scheme(**document["scheme"])
    for part in ("model", "text"):
        if document[part] is not None:
            console.out.print(document[part]["note"])
    console.out.print(
        f"{document['layer']}, {document['shape'][0]} x {document['shape'][1]}, scheme {scheme}: "
        f"{document['bits_per_weight']:.3f} bits per weight, rho {document['rho']:.3g}",
        highlight=False,
    )
    settings = document["config"]
    width = SearchConfig(settings["search"], settings["beam"]).kept
    console.out.print(f"search {settings['search']}, beam {width}", highlight=False)
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
