"""Learn's tab: one lesson open at a time, each a live figure with its words.

In lecture mode the open lesson fills the page: `styles/learn.css` does it, as long as the box of
`full` is ticked. The keys are the buttons': Escape leaves, arrows and page keys (what presenters'
remotes send) go on and back.
"""

from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.parts.cards import copied, html, plot, prose
from aqviz.parts.events import QUIET
from aqviz.parts.links import View, wire
from aqviz.shown.learn import DIALS, LESSONS, WORDS, Choice, Dial, Learn, drawing

CHOICES = [(f"{number} {words.title}", number) for number, words in WORDS.items()]
ENTER, LEAVE = "Lecture mode", "Leave lecture mode (Esc)"
KEYS = """
const keys = { ArrowRight: "next", PageDown: "next", ArrowLeft: "back", PageUp: "back" };
function pressed(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", pressed);
  const full = document.querySelector("#learn-full input");
  if (!full || !full.checked) return;
  const name = event.key === "Escape" ? "lecture" : keys[event.key];
  if (!name || (name !== "lecture" && event.target.closest("input, textarea, [role=tab]"))) return;
  event.preventDefault();
  document.querySelector(`#learn-${name}`).click();
}
document.addEventListener("keydown", pressed);
"""


def draw_learn(core: Core) -> None:
    """The whole tab; it needs nothing of the core."""
    state = Learn()
    with gr.Column(elem_id="learn"):
        lesson = gr.Radio(CHOICES, value=state.lesson, label="Lesson", elem_id="learn-lesson")
        full = gr.Checkbox(state.full, visible="hidden", elem_id="learn-full", label=ENTER)
        with gr.Row(elem_id="learn-buttons"):
            back = gr.Button("Previous", elem_id="learn-back", size="sm", interactive=False)
            onward = gr.Button("Next", elem_id="learn-next", size="sm")
            lecture = gr.Button(ENTER, elem_id="learn-lecture", size="sm")
        alert = html("")
        cards = {number: _draw_lesson(number, state) for number in LESSONS}
        link = copied("Link to this lesson", "learn-link", "", lines=1)
        html("", js_on_load=KEYS)
    columns, figures = zip(*((column, view) for column, view, _ in cards.values()), strict=True)
    dials = {name: box for _, _, boxes in cards.values() for name, box in boxes.items()}
    controls = [lesson, full, *(dials[name] for name in DIALS)]
    outputs = [alert, *columns, *figures, back, onward, lecture]
    wire(View("learn", Learn, show), controls, outputs, link)
    back.click(lambda number: max(1, number - 1), lesson, lesson, **QUIET)
    onward.click(lambda number: min(len(LESSONS), number + 1), lesson, lesson, **QUIET)
    lecture.click(lambda on: not on, full, full, **QUIET)


def show(state: Learn) -> list[Any]:
    """Which lesson is seen, its figure, and what the buttons offer."""
    columns = [gr.update(visible=number == state.lesson) for number in LESSONS]
    drawn = drawing(state)
    figures = [drawn if number == state.lesson else gr.skip() for number in LESSONS]
    return [
        *columns,
        *figures,
        gr.update(interactive=state.lesson > 1),
        gr.update(interactive=state.lesson < len(LESSONS)),
        gr.update(value=LEAVE if state.full else ENTER),
    ]


def _draw_lesson(number: int, state: Learn) -> tuple[gr.Column, gr.HTML, dict[str, Any]]:
    """A lesson's card: title, dials, figure, words. Only the open one has been drawn."""
    words, shown = WORDS[number], number == state.lesson
    with gr.Column(elem_classes="card figure lesson", visible=shown) as column:
        html(f"<h2>{number}. {words.title}</h2>", elem_classes="title")
        with gr.Column(elem_classes="dials"):
            boxes = {
                name: _draw_dial(dial, name, getattr(state, name))
                for name, dial in LESSONS[number].dials.items()
            }
        view = plot(drawing(state) if shown else "", f"lesson-{number}")
        prose(words.body, "words")
    return column, view, boxes


def _draw_dial(dial: Dial | Choice, name: str, value: Any) -> Any:
    """A slider, or radio buttons."""
    if isinstance(dial, Choice):
        offered = [(words, key) for key, words in dial.options.items()]
        return gr.Radio(offered, value=value, label=dial.label, elem_id=f"learn-{name}")
    place, label = f"learn-{name}", dial.label
    return gr.Slider(dial.low, dial.high, value, step=dial.step, label=label, elem_id=place)
