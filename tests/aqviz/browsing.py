"""What every browser test does: serve a core in this process, open pages that must stay clean."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from documents import engine

from aqviz import app

WAIT = 60_000  # milliseconds, of a busy machine


@contextmanager
def hosted(core) -> Iterator[str]:
    """The address of a core that is served."""
    demo = app.build(core)
    _, url, _ = app.serve(
        demo,
        core,
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        server_port=free_port(),
    )
    yield url.rstrip("/")
    demo.close()


@contextmanager
def recorded(folder) -> Iterator[str]:
    """The address of the whole app over the recordings that come with it; runs are fake ones."""
    core = app.make_core(engine(), folder)
    with hosted(core) as served:
        yield served
    core.store.close()


def completed(coroutine) -> Any:
    """What a coroutine gives, in a thread of its own: a browser leaves a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def free_port() -> int:
    """A port nobody listens on; looking for one itself, Gradio leaves a socket open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def watch(page, address: str, faults: list[str]) -> None:
    """Enter what must not happen: errors, and requests to anywhere else."""

    def asked(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            faults.append(f"request to {request.url}")

    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on("console", lambda m: m.type == "error" and faults.append(f"console: {m.text}"))
    page.on("request", asked)


class Browser:
    """Opens pages of one address, each in a context of its own."""

    def __init__(self, chromium, address: str) -> None:
        self.address, self.faults = address, []
        self._chromium, self._contexts = chromium, []

    def open(
        self, query: str, width: int = 1440, height: int = 900, settled: bool = True, **context
    ):
        """A page, which has opened its link if `settled`; `context` as in `new_context`."""
        size = {"width": width, "height": height}
        self._contexts.append(self._chromium.new_context(viewport=size, **context))
        page = self._contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        watch(page, self.address, self.faults)
        page.goto(f"{self.address}/{query}")
        if settled:
            page.wait_for_function("window.aqvizAsked === ''")
            page.wait_for_function("!document.getElementById('first-paint')")
        return page

    def close(self) -> None:
        """Close every page; nothing may have gone wrong on any."""
        for context in self._contexts:
            context.close()
        assert self.faults == []
