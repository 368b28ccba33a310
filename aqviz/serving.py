"""What every answer of the server carries, and what no request gets past.

Who the visitor is, what a page may do; which of Gradio's doors are shut, how much comes in through
the others, and how much of it may lie and wait to be taken.

The page needs scripts and styles within itself (Gradio writes them), and nothing from elsewhere: a
browser that keeps to the policy asks no other server for anything. Hugging Face shows Spaces in a
frame, so it may frame the page; other sites may not. The page names its visitor and repeats the
address by which it was asked for, so no cache keeps it for others.
"""

import json
import secrets
from contextlib import suppress
from http.cookies import SimpleCookie
from math import inf
from pathlib import Path
from typing import NoReturn

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio import processing_utils
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aqviz.parts.visitors import COOKIE
from aqviz.retention import DAY, make_room

UPLOAD = "/gradio_api/upload"
UNUSED = (  # what such paths begin with; no page and no function asks for them
    "/gradio_api/deep_link",  # keeps what a page shows in a file for each; our links are queries
    "/gradio_api/file",  # gives uploads back, and whatever a caller names by its address
    "/file",
    "/gradio_api/call/v2",  # a fault of the server where an argument's name is wrong
    "/gradio_api/proxy",
    "/gradio_api/process_recording",  # this and the next leave files of what they are sent
    "/gradio_api/component_server",
    "/gradio_api/custom_component",
    "/gradio_api/stream",
    "/gradio_api/dev",
    "/gradio_api/vibe",
    "/gradio_api/undo-vibe",
    "/monitoring",
    "/openapi.json",
    "/login",
)
PAGE = ("/", "/config")
BODY = 1 << 20  # most bytes of a request that is no upload, and of what is around a file in one
WAITING = 16  # largest files
UPLOAD_SECONDS = 600  # for which a file nobody took stays in Gradio's folder
FULL = "too many files are being uploaded here at the moment; try again in ten minutes"
LONG = "this is more than is taken here in one request"
UNFETCHED = "a file is sent here; none is fetched from an address"
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
            folder or be on its way there.
    """

    def __init__(self, app: ASGIApp, public: bool, largest: int) -> None:
        self._app = app
        self._public = public
        self._largest = largest
        self._coming = 0  # bytes of the uploads under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        new = path == "/" and COOKIE not in _cookies(scope)
        if _from_elsewhere(scope):
            del MutableHeaders(scope=scope)["cookie"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if path in PAGE:
                    headers["cache-control"] = "private, no-cache"
                if new:
                    headers.append("set-cookie", self._cookie())
            await send(message)

        await self._within(scope, receive, answer)

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is for us, and as far as it is not too long."""
        if scope["path"].startswith(UNUSED):
            await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
        elif scope["method"] == "HEAD" and scope["path"] == "/":
            await _alive()(scope, receive, send)
        elif scope["path"] == UPLOAD:
            await self._upload(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive, BODY, HTTPException(413, LONG)), send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one file, as long as there is room for it."""
        room = WAITING * self._largest - _tidied(Path(get_upload_folder()))
        if room < self._coming:
            await PlainTextResponse(FULL, status_code=503)(scope, receive, send)
            return
        taken = 0

        async def received() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken, self._coming = taken + size, self._coming + size
            if self._coming > room:
                raise HTTPException(503, FULL)
            return message

        most = self._largest + BODY
        try:
            await self._app(scope, _bounded(received, most, HTTPException(413, LONG)), send)
        finally:
            self._coming -= taken

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


def fetch_nothing() -> None:
    """Have Gradio fetch no file that a caller names by an address: anybody's, of any size."""

    async def unfetched(url: str) -> NoReturn:
        raise gr.Error(UNFETCHED, print_exception=False)

    processing_utils.async_ssrf_protected_get = unfetched


def _alive() -> Response:
    """Says that the page is there, without writing it to find out how long it is.

    Gradio asks when it starts, and gives up where that takes three seconds.
    """
    answer = Response(media_type="text/html")
    del answer.headers["content-length"]
    return answer


def _bounded(receive: Receive, most: int, error: HTTPException) -> Receive:
    """What is received, until it is more than so many bytes."""
    left = most

    async def received() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise error
        return message

    return received


def _tidied(folder: Path) -> int:
    """The bytes of all files under a folder, without those that have waited for too long.

    Gradio removes what it knows of; what came in halves it does not.
    """
    sizes, files = 0, [file for file in folder.rglob("*") if file.is_file()]
    make_room(files, inf, inf, UPLOAD_SECONDS / DAY)
    for file in files:
        with suppress(FileNotFoundError):  # some go meanwhile
            sizes += file.stat().st_size
    return sizes


def _from_elsewhere(scope: Scope) -> bool:
    """Whether a page of another site asks, by what browsers say of it and no page can change."""
    return Headers(scope=scope).get("sec-fetch-site", "none") not in {"none", "same-origin"}


def _cookies(scope: Scope) -> SimpleCookie:
    given = [value for name, value in scope["headers"] if name == b"cookie"]
    return SimpleCookie("; ".join(value.decode("latin-1") for value in given))
