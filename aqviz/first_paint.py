"""The page before Gradio has started: the view that its address names, up to its first figure.

Gradio loads ninety files and lays out a few hundred parts before anything is seen, which takes
seconds on a first visit. All that the view shows came with the page, though, in Gradio's config. So
plotly.js is read first, first_paint.js draws the view's words and its figure from that, and gives
way to Gradio's own page as soon as that has drawn the same. A link that asks for anything but the
view as it is sent waits for Gradio, as only the server knows what it shows.

Gradio puts what it is given as `head` in place no sooner than it starts; so the page is
completed on its way out.
"""

from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aqviz import plot_host
from aqviz.parts import links

HERE = Path(__file__).parent
SCRIPT = (HERE / "first_paint.js").read_text(encoding="utf-8")
STYLE = (HERE / "first_paint.css").read_text(encoding="utf-8")
BODY = f"""<script src="{plot_host.SCRIPT_URL}"></script>
<script>
{links.SCRIPT}
{plot_host.SCRIPT}
{{
{SCRIPT}
}}
</script>
"""


def head(theme: str) -> str:
    """What the head begins with, for a theme of that hash, by which Gradio asks for its style."""
    return f"""
<title>aqviz</title>
<link rel="preload" as="script" href="{plot_host.SCRIPT_URL}">
<link rel="stylesheet" href="./theme.css?v={theme}">
<style>
{STYLE}
</style>"""


class FirstPaint:
    """Completes the page.

    Args:
        app: What answers.
        theme: Gives the hash of the theme, once the page is built.
    """

    def __init__(self, app: ASGIApp, theme: Callable[[], str]) -> None:
        self._app = app
        self._theme = theme

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        begun: Message = {}
        parts: list[bytes] = []

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            page = self._completed(b"".join(parts))
            MutableHeaders(scope=begun)["content-length"] = str(len(page))
            await send(begun)
            await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, answer)

    def _completed(self, page: bytes) -> bytes:
        opened = page.replace(b"<head>", b"<head>" + head(self._theme()).encode(), 1)
        before, body, after = opened.rpartition(b"</body>")
        return before + BODY.encode() + body + after if body else page
