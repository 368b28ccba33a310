"""The Perplexity tab's own HTML: verdicts, the coloured text, the worst tokens, replies.

Words from recordings are escaped here.
"""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from aqviz import evaluations
from aqviz.figures import tokens
from aqviz.figures.tokens import LEVELS, TokensView
from quantcore.results import Document

NOTHING = '<p class="note">{}</p>'
NOT_RECORDED = "No replies are recorded for these models."


def about(document: Document | None) -> str:
    """What was measured on what, when and where."""
    if not document or not document["tokens"]:
        return NOTHING.format("No evaluation of whole models is recorded.")
    facts, machine = document["tokens"], document["machine"]
    parts = [
        f"{document['original']['model']['note']} {document['text']['note']}",
        f"{facts['windows']} windows of {facts['length']} tokens.",
        f"Measured on {document['date'][:10]}, {machine.get('cpu', 'unknown processor')}.",
    ]
    return f'<p class="note">{escape(" ".join(parts))}</p>'


def verdicts(document: Document | None) -> str:
    """The sentences that the paired differences make."""
    told = "".join(f"<li>{escape(words)}</li>" for words in evaluations.verdicts(document))
    return f'<ul class="verdicts">{told}</ul>' if told else ""


def text(view: TokensView) -> str:
    """The window with every token marked by its excess, under a key to the marks."""
    if not view.tokens:
        return NOTHING.format(escape(view.alt))
    marked = "".join(_token(token, view.names) for token in view.tokens)
    return (
        f'{_key(view.names)}<p class="tokens" tabindex="0" role="region" '
        f'aria-label="the text; its numbers are in the table below the bars">'
        f"{escape(view.opening)}{marked}</p>"
    )


def worst(document: Document | None, key: str) -> str:
    """The tokens on which the model loses most against the original."""
    model = evaluations.models(document).get(key)
    if model is None or not model.entry.get("worst"):
        return NOTHING.format("Choose a quantized model: these are its worst tokens.")
    heads = ("text before", "token", "said instead", "original", "model", "KL")
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    rows = "".join(_worst_row(token, heads) for token in model.entry["worst"])
    return (
        f'<p class="note">{escape(model.label)}: loss in nats under either model; '
        "the model's likeliest word.</p>"
        f'<table class="results worst"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'
    )


def replies(document: Document | None) -> str:
    """What the models said, side by side."""
    if not document or document.get("kind") != "generations":
        return NOTHING.format(NOT_RECORDED)
    config = document["config"]
    parts = [
        f'<p class="note">At most {config["tokens"]} tokens, temperature '
        f"{config['temperature']:g}, seed {config['seed']}; one draw each.</p>"
    ]
    for n, prompt in enumerate(document["prompts"]):
        parts.append(said(prompt, {name: texts[n] for name, texts in document["replies"].items()}))
    return "".join(parts)


def said(prompt: str, replies: Mapping[str, str]) -> str:
    """A prompt and what models replied, by the models' names."""
    sections = "".join(
        f"<section><h4>{escape(evaluations.label(name))}</h4><p>{escape(_dense(text))}</p></section>"
        for name, text in replies.items()
    )
    return f'<h3>{escape(prompt)}</h3><div class="replies">{sections}</div>'


def _dense(text: str) -> str:
    """Without empty lines, of which a broken model can write a page."""
    return "\n".join(line for line in text.splitlines() if line.strip())


def _token(token: tokens.Token, names: tuple[str, str]) -> str:
    if not token.text:
        return ""
    kind = "" if not token.level else f' class="{_class(token.level)}"'
    return f'<span{kind} title="{escape(tokens.words(token, names))}">{escape(token.text)}</span>'


def _class(level: int) -> str:
    return f"{'worse' if level > 0 else 'better'} step-{abs(level)}"


def _key(names: tuple[str, str]) -> str:
    """What the marks mean, from better to worse."""
    steps = [*range(-len(LEVELS), 0), *range(1, len(LEVELS) + 1)]
    marks = []
    for level in steps:
        low = LEVELS[abs(level) - 1]
        high = LEVELS[abs(level)] if abs(level) < len(LEVELS) else math.inf
        sign = "+" if level > 0 else "−"
        words = f"{sign}{low:g}" + (" and more" if high == math.inf else f" to {sign}{high:g}")
        marks.append(f'<li><span class="{_class(level)}">{words}</span></li>')
    return (
        f'<p class="note">Nats by which {escape(names[0])} loses over {escape(names[1])}:</p>'
        f'<ul class="token-key">{"".join(marks)}</ul>'
    )


def _worst_row(token: dict[str, Any], heads: tuple[str, ...]) -> str:
    cells = [
        f"<b>{escape(repr(token['token'])[1:-1])}</b>",
        escape(repr(token["top"])[1:-1]),
        *(f"{token[name]:.2f}" for name in ("original_nll", "nll", "kl")),
    ]
    rest = "".join(
        f'<td data-label="{head}"><span>{cell}</span></td>'
        for head, cell in zip(heads[1:], cells, strict=True)
    )
    return (
        f'<tr><td class="before" data-label="{heads[0]}">{escape(token["before"])}</td>{rest}</tr>'
    )
