"""A view and its link: controls change the address, an opened link sets the controls.

`wire` is all that a tab without jobs needs: its state is a dataclass, its controls are that
dataclass's fields, and one plain function turns a state into what is shown.

What the address asked for is kept in the page as `window.aqvizAsked` before anything changes it
(`SCRIPT`), until the view that it names has been shown: by then no answer to the opening is on its
way that could undo what the visitor does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from aqviz import permalink
from aqviz.parts.events import AS_SENT, QUIET, enclosing_tab, guarded, opening

SCRIPT = """
window.aqvizAsked = location.search.slice(1);
{
  const named = `view-${new URLSearchParams(window.aqvizAsked).get("view")}`;
  const parts = (window.gradio_config || {}).components || []; // there before anything is laid out
  const of = (id) => (parts.find((part) => part.props.elem_id === id) || {}).props;
  if (of("views") && of(named)) of("views").selected = of(named).id;
}
"""
KEPT = 64  # states of a view of recordings whose drawings are kept, for all visitors
ASKED = "(asked, ...values) => [window.aqvizAsked, ...values]"
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


def values_of(state: Any) -> list[Any]:
    """The values of the controls that say a state."""
    values = [getattr(state, name) for name in type(state).__dataclass_fields__]
    return [list(value) if isinstance(value, tuple) else value for value in values]


@dataclass(frozen=True)
class View:
    """A view, as far as its link knows it.

    Attributes:
        name: In the link.
        kind: The view's state; its fields are the controls' values, in order.
        show: A state -> the values of all outputs but the alert; may refuse with a QuantcoreError.
        grows: Whether what is shown changes without the controls, so that the view is redrawn
            whenever it is opened.
        settings: A state that a link asks for -> how the controls are set.
    """

    name: str
    kind: type[Any]
    show: Callable[[Any], Sequence[Any]]
    grows: bool = False
    settings: Callable[[Any], list[Any]] = values_of


@dataclass(frozen=True)
class Wiring:
    """A view's events: `count` controls, then `outputs` values, the alert first."""

    view: View
    count: int
    outputs: int

    def redraw(self, *values: Any) -> list[Any]:
        """The outputs and the query for these values of the controls."""
        return guarded(
            lambda: self._shown(permalink.from_values(self.view.kind, values)), self.outputs + 1
        )

    def opened(self, asked: str, *values: Any) -> list[Any]:
        """The controls, the outputs and the query as the address asked, where it is for this view.

        Else a view that grows is redrawn, and any other is as it was.
        """
        query, view, others = asked_of(asked), self.view, self.outputs + 1
        if query.get("view") != view.name:
            shown = self.redraw(*values) if view.grows else [gr.skip()] * others
            return [*[gr.skip()] * self.count, *shown]

        def make() -> list[Any]:
            state = permalink.decode(view.kind, query)
            return [*view.settings(state), *self._shown(state)]

        return guarded(make, self.count + others, self.count)

    def _shown(self, state: Any) -> list[Any]:
        return ["", *self.view.show(state), permalink.encode(self.view.name, state)]


def wire(
    view: View, controls: Sequence[Any], outputs: Sequence[Any], link: gr.Textbox | None
) -> None:
    """Redraw a view on every change and keep its link.

    Args:
        view: The view.
        controls: The components.
        outputs: The alert, and what `view.show` gives.
        link: The box for the link; None where another part of the view keeps it.
    """
    name = f"{view.name}-query" if link is not None else None
    query = gr.Textbox(permalink.encode(view.name, view.kind()), visible="hidden", elem_id=name)
    wiring = Wiring(view, len(controls), len(outputs))
    inputs, every = list(controls), [*outputs, query]
    changes = [control.change for control in controls]
    changed = gr.on(changes, wiring.redraw, inputs, every, trigger_mode="always_last", **AS_SENT)
    if link is not None:
        given = [gr.Textbox(visible="hidden"), *inputs]
        opened = opening()(wiring.opened, given, [*inputs, *every], js=ASKED, **AS_SENT)
        keep_address(query, link, opened, changed)
    elif view.grows:
        opening()(wiring.redraw, inputs, every, **AS_SENT)


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
