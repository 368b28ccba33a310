"""The paper's claims, where it makes them, and what judges each by our recordings."""

from collections.abc import Callable
from dataclasses import dataclass

from aqviz import verdicts
from aqviz.verdicts import Documents, Verdict


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, and how it is judged.

    Attributes:
        title: In a few words.
        words: In a sentence, with the paper's numbers.
        where: Its tables and sections.
        judge: The recordings -> the verdict.
    """

    title: str
    words: str
    where: str
    judge: Callable[[Documents], Verdict]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Greedy starts worse",
        "Residual k-means does not look at the inputs, so it begins in a worse place than OA-EM. "
        "No errors of layers are printed.",
        "sections 3.1 to 3.4",
        verdicts.starts,
    ),
    Claim(
        "Search does not make up for it",
        "What a start is behind stays through beam search and PV-tuning: OA-EM ends with the lower "
        "WikiText-2 perplexity in every configuration.",
        "Tables 1, 2, 4",
        verdicts.persists,
    ),
    Claim(
        "A wider beam helps OA-EM and hurts greedy",
        "From beam 8 to 16 perplexity after tuning goes from 11.53 to 11.49 with OA-EM and from "
        "11.76 to 12.01 with greedy.",
        "Table 2",
        verdicts.wider,
    ),
    Claim(
        "OA-EM at a narrow beam beats greedy at a wide one",
        "OA-EM at beam 4 (6.1 hours, 11.53) is better than greedy at beam 16 (16.9 hours, 12.01).",
        "Table 16",
        verdicts.pareto,
    ),
    Claim(
        "The damage grows with ρ",
        "Greedy costs 0.65 of perplexity at 3 bits, where ρ is 0.07, and tens to hundreds at 2 "
        "bits, where it is 18.",
        "definition 1.1, Table 4",
        verdicts.severity,
    ),
    Claim(
        "ρ is necessary, not sufficient",
        "The 8B model has a larger ρ than the 3B model and a far smaller gap (18.86 against 16.38, "
        "not 60.61 against 17.39).",
        "Table 4",
        verdicts.necessary,
    ),
    Claim(
        "At 3 bits a small gap remains, in OA-EM's favour",
        "WikiText-2 perplexity 9.52 against 8.87 before tuning and 8.66 against 8.54 after it.",
        "Tables 4, 6",
        verdicts.three_bits,
    ),
    Claim(
        "OA-EM costs no time",
        "At beam 8 greedy takes 9.9 hours and OA-EM 9.2; with 5 epochs 6.8 and 7.3.",
        "Table 1",
        verdicts.free,
    ),
    Claim(
        "Greedy fails catastrophically on WikiText-2",
        "Before tuning, perplexity 352.39 at beam 4 and 60.61 at beam 8, where OA-EM has 16.82 and "
        "17.39.",
        "Tables 1, 5",
        verdicts.catastrophe,
    ),
    Claim(
        "The hours on an A100",
        "6.1 to 16.9 hours for a model of 3B parameters at 2 bits.",
        "Tables 1, 16",
        verdicts.hours,
    ),
)
