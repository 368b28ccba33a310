"""Python to take away: the lines that repeat a study, and notebooks that check their numbers.

A notebook lies in a zip beside the files that it compares with (`bundle`). A study's runs the study
again; the others compute again what their files allow, in seconds and without a model.
"""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from aqviz import uploads
from aqviz.engine import STUDIES, kind_of
from quantcore.results import Document
from quantcore.weight import Scheme

RTOL = 1e-3  # other processors round elsewhere, which can move single codes
SAME = 1e-9  # of sums in float64
TABLE = """from aqviz import metrics

here = metrics.table(document)
here"""
COMPARE = """import pandas as pd

keys = {keys!r}  # these name a line
checked = {checked!r}
here.to_csv("again.csv", index=False)
again, there = (
    pd.read_csv(name).set_index(keys)[checked] for name in ("again.csv", "metrics.csv")
)
gaps = (again.reindex(there.index) / there - 1).abs()
assert ((gaps <= {rtol}) | there.isna()).all(axis=None), gaps.max()
gaps.max()"""
READ = """import json
from pathlib import Path
from quantcore import entries

document = json.loads(Path("trace.json").read_text(encoding="utf-8"))
found = {entry["model"]["name"]: entry for entry in document["candidates"]}"""
ORIGINAL = f"""for name, entry in found.items():
    mean, error = entries.difference(entry, document["original"])
    there = entry["perplexity"]["difference"]
    assert abs(mean - there) <= {SAME}, (name, mean, there)
    print(f"{{name}}: {{mean:+.4f}} ± {{error or 0:.4f}} nats a token over the original")"""
PAIRS = f"""import pandas as pd

for pair in pd.read_csv("pairs.csv").itertuples():
    mean, error = entries.difference(found[pair.model], found[pair.other])
    assert abs(mean - pair.over_other) <= {SAME}, (pair.model, pair.other, mean)
    print(f"{{pair.model}} over {{pair.other}}: {{mean:+.4f}} ± {{error or 0:.4f}}")"""
OPEN = """from pathlib import Path
from aqviz import inside

example = inside.read(Path("inside.safetensors"))
row, group = {row}, {group}
size = example.blocks.shape[1]
original = example.weight[row].unflatten(0, (-1, size))[group]
list(example.versions), example.facts["layer"]"""
SUMS = """import pandas as pd
import torch

there = pd.read_csv("metrics.csv").set_index("init")
for init, weight in example.versions.items():
    codes = weight.codes[row, group].tolist()
    words = [book[code] for book, code in zip(weight.codebooks, codes)]
    approx = weight.scales[row] * sum(words)  # q
    error = original - approx  # d
    own = error @ example.blocks[group] @ error  # d H d
    told = {name: torch.tensor(there.loc[init, name].tolist()) for name in ("q", "dHd")}
    torch.testing.assert_close(approx, told["q"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(own, told["dHd"].sum(), rtol=1e-4, atol=0)
    print(f"{init}: words {codes}, own part of the error {own:.6g}")"""


def python(config: Any) -> str:
    """The lines that run a study."""
    module = STUDIES[kind_of(config)][1].__name__.rpartition(".")[2]
    kind, home = type(config).__name__, type(config).__module__
    told = _told(config)
    lines = [f"from quantcore import {module}", f"from {home} import {kind}"]
    for name, place in (("Experiment", "experiment"), ("Scheme", "weight")):
        if name != kind and any(f"{name}(" in one for one in told):
            lines.append(f"from quantcore.{place} import {name}")
    if getattr(config, "problem", None):
        lines += ["", f"# {uploads.FILE} stands for the uploaded file, {config.problem}"]
    lines += ["", f"config = {kind}(", *(f"    {one}," for one in told), ")"]
    lines.append(f"document = {module}.run(config, lambda progress, so_far: None)")
    return "\n".join(lines)


def of_study(config: Any, document: Document, told: str, names: tuple[list[str], ...]) -> Document:
    """A notebook (nbformat 4) that repeats a study and compares it with what was found here.

    Args:
        config: The study.
        document: What it found.
        told: That in one sentence.
        names: Of the columns of its table: those that name a line, those that are compared.
    """
    machine = document.get("machine") or {}
    where = f"{machine.get('cpu', 'an unknown processor')}, {machine.get('cores', '?')} cores"
    keys, checked = names
    title = document.get("layer") or document["kind"].capitalize()
    return _notebook(
        f"# {title}\n\n{told}\n\nFound on "
        f"{document['date'][:10]} on {where}. The cells below run it again and compare with "
        f"`metrics.csv`, to {RTOL:.1%}.",
        python(config),
        TABLE,
        COMPARE.format(keys=keys, checked=checked, rtol=RTOL),
    )


def of_evaluation(told: str, paired: bool) -> Document:
    """A notebook that computes the differences of an evaluation's models again.

    Args:
        told: What was found in one sentence.
        paired: Whether there are two models to compare.
    """
    return _notebook(
        f"# Whole models\n\n{told}\n\nThe cells below compute the differences again, window by "
        "window, from the losses in `trace.json`, and compare.",
        *(READ, ORIGINAL),
        *([PAIRS] if paired else []),
    )


def of_group(told: str, row: int, group: int) -> Document:
    """A notebook that adds up a group's words and its error."""
    return _notebook(
        f"# One group of a weight\n\n{told}\n\nThe cells below open the recorded weight, add the "
        "group's words up and compare with `metrics.csv`.",
        OPEN.format(row=row, group=group),
        SUMS,
    )


def _told(config: Any) -> list[str]:
    """The fields that differ from their defaults, as Python writes them."""
    told = []
    for field in fields(config):
        value = getattr(config, field.name)
        made = field.default_factory
        default = field.default if made is MISSING else made()
        if field.name == "problem" and value:
            value = uploads.FILE
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


def _notebook(told: str, *code: str) -> Document:
    """Words, then cells of code."""
    opening = f"{told}\n\nNeeds the package `aqviz`, which brings `quantcore`."
    return {
        "cells": [_cell("markdown", opening), *(_cell("code", source) for source in code)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }


def _cell(kind: str, source: str) -> Document:
    cell: Document = {"cell_type": kind, "metadata": {}, "source": source}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell
