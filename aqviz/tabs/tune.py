"""Tune: some blocks quantized from each initialiser and PV-tuned while one looks on, then asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from aqviz import evaluations, notebook, permalink, studies, theme
from aqviz.engine import Document
from aqviz.evaluations import ORIGINAL, TUNED
from aqviz.figures.tuning import draw_tuning, view_tuning
from aqviz.tabs import perplexity_panels, study
from aqviz.tabs.actions import Core
from aqviz.tabs.cards import figure_card, html, intro, repeat_card
from aqviz.tabs.choice import SEARCHES, draw_inits, draw_model, place_in
from aqviz.tabs.study import StudyView, draw_runner, wire_study
from aqviz.tabs.tables import sortable, table
from quantcore.blocks import parse_numbers
from quantcore.errors import InputError
from quantcore.init import INITIALISERS
from quantcore.results import complete
from quantcore.trial import Trial
from quantcore.weight import Scheme

VIEW = "tune"
FIRST = studies.TRIAL
MOST = {  # of a run that a link can ask for
    "seconds": 300,
    "steps": 300,
    "reply_tokens": 200,
}
MOST_BLOCKS = 6
MOST_LETTERS = 1000  # of a prompt
NOTHING = "The curves grow here while a run tunes. Press Run."
NO_REPLIES = '<p class="note">Every model answers the prompt when its turn comes.</p>'
CHANCE = "One run each on a few windows of text: another seed may turn this around."


@dataclass(frozen=True)
class TuneState:
    """What the tab's link holds.

    Attributes:
        model: What `sources.resolve` takes; empty is the default model.
        blocks: Which blocks are quantized, such as 10 or 0-3.
        scheme: Of all their layers.
        inits: Initialisers.
        search: How codes are searched.
        seconds: Of tuning, for each initialiser.
        steps: Of tuning instead of seconds; 0 is none.
        prompt: What the models are asked.
        reply_tokens: Most tokens of a reply.
        seed: All randomness.
    """

    model: str = ""
    blocks: str = ",".join(map(str, FIRST.blocks))
    scheme: str = permalink.scheme_name(FIRST.scheme)
    inits: tuple[str, ...] = FIRST.inits
    search: str = FIRST.search
    seconds: float = FIRST.seconds
    steps: int = 0
    prompt: str = FIRST.prompt
    reply_tokens: int = FIRST.reply_tokens
    seed: int = FIRST.seed

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if getattr(self, name) > most:
                words = name.replace("_", " ")
                raise InputError(f"{words} must be at most {most} here; the command has no limit")
        if len(self.trial.blocks) > MOST_BLOCKS:
            raise InputError(f"at most {MOST_BLOCKS} blocks are tuned here; the command takes more")
        if len(self.prompt) > MOST_LETTERS:
            raise InputError(f"the prompt must have at most {MOST_LETTERS} letters here")

    @property
    def trial(self) -> Trial:
        """The study behind the view; of the default state it is the recorded one."""
        return Trial(
            model=self.model or None,
            blocks=parse_numbers(self.blocks),
            scheme=Scheme.parse(self.scheme),
            inits=tuple(sorted(self.inits, key=place_in(INITIALISERS))),
            search=self.search,
            seconds=self.seconds,
            steps=self.steps or None,
            prompt=self.prompt,
            reply_tokens=self.reply_tokens,
            seed=self.seed,
        )


def draw_tune(core: Core) -> None:
    """The whole tab."""
    state = TuneState()
    view = StudyView(VIEW, TuneState, lambda state: state.trial, show)
    status, *_, told, curve, numbers, said, command, python, files = study.values(core, view, state)
    intro(VIEW)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "tune-told")
            course = figure_card("trial", curve)
            with gr.Column(elem_classes="card"):
                html("<h2>In numbers</h2>")
                listed = sortable(numbers, "tune-runs")
            with gr.Column(elem_classes="card"):
                html("<h2>What the models say</h2>")
                replies = html(said, "tune-replies")
            repeat = repeat_card(VIEW, command, python, files)
    drawn = [headline, course, listed, replies, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, controls, runner, drawn, repeat.link)


def show(state: TuneState, document: Document | None) -> Sequence[Any]:
    """Sentence, curves, table, replies, command, Python and downloads of a state."""
    config = state.trial
    curves = {run["init"]: run["curve"] for run in _runs(document)}
    drawing = draw_tuning(view_tuning(curves), NOTHING)
    return [
        f'<p class="headline">{escape(verdict(document))}</p>',
        theme.to_json(drawing, config.key()),
        run_table(document),
        replies(document),
        permalink.command(config),
        notebook.python(config),
        study.downloads(VIEW, state, document),
    ]


def verdict(document: Document | None) -> str:
    """Which initialiser ended lower, and by how much, before tuning and after."""
    whole = complete(document)
    if not whole:
        return "What tuning makes of each start is said here when the first one is done."
    if len(whole) == 1:
        (run,) = whole
        return (
            f"{_label(run)}: the KL went from {run['start_kl']:.4g} to {run['best_kl']:.4g} nats a "
            f"token in {_effort(run)}."
        )
    before, after = (_ordered(whole, name) for name in ("start_kl", "best_kl"))
    efforts = ", ".join(f"{_label(run)} {_effort(run)}" for run in whole)
    return f"Before tuning {before}; after it {after} ({efforts}). {CHANCE}"


def run_table(document: Document | None) -> str:
    """One row an initialiser."""
    rows = [
        (
            _label(run),
            run["quantize_seconds"] and round(run["quantize_seconds"], 1),
            *(error and round(error, 5) for error in _block_errors(run)),
            run["start_kl"] and round(run["start_kl"], 5),
            run["best_kl"] and round(run["best_kl"], 5),
            run["best_step"],
            run["steps"],
            round(run["seconds"], 1),
        )
        for run in _runs(document)
    ]
    columns = (
        *("initialiser", "seconds to quantize", "blocks' held-out error"),
        *("KL before", "KL after", "kept at step", "steps", "seconds of tuning"),
    )
    return table("Each initialiser, before and after tuning", columns, rows)


def replies(document: Document | None) -> str:
    """What each model said to the prompt, as far as they were asked."""
    if not document or not document["original"]:
        return NO_REPLIES
    found = {ORIGINAL: document["original"]["reply"]}
    for run in _runs(document):
        found[run["init"]] = run["replies"]["before"]
        found[run["init"] + TUNED] = run["replies"]["after"]
    given = {name: reply for name, reply in found.items() if reply is not None}
    how = document["generation"]
    return (
        f'<p class="note">At most {how["tokens"]} tokens, temperature {how["temperature"]:g}, '
        f"seed {how['seed']}; one draw each, so replies differ by chance too.</p>"
        + perplexity_panels.said(document["config"]["prompt"], given)
    )


def _runs(document: Document | None) -> list[Document]:
    found: list[Document] = document["runs"] if document else []
    return found


def _label(run: Document) -> str:
    return evaluations.label(run["init"])


def _effort(run: Document) -> str:
    return f"{run['steps']} steps in {run['seconds']:.0f} s"


def _ordered(runs: Sequence[Document], name: str) -> str:
    """The lowest, and by how much the others are above it."""
    best, *others = sorted(runs, key=lambda run: run[name])
    above = ", ".join(
        f"{_label(run)} {100 * (run[name] / best[name] - 1):.1f} % above it" for run in others
    )
    return f"{_label(best)} is lowest at a KL of {best[name]:.4g} nats a token, {above}"


def _block_errors(run: Document) -> list[float | None]:
    """The mean of the blocks' held-out errors; none before they are quantized."""
    errors = [block["heldout_error"] for block in run["blocks"]]
    return [sum(errors) / len(errors)] if errors else [None]


