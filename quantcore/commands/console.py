"""What the commands share: where they print, the progress bar, options and their checks."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from quantcore import files, results
from quantcore.errors import InputError
from quantcore.init import INITIALISERS
from quantcore.progress import Observe, Progress
from quantcore.results import Document
from quantcore.search import DEFAULT_WIDTHS, SEARCHES
from quantcore.weight import PRESETS, Scheme, preset

BAD_INPUT = 2
INTERRUPTED = 130
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
Text = Annotated[str, typer.Option(help="default, wikitext2, c4 or a text, parquet or JSON file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Against = Annotated[
    str | None,
    typer.Option(help="The original; the one that quantcore.json names if it is left out."),
]
Search = Annotated[str, typer.Option(help=f"How codes are searched: {', '.join(SEARCHES)}.")]
Beam = Annotated[
    int | None,
    typer.Option(
        help="Hypotheses the search keeps for each row; if left out, "
        f"{DEFAULT_WIDTHS['beam']} for beam and {DEFAULT_WIDTHS['descent']} for the others."
    ),
]
Inits = Annotated[
    list[str] | None,
    typer.Option(
        "--init", help=f"{', '.join(INITIALISERS)}; repeatable, greedy and oa-em if left out."
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the result here; go on from it if it is there.")
]
Sweeps = Annotated[int, typer.Option(help="Most rounds of refit and search.")]
Damping = Annotated[
    float, typer.Option(help="Added to the Hessian's diagonal, as a share of its mean.")
]
Shrinkage = Annotated[float, typer.Option(help="Share taken off the Hessian's other entries.")]


def scheme(bpp: float | None, codebooks: int | None, bits: int | None, group: int | None) -> Scheme:
    """The scheme that --bpp or its three parts name."""
    parts = {"codebooks": codebooks, "bits": bits, "group": group}
    given = {name: value for name, value in parts.items() if value is not None}
    if bpp is not None and given:
        raise InputError(f"give either --bpp or --{next(iter(given))}, not both")
    return Scheme(**given) if given else preset(2.0 if bpp is None else bpp)


@contextmanager
def bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar on stderr, and the function that moves it."""
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal) as drawn:
        task = drawn.add_task("start", eta="")

        def show(progress: Progress) -> None:
            eta = "" if progress.eta is None else f"about {progress.eta:.0f} s left"
            drawn.update(task, total=progress.total or None, completed=progress.done, eta=eta)
            drawn.update(task, description=progress.stage)

        yield show


def previous(path: Path | None, ours: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """What an earlier try left in the file; a file of something else is not overwritten."""
    if path is None or not path.exists():
        return None
    try:
        found = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and isinstance(found.get("config"), dict) and "key" in found:
        document: dict[str, Any] = found
        if ours(document):
            return document
    raise InputError(f"{path} is there and is no result of this command; name another file")


def follow(
    work: Callable[[Observe], Document],
    begun: Document,
    seen: Callable[[Document], None] = lambda document: None,
) -> tuple[Document, bool]:
    """Work under a progress bar.

    Args:
        work: A study, which takes an observer.
        begun: Its document so far, or before anything is known.
        seen: Called with the document whenever it has changed.

    Returns:
        The document, or what there is of it when the user interrupts, and whether it is whole.
    """
    latest = begun
    try:
        with bar() as show:

            def observe(progress: Progress, document: Document) -> None:
                nonlocal latest
                if results.finished(document) >= results.finished(latest):
                    latest = document
                seen(latest)
                show(progress)

            return work(observe), True
    except KeyboardInterrupt:
        return latest, False


def interrupted() -> NoReturn:
    """End as interrupted."""
    err.print("Interrupted: the same command goes on from here if it was given --json.")
    raise typer.Exit(INTERRUPTED)


def refuse_other(path: Path | None, kind: str, other: list[str]) -> NoReturn:
    """The file holds a result of this command with other settings."""
    raise InputError(
        f"{path} holds the result of another {kind} "
        f"(with other {', '.join(other) or 'versions'}); name another file or remove it"
    )


def with_error(facts: dict[str, Any], name: str, error: str, digits: int) -> str:
    """A figure and its standard error, where it has one."""
    value, spread = facts[name], facts[error]
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
