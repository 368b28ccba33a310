"""The command line: arguments to an `Experiment`, results to a table and a JSON file.

Bad input ends with one sentence on stderr and exit code 2. Ctrl-C keeps what there is: the table
shows it, `--json` holds it, and the same command goes on from there.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from quantcore import experiment, files, results, sources
from quantcore.errors import InputError, QuantcoreError
from quantcore.experiment import Experiment
from quantcore.init import INITIALISERS
from quantcore.progress import Progress
from quantcore.results import Document
from quantcore.search import DEFAULT_WIDTHS, SEARCHES, SearchConfig
from quantcore.weight import PRESETS, Scheme, preset

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    name="quantcore",
    help="Additive quantization of language models, and when its initialisation matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
WIDE = 160  # columns where the output goes to a file or another program

out = Console(width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True)

Model = Annotated[
    str | None,
    typer.Option(help="Hub id, folder or GGUF file; the default model if it is left out."),
]
PresetBits = Annotated[
    float | None,
    typer.Option(help="Bits per weight: " + ", ".join(f"{b:g} ({s})" for b, s in PRESETS.items())),
]


@app.command()
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
    search: Annotated[
        str, typer.Option(help=f"How codes are searched: {', '.join(SEARCHES)}.")
    ] = Experiment.search,
    beam: Annotated[
        int | None,
        typer.Option(
            help="Hypotheses the search keeps for each row; if left out, "
            f"{DEFAULT_WIDTHS['beam']} for beam and {DEFAULT_WIDTHS['descent']} for the others."
        ),
    ] = Experiment.beam,
    sweeps: Annotated[
        int, typer.Option(help="Most rounds of refit and search.")
    ] = Experiment.sweeps,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from the first one up.")] = 1,
    damping: Annotated[
        float, typer.Option(help="Added to the Hessian's diagonal, as a share of its mean.")
    ] = 0.0,
    shrinkage: Annotated[
        float, typer.Option(help="Share taken off the Hessian's other entries.")
    ] = 0.0,
    text: Annotated[
        str, typer.Option(help="default, wikitext2, c4 or a text, parquet or JSON file.")
    ] = Experiment.text,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = Experiment.device,
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
        scheme=_scheme(bpp, codebooks, bits, group),
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
        out.print(f"Written to {json_file}")
    if not _finished(document, config):
        err.print("Interrupted: the same command goes on from here if it was given --json.")
        raise typer.Exit(INTERRUPTED)


@app.command()
def models() -> None:
    """List the models that can be used without the network, the default first."""
    table = Table("model", "kind", "what it is")
    for source in sources.available():
        table.add_row(source.name, source.kind, source.note)
    out.print(table)
    out.print(f"Anything else that transformers loads: a Hub id such as {sources.DEFAULT_MODEL}.")


@app.command()
def layers(model: Model = None, bpp: PresetBits = None) -> None:
    """List a model's linear layers with their groups, rho and true bits at a scheme."""
    scheme = _scheme(bpp, None, None, None)
    out.print(sources.resolve(model).note)
    table = Table("layer", "out x in", "groups", f"rho at {scheme}", "bits per weight")
    for info in experiment.layers(model).values():
        shape = (info.out, info.columns)
        if info.columns % scheme.group:
            facts = ["-", "-", "-"]
        else:
            bits = scheme.bits_per_weight(*shape)
            facts = [f"{scheme.groups(*shape):,}", f"{scheme.rho(*shape):.3g}", f"{bits:.3f}"]
        table.add_row(info.name, f"{info.out} x {info.columns}", *facts)
    out.print(table)


def main() -> None:
    """Run the command line; what the user gave wrongly becomes one sentence."""
    try:
        app()
    except QuantcoreError as error:
        err.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(BAD_INPUT) from None


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


def _scheme(
    bpp: float | None, codebooks: int | None, bits: int | None, group: int | None
) -> Scheme:
    parts = {"codebooks": codebooks, "bits": bits, "group": group}
    given = {name: value for name, value in parts.items() if value is not None}
    if bpp is not None and given:
        raise InputError(f"give either --bpp or --{next(iter(given))}, not both")
    return Scheme(**given) if given else preset(2.0 if bpp is None else bpp)


def _seeds(first: int, count: int) -> tuple[int, ...]:
    if count < 1:
        raise InputError(f"--seeds must be at least 1, got {count}")
    return tuple(range(first, first + count))


def _run(config: Experiment, previous: Document | None) -> Document:
    """The document, or what there is of it when the user interrupts."""
    latest: Document = results.begin(config.key(), config.layer, asdict(config))
    try:
        with _bar() as show:

            def observe(progress: Progress, document: Document) -> None:
                nonlocal latest
                latest = document
                show(progress)

            return experiment.run(config, observe, previous)
    except KeyboardInterrupt:
        return latest


def _previous(json_file: Path | None, config: Experiment) -> Document | None:
    """What an earlier try left in the file; a file of something else is not overwritten."""
    if json_file is None or not json_file.exists():
        return None
    try:
        found = json.loads(json_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or "runs" not in found:
        raise InputError(
            f"{json_file} is there and is no result of this command; name another file"
        )
    if found["runs"] and found["key"] != config.key():
        asked = json.loads(json.dumps(asdict(config)))
        other = [name for name in asked if found["config"].get(name) != asked[name]]
        raise InputError(
            f"{json_file} holds the result of another experiment "
            f"(with other {', '.join(other) or 'versions'}); name another file or remove it"
        )
    return found


def _finished(document: Document, config: Experiment) -> bool:
    runs = [run for run in document["runs"] if run["complete"]]
    evaluated = document["model"] is None or not config.perplexity_windows
    return len(runs) == len(config.inits) * len(config.seeds) and (
        evaluated or document["perplexity"] is not None
    )


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("start", eta="")

        def show(progress: Progress) -> None:
            eta = "" if progress.eta is None else f"about {progress.eta:.0f} s left"
            bar.update(task, total=progress.total or None, completed=progress.done, eta=eta)
            bar.update(task, description=progress.stage)

        yield show


def _show(document: Document) -> None:
    """The document as a table, one row for each initialiser: means over seeds."""
    if not document["runs"]:
        return
    scheme = Scheme(**document["scheme"])
    for part in ("model", "text"):
        if document[part] is not None:
            out.print(document[part]["note"])
    out.print(
        f"{document['layer']}, {document['shape'][0]} x {document['shape'][1]}, scheme {scheme}: "
        f"{document['bits_per_weight']:.3f} bits per weight, rho {document['rho']:.3g}",
        highlight=False,
    )
    settings = document["config"]
    width = SearchConfig(settings["search"], settings["beam"]).kept
    out.print(f"search {settings['search']}, beam {width}", highlight=False)
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
    out.print(table)
    if evaluated:
        original = document["perplexity"]["original"]
        out.print(f"Original perplexity {_with_error(original, 'value', 'standard_error', 3)}")


def _perplexity_cells(runs: list[Document]) -> list[str]:
    first = runs[0]["perplexity"]
    return [
        _with_error(first, "value", "standard_error", 3),
        _with_error(first, "difference", "difference_error", 5),
    ]


def _with_error(facts: Document, name: str, error: str, digits: int) -> str:
    value, spread = facts[name], facts[error]
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _spread(found: tuple[float, float] | None, digits: int) -> str:
    if found is None:
        return "-"
    mean, spread = found
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread else "")


if __name__ == "__main__":
    main()
