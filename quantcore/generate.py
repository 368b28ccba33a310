"""Text from a model, piece by piece, the original and the quantized alike.

Quantized layers compute from their codes. Where the tokenizer knows how its model is spoken to,
messages are put in that form; other models go on from the text as it stands.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from quantcore import checkpoints, sweep
from quantcore.errors import InputError
from quantcore.sources import LoadedModel

Message = dict[str, str]
HALF = "\N{REPLACEMENT CHARACTER}"  # where a character's bytes are not all there yet


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How text is drawn.

    Attributes:
        tokens: Most tokens of one reply.
        temperature: 0 takes the likeliest token; higher values draw less likely ones more often.
        seed: Of the draws.
    """

    tokens: int = 200
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise InputError(f"tokens must be at least 1, got {self.tokens}")
        sweep.check_seeds(self.seed)
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, got {self.temperature}")


class Reply(NamedTuple):
    """What a model said.

    Attributes:
        text: All of it.
        tokens: How many tokens it has.
        read_seconds: Until the first token: the prompt was read.
        seconds: From the first token to the last.
    """

    text: str
    tokens: int
    read_seconds: float
    seconds: float

    @property
    def rate(self) -> float | None:
        """Tokens per second after the first; None where there is only one."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 and self.seconds else None


def reply(
    loaded: LoadedModel,
    messages: Sequence[Message],
    config: GenerateConfig,
    write: Callable[[str], None],
) -> Reply:
    """Let a model answer; its text goes to `write` as it comes.

    Args:
        loaded: The model.
        messages: What was said, with the keys of chat templates: role and content. A tokenizer
            without a template gets the contents joined by new lines.
        config: How text is drawn.
        write: Called with each piece of text; what it raises ends the work.

    Raises:
        InputError: there is no prompt, or it fills the model's context.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    prompt = _encode(tokenizer, messages)
    length = prompt["input_ids"].shape[1]
    context = int(tokenizer.model_max_length)
    if not length:
        raise InputError("the prompt is empty; say something")
    if length >= context:
        raise InputError(f"the prompt has {length} tokens and the model sees {context}; shorten it")
    pieces = _Pieces(tokenizer.decode, write)
    drawn = {"do_sample": True, "temperature": config.temperature}
    with checkpoints.quiet(), torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model.generate(  # type: ignore[operator]
            **prompt.to(model.device),
            streamer=pieces,
            max_new_tokens=min(config.tokens, context - length),
            pad_token_id=_padding(tokenizer),
            **(drawn if config.temperature else {"do_sample": False}),
        )
    return pieces.reply()


class _Pieces(BaseStreamer):
    """Passes text on and keeps time.

    The whole reply is decoded for each token: some tokenizers decode a token differently when it is
    the first, so that pieces decoded apart lack spaces.
    """

    def __init__(self, decode: Callable[..., Any], write: Callable[[str], None]) -> None:
        self._decode, self._write = decode, write
        self._tokens: list[int] = []
        self._times: list[float] = []  # of the prompt, then of each token
        self._text = ""

    def put(self, value: torch.Tensor) -> None:
        """The prompt comes first, then one token at a time."""
        if self._times:
            self._tokens += value.flatten().tolist()
            text = self._decoded()
            if not text.endswith(HALF):
                self._pass(text)
        self._times.append(time.perf_counter())

    def end(self) -> None:
        """What is left is as it is."""
        self._pass(self._decoded())

    def reply(self) -> Reply:
        """What came, after the end."""
        begun, first, last = self._times[0], self._times[1], self._times[-1]
        return Reply(self._text, len(self._tokens), first - begun, last - first)

    def _decoded(self) -> str:
        return str(
            self._decode(self._tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def _pass(self, text: str) -> None:
        new, self._text = text[len(self._text) :], text
        if new:
            self._write(new)


def _encode(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Any:
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    text = "\n".join(message["content"] for message in messages)
    return tokenizer(text, return_tensors="pt", return_token_type_ids=False)


def _padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any token will do: there is one sequence, and nothing to pad."""
    return next((n for n in (tokenizer.pad_token_id, tokenizer.eos_token_id) if n is not None), 0)
