"""What every answer of the server carries: who the visitor is, and what a page may do.

The page needs scripts and styles within itself (Gradio writes them), and nothing from elsewhere: a
browser that keeps to the policy asks no other server for anything. Hugging Face shows Spaces in a
frame, so it may frame the page; other sites may not.
"""

import secrets
from http.cookies import SimpleCookie

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aqviz.tabs.visitors import COOKIE

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
    """Adds the headers, and a visitor's name to whoever has none."""

    def __init__(self, app: ASGIApp, public: bool = False) -> None:
        self._app = app
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
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


def _cookies(scope: Scope) -> SimpleCookie:
    given = [value for name, value in scope["headers"] if name == b"cookie"]
    return SimpleCookie("; ".join(value.decode("latin-1") for value in given))
