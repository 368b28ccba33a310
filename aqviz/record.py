"""Runs the first comparison and keeps it under assets/recordings: what the page shows at first.

    python -m aqviz.record

The document carries its configuration, date, versions and machine; `quantcore layer` with
the same settings gives the same codes.
"""

import sys

from aqviz import permalink, recordings
from quantcore import experiment
from quantcore.experiment import Experiment
from quantcore.progress import Progress
from quantcore.results import Document

FIRST = Experiment(layer="model.layers.0.self_attn.k_proj", seeds=(0, 1, 2))


def main() -> None:
    """Run, show how far it is, and write."""
    sys.stderr.write(permalink.command(FIRST) + "\n")
    document = experiment.run(FIRST, _show)
    path = recordings.write(recordings.FIRST, document)
    sys.stderr.write(f"\nwritten to {path}\n")


def _show(progress: Progress, document: Document) -> None:
    share = progress.done / progress.total if progress.total else 0.0
    sys.stderr.write(f"\r{share:4.0%}  {progress.stage:<60}")


if __name__ == "__main__":
    main()
