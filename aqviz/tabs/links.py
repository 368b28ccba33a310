"""A view and its link: controls change the address, an opened link sets the controls.

`wire` is all that a tab without jobs needs: its state is a dataclass, its controls are that
dataclass's fields, and one plain function turns a state into what is shown.

What the address asked for is kept in the page as `window.aqvizAsked` before anything changes it
(`HEAD`), until the view that it names has been shown: by then no answer to the opening is on its
way that could undo what the visitor does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from gradio.context import Context

from aqviz import permalink
from aqviz.tabs import panels
from quantcore.errors import QuantcoreError

HEAD = "<script>window.aqvizAsked = location.search.slice(1);</script>"
ASKED = "(asked, ...values) => [window.aqvizAsked, ...values]"
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
RULE = """
  const here = new URL(location.href), link = new URL(location.href);
  const theme = here.searchParams.get("__theme"), pins = here.searchParams.get("pins");
  link.search = query;
  const view = link.searchParams.get("view") || "race";
  const tab = document.getElementById(`view-${view}-button`);
  const asked = new URLSearchParams(window.aqvizAsked).get("view") || view;
  const open = asked === view && tab && tab.ariaSelected === "true";
  if (theme) link.searchParams.set("__theme", theme);
  if (pins && view === "race") link.searchParams.set("pins", pins);
  if (query && open) history.replaceState(null, "", link);
  link.searchParams.delete("__theme");
  return query ? link.href : "";
}"""
CHANGED = "(query) => {" + RULE
OPENED = """
  const named = new URLSearchParams(window.aqvizAsked).get("view") || "race";
  const own = new URLSearchParams(query).get("view") || "race";
  if (named === own || !document.getElementById(`view-${named}-button`)) window.aqvizAsked = "";"""
SHOWN = "(query) => {" + OPENED + RULE


@dataclass(frozen=True)
class Wiring:
    """What `wire` was given, and what events do with it."""

    view: str
    kind: type[Any]
    controls: Sequence[Any]
    show: Callable[[Any], Sequence[Any]]
    outputs: Sequence[Any]
    query: gr.Textbox

    def redraw(self, *values: Any) -> list[Any]:
        """The outputs and the query for these values of the controls."""
        return self._guarded(lambda: self._shown(permalink.from_values(self.kind, values)), 0)

    def opened(self, asked: str) -> list[Any]:
        """The controls, the outputs and the query, where the address asked for this view."""
        query, count = asked_of(asked), len(self.controls)
        if query.get("view") != self.view:
            return self._skipped(count)

        def make() -> list[Any]:
            state = permalink.decode(self.kind, query)
            values = [getattr(state, name) for name in self.kind.__dataclass_fields__]
            controls = [list(value) if isinstance(value, tuple) else value for value in values]
            return [*controls, *self._shown(state)]

        return self._guarded(make, count)

    def entered(self, asked: str, *values: Any) -> list[Any]:
        """As `opened` where the address asked for this view, else as `redraw`."""
        if asked_of(asked).get("view") == self.view:
            return self.opened(asked)
        return [*[gr.skip()] * len(self.controls), *self.redraw(*values)]

    def _shown(self, state: Any) -> list[Any]:
        return ["", *self.show(state), permalink.encode(self.view, state)]

    def _skipped(self, before: int) -> list[Any]:
        return [gr.skip()] * (before + len(self.outputs) + 1)

    def _guarded(self, make: Callable[[], list[Any]], before: int) -> list[Any]:
        """What is made, or all as it was and the alert, which `before` others come before."""
        try:
            return make()
        except QuantcoreError as error:
            values = self._skipped(before)
            values[before] = panels.alert(str(error))
            return values


def wire(
    page: gr.Blocks,
    view: str,
    kind: type[Any],
    controls: Sequence[Any],
    show: Callable[[Any], Sequence[Any]],
    outputs: Sequence[Any],
    link: gr.Textbox | None,
) -> Wiring:
    """Redraw a view on every change and keep its link.

    Args:
        page: Whose load opens the first view's links.
        view: The name in the link.
        kind: The view's state; its fields are the controls' values, in order.
        controls: The components.
        show: A state -> the values of all outputs but the first; may refuse with a QuantcoreError.
        outputs: The alert, and what `show` gives.
        link: The box for the link; None where another part of the view keeps it.

    Returns:
        What `redraw_when_opened` takes, for a view that changes without its controls.
    """
    name = f"{view}-query" if link is not None else None
    query = gr.Textbox(permalink.encode(view, kind()), visible="hidden", elem_id=name)
    wiring = Wiring(view, kind, controls, show, outputs, query)
    inputs, every = list(controls), [*outputs, query]
    changes = [control.change for control in controls]
    changed = gr.on(changes, wiring.redraw, inputs, every, trigger_mode="always_last", **QUIET)
    if link is not None:
        asked = gr.Textbox(visible="hidden")
        given = [asked, *inputs]
        opened = opening(page)(wiring.entered, given, [*inputs, *every], js=ASKED, **QUIET)
        keep_address(query, link, opened, changed)
    return wiring


def redraw_when_opened(wiring: Wiring) -> None:
    """Draw what has no link of its own anew whenever its tab is opened: it may have grown."""
    tab = enclosing_tab()
    if tab is not None:
        every = [*wiring.outputs, wiring.query]
        tab.select(wiring.redraw, list(wiring.controls), every, **QUIET)


def keep_address(query: gr.Textbox, link: gr.Textbox, opened: Any, *changed: Any) -> None:
    """After these events the link box, and the address where this view is open, say its query."""
    for event in changed:
        event.then(None, query, link, js=CHANGED, **QUIET)
    opened.then(None, query, link, js=SHOWN, **QUIET)
    tab = enclosing_tab()
    if tab is not None:
        tab.select(None, query, link, js=CHANGED, **QUIET)


def asked_of(query: str) -> dict[str, str]:
    """The parameters of a query string."""
    return dict(parse_qsl(query, keep_blank_values=True))


def opening(page: gr.Blocks) -> Any:
    """The event with which the view that is being laid out comes to be seen.

    The first view's is the page's load, any other's the selection of its tab, which `views.js` does
    for the view that the address names: ten views that all load with the page take it seconds.
    """
    tab = enclosing_tab()
    first = tab is None or tab.parent is None or tab.parent.children[0] is tab
    return page.load if first else tab.select  # type: ignore[union-attr]


def enclosing_tab() -> gr.Tab | None:
    """The tab that is being laid out."""
    block = Context.block
    while block is not None and not isinstance(block, gr.Tab):
        block = block.parent
    return block
