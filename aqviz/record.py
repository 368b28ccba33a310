"""Runs the recorded studies and keeps them under assets/recordings.

    python -m aqviz.record [NAME ...]

What every view shows before anything runs. The race: two layers, each from every initialiser with
the default search, and again with the beam as AQLM and the paper have it; "first" is what the page
opens with, and README's table is made of all four. The other studies are the default states of
their views. A document carries its configuration, its date, the versions and the machine; the same
study on the command line gives the same codes.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aqviz import commands, engine, inside, recordings, studies
from aqviz.shown.basins import Basins
from quantcore.experiment import Experiment
from quantcore.init import INITIALISERS
from quantcore.progress import Progress
from quantcore.results import Document, mean_and_spread

SEEDS = (0, 1, 2)
FIRST = Experiment(layer="model.layers.10.self_attn.q_proj", inits=INITIALISERS, seeds=SEEDS)
DOWN_PROJ = replace(FIRST, layer="model.layers.10.mlp.down_proj")
RACES = {
    recordings.FIRST: FIRST,
    "first_beam": replace(FIRST, search="beam", beam=8),
    "down_proj": DOWN_PROJ,
    "down_proj_beam": replace(DOWN_PROJ, search="beam", beam=8),
}
STUDIES: Mapping[str, Any] = {
    **RACES,
    **studies.RECORDED,
    "landscape": Basins().landscape,
    "starts": Basins().many,
    "trial": studies.TRIAL,
}
INSIDE = "inside"  # one weight and what its numbers are made of, not a document
COLUMNS = (
    "init_relative_error",
    "init_heldout_relative_error",
    "relative_error",
    "heldout_relative_error",
)


def main() -> None:
    """Run, show how far it is, write, and print README's table."""
    for name in sys.argv[1:] or (*STUDIES, INSIDE):
        if name == INSIDE:
            inside.record()
            continue
        sys.stderr.write(commands.of(STUDIES[name]) + "\n")
        path = recordings.write(name, engine.run(STUDIES[name], _show, None))
        sys.stderr.write(f"\nwritten to {path}\n")
    sys.stdout.write(readme_table() + "\n")


def readme_table() -> str:
    """The recorded results in Markdown: means and standard deviations over seeds, in percent."""
    lines = [
        "| layer (ρ) | search, beam | initialiser | after init, calibration / held-out "
        "| at the end | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name in RACES:
        document = recordings.read(name)
        if document is not None:
            lines += [_line(document, init) for init in document["config"]["inits"]]
    return "\n".join(lines)


def _line(document: Document, init: str) -> str:
    runs = [run for run in document["runs"] if run["init"] == init]
    layer = document["layer"].removeprefix("model.layers.")
    config = recordings.experiment_of(document["config"])
    search = f"`{config.search}`, {config.width}"
    cells = [_percent(mean_and_spread(runs, name)) for name in COLUMNS]
    seconds = sum(run["seconds"]["total"] for run in runs) / len(runs)
    errors = f"{cells[0]} / {cells[1]} | {cells[2]} / {cells[3]}"
    about = f"{layer} ({document['rho']:.2g}) | {search} | `{init}`"
    return f"| {about} | {errors} | {seconds:.1f} |"


def _percent(found: tuple[float, float] | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found[0]:.3f} ± {100 * found[1]:.3f} %"


def _show(progress: Progress, document: Document) -> None:
    share = progress.done / progress.total if progress.total else 0.0
    sys.stderr.write(f"\r{share:4.0%}  {progress.stage:<60}")


if __name__ == "__main__":
    main()
