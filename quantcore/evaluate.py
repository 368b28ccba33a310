r"""Perplexity, one definition, and what one layer's quantization does to it.

Full-length windows; in each of L tokens the L - 1 that have something before them are predicted;
the negative log-likelihoods (nats) are summed over all tokens, and

    perplexity = exp(sum of nll / predicted tokens).

Log-softmax over the whole vocabulary in float32, a few tokens at a time; sums in float64.

The standard error treats windows as the independent draws: that of the windows' mean nats per
token, times the perplexity (delta method). Two models on the same windows are compared in pairs,
window by window, which takes out how hard each window is.

For one layer, only its weight is swapped and everything else stays original. All candidates then
share the hidden states before the layer's block, which are computed once per batch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantcore import blocks, machine
from quantcore.errors import InputError, ProblemError

Observer = Callable[[int, int], None]
# logits at a time behind the model, 4 MiB: with 8 MiB a comparison takes five times as long
CHUNK = 1 << 20
CHUNK_COPIES = 4  # log-probabilities and what is made of them


@dataclass(frozen=True)
class Perplexity:
    """A perplexity with its uncertainty.

    Attributes:
        value: exp of the mean nats per predicted token.
        standard_error: Over windows; None for a single window.
        windows: How many.
        tokens: How many were predicted, in all windows.
        window_nll: Sum of nats in each window.
    """

    value: float
    standard_error: float | None
    windows: int
    tokens: int
    window_nll: tuple[float, ...]

    @classmethod
    def of(cls, window_nll: Float[Tensor, " windows"], predicted: int) -> "Perplexity":
        """From each window's summed nats over `predicted` tokens."""
        if not torch.isfinite(window_nll).all():
            raise ProblemError("the model's predictions are NaN or infinite; check its weights")
        mean, error = mean_and_error(window_nll / predicted)
        value = torch.tensor(mean, dtype=torch.float64).exp().item()  # inf rather than an overflow
        return cls(
            value=value,
            standard_error=None if error is None else value * error,
            windows=len(window_nll),
            tokens=predicted * len(window_nll),
            window_nll=tuple(window_nll.tolist()),
        )

    def paired_difference(self, other: "Perplexity") -> tuple[float, float | None]:
        """Mean nats per token by which this exceeds `other`, and the standard error over windows.

        Raises:
            InputError: the two were not measured on as many windows and tokens.
        """
        if (self.windows, self.tokens) != (other.windows, other.tokens):
            raise InputError(
                "perplexities are compared on the same windows, got "
                f"{self.windows} of {self.tokens} tokens and {other.windows} of {other.tokens}"
            )
        mine, theirs = (torch.tensor(p.window_nll, dtype=torch.float64) for p in (self, other))
        return mean_and_error((mine - theirs) * self.windows / self.tokens)


def perplexity(
    model: PreTrainedModel,
    windows: Int[Tensor, "windows length"],
    observe: Observer = lambda done, total: None,
) -> Perplexity:
    """Perplexity of the model on the windows.

    Args:
        model: A causal language model.
        windows: Token ids, at least one window of two tokens.
        observe: Called with windows done and in all after each; what it raises ends the work.

    Raises:
        InputError: there is no window, or it predicts nothing.
        ProblemError: the predictions are not finite.
        ResourceError: the predictions do not fit into memory.
    """
    check(model, windows)
    nll: list[Tensor] = []
    for ids in windows:  # one at a time: a window's logits alone can take a GiB
        nll.append(token_nll(logits(model, ids), ids).sum())
        observe(len(nll), len(windows))
    return Perplexity.of(torch.stack(nll), windows.shape[1] - 1)


@torch.inference_mode()
def logits(model: PreTrainedModel, ids: Int[Tensor, " length"]) -> Float[Tensor, "predicted words"]:
    """What the model says about every token but the first from those before it."""
    given: Tensor = model(input_ids=ids[None].to(model.device), use_cache=False).logits
    return given[0, :-1]


def token_nll(
    logits: Float[Tensor, "predicted words"], ids: Int[Tensor, " length"]
) -> Float[Tensor, " predicted"]:
    """Nats of each predicted token of a window, in float64 on the CPU."""
    targets = ids[1:].to(logits.device)
    parts = [chosen(log_softmax(logits[rows]), targets[rows]) for rows in chunks(logits)]
    return torch.cat(parts).cpu()


