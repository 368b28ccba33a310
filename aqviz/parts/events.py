"""Events: what all of them are set to, when a view is opened, and what bad input answers.

In which order they are answered is up to `events.js`, which the page brings along.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from aqviz.shown import panels
from quantcore.errors import QuantcoreError

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

# What controls say is taken as the browser sent it, and checked by the state that is made of it: in
# a sentence, where Gradio's own check is an error. While controls and what they offer change
# together, one event may bring an old value and find the new list; the next replaces the sentence.
AS_SENT: dict[str, Any] = QUIET | {"preprocess": False}


def guarded(make: Callable[[], list[Any]], count: int, at: int = 0) -> list[Any]:
    """What is made; where it is refused, `count` values that change nothing but the alert `at`."""
    try:
        return make()
    except QuantcoreError as error:
        values: list[Any] = [gr.skip()] * count
        values[at] = panels.alert(str(error))
        return values


def opening() -> Any:
    """The event with which the view that is being laid out comes to be seen.

    The first view's is the page's load, any other's the selection of its tab, which `links.SCRIPT`
    makes for the view that the address names: ten views that load with the page take it seconds.
    """
    tab = enclosing_tab()
    first = tab is None or tab.parent is None or tab.parent.children[0] is tab
    page = Context.root_block
    return page.load if first else tab.select  # type: ignore[union-attr]


def enclosing_tab() -> gr.Tab | None:
    """The tab that is being laid out."""
    block = Context.block
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    return block
