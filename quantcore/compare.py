r"""Two models on the same windows, token by token: what a candidate does to its original.

With p what the original and q what the candidate says about a token from those before it, over the
whole vocabulary,

    excess   = ln p(token) - ln q(token)          nats; its mean is ln of the perplexities' ratio
    KL(p||q) = sum over words w of p(w) (ln p(w) - ln q(w))

and whether both find the same word the most likely. Log-softmax in float32, sums in float64. One
window's logits of each model exist at a time. Standard errors treat windows as the independent
draws. Whether a collapse is a few tokens' doing or uniform is what the shares of the worst tokens
say: were it uniform, the worst 1 % of tokens would make 1 % of the excess.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcore import evaluate, machine
from quantcore.errors import InputError, ProblemError
from quantcore.evaluate import Observer, Perplexity

Facts = dict[str, Any]

QUANTILES = (0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1)
WORST_SHARES = (0.001, 0.01)  # of all tokens
STEP = 0.5  # nats, width of a histogram's bin
NLL_RANGE = (0.0, 24.0)  # the outermost bins hold what lies beyond, too
EXCESS_RANGE = (-12.0, 12.0)


class Tokens(NamedTuple):
    """What is known of a window's predicted tokens; tops are the most likely words."""

    original_nll: Float[Tensor, " predicted"]
    nll: Float[Tensor, " predicted"]
    kl: Float[Tensor, " predicted"]
    original_top: Int[Tensor, " predicted"]
    top: Int[Tensor, " predicted"]


@dataclass(frozen=True)
class Comparison:
    """A candidate beside its original, token by token, on the CPU.

    Attributes:
        windows: The token ids; the first of each window is not predicted.
        original_nll: Nats of each predicted token under the original, float64.
        nll: Under the candidate.
        kl: KL(original || candidate) at each.
        original_top: The original's most likely word at each.
        top: The candidate's.
    """

    windows: Int[Tensor, "windows length"]
    original_nll: Float[Tensor, "windows predicted"]
    nll: Float[Tensor, "windows predicted"]
    kl: Float[Tensor, "windows predicted"]
    original_top: Int[Tensor, "windows predicted"]
    top: Int[Tensor, "windows predicted"]

    @property
    def excess(self) -> Float[Tensor, "windows predicted"]:
        """Nats by which the candidate's loss exceeds the original's."""
        return self.nll - self.original_nll

    @property
    def agree(self) -> Bool[Tensor, "windows predicted"]:
        """Where both find the same word the most likely."""
        return self.top == self.original_top

    @property
    def perplexity(self) -> Perplexity:
        """The candidate's."""
        return Perplexity.of(self.nll.sum(1), self.nll.shape[1])

    @property
    def original_perplexity(self) -> Perplexity:
        """The original's, on the same windows."""
        return Perplexity.of(self.original_nll.sum(1), self.original_nll.shape[1])

    def facts(self) -> Facts:
        """KL, agreement and the distribution of the losses, as a result records them."""
        kl, kl_error = evaluate.mean_and_error(self.kl.mean(1))
        same, same_error = evaluate.mean_and_error(self.agree.double().mean(1))
        return {
            "kl": {"mean": kl, "mean_error": kl_error, "quantiles": quantiles(self.kl)},
            "top1": {"share": same, "share_error": same_error},
            "nll": distribution(self.nll, NLL_RANGE),
            "excess": distribution(self.excess, EXCESS_RANGE),
            "worst_shares": [self.worst_share(share) for share in WORST_SHARES],
            "positions": self.positions(),
        }

    def worst_share(self, share: float) -> Facts:
        """What the tokens of the largest excess make of all excess, and those of KL of all KL.

        `perplexity_without` is the candidate's perplexity if these tokens had the original's loss.
        Without a positive total there is no share: None.
        """
        excess = self.excess.flatten()
        count = math.ceil(share * len(excess))
        worst = excess.topk(count).values.sum()
        without = (self.nll.sum() - worst) / len(excess)
        return {
            "share": share,
            "tokens": count,
            "of_excess": _part(worst, excess.sum()),
            "of_kl": _part(self.kl.flatten().topk(count).values.sum(), self.kl.sum()),
            "perplexity_without": without.exp().item(),
        }

    def positions(self) -> list[Facts]:
        """Mean excess and KL of the tokens with 1, 2 to 3, 4 to 7, ... others before them."""
        predicted = self.kl.shape[1]
        bands = []
        for power in range(predicted.bit_length()):
            first, last = 1 << power, min(2 << power, predicted + 1) - 1
            here = slice(first - 1, last)  # the first prediction has one token before it
            bands.append(
                {
                    "from": first,
                    "to": last,
                    "excess": self.excess[:, here].mean().item(),
                    "kl": self.kl[:, here].mean().item(),
                }
            )
        return bands

    def worst(self, count: int) -> list[tuple[int, int]]:
        """Window and position of the tokens with the largest excess, the worst first."""
        excess = self.excess.flatten()
        found = excess.sort(descending=True, stable=True).indices[:count].tolist()
        return [divmod(index, self.excess.shape[1]) for index in found]


