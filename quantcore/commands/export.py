"""`quantcore export` and `quantcore repair`: checkpoints for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from quantcore import export as exporting
from quantcore import repair as repairing
from quantcore.commands import console
from quantcore.export import FORMATS, TYPES

Checkpoint = Annotated[str, typer.Argument(help="A quantized model: a folder or Hub id.")]


def export(
    model: Checkpoint,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    format: Annotated[
        str,
        typer.Option(help=f"{', '.join(FORMATS)}: AQLM's checkpoint, or every weight decoded."),
    ] = "aqlm",
    dtype: Annotated[
        str, typer.Option(help=f"{', '.join(TYPES)}; dense weights may take either.")
    ] = "float16",
) -> None:
    """Write a quantized model for other programs, with a model card.

    transformers reads AQLM's checkpoints with the package aqlm; vLLM dropped them after 0.10. Dense
    weights go wherever the original's go, at the original's size.
    """
    exporting.export(model, out, format, dtype)
    console.out.print(f"Written to {out}", highlight=False)


def repair(
    checkpoint: Checkpoint,
    out: Annotated[Path | None, typer.Option(help="A new folder for a mended copy.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Mend it where it is; keeps config.json.bak.")
    ] = False,
) -> None:
    """Mend config.json of an AQLM checkpoint that transformers 5 misreads; tensors stay.

    Without --out and --in-place it says what it would change.
    """
    changes = repairing.repair(checkpoint, out, in_place)
    if not changes:
        console.out.print("Nothing to mend: config.json agrees with the tensors.")
        return
    for change in changes:
        console.out.print(change, markup=False, highlight=False)
    if out is None and not in_place:
        console.out.print("Nothing was written: give --out DIR or --in-place.")
    else:
        console.out.print(f"Written to {out or checkpoint}", highlight=False)