def _controls(core: Core, first: TuneState) -> list[Any]:
    """One component for each field of the state, in its order."""
    model = draw_model(core, f"{VIEW}-model", first.model)
    with gr.Row(elem_classes="pair"):
        blocks = gr.Textbox(
            first.blocks, label="Blocks (10 or 0-3)", min_width=120, elem_id="tune-blocks"
        )
        scheme = gr.Textbox(
            first.scheme, label="Scheme (2x8g8)", min_width=120, elem_id="tune-scheme"
        )
    inits = draw_inits(VIEW, first.inits)
    search = gr.Dropdown(
        SEARCHES,
        value=first.search,
        label="Search, the same for all",
        elem_id="tune-search",
    )
    with gr.Row(elem_classes="pair"):
        seconds = gr.Number(
            first.seconds, label="Seconds of tuning", min_width=120, elem_id="tune-seconds"
        )
        steps = gr.Number(
            first.steps, label="or steps (0: none)", min_width=120, elem_id="tune-steps"
        )
    prompt = gr.Textbox(first.prompt, label="Prompt", lines=2, elem_id="tune-prompt")
    with gr.Row(elem_classes="pair"):
        tokens = gr.Number(first.reply_tokens, label="Tokens of a reply", min_width=120)
        seed = gr.Number(first.seed, label="Seed", min_width=120)
    return [model, blocks, scheme, inits, search, seconds, steps, prompt, tokens, seed]
