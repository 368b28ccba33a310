"""A race in words and rows: what happened in one sentence, and the rows of its results.

Errors are percentages of the layer's output (relative error x 100), means over seeds. The sentence
compares every initialiser with the first one, and calls a gap under half a percent level.
"""

from dataclasses import dataclass
from typing import Any

from aqviz import theme
from aqviz.figures.usage import effective_words
from quantcore.results import complete

LEVEL = 0.005  # relative gap below which two errors are called level


@dataclass(frozen=True)
class Row:
    """One initialiser's results; errors in percent, means over its finished seeds.

    Attributes:
        init: The initialiser.
        seeds: Finished runs.
        start: Calibration error after initialisation.
        start_heldout: The same on other text.
        end: Calibration error at the end.
        end_heldout: The same on other text.
        seconds: Whole time of one run.
        init_seconds: Of that, initialisation.
        used: Words used, the mean over codebooks.
        effective: exp(entropy) of the usage, the mean over codebooks.
        size: Words in a codebook.
        perplexity: Of the model with this layer replaced, the mean over seeds.
        perplexity_error: Its standard error, the mean over seeds.
        difference: Nats a token against the original, the mean over seeds.
        difference_error: Its paired standard error, the mean over seeds.
    """

    init: str
    seeds: int
    start: float
    start_heldout: float | None
    end: float
    end_heldout: float | None
    seconds: float
    init_seconds: float
    used: float
    effective: float
    size: int
    perplexity: float | None
    perplexity_error: float | None
    difference: float | None
    difference_error: float | None


def rows(document: dict[str, Any] | None) -> list[Row]:
    """One row for each initialiser with a finished run, in the order they ran."""
    runs = complete(document)
    inits = dict.fromkeys(run["init"] for run in runs)
    return [_row(init, [run for run in runs if run["init"] == init]) for init in inits]


def sentence(document: dict[str, Any] | None, state: str) -> str:
    """What happened, in one sentence.

    Args:
        document: What the job has so far.
        state: The job's state, one of quantcore's words for it.
    """
    return "; ".join(clauses(document, state)) + "."


def clauses(document: dict[str, Any] | None, state: str) -> list[str]:
    """The parts of that sentence: the second initialiser beside the first, then all others."""
    done = rows(document)
    if not document or not document.get("runs"):
        return ["Nothing is finished yet" if state in {"queued", "running"} else "Nothing finished"]
    if len(done) > 1:
        return [*_comparisons(done), *_perplexity_clause(document, done)]
    return ["On the calibration text " + _so_far(document["runs"][-1], done, state)]


def _row(init: str, runs: list[dict[str, Any]]) -> Row:
    measured = [run["perplexity"] or {} for run in runs]
    usages = [usage for run in runs for usage in run["usage"]]
    return Row(
        init=init,
        seeds=len(runs),
        start=100 * _average(run["init_relative_error"] for run in runs),
        start_heldout=_heldout(runs, "init_heldout_relative_error"),
        end=100 * _average(run["relative_error"] for run in runs),
        end_heldout=_heldout(runs, "heldout_relative_error"),
        seconds=_average(run["seconds"]["total"] for run in runs),
        init_seconds=_average(run["seconds"]["init"] for run in runs),
        used=_average(used for run in runs for used in run["used"]),
        effective=_average(effective_words(usage) for usage in usages),
        size=len(usages[0]),
        perplexity=_known(measured, "value"),
        perplexity_error=_known(measured, "standard_error"),
        difference=_known(measured, "difference"),
        difference_error=_known(measured, "difference_error"),
    )


def _so_far(last: dict[str, Any], done: list[Row], state: str) -> str:
    """What is known before there are two initialisers to compare."""
    parts = [f"{theme.style(row.init).label} ended at {_percent(row.end)}" for row in done]
    if not last["complete"]:
        name = theme.style(last["init"]).label
        verb = "is" if state == "running" else "was"
        if last["trace"]:
            step = last["trace"][-1]
            error = _percent(100 * step["relative_error"])
            parts.append(f"{name} {verb} at {error} of the output after {step['seconds']:.3g} s")
        else:
            parts.append(f"{name} {verb} being initialised")
    return " and ".join(parts)


def _average(values: Any) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))


def _known(measured: list[dict[str, Any]], name: str) -> float | None:
    values = [one.get(name) for one in measured]
    return None if None in values else _average(values)


def _heldout(runs: list[dict[str, Any]], name: str) -> float | None:
    mean = _known(runs, name)
    return None if mean is None else 100 * mean


def _comparisons(done: list[Row]) -> list[str]:
    first, *others = done
    name = theme.style(first.init).label
    compared = []
    for row in others:
        end = _gap(row.end, first.end)
        clause = (
            f"{theme.style(row.init).label} started {_gap(row.start, first.start)} {name} and "
            f"ended {end} it on the calibration text "
            f"({_percent(row.end)} against {_percent(first.end)})"
        )
        if row.end_heldout is not None and first.end_heldout is not None:
            other = _gap(row.end_heldout, first.end_heldout)
            joint = "and" if other.split()[-1] == end.split()[-1] else "but"
            clause += f", {joint} {other} it on held-out text"
        compared.append(clause)
    seeds = f" (means of {first.seeds} seeds)" if first.seeds > 1 else ""
    return [compared[0] + seeds, *compared[1:]]


def _gap(value: float, reference: float) -> str:
    gap = value / reference - 1
    if abs(gap) < LEVEL:
        return "level with"
    return f"{abs(gap):.1%} {'below' if gap < 0 else 'above'}".replace("%", " %")


def _perplexity_clause(document: dict[str, Any], done: list[Row]) -> list[str]:
    measured = document.get("perplexity")
    known = [row for row in done if row.perplexity is not None]
    if not measured or not known:
        return []
    original = measured["original"]["value"]
    if not any(_shown(row) for row in known):
        return [
            f"with only this layer replaced, the model's perplexity of {original:.2f} changes by "
            "less than these windows of text can show"
        ]
    each = " and ".join(f"{row.perplexity:.2f} ({theme.style(row.init).label})" for row in known)
    return [f"with only this layer replaced, perplexity goes from {original:.2f} to {each}"]


def _shown(row: Row) -> bool:
    """Whether the loss differs from the original's by more than two paired standard errors."""
    if row.difference is None or row.difference_error is None:
        return True  # one window has no standard error
    return abs(row.difference) > 2 * row.difference_error


def _percent(value: float) -> str:
    return f"{value:#.3g} %"
