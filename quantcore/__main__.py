"""The command line.

Bad input ends with one sentence on stderr and exit code 2. Ctrl-C keeps what there is: the same
command goes on from there.
"""

from collections.abc import Callable
from typing import NoReturn

import typer

from quantcore.commands import console
from quantcore.commands.evaluate import evaluate
from quantcore.commands.export import export, repair
from quantcore.commands.generate import chat, generate
from quantcore.commands.landscape import landscape
from quantcore.commands.layer import layer
from quantcore.commands.lists import layers, models
from quantcore.commands.quantize import quantize
from quantcore.commands.report import report
from quantcore.commands.starts import starts
from quantcore.commands.survey import survey
from quantcore.commands.trial import trial
from quantcore.commands.tune import tune
from quantcore.errors import QuantcoreError, first_line, quoted

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Layers": (layer, survey, landscape, starts, layers, models),
    "A whole model": (quantize, tune, trial, evaluate, report, export, repair, generate, chat),
}

app = typer.Typer(
    name="quantcore",
    help="Additive quantization of language models, and when its initialisation matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def main() -> None:
    """Run the command line; what the user gave wrongly becomes one sentence."""
    try:
        app()
    except QuantcoreError as error:
        _refuse(str(error))
    except OSError as error:  # a file or folder that an option names
        place = quoted(error.filename or "a file")
        _refuse(f"{place} cannot be used: {error.strerror or first_line(error)}")


def _refuse(words: str) -> NoReturn:
    console.err.print(f"Error: {words}", style="red", markup=False, soft_wrap=True)
    raise SystemExit(console.BAD_INPUT) from None


if __name__ == "__main__":
    main()
