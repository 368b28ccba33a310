"""The page before Gradio has started: the view that its address names, up to its first figure.

Gradio loads ninety files and lays out a few hundred parts before anything is seen, which takes
seconds on a first visit. So the page brings along what the view shows, as HTML with boxes where the
controls will be; plotly.js is read before Gradio and draws the figure. As soon as Gradio's own page
shows the same, it takes the other's place.

Gradio puts what it is given as `head` in place no sooner than it starts, so the page is completed
on its way out.
"""

import logging
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from gradio.blocks import Block, BlockContext
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aqviz import permalink, plot_host
from aqviz.parts import events, links
from aqviz.text import TITLES, read

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
STYLE = (HERE / "first_paint.css").read_text(encoding="utf-8")
LOOK = (HERE / "first_paint_look.js").read_text(encoding="utf-8")
SCRIPT = (HERE / "first_paint.js").read_text(encoding="utf-8")
WORDS = escape(f"Extreme quantization of language models: {read('lead').title}")  # of links to us
AS_AT_FIRST = {"v", "view", "__theme"}  # what an address may say and mean the view as it is built
INSIDE = {
    "row": "row",
    "column": "column",
    "form": "column form",
}  # what others lie in -> its class
Changes = Mapping[int, Mapping[str, Any]]  # block -> what is another than when the page was built

BODY = f"""<script src="{plot_host.SCRIPT_URL}"></script>
<script>
{events.SCRIPT}
{links.SCRIPT}
{plot_host.SCRIPT}
{{
{SCRIPT}
}}
</script>
"""


class FirstPaint:
    """Completes the page.

    Args:
        app: What answers.
        demo: The page.
    """

    def __init__(self, app: ASGIApp, demo: gr.Blocks) -> None:
        self._app = app
        self._demo = demo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        asked = scope["query_string"].decode("latin-1")
        first = await run_in_threadpool(self._first, asked)
        begun: Message = {}
        parts: list[bytes] = []

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            page = completed(b"".join(parts), head(self._demo), first)
            MutableHeaders(scope=begun)["content-length"] = str(len(page))
            await send(begun)
            await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, answer)

    def _first(self, asked: str) -> str:
        try:
            return sketch(self._demo, asked)
        except Exception:  # the page is there without it, only later
            log.exception("the first paint of ?%s failed", asked)
            return ""


def head(demo: gr.Blocks) -> str:
    """What the page's head begins with."""
    return f"""
<title>aqviz</title>
<meta name="description" content="{WORDS}">
<meta property="og:title" content="aqviz">
<meta property="og:description" content="{WORDS}">
<link rel="preload" as="script" href="{plot_host.SCRIPT_URL}">
<link rel="stylesheet" href="./theme.css?v={demo.theme_hash}">
<style>
{STYLE}
</style>"""


def completed(page: bytes, begin: str, first: str) -> bytes:
    """Gradio's page with the beginning of its head, the first view, and what it is drawn by."""
    before, body, after = page.replace(b"<head>", b"<head>" + begin.encode(), 1).rpartition(
        b"<body"
    )
    if not body:
        return page
    tag, opened, content = after.partition(b">")
    inner, closed, end = content.rpartition(b"</body>")
    parts = [before, body, tag, opened, first.encode(), inner, BODY.encode(), closed, end]
    return b"".join(parts)


def sketch(demo: gr.Blocks, asked: str) -> str:
    """The view that an address names, up to its first figure; nothing where there is no such view.

    Args:
        demo: The page.
        asked: The query string of the address.
    """
    query = dict(parse_qsl(asked, keep_blank_values=True))
    view = query.get("view", permalink.RACE)
    tab = _tab(demo, view)
    if tab is None:
        return ""
    changes = {} if set(query) <= AS_AT_FIRST else _opened(demo, tab, asked)
    shown = "".join(_all(tab.children, changes)[0])
    top = next(block for block in demo.children if isinstance(block, gr.Row))
    bar = "".join(
        f'<a href="?v=1&amp;view={name}"{_selected(name == view)}>{escape(title)}</a>'
        for name, title in TITLES.items()
    )
    return (
        f'<div id="first-paint"><style>{demo.css}</style>\n<script>{LOOK}</script>\n'
        f'<main class="gradio-container">{_show(top, {})[0]}<nav class="views">{bar}</nav>'
        f'<div class="column">{shown}</div></main></div>'
    )


def _tab(demo: gr.Blocks, view: str) -> gr.Tab | None:
    tabs = (block for block in demo.blocks.values() if isinstance(block, gr.Tab))
    return next((tab for tab in tabs if tab.elem_id == f"view-{view}"), None)


def _opened(demo: gr.Blocks, tab: gr.Tab, asked: str) -> Changes:
    """What opening the address does to the blocks of its view."""
    target = demo if tab.parent and tab.parent.children[0] is tab else tab
    made: dict[int, Mapping[str, Any]] = {}
    for function in demo.fns.values():
        if function.js == links.ASKED and function.targets[0][0] == target._id:
            assert function.fn is not None
            given = [getattr(block, "value", None) for block in function.inputs[1:]]
            values = function.fn(asked, *given)
            outputs = function.outputs
            many = values if len(outputs) > 1 else [values]
            pairs = zip(outputs, many, strict=True)
            made |= {block._id: _changed(block, value) for block, value in pairs}
    return made


def _changed(block: Block, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return {name: value[name] for name in ("value", "visible") if name in value}
    return {"value": value} if isinstance(block, gr.HTML) else {}


def _all(blocks: list[Block], changes: Changes) -> tuple[list[str], bool]:
    """What blocks show, up to the first figure; whether there is one."""
    made = []
    for block in blocks:
        shown, figure = _show(block, changes)
        made.append(shown)
        if figure:
            return made, True
    return made, False


def _show(block: Block, changes: Changes) -> tuple[str, bool]:
    now = changes.get(block._id, {})
    if now.get("visible", block.visible) in (False, "hidden") or isinstance(block, gr.Timer):
        return "", False
    classes = " ".join(block.elem_classes or [])
    kind = block.get_block_name()
    if isinstance(block, BlockContext) and kind in INSIDE:
        inner, figure = _all(block.children, changes)
        return f'<div class="{INSIDE[kind]} {classes}">{"".join(inner)}</div>', figure
    if not isinstance(block, gr.HTML):
        return _box(kind, block), False
    value = now.get("value", block.value) or ""
    if not (block.elem_id or "").startswith("plot-"):
        return f'<div class="block {classes}">{value}</div>', False
    drawn = value.replace("<", "\\u003c")
    data = f'<script type="application/json">{drawn}</script>'
    return f'<div class="block drawing">{plot_host.TEMPLATE}</div>{data}', True


def _box(kind: str, block: Block) -> str:
    """A box for a control, with its name."""
    label = getattr(block, "label", None) or ""
    over, within = ("", getattr(block, "value", "")) if kind == "button" else (label, "")
    return f'<div class="coming"><span>{escape(over)}</span><i>{escape(within)}</i></div>'


def _selected(here: bool) -> str:
    return ' class="selected" aria-current="page"' if here else ""