def chunks(logits: Float[Tensor, "predicted words"]) -> list[slice]:
    """The tokens that are looked at together."""
    predicted, words = logits.shape
    step = max(1, CHUNK // words)
    return [slice(first, first + step) for first in range(0, predicted, step)]


def log_softmax(logits: Float[Tensor, "predicted words"]) -> Float[Tensor, "predicted words"]:
    """Log-probabilities in float32."""
    return logits.float().log_softmax(-1)


def chosen(
    log_probabilities: Float[Tensor, "predicted words"], targets: Int[Tensor, " predicted"]
) -> Float[Tensor, " predicted"]:
    """Nats of the tokens that came, in float64."""
    return -log_probabilities.gather(1, targets[:, None]).squeeze(1).double()


def divergences(
    p: Float[Tensor, "tokens words"], q: Float[Tensor, "tokens words"]
) -> Float[Tensor, " tokens"]:
    """KL(p || q) at each token in float64, from log-probabilities; `p` is used up for it."""
    gap = p - q
    return gap.mul_(p.exp_()).sum(-1, dtype=torch.float64)  # without another copy


def swapped_perplexities(
    model: PreTrainedModel,
    layer_name: str,
    weights: Mapping[str, Float[Tensor, "out columns"] | None],
    windows: Int[Tensor, "windows length"],
    observe: Observer = lambda done, total: None,
) -> dict[str, Perplexity]:
    """Perplexity with each of several weights in one layer's place, all else original.

    Args:
        model: A causal language model; as it was when this returns or raises.
        layer_name: Full name, as in `sources.linear_layers`.
        weights: Candidates by name; None is the weight the layer has.
        windows: Token ids.
        observe: Called with runs done and in all after each candidate of each window; what it
            raises ends the work.

    Raises:
        InputError: a candidate has another shape than the layer's weight, or as in `perplexity`.
        ProblemError: a candidate or the predictions are not finite.
        ResourceError: the predictions do not fit into memory.
    """
    check(model, windows)
    layer = model.get_submodule(layer_name)
    assert isinstance(layer, nn.Linear), layer_name
    _check_candidates(layer_name, layer, weights)
    nll: dict[str, list[Tensor]] = {name: [] for name in weights}
    done = 0
    for ids in windows:
        with _shared_start(model, layer_name):
            for name, weight in weights.items():
                with _swapped(layer, weight):
                    nll[name].append(token_nll(logits(model, ids), ids).sum())
                done += 1
                observe(done, len(weights) * len(windows))
    predicted = windows.shape[1] - 1
    return {name: Perplexity.of(torch.stack(parts), predicted) for name, parts in nll.items()}


def check(model: PreTrainedModel, windows: Int[Tensor, "windows length"], models: int = 1) -> None:
    """Refuse windows that predict nothing, and logits of so many models that do not fit.

    Raises:
        InputError: there is no window, or it predicts nothing.
        ResourceError: the predictions do not fit into memory.
    """
    count, length = windows.shape
    if not count or length < 2:
        raise InputError(f"perplexity needs a window of 2 tokens, got {count} of {length}")
    words = model.config.get_text_config().vocab_size
    need = 4 * models * (length * words + CHUNK_COPIES * max(CHUNK, words))
    machine.require_memory(need, f"predicting windows of {length} tokens", model.device)


def mean_and_error(values: Float[Tensor, " windows"]) -> tuple[float, float | None]:
    """Mean and its standard error, which one value does not have."""
    if len(values) < 2:
        return values.mean().item(), None
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


def answering(module: nn.Module, output: object) -> AbstractContextManager[None]:
    """Within the context the module returns `output` and computes nothing."""
    return blocks.calling(module, lambda *_, **__: output)


@contextmanager
def _swapped(layer: nn.Linear, weight: Tensor | None) -> Iterator[None]:
    """The layer with another weight, for the length of the context."""
    original = layer.weight
    if weight is not None:
        layer.weight = nn.Parameter(weight.to(original), requires_grad=False)
    try:
        yield
    finally:
        layer.weight = original


@contextmanager
def _shared_start(model: PreTrainedModel, layer_name: str) -> Iterator[None]:
    """Within the context the blocks before the layer's run once and then repeat their last output.

    The first pass through the model is an ordinary one. In later ones each of those blocks returns
    what the last of them returned first; the inputs must be the same.
    """
    before = blocks.before(model, layer_name)
    with ExitStack() as stack:
        if before:

            def keep(_: nn.Module, __: object, output: object) -> None:
                for block in before:
                    stack.enter_context(answering(block, output))
                hook.remove()

            hook = before[-1].register_forward_hook(keep)
            stack.callback(hook.remove)
        yield


def _check_candidates(
    layer_name: str, layer: nn.Linear, weights: Mapping[str, Tensor | None]
) -> None:
    for name, weight in weights.items():
        if weight is None:
            continue
        if weight.shape != layer.weight.shape:
            raise InputError(
                f"weight {name!r} is {tuple(weight.shape)}, but layer {layer_name} has "
                f"{tuple(layer.weight.shape)}"
            )
        if not torch.isfinite(weight).all():  # attention on a CPU can hide a NaN
            raise ProblemError(f"weight {name!r} has NaN or infinite entries; quantize it again")
