"""The command line.

Bad input ends with one sentence on stderr and exit code 2. Ctrl-C keeps what there is: the same
command goes on from there.
"""

import typer

from quantcore.commands import console
from quantcore.commands.layer import layer
from quantcore.commands.lists import layers, models
from quantcore.errors import QuantcoreError

app = typer.Typer(
    name="quantcore",
    help="Additive quantization of language models, and when its initialisation matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (layer, models, layers):
    app.command()(command)


def main() -> None:
    """Run the command line; what the user gave wrongly becomes one sentence."""
    try:
        app()
    except QuantcoreError as error:
        console.err.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise SystemExit(console.BAD_INPUT) from None


if __name__ == "__main__":
    main()
