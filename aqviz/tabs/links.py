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

HEAD = """<script>
window.aqvizAsked = location.search.slice(1);
{
  const named = `view-${new URLSearchParams(window.aqvizAsked).get("view")}`;
  const parts = (window.gradio_config || {}).components || []; // there before anything is laid out
  const of = (id) => (parts.find((part) => part.props.elem_id === id) || {}).props;
  if (of("views") && of(named)) of("views").selected = of(named).id;
}
</script>"""
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
    grows: bool

    def redraw(self, *values: Any) -> list[Any]:
        """The outputs and the query for these values of the controls."""
        return self._guarded(lambda: self._shown(permalink.from_values(self.kind, values)), 0)

    def opened(self, asked: str, *values: Any) -> list[Any]:
        """The controls, the outputs and the query as the address asked, where it is for this view.

        Else a view that grows is redrawn, and any other is as it was.
        """
        query, count = asked_of(asked), len(self.controls)
        if query.get("view") != self.view:
            same = self._skipped(count)
            return [*same[:count], *self.redraw(*values)] if self.grows else same

        def make() -> list[Any]:
            state = permalink.decode(self.kind, query)
            values = [getattr(state, name) for name in self.kind.__dataclass_fields__]
            controls = [list(value) if isinstance(value, tuple) else value for value in values]
            return [*controls, *self._shown(state)]

        return self._guarded(make, count)

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
    view: str,
    kind: type[Any],
    controls: Sequence[Any],
    show: Callable[[Any], Sequence[Any]],
    outputs: Sequence[Any],
    link: gr.Textbox | None,
    grows: bool = False,
) -> None:
    """Redraw a view on every change and keep its link.

    Args:
        view: The name in the link.
        kind: The view's state; its fields are the controls' values, in order.
        controls: The components.
        show: A state -> the values of all outputs but the first; may refuse with a QuantcoreError.
        outputs: The alert, and what `show` gives.
        link: The box for the link; None where another part of the view keeps it.
        grows: Whether what is shown changes without the controls, so that the view is redrawn
            whenever it is opened.
    """
    name = f"{view}-query" if link is not None else None
    query = gr.Textbox(permalink.encode(view, kind()), visible="hidden", elem_id=name)
    wiring = Wiring(view, kind, controls, show, outputs, query, grows)
    inputs, every = list(controls), [*outputs, query]
    changes = [control.change for control in controls]
    changed = gr.on(changes, wiring.redraw, inputs, every, trigger_mode="always_last", **QUIET)
    if link is not None:
        given = [gr.Textbox(visible="hidden"), *inputs]
        opened = opening()(wiring.opened, given, [*inputs, *every], js=ASKED, **QUIET)
        keep_address(query, link, opened, changed)
    elif grows:
        opening()(wiring.redraw, inputs, every, **QUIET)


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


def opening() -> Any:
    """The event with which the view that is being laid out comes to be seen.

    The first view's is the page's load, any other's the selection of its tab, which `HEAD` makes
    for the view that the address names: ten views that all load with the page take it seconds.
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
