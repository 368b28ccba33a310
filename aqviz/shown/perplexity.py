"""Perplexity: what quantizing every layer costs a model, from recorded evaluations."""

import shlex
from dataclasses import dataclass
from typing import NamedTuple

from aqviz import bundle, evaluations, metrics, notebook, permalink, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.evaluations import ORIGINAL
from aqviz.figures import tokens
from aqviz.figures.kl import draw_kl, view_kl
from aqviz.figures.models import draw_models, view_models
from aqviz.figures.pairs import draw_pairs, view_pairs
from aqviz.figures.tokens import draw_tokens, view_tokens
from aqviz.figures.tuning import draw_tuning, view_tuning
from aqviz.shown import panels as html
from aqviz.shown import perplexity_panels as panels
from quantcore.errors import InputError, quoted
from quantcore.results import Document

SETTINGS = ("against", "text", "windows", "window", "worst", "sample")
PYTHON = """import json
from pathlib import Path
from quantcore import entries

document = json.loads(Path("models.json").read_text())
found = {{entry["model"]["name"]: entry for entry in document["candidates"]}}
pair = {one}, {other}
mean, error = entries.difference(*pair)  # nats a token, paired by window"""


@dataclass(frozen=True)
class Perplexity:
    """What the tab shows.

    Attributes:
        recording: Whose models.
        model: The model whose tokens are shown.
        beside: The model that all others are compared with.
        window: Which window of the text, from 1.
    """

    recording: str = "models-2x8g8"
    model: str = "oa-em"
    beside: str = ORIGINAL
    window: int = 1

    def __post_init__(self) -> None:
        if self.model == self.beside:
            raise InputError("a model beside itself differs nowhere; choose another one")
        if self.window < 1:
            raise InputError(f"windows are counted from 1, got {self.window}")


class Shown(NamedTuple):
    """The value of every output, in the page's order; figures as JSON."""

    about: str
    verdicts: str
    models: str
    pairs: str
    kl: str
    tuning: str
    text: str
    tokens: str
    worst: str
    replies: str
    command: str
    python: str
    files: str


def show(state: Perplexity) -> Shown:
    """What is shown of a state.

    Raises:
        InputError: there is no such recording, model or window.
    """
    document = evaluations.read(state.recording)
    if document is None:
        raise InputError(f"there is no recording {quoted(state.recording)}; choose another one")
    found = evaluations.models(document)
    for key in (state.model, state.beside):
        if key not in found:
            have = ", ".join(model.label for model in found.values())
            raise InputError(f"this recording has no model {quoted(key)}; it has {have}")
    if state.window > max(1, tokens.count(document)):
        raise InputError(f"this recording keeps {tokens.count(document)} windows of its text")
    return shown(state, document)


def shown(state: Perplexity, document: Document | None) -> Shown:
    """The same from a document, or from none."""
    name = state.recording
    text = view_tokens(document, state.model, state.beside, state.window)
    tuned, said = (
        evaluations.beside(name, kind) if document else None for kind in ("tuning", "generations")
    )
    read = f"{state.model}-{state.beside}-{state.window}"
    return Shown(
        about=panels.about(document),
        verdicts=panels.verdicts(document),
        models=theme.to_json(draw_models(view_models(document)), name),
        pairs=theme.to_json(draw_pairs(view_pairs(document, state.beside)), name + state.beside),
        kl=theme.to_json(draw_kl(view_kl(document)), name),
        tuning=theme.to_json(draw_tuning(view_tuning(tuned)), name),
        text=panels.text(text),
        tokens=theme.to_json(draw_tokens(text), name + read),
        worst=panels.worst(document, state.model),
        replies=panels.replies(said),
        command=command(document),
        python=python(state, document),
        files=html.downloads(permalink.encode("perplexity", state)) if document else "",
    )


def bundles(core: Core, state: Perplexity) -> Bundles:
    """What the view's zip holds.

    Raises:
        InputError: there is no such recording, model or window.
    """
    found, document = show(state), evaluations.read(state.recording) or {}
    names = ("models", "pairs", "kl", "tuning", "tokens")
    drawn = bundle.drawn({name: getattr(found, name) for name in names})
    tables = metrics.evaluated(state.recording, document)
    told = " ".join(evaluations.verdicts(document)) or bundle.alts(drawn)
    return {
        "": bundle.Bundle(
            told=told,
            config={"study": document["kind"], "config": document["config"]},
            figures=drawn,
            tables=tables,
            command=found.command,
            document=document,
            notebook=notebook.of_evaluation(told, "pairs" in tables),
        )
    }


def command(document: Document | None) -> str:
    """The command that evaluates the same models again."""
    if document is None:
        return ""
    config = document["config"]
    words = ["quantcore", "evaluate", *config["candidates"]]
    for name in SETTINGS:
        if config.get(name) is not None:
            words += [f"--{name}", config[name]]
    return shlex.join(str(word) for word in [*words, "--json", "models.json"])


def python(state: Perplexity, document: Document | None) -> str:
    """The difference of the two chosen models, from the file that the command writes."""
    found = evaluations.models(document)
    if state.model not in found or state.beside not in found:
        return ""
    one, other = (_place(found[key]) for key in (state.model, state.beside))
    return PYTHON.format(one=one, other=other)


def _place(model: evaluations.Model) -> str:
    """Where an entry stands in the document, in Python."""
    if model.key == ORIGINAL:
        return 'document["original"]'
    return f"found[{model.entry['model']['name']!r}]"
