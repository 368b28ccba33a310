"""What the commands share: where they print, the progress bar, options and their checks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from quantcore.errors import InputError
from quantcore.progress import Progress
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


def with_error(facts: dict[str, Any], name: str, error: str, digits: int) -> str:
    """A figure and its standard error, where it has one."""
    value, spread = facts[name], facts[error]
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
