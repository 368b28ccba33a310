"""The paper's Tables 1 to 16 (arXiv 2604.08118): each a choice of its runs and of their columns."""

from collections.abc import Callable
from dataclasses import dataclass

from aqviz.paper import (
    GREEDY,
    LABELS,
    LAMBADA_BEFORE,
    LLAMA,
    OA_EM,
    RUNS,
    UNQUANTIZED,
    Run,
    pairs,
    small_two_bits,
)

Cell = str | int | float | None


@dataclass(frozen=True)
class PaperTable:
    """A table as the paper has it.

    Attributes:
        number: Its number or numbers.
        title: What it shows.
        columns: Heads.
        rows: Cells, in the order of the heads; None where nothing was printed.
        note: What else belongs to it.
    """

    number: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


Column = Callable[[Run], Cell]
START: dict[str, Column] = {"start": lambda run: LABELS[run.init]}
MODEL: dict[str, Column] = {"model": lambda run: run.model}
SETTINGS: dict[str, Column] = {"search": lambda run: run.settings}
BEFORE: dict[str, Column] = {
    "WikiText-2 before": lambda run: run.before.wiki,
    "C4 before": lambda run: run.before.c4,
}
AFTER: dict[str, Column] = {
    "WikiText-2 after": lambda run: run.after,
    "C4 after": lambda run: run.c4_after,
}
HOURS: dict[str, Column] = {"hours, one A100": lambda run: run.hours and round(run.hours, 2)}
MEAN: dict[str, Column] = {"mean accuracy": lambda run: run.tasks.mean}
TASKS: dict[str, Column] = {
    "ARC-C": lambda run: run.tasks.arc_challenge,
    "ARC-E": lambda run: run.tasks.arc_easy,
    "HellaSwag": lambda run: run.tasks.hellaswag,
    "LAMBADA": lambda run: run.tasks.lambada,
    "LAMBADA perplexity": lambda run: run.tasks.lambada_perplexity,
    "PIQA": lambda run: run.tasks.piqa,
    "WinoGrande": lambda run: run.tasks.winogrande,
}


def _table(
    number: str,
    title: str,
    of: Callable[[Run], bool],
    columns: dict[str, Column],
    note: str = "",
) -> PaperTable:
    rows = tuple(tuple(cell(run) for cell in columns.values()) for run in RUNS if of(run))
    return PaperTable(number, title, tuple(columns), rows, note)


def _by_text() -> PaperTable:
    """Table 5: how much worse greedy is, text by text."""
    greedy, oa_em = next(pair for pair in pairs(small_two_bits) if pair[0].beam == 8)
    texts = (
        ("C4, as calibrated on", greedy.before.c4, oa_em.before.c4),
        ("LAMBADA", LAMBADA_BEFORE[GREEDY], LAMBADA_BEFORE[OA_EM]),
        ("WikiText-2", greedy.before.wiki, oa_em.before.wiki),
    )
    return PaperTable(
        "5",
        f"perplexity by text, {LLAMA}, 2 bits, beam 8, before PV-tuning",
        ("text", "greedy", "OA-EM", "greedy / OA-EM"),
        tuple((text, one, two, round(one / two, 2)) for text, one, two in texts),
    )


_ORIGINAL = UNQUANTIZED[LLAMA]
_WHOLE = f"Unquantized: WikiText-2 {_ORIGINAL.wiki}, C4 {_ORIGINAL.c4}."
TABLES: dict[str, PaperTable] = {
    table.number.split()[0]: table
    for table in (
        _table(
            "1",
            f"{LLAMA}, 2 bits, before PV-tuning",
            small_two_bits,
            {**SETTINGS, **START, **BEFORE, **HOURS},
            _WHOLE,
        ),
        _table(
            "2",
            f"{LLAMA}, 2 bits, WikiText-2 before and after PV-tuning",
            small_two_bits,
            {
                **SETTINGS,
                **START,
                "before": lambda run: run.before.wiki,
                "after": lambda run: run.after,
                "change": lambda run: round(run.after - run.before.wiki, 2),
            },
        ),
        _table(
            "3",
            "mean of six zero-shot accuracies after PV-tuning, 2 bits",
            lambda run: run.bits == 2,
            {**MODEL, **SETTINGS, **START, **MEAN},
        ),
        _table(
            "4",
            "WikiText-2 across models, beam 8, 100 epochs",
            lambda run: (run.beam, run.epochs) == (8, 100),
            {
                **MODEL,
                "bits": lambda run: run.bits,
                **START,
                "before": lambda run: run.before.wiki,
                "after": lambda run: run.after,
            },
        ),
        _by_text(),
        _table(
            "6",
            f"{LLAMA}, 3 bits",
            lambda run: run.bits == 3,
            {**START, **BEFORE, **AFTER, **HOURS},
            f"{_WHOLE} After PV-tuning: appendix A.1; hours: section 5.1.",
        ),
        _table(
            "7 to 11, 13, 15",
            "six tasks after PV-tuning",
            lambda run: True,
            {
                "table": lambda run: run.table,
                **MODEL,
                "bits": lambda run: run.bits,
                **SETTINGS,
                **START,
                **TASKS,
                **MEAN,
            },
        ),
        _table(
            "12 and 14",
            "8B and Qwen, 2 bits",
            lambda run: run.model != LLAMA,
            {**MODEL, **START, **BEFORE, **AFTER},
        ),
        _table(
            "16",
            f"quality against time, {LLAMA}, 2 bits, after PV-tuning",
            small_two_bits,
            {
                **SETTINGS,
                **START,
                "WikiText-2 after": lambda run: run.after,
                **MEAN,
                **HOURS,
            },
        ),
    )
}