class Original:
    """A model's logits on fixed windows, as often as one asks for them.

    The first time a window's logits are asked for, what comes before the output matrix is kept:
    4 bytes for every token and channel. After that only the output matrix is computed again.

    Raises:
        ResourceError: what is to be kept does not fit into memory.
    """

    def __init__(self, model: PreTrainedModel, windows: Int[Tensor, "windows length"]) -> None:
        need = 4 * windows.numel() * model.config.get_text_config().hidden_size
        machine.require_memory(need, "keeping the original's hidden states", model.device)
        self._model, self._windows = model, windows
        self._kept: list[object] = []

    def __iter__(self) -> Iterator[Float[Tensor, "predicted words"]]:
        for n in range(len(self._windows)):
            yield self._again(n) if n < len(self._kept) else self._first(n)

    def _first(self, n: int) -> Float[Tensor, "predicted words"]:
        def keep(_: nn.Module, __: object, output: object) -> None:
            self._kept.append(output)

        hook = self._model.base_model.register_forward_hook(keep)
        try:
            return evaluate.logits(self._model, self._windows[n])
        finally:
            hook.remove()

    def _again(self, n: int) -> Float[Tensor, "predicted words"]:
        with evaluate.answering(self._model.base_model, self._kept[n]):
            return evaluate.logits(self._model, self._windows[n])


def live(
    model: PreTrainedModel, windows: Int[Tensor, "windows length"]
) -> Iterator[Float[Tensor, "predicted words"]]:
    """A model's logits on each window, computed when they are asked for; for a single pass."""
    return (evaluate.logits(model, ids) for ids in windows)


def run(
    original: Iterable[Float[Tensor, "predicted words"]],
    model: PreTrainedModel,
    windows: Int[Tensor, "windows length"],
    observe: Observer = lambda done, total: None,
) -> Comparison:
    """Compare a candidate with its original.

    Args:
        original: The original's logits on each window in turn: `live`, an `Original`, or a list of
            what these gave.
        model: The candidate.
        windows: Token ids, at least one window of two tokens.
        observe: Called with windows done and in all after each; what it raises ends the work.

    Raises:
        InputError: there is no window, or the two predict other tokens or words.
        ProblemError: predictions are not finite.
        ResourceError: the predictions do not fit into memory.
    """
    evaluate.check(model, windows, models=2)
    given, tokens = iter(original), []
    for ids in windows:  # no name holds the logits, so the next window finds their memory free
        tokens.append(_window(next(given, None), evaluate.logits(model, ids), ids))
        observe(len(tokens), len(windows))
    return Comparison(windows.cpu(), *map(torch.stack, zip(*tokens, strict=True)))


def quantiles(values: Float[Tensor, "windows predicted"]) -> dict[str, float]:
    """Values below which the shares `QUANTILES` of all tokens lie, by share."""
    found = np.quantile(values.flatten().numpy(), QUANTILES)
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, found, strict=True)}


def distribution(values: Float[Tensor, "windows predicted"], ends: tuple[float, float]) -> Facts:
    """Quantiles and a histogram whose outermost bins hold what lies beyond, too."""
    low, high = ends
    bins = round((high - low) / STEP)
    place = ((values.flatten() - low) / STEP).floor().long().clamp(0, bins - 1)
    counts = torch.bincount(place, minlength=bins).tolist()
    return {
        "quantiles": quantiles(values),
        "histogram": {"from": low, "step": STEP, "counts": counts},
    }


@torch.inference_mode()
def _window(
    original: Float[Tensor, "predicted words"] | None,
    candidate: Float[Tensor, "found others"],
    ids: Int[Tensor, " length"],
) -> Tokens:
    if original is None or original.shape != candidate.shape:
        theirs = "none" if original is None else " x ".join(map(str, original.shape))
        raise InputError(
            "models are compared on the same tokens and words, but one predicts "
            f"{' x '.join(map(str, candidate.shape))} (tokens x words) and its original {theirs}"
        )
    targets = ids[1:].to(candidate.device)
    parts = [
        _chunk(original[rows], candidate[rows], targets[rows])
        for rows in evaluate.chunks(candidate)
    ]
    tokens = Tokens(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
    for who, values in (("original", tokens.original_nll), ("candidate", tokens.kl + tokens.nll)):
        if not torch.isfinite(values).all():
            raise ProblemError(f"the {who}'s predictions are NaN or infinite; check its weights")
    return tokens


def _chunk(
    original: Float[Tensor, "tokens words"],
    candidate: Float[Tensor, "tokens words"],
    targets: Int[Tensor, " tokens"],
) -> Tokens:
    p, q = evaluate.log_softmax(original.to(candidate.device)), evaluate.log_softmax(candidate)
    nll = evaluate.chosen(p, targets), evaluate.chosen(q, targets)
    tops = p.max(-1).indices, q.max(-1).indices  # three times as fast as argmax
    return Tokens(*nll, evaluate.divergences(p, q), *tops)


def _part(part: Tensor, total: Tensor) -> float | None:
    return (part / total).item() if total > 0 else None
