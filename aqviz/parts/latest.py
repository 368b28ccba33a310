"""Questions whose answers depend on controls: what is shown last is what the controls say.

`latest.js` says why Gradio's own order is not enough, and keeps it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from aqviz.parts.events import AS_SENT, QUIET

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
AS_THEY_ARE = "(...values) => values"


class Latest:
    """What is shown of some controls.

    Args:
        controls: The components.
        redraw: Their values -> what is shown of them.
        outputs: The components that show it.
    """

    def __init__(
        self, controls: Sequence[Any], redraw: Callable[..., Any], outputs: Sequence[Any]
    ) -> None:
        self._controls = list(controls)
        button = gr.Button(visible="hidden")
        self._id = button.elem_id = f"ask-{button._id}"
        changes = [control.change for control in controls]
        js = f"(...values) => aqvizLatest.changed('{self._id}', ...values)"
        gr.on(changes, None, self._controls, None, js=js, **QUIET)
        self.redrawn = self.ask(button.click, "redraw", redraw, self._controls, outputs)

    def ask(
        self,
        event: Callable[..., Any],
        question: str,
        answer: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        js: str = AS_THEY_ARE,
    ) -> Any:
        """On an event, a question whose answer is shown by some of the same components.

        Args:
            event: A component's listener.
            question: Its name, of which only one answer is awaited at a time.
            answer: Handles the event.
            inputs: The components whose values are sent; where they end with the controls, it is
                known of which values the answer is, else it is followed by a redraw.
            outputs: The components that are filled.
            js: Makes what is sent of the values.

        Returns:
            The event, which others can follow.
        """
        first = len(inputs) - len(self._controls)
        known = f"...sent.slice({first})" if [*inputs[first:]] == self._controls else ""
        note = f"aqvizLatest.asked('{self._id}', '{question}', {known})"
        sent = f"(...values) => {{ const sent = ({js})(...values); {note}; return sent; }}"
        asked = event(answer, inputs, outputs, js=sent, **AS_SENT)
        told = f"(...values) => aqvizLatest.answered('{self._id}', '{question}', ...values)"
        asked.then(None, self._controls, None, js=told, **QUIET)
        lost = f"() => aqvizLatest.failed('{self._id}', '{question}')"
        asked.failure(None, None, None, js=lost, **QUIET)
        return asked
