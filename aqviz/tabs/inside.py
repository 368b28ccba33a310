"""Inside's tab: rows and groups to choose, and a clock that steps through a product."""

from pathlib import Path
from typing import Any

import gradio as gr

from aqviz import inside, text, theme
from aqviz.core import Core
from aqviz.inside import Example
from aqviz.parts.cards import figure_card, html, intro, prose, repeat_card
from aqviz.parts.events import QUIET
from aqviz.parts.links import View, wire
from aqviz.shown.inside import Inside, Shown, show
from quantcore.errors import QuantcoreError

MISSING = "No weight was recorded for this page; `python -m aqviz.record inside` makes one."
KEYS = (Path(__file__).parents[1] / "inside.js").read_text(encoding="utf-8")
FIRST = Inside()
PLAY, PAUSE = "Play", "Pause"
BEAT = 0.7  # seconds a step while playing
STILL = """(label, step, _, run) =>
  [label, step, matchMedia('(prefers-reduced-motion: reduce)').matches, run]"""
SCHEMES = ("1x8g8", "2x6g8", "2x8g8", "3x8g8", "4x8g8", "2x5g4", "1x12g8", "1x16g8")


def draw_inside(core: Core) -> None:
    """The whole tab."""
    example = inside.read()
    intro("inside")
    if example is None:
        prose(MISSING)
        return
    first = show(example, FIRST)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            about = html(first.about)
            chosen = _draw_choice(example)
            kept = html(first.kept, "inside-kept")
            alert = html("", "inside-alert")
        with gr.Column(elem_classes="board", min_width=300):
            mapped = figure_card("inside_map", first.map)
            group = figure_card("inside_group", first.group)
            with gr.Column(elem_classes="card"):
                title, body = text.read("inside_numbers")
                html(f"<h2>{title}</h2>")
                prose(body, "caption")
                bits = html(first.bits)
                numbers = html(first.numbers, "inside-numbers", js_on_load=KEYS)
            with gr.Row(elem_classes="card dial"):
                scheme = _draw_scheme()
            counted = figure_card("inside_bytes", first.bytes)
            with gr.Row(elem_classes="card dial"):
                step, play = _draw_steps(example)
            tables = figure_card("inside_tables", first.tables)
            counts = figure_card("inside_counts", first.counts)
            repeat = repeat_card("inside", first.command, first.python, first.files)
    run = gr.Textbox("", visible="hidden")
    figures = [about, kept, mapped, group, bits, numbers, counted, tables, counts]
    outputs = [alert, *figures, repeat.command, repeat.python, repeat.files]
    controls = [*chosen, scheme, step, run]
    wire(View("inside", Inside, opened, settings=settings), controls, outputs, repeat.link)
    mapped.select(picked, None, chosen[1:], **QUIET)
    _wire_play(step, play, run)


def opened(state: Inside) -> Shown:
    """The outputs of a state.

    Raises:
        QuantcoreError: there is no such comparison, or nothing of that name or number in it.
    """
    return show(inside.find(state.run), state)


def settings(state: Inside) -> list[Any]:
    """How the controls are set to a state: they offer what its comparison has.

    Raises:
        QuantcoreError: there is no such comparison.
    """
    example = inside.find(state.run)
    return [
        gr.update(choices=_offered(example), value=state.init),
        gr.update(maximum=example.rows - 1, value=state.row),
        gr.update(maximum=example.groups - 1, value=state.group),
        state.scheme,
        gr.update(maximum=example.groups - 1, value=state.step),
        state.run,
    ]


def picked(event: gr.EventData) -> tuple[int, int]:
    """Row and group of a cell that was clicked."""
    return int(event._data["y"]), int(event._data["x"])


def press(label: str, step: int | float, still: bool, groups: int) -> tuple[int, bool, str]:
    """Step, whether the clock runs and the button's label after a press.

    Where motion is not wanted Play goes to the last step at once; at the last step it begins anew.
    """
    last = groups - 1
    if label == PAUSE:
        return int(step), False, PLAY
    if still:
        return last, False, PLAY
    return (0 if step >= last else int(step)), True, PAUSE


def advance(step: int | float, groups: int) -> tuple[int, bool, str]:
    """The same after a beat."""
    following = min(int(step) + 1, groups - 1)
    more = following < groups - 1
    return following, more, PAUSE if more else PLAY


def _draw_choice(example: Example) -> list[Any]:
    """Initialiser, row and group."""
    return [
        gr.Radio(_offered(example), value=FIRST.init, label="Initialiser", elem_id="inside-init"),
        _slider("Row (output)", "row", FIRST.row, example.rows),
        _slider("Group of inputs", "group", FIRST.group, example.groups),
    ]


def _offered(example: Example) -> list[tuple[str, str]]:
    """The initialisers of an example: label, name."""
    return [(theme.style(name).label, name) for name in example.versions]


def _draw_scheme() -> gr.Dropdown:
    return gr.Dropdown(
        SCHEMES,
        value=FIRST.scheme,
        label="Scheme, for the bytes and the counts below",
        info="codebooks x bits a code, g weights a group; write your own, such as 2x7g8",
        allow_custom_value=True,
        elem_id="inside-scheme",
    )


def _draw_steps(example: Example) -> tuple[gr.Slider, gr.Button]:
    step = _slider("Step: the group that is added", "step", FIRST.step, example.groups)
    return step, gr.Button(PLAY, elem_id="inside-play", scale=0, min_width=110)


def _slider(label: str, name: str, value: int, count: int) -> gr.Slider:
    return gr.Slider(0, count - 1, value, step=1, label=label, elem_id=f"inside-{name}")


def _groups(run: str) -> int:
    """Groups in a row of what is open; one, which ends the playing, where it is no longer kept."""
    try:
        return inside.find(run).groups
    except QuantcoreError:
        return 1


def _wire_play(step: gr.Slider, play: gr.Button, run: gr.Textbox) -> None:
    timer, still = gr.Timer(BEAT, active=False), gr.Checkbox(visible="hidden")
    moved = [step, timer, play]

    def pressed(label: str, at: int | float, without_motion: bool, opened: str) -> list[Any]:
        place, runs, words = press(label, at, without_motion, _groups(opened))
        return [place, gr.Timer(active=runs), words]

    def ticked(at: int | float, opened: str) -> list[Any]:
        place, runs, words = advance(at, _groups(opened))
        return [place, gr.Timer(active=runs), words]

    play.click(pressed, [play, step, still, run], moved, js=STILL, **QUIET)
    timer.tick(ticked, [step, run], moved, **QUIET)
