"""Recorded runs: documents kept under assets/, shown before anything runs."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from aqviz.engine import STUDIES
from quantcore import files
from quantcore.experiment import Experiment

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


def every(kind: str, folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All recorded documents of a study, by name."""
    return {name: found for name, found in _all(folder).items() if found.get("kind") == kind}


def studies(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All recorded documents that name their settings by a key."""
    return {name: found for name, found in _all(folder).items() if "key" in found}


@lru_cache(maxsize=8)  # they do not change while the program runs
def _all(folder: Path) -> dict[str, dict[str, Any]]:
    named = {path.stem: read(path.stem, folder) for path in sorted(folder.glob("*.json"))}
    return {name: found for name, found in named.items() if found}


def config_of(kind: str, values: dict[str, Any]) -> Any:
    """The config of a study as a document or a job's file holds it; unknown fields are left out.

    Raises:
        KeyError: there is no such study.
        ValueError: a value is of another type, or cannot be.
    """
    return _reader(STUDIES[kind][0]).validate_json(json.dumps(values), strict=True)


@lru_cache
def _reader(kind: type) -> Any:
    """Makes of JSON a dataclass of this kind, every value of the type its field has."""
    return TypeAdapter(kind)


def experiment_of(config: dict[str, Any]) -> Experiment:
    """The experiment that a document's "config" describes.

    A config that names no search is from before there was a choice: it was the beam.
    """
    made: Experiment = config_of("experiment", {"search": "beam"} | config)
    return made


def named(config: Any, document: dict[str, Any] | None) -> Any:
    """A study's config with the model that the default stood for."""
    if hasattr(config, "experiment"):
        return replace(config, experiment=named(config.experiment, document))
    used = (document or {}).get("model") or {}
    return replace(config, model=config.model or used.get("name"))
