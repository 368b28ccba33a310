"""Results as data: one JSON document for a study, from the app and the command line alike.

Its keys are listed in `docs/results.md`. A document grows while the study runs: the last of its
runs may be incomplete, and every stage of it is a whole, readable document.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quantcore import anatomy, files, machine
from quantcore.evaluate import Perplexity
from quantcore.layer import LayerState, Phase
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, Scheme

Document = dict[str, Any]
NUMBERS = "0.1.0"  # the version since which the same settings give the same numbers


def begin(key: str, layer: str, config: Document) -> Document:
    """The document before the layer is known."""
    return {
        "key": key,
        "layer": layer,
        "config": config,
        "runs": [],
        "perplexity": None,
        "model": None,
        "text": None,
        "heldout_text": None,
        **made_with(),
    }


def made_with() -> Document:
    """With which versions, where and when a document is made."""
    return {
        "versions": machine.versions(),
        "machine": machine.describe(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def shape_facts(scheme: Scheme, out: int, columns: int) -> Document:
    """What a scheme means for a layer of this shape."""
    return {
        "shape": [out, columns],
        "scheme": {
            "codebooks": scheme.codebooks,
            "bits": scheme.bits,
            "group": scheme.group,
        },
        "groups": scheme.groups(out, columns),
        "rho": scheme.rho(out, columns),
        "bits_per_weight": scheme.bits_per_weight(out, columns),
    }


def begin_run(init: str, seed: int) -> Document:
    """One run before its first phase has ended."""
    return {
        "init": init,
        "seed": seed,
        "complete": False,
        "init_error": None,
        "init_relative_error": None,
        "init_heldout_relative_error": None,
        "error": None,
        "relative_error": None,
        "heldout_relative_error": None,
        "seconds": {"init": 0.0, "refit": 0.0, "search": 0.0, "total": 0.0},
        "trace": [],
        "used": None,
    }


def add_phase(run: Document, phase: Phase) -> None:
    """Enter a finished phase in a run."""
    errors = phase.errors
    entry = {
        "phase": phase.phase,
        "sweep": phase.sweep,
        "error": errors.error,
        "relative_error": errors.relative,
        "heldout_relative_error": errors.heldout_relative,
        "seconds": phase.seconds,
    }
    measured = {name: entry[name] for name in entry if name.endswith("error")}
    run.update(measured)
    if phase.phase == "init":
        run.update({f"init_{name}": value for name, value in measured.items()})
    seconds = run["seconds"]
    kind = phase.phase if phase.phase in {"init", "refit"} else "search"
    seconds[kind] += phase.seconds - seconds["total"]
    seconds["total"] = phase.seconds
    run["trace"].append(entry)


def end_run(run: Document, state: LayerState) -> None:
    """The run has ended; how many words of each codebook its weight uses."""
    run["used"] = (state.weight.usage() > 0).sum(1).tolist()
    run["complete"] = True


def add_weight(run: Document, problem: LayerProblem, weight: AdditiveWeight) -> None:
    """Enter the finished weight's code usage, most used word first, and where its error lies."""
    run["usage"] = weight.usage().sort(dim=1, descending=True).values.tolist()
    run.update(anatomy.error_facts(problem, weight))


def perplexity_entry(measured: Perplexity, original: Perplexity) -> Document:
    """A perplexity beside the original model's, compared window by window in nats per token."""
    difference, error = measured.paired_difference(original)
    facts = asdict(measured)
    del facts["window_nll"]
    return {**facts, "difference": difference, "difference_error": error}


def complete_runs(document: Document | None, key: str) -> list[Document]:
    """The finished runs of an earlier document of the same study."""
    if document is None or document.get("key") != key:
        return []
    return complete(document)


def complete(document: Document | None) -> list[Document]:
    """The finished runs of a document, of which there are none before it is begun."""
    return [run for run in (document or {}).get("runs", ()) if run["complete"]]


def finished(document: Document | None) -> int:
    """How many parts of a study's document are whole: runs, starts, ways, candidates.

    A study that goes on begins with an empty document and enters again what it keeps, so one with
    fewer whole parts than before must not take the other's place.
    """
    if document is None:
        return 0
    runs = [*document.get("runs", ()), *document.get("trajectories", {}).values()]
    parts = sum(len(document.get(name, ())) for name in ("starts", "candidates"))
    return parts + sum(bool(run["complete"]) for run in runs)


def weight_path(key: str, init: str, seed: int) -> Path:
    """Where a run's weight is kept."""
    return machine.cache_dir() / "weights" / key / f"{init}-{seed}.safetensors"


def save_weight(path: Path, weight: AdditiveWeight) -> None:
    """Keep a weight as codes, codebooks and scales."""
    files.write_tensors(path, vars(weight))


def load_weight(path: Path) -> AdditiveWeight:
    """Read what `save_weight` kept.

    Raises:
        SourceError: it is not there or damaged.
    """
    names = ("codes", "codebooks", "scales")
    return AdditiveWeight(**files.read_tensors(path, dict.fromkeys(names, True)))


def mean_and_spread(runs: Sequence[Document], name: str) -> tuple[float, float] | None:
    """Mean and standard deviation over runs of one of their figures; None where it is absent.

    The standard deviation of a single run is 0.
    """
    values = [run[name] for run in runs if run[name] is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, spread**0.5
