"""What models say to the same prompts with the same seed, to be recorded and read side by side.

    recordings.write("generations-2x8g8", generations.record({"original": ..., "oa-em": ...}))

The names are those of `evaluations`: "original", an initialiser, or an initialiser with "-tuned".
A reply is one draw: two replies differ by chance as well as by their models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from quantcore import generate, machine, sources
from quantcore.errors import InputError
from quantcore.generate import GenerateConfig
from quantcore.results import Document

KIND = "generations"
PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Explain in two sentences why the sky is blue.",
    "Write a short story about a lighthouse keeper who finds a letter.",
)


def record(
    models: Mapping[str, str],
    prompts: Sequence[str] = PROMPTS,
    config: GenerateConfig | None = None,
) -> Document:
    """Let every model answer every prompt; one model is in memory at a time.

    Args:
        models: What `sources.resolve` takes, by the names they get.
        prompts: What is said to them.
        config: How text is drawn.

    Raises:
        InputError: there is no model or no prompt, or a prompt fills a model's context.
    """
    if not models or not prompts:
        raise InputError("generations need at least one model and one prompt")
    config = config or GenerateConfig(tokens=80)
    replies = {name: _replies(model, prompts, config) for name, model in models.items()}
    return {
        "kind": KIND,
        "config": asdict(config),
        "models": dict(models),
        "prompts": list(prompts),
        "replies": replies,
        "versions": machine.versions(),
        "machine": machine.describe(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _replies(model: str, prompts: Sequence[str], config: GenerateConfig) -> list[str]:
    loaded = sources.load(sources.resolve(model))
    said = []
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        said.append(generate.reply(loaded, messages, config, lambda piece: None).text)
    return said
