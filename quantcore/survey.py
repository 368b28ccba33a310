"""When does initialisation decide where a layer ends? A grid of runs, and what layers are like.

    for every layer, first block first     Hessians from one walk through the model (`walk`)
      what it is like                      `anatomy.layer_facts`
      every combination of the settings    `layer.quantize`, its trace in the document

The settings are dials: scheme (and with it rho), initialiser, search, its width, amount of
calibration text, shrinkage, seed. A layer that a scheme does not fit is entered as refused, with
the reason. Weights are not kept and no perplexity is measured: `experiment` does that, for one
layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from quantcore import anatomy, grid, machine, problems, results, sources, study, walk
from quantcore.blocks import LayerInfo
from quantcore.corpora import Split
from quantcore.errors import InputError
from quantcore.grid import Cell, Survey
from quantcore.objective import LayerProblem
from quantcore.problems import Passage, TextConfig
from quantcore.progress import Meter, Observe
from quantcore.results import Document
from quantcore.sources import LoadedModel
from quantcore.weight import Scheme

KIND = "survey"


def estimate(survey: Survey) -> float:
    """Expected seconds of `run`."""
    return sum(grid.plan(survey).seconds.values())


def begin(survey: Survey) -> Document:
    """The document before anything is done."""
    return {
        "kind": KIND,
        "key": survey.key(),
        "config": asdict(survey),
        "model": None,
        "text": None,
        "heldout_text": None,
        "layers": {},
        "runs": [],
        "refused": [],
        **results.made_with(),
    }


def run(survey: Survey, observe: Observe, previous: Document | None = None) -> Document:
    """Make every run of the survey.

    Args:
        survey: What to run.
        observe: Called with the progress and the document so far, which goes on changing: copy what
            you keep. May raise to stop.
        previous: An earlier document; finished runs in it are kept if it has the same key.

    Returns:
        The finished document (`docs/results.md`).

    Raises:
        QuantcoreError: something given cannot be used, or does not fit into memory.
    """
    device = machine.resolve_device(survey.device)
    document = begin(survey)
    if previous is not None and previous.get("key") == document["key"]:
        document |= {name: previous[name] for name in ("model", "text", "heldout_text")}
        document["layers"] = dict(previous["layers"])
        document["runs"] = results.complete_runs(previous, document["key"])
    meter = Meter(observe, document)
    meter.begin("plan")
    planned = meter.patiently(lambda: grid.plan(survey))
    document["refused"] = planned.refused
    for stage, seconds in planned.seconds.items():
        meter.plan(stage, seconds)
    finished = {Cell(*map(entry.__getitem__, Cell._fields)) for entry in document["runs"]}
    for cell in finished:
        meter.skip(cell.stage)
    ahead = {
        name: [cell for cell in cells if cell not in finished]
        for name, cells in planned.cells.items()
    }
    todo = [i for i in planned.layers if ahead[i.name] or i.name not in document["layers"]]
    for info, found in _problems(survey, todo, device, meter):
        best_known = list(found.values())[-1]  # on the most text
        document["layers"][info.name] = _facts(survey, info, best_known)
        for cell in ahead[info.name]:
            _one(survey, found[cell.calibration_tokens], cell, meter)
    meter.end()
    return document


def _problems(
    survey: Survey, layers: Sequence[LayerInfo], device: torch.device, meter: Meter
) -> Iterator[tuple[LayerInfo, dict[int | None, LayerProblem]]]:
    """The layers' problems by calibration tokens, rising; None for those of a problem file."""
    if survey.problem is not None:
        for info in layers:
            problem = problems.from_file(Path(survey.problem), info.name)
            yield info, {None: problem.to(device)}
    elif layers:
        loaded, parts = _text(survey, device, meter)
        counts = [tokens // survey.window for tokens in survey.tokens]
        stages = dict.fromkeys(grid.hessians_of(info.block) for info in layers)

        def seen(block: int, share: float) -> None:
            if stages.pop(grid.hessians_of(block), "begun") is None:
                meter.begin(grid.hessians_of(block))
            meter.part(share, grid.hessians_of(block))

        for info, found in walk.run(loaded, layers, parts, counts, seen):
            meter.skip(grid.hessians_of(info.block))
            yield info, dict(zip(survey.tokens, found, strict=True))


def _text(
    survey: Survey, device: torch.device, meter: Meter
) -> tuple[LoadedModel, dict[Split, Passage]]:
    """The model and the two parts of the text, which enter the document."""
    source, document = sources.resolve(survey.model), meter.document
    document["model"] = {k: getattr(source, k) for k in ("kind", "name", "note")}
    meter.begin(grid.LOAD)
    loaded = meter.patiently(lambda: study.loaded(source, device))
    most = max(survey.calibration_tokens)
    text = TextConfig(survey.text, survey.window, most, survey.heldout_tokens)
    parts = problems.passages(loaded, text)
    there = parts["calibration"].windows.numel()
    if there < survey.tokens[-1]:
        raise InputError(
            f"the calibration text has {there} tokens in whole windows, fewer than the {most} "
            "asked for; ask for fewer or give a longer text"
        )
    document["text"] = asdict(parts["calibration"].source)
    document["heldout_text"] = asdict(parts["evaluation"].source)
    return loaded, parts


def _facts(survey: Survey, info: LayerInfo, problem: LayerProblem) -> Document:
    """What a layer is like, and where it is."""
    in_model = survey.problem is None
    return {
        "block": info.block if in_model else None,
        "projection": info.projection if in_model else None,
        "shape": [info.out, info.columns],
        **anatomy.layer_facts(problem, [scheme.group for scheme in survey.schemes]),
    }


def _one(survey: Survey, problem: LayerProblem, cell: Cell, meter: Meter) -> None:
    """One run, its trace growing in the document."""
    scheme, shape = Scheme.parse(cell.scheme), problem.weight.shape
    entry = {
        **cell._asdict(),
        "rho": scheme.rho(*shape),
        "bits_per_weight": scheme.bits_per_weight(*shape),
        **results.begin_run(cell.init, cell.seed),
    }
    study.run(problem, survey.config(cell), entry, cell.stage, meter)
