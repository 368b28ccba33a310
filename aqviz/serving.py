"""What every answer of the server carries, and what no request gets past.

Who the visitor is, what a page may do; and files that wait to be taken are bounded all together.

The page needs scripts and styles within itself (Gradio writes them), and nothing from elsewhere: a
browser that keeps to the policy asks no other server for anything. Hugging Face shows Spaces in a
frame, so it may frame the page; other sites may not.
"""

import json
import secrets
from contextlib import suppress
from http.cookies import SimpleCookie
from pathlib import Path

from fastapi.exceptions import RequestValidationError
from gradio.utils import get_upload_folder
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aqviz.parts.visitors import COOKIE

UPLOAD = "/gradio_api/upload"
# Gradio's own links keep what a page shows in a file for each; ours are their query alone
UNUSED = {"/gradio_api/deep_link"}
WAITING = 16  # largest files
FULL = "too many files are being uploaded here at the moment; try again in ten minutes"
YEAR = 365 * 24 * 3600  # seconds
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Serving:
    """Adds the headers, and a visitor's name to whoever has none.

    Args:
        app: What answers.
        public: Whether strangers use it.
        largest: Bytes of the largest upload; that much of `WAITING` times may lie in Gradio's
            folder, which it empties by age only.
    """

    def __init__(self, app: ASGIApp, public: bool, largest: int) -> None:
        self._app = app
        self._public = public
        self._room = WAITING * largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in UNUSED:
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            return
        if scope["path"] == UPLOAD and _bytes(Path(get_upload_folder())) > self._room:
            await PlainTextResponse(FULL, status_code=503)(scope, receive, send)
            return
        new = scope["path"] == "/" and COOKIE not in _cookies(scope)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if new:
                    headers.append("set-cookie", self._cookie())
            await send(message)

        await self._app(scope, receive, answer)

    def _cookie(self) -> str:
        where = "SameSite=None; Secure; Partitioned" if self._public else "SameSite=Lax"
        name = secrets.token_urlsafe(12)
        return f"{COOKIE}={name}; Max-Age={YEAR}; Path=/; HttpOnly; {where}"


async def malformed(_request: Request, error: RequestValidationError) -> Response:
    """Says what is wrong with a request of another form, and where.

    FastAPI's own answer repeats what was sent, and fails where that is infinity or half a letter.
    """
    found = [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]
    return Response(json.dumps({"detail": found}), 422, media_type="application/json")


def _bytes(folder: Path) -> int:
    """The bytes of all files under a folder, some of which may go meanwhile."""
    sizes = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes += file.stat().st_size if file.is_file() else 0
    return sizes


def _cookies(scope: Scope) -> SimpleCookie:
    given = [value for name, value in scope["headers"] if name == b"cookie"]
    return SimpleCookie("; ".join(value.decode("latin-1") for value in given))
