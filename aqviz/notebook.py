"""A study as Python: the lines that repeat it, and a notebook that does and checks its numbers."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from aqviz.engine import STUDIES, kind_of
from quantcore.results import Document
from quantcore.weight import Scheme

RTOL = 1e-3  # other processors round elsewhere, which can move single codes


def python(config: Any) -> str:
    """The lines that run a study."""
    module = STUDIES[kind_of(config)][1].__name__.rpartition(".")[2]
    kind, home = type(config).__name__, type(config).__module__
    told = _told(config)
    lines = [f"from quantcore import {module}", f"from {home} import {kind}"]
    for name, place in (("Experiment", "experiment"), ("Scheme", "weight")):
        if name != kind and any(f"{name}(" in one for one in told):
            lines.append(f"from quantcore.{place} import {name}")
    lines += ["", f"config = {kind}(", *(f"    {one}," for one in told), ")"]
    lines.append(f"document = {module}.run(config, lambda progress, so_far: None)")
    return "\n".join(lines)


def notebook(config: Any, document: Document, told: str) -> Document:
    """A notebook (nbformat 4) that repeats a study and compares it with what was found here.

    Args:
        config: The study.
        document: What it found.
        told: That in one sentence.
    """
    machine = document.get("machine") or {}
    where = f"{machine.get('cpu', 'an unknown processor')}, {machine.get('cores', '?')} cores"
    found = {_name(run): run["relative_error"] for run in _runs(document)}
    cells = [
        _cell(
            "markdown",
            f"# {document.get('layer', 'A study')}\n\n{told}\n\nFound on "
            f"{document['date'][:10]} on {where}. The cells below run it again and compare. "
            "Needs the package `aqviz`, which brings `quantcore`.",
        ),
        _cell("code", python(config)),
    ]
    if found:
        cells += [
            _cell(
                "code",
                "import pandas as pd\n\nruns = pd.json_normalize(document['runs'])\n"
                "runs[[c for c in runs.columns if 'error' in c or c in ('init', 'seed')]]",
            ),
            _cell("code", _comparison(found)),
        ]
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _told(config: Any) -> list[str]:
    """The fields that differ from their defaults, as Python writes them."""
    told = []
    for field in fields(config):
        value = getattr(config, field.name)
        made = field.default_factory
        default = field.default if made is MISSING else made()
        if value != default:
            told.append(f"{field.name}={_written(value)}")
    return told


def _written(value: Any) -> str:
    if isinstance(value, Scheme):
        return f"Scheme({value.codebooks}, {value.bits}, {value.group})"
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(_told(value))})"
    if isinstance(value, tuple):
        inner = ", ".join(map(_written, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _runs(document: Document) -> list[Document]:
    return [run for run in document.get("runs", []) if run["complete"]]


def _name(run: Document) -> str:
    parts = ("layer", "scheme", "init", "search", "beam", "calibration_tokens", "seed")
    return ", ".join(str(run[part]) for part in parts if part in run)


def _comparison(found: dict[str, float]) -> str:
    return (
        f"parts = {('layer', 'scheme', 'init', 'search', 'beam', 'calibration_tokens', 'seed')!r}\n"
        f"found_there = {found!r}\n"
        "for run in document['runs']:\n"
        "    name = ', '.join(str(run[part]) for part in parts if part in run)\n"
        "    here, there = run['relative_error'], found_there[name]\n"
        f"    assert abs(here - there) <= {RTOL} * there, (name, here, there)\n"
        "    print(f'{name}: {here:.6f} here, {there:.6f} there')"
    )


def _cell(kind: str, source: str) -> Document:
    cell: Document = {"cell_type": kind, "metadata": {}, "source": source}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell
