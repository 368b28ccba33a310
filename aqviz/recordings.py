"""Recorded runs: documents kept under assets/, shown before anything runs."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from quantcore import files
from quantcore.experiment import Experiment
from quantcore.weight import Scheme

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "recordings"
FIRST = "first"  # the name of the run on the first paint


def read(name: str = FIRST, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The recorded document of that name, or None where it was never recorded."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def write(name: str, document: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Keep a document under that name."""
    path = folder / f"{name}.json"
    files.write_json(path, document)
    return path


def experiment_of(config: dict[str, Any]) -> Experiment:
    """The experiment that a document's "config" describes.

    Fields it does not know are left out. A config that names no search is from before there was a
    choice: it was the beam.
    """
    known = {field.name for field in fields(Experiment)}
    values = {"search": "beam"} | {name: config[name] for name in config if name in known}
    if isinstance(values.get("scheme"), dict):
        values["scheme"] = Scheme(**values["scheme"])
    for name in ("inits", "seeds"):
        if name in values:
            values[name] = tuple(values[name])
    return Experiment(**values)
