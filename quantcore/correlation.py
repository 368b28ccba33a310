"""Whether the error that runs start with orders the errors they end with.

Spearman's rank correlation, with an interval by the bootstrap: the percentiles of the same figure
over runs drawn again with replacement. It says how much the luck of these runs matters, nothing
about other layers or texts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

FEWEST = 4  # runs, below which no correlation is given
DRAWS = 2000  # of the bootstrap
LEVEL = 0.95
TEXTS = {"calibration": "relative_error", "heldout": "heldout_relative_error"}

Document = dict[str, Any]


def correlations(runs: Sequence[Document]) -> Document:
    """The correlations of entries with `init` and the errors of each text, first and last.

    Returns:
        For `calibration` and `heldout` what `correlation` says over all runs (`overall`) and over
        those of each initialiser (`within`); None for a text without errors.
    """
    return {text: _on_text(runs, name) for text, name in TEXTS.items()}


def correlation(first: Sequence[float], last: Sequence[float]) -> Document:
    """Spearman's rank correlation of the same runs' first and last errors.

    Returns:
        `runs`, their number; `spearman`, -1 to 1, ties sharing their mean rank; `low` and `high`,
        the bootstrap's 95 % interval; `why` there is none of these, which are None then.

    >>> correlation([0.1, 0.2, 0.3, 0.4], [0.2, 0.4, 0.5, 0.6])["spearman"]
    1.0
    >>> correlation([0.1, 0.2], [0.1, 0.2])["why"]
    'fewer than 4 runs'
    """
    facts: Document = {"runs": len(first), "spearman": None, "low": None, "high": None}
    if len(first) < FEWEST:
        return {**facts, "why": f"fewer than {FEWEST} runs"}
    pairs = np.array([first, last], dtype=np.float64)
    whole = float(_spearman(pairs[:, None])[0])
    if np.isnan(whole):
        return {**facts, "why": "all first or all last errors are the same"}
    picks = np.random.default_rng(0).integers(len(first), size=(DRAWS, len(first)))
    drawn = _spearman(pairs[:, picks])
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return {**facts, "spearman": whole, "low": low, "high": high, "why": None}


def _on_text(runs: Sequence[Document], name: str) -> Document | None:
    """The correlations of one text's errors."""
    if any(run[name] is None for run in runs):
        return None

    def of(some: Sequence[Document]) -> Document:
        return correlation([run[f"init_{name}"] for run in some], [run[name] for run in some])

    inits = dict.fromkeys(run["init"] for run in runs)
    within = {init: of([run for run in runs if run["init"] == init]) for init in inits}
    return {"overall": of(runs), "within": within}


def _spearman(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation along the last axis of [2, draws, runs]; NaN where one side is all ties."""
    ranks = rankdata(pairs, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    squares = np.square(ranks).sum(-1)
    with np.errstate(invalid="ignore"):  # 0 / 0 of ties
        found: NDArray[np.float64] = ranks.prod(0).sum(-1) / np.sqrt(squares.prod(0))
    return found.clip(-1, 1)
