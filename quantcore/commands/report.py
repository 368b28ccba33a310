"""`quantcore report`: result documents side by side, as Markdown or CSV."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quantcore import files
from quantcore import report as reports
from quantcore.commands import console


class Format(StrEnum):
    """How the table is written."""

    MARKDOWN = "markdown"
    CSV = "csv"


def report(
    documents: Annotated[
        list[Path],
        typer.Argument(metavar="JSON...", help="Result files, or folders of quantized models."),
    ],
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Of evaluations: every two candidates, window by window."),
    ] = False,
    form: Annotated[
        Format, typer.Option("--format", help="How the table is written.")
    ] = Format.MARKDOWN,
    out: Annotated[
        Path | None, typer.Option(help="Write the table here instead of showing it.")
    ] = None,
) -> None:
    """Put results side by side: one row for every candidate or run, or for every pair."""
    found = {str(path): reports.read(path) for path in documents}
    frame = reports.pairs(found) if pairs else reports.table(found)
    text = reports.markdown(frame) if form is Format.MARKDOWN else frame.to_csv(index=False)
    if out is None:
        typer.echo(text, nl=False)
    else:
        files.write_whole(out, lambda place: place.write_text(text, encoding="utf-8"))
        console.out.print(f"Written to {out}")
