"""The paper's measurements as data (arXiv 2604.08118).

Most of its tables show the same fourteen quantized models from different sides. So each model
stands here once, with everything printed about it; what was not printed is None. `paper_tables`
puts the tables together again. Perplexities are at a context of 4096, before and after PV-tuning;
every figure is of one run (seed 42), calibrated on 128 sequences of C4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

LLAMA = "Llama 3.2 3B"
LLAMA_8B = "Llama 3.1 8B"
QWEN = "Qwen 2.5 3B"
GREEDY, OA_EM = "greedy", "oa-em"
LABELS = {GREEDY: "greedy", OA_EM: "OA-EM"}


class Perplexity(NamedTuple):
    """On WikiText-2 and on C4."""

    wiki: float
    c4: float


class Tasks(NamedTuple):
    """Shares of right answers in six tasks, and LAMBADA's perplexity; after PV-tuning."""

    arc_challenge: float
    arc_easy: float
    hellaswag: float
    lambada: float
    lambada_perplexity: float
    piqa: float
    winogrande: float

    @property
    def shares(self) -> tuple[float, ...]:
        """The six accuracies, without the perplexity."""
        return (*self[:4], *self[5:])

    @property
    def mean(self) -> float:
        """The mean accuracy, to the three digits that the paper prints."""
        return round(sum(self.shares) / 6 + 1e-9, 3)


@dataclass(frozen=True)
class Run:
    """One quantized model of the paper.

    Attributes:
        model: Which model.
        bits: Code bits a weight: 2 is 2x8 g8, 3 is 3x8 g8.
        beam: Width of the beam search.
        epochs: Most epochs of it.
        init: "greedy" or "oa-em".
        before: Perplexities before PV-tuning.
        after: WikiText-2 perplexity after it.
        c4_after: C4 perplexity after it, where printed.
        hours: Of quantization on one A100.
        table: Number of the table with its tasks.
        tasks: Downstream results.
    """

    model: str
    bits: int
    beam: int
    epochs: int
    init: str
    before: Perplexity
    after: float
    c4_after: float | None
    hours: float | None
    table: int
    tasks: Tasks

    @property
    def family(self) -> str:
        """The model without its version: Llama 3B."""
        return " ".join(self.model.split()[::2])

    @property
    def settings(self) -> str:
        """Beam and epochs in words."""
        return f"beam {self.beam}, {self.epochs} epochs"


UNQUANTIZED = {LLAMA: Perplexity(7.28, 11.04)}
LAMBADA_BEFORE = {GREEDY: 12.28, OA_EM: 8.85}  # Table 5: perplexity at 2 bits, beam 8


def _pair(
    model: str, setting: tuple[int, int, int], table: int, *rows: tuple[float, ...]
) -> list[Run]:
    """Greedy's and OA-EM's run: perplexities before and after, hours (0: not printed), tasks."""
    bits, beam, epochs = setting
    return [
        Run(
            *(model, bits, beam, epochs, init),
            before=Perplexity(row[0], row[1]),
            after=row[2],
            c4_after=row[3] or None,
            hours=row[4] or None,
            table=table,
            tasks=Tasks(*row[5:]),
        )
        for init, row in zip((GREEDY, OA_EM), rows, strict=True)
    ]


# fmt: off
RUNS: tuple[Run, ...] = (
    *_pair(LLAMA, (2, 4, 100), 8,
           (352.39, 20.66, 12.66, 0., 6.1, .350, .560, .620, .577, 7.65, .734, .594),
           (16.82, 18.09, 11.53, 0., 6.1, .359, .614, .625, .584, 7.13, .734, .619)),
    *_pair(LLAMA, (2, 8, 100), 9,
           (60.61, 18.64, 11.76, 0., 9.9, .356, .600, .623, .574, 7.96, .741, .614),
           (17.39, 18.00, 11.53, 0., 9.2, .366, .601, .626, .604, 6.95, .736, .611)),
    *_pair(LLAMA, (2, 16, 100), 10,
           (46.01, 19.00, 12.01, 0., 16.9, .364, .619, .625, .579, 7.52, .731, .589),
           (16.53, 17.92, 11.49, 0., 15.5, .357, .624, .627, .587, 7.66, .726, .624)),
    *_pair(LLAMA, (2, 8, 5), 11,
           (85.72, 47.04, 12.69, 0., 6.8, .332, .569, .611, .556, 8.61, .716, .594),
           (18.91, 17.98, 11.76, 0., 7.3, .331, .561, .625, .574, 7.73, .734, .609)),
    *_pair(LLAMA, (3, 8, 100), 7,
           (9.52, 13.39, 8.66, 11.43, 13 + 25 / 60, .418, .658, .704, .670, 4.87, .760, .669),
           (8.87, 13.51, 8.54, 11.45, 12 + 39 / 60, .421, .693, .704, .685, 4.64, .762, .657)),
    *_pair(LLAMA_8B, (2, 8, 100), 13,
           (18.86, 15.01, 9.39, 12.02, 0., .432, .656, .707, .679, 4.60, .759, .661),
           (16.38, 14.50, 9.25, 11.89, 0., .424, .677, .714, .675, 4.59, .769, .679)),
    *_pair(QWEN, (2, 8, 100), 15,
           (12.50, 16.01, 10.93, 14.57, 0., .375, .662, .626, .600, 7.29, .739, .634),
           (12.30, 16.08, 10.73, 14.49, 0., .366, .651, .630, .587, 7.37, .737, .647)),
)
# fmt: on


def pairs(of: Callable[[Run], bool] = lambda run: True) -> list[tuple[Run, Run]]:
    """Greedy's run beside OA-EM's of the same model and settings, where they pass."""
    chosen = [run for run in RUNS if of(run)]
    return list(zip(chosen[::2], chosen[1::2], strict=True))


def small_two_bits(run: Run) -> bool:
    """Whether it is one of the eight runs of Llama 3.2 3B at 2 bits."""
    return run.model == LLAMA and run.bits == 2
