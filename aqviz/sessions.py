"""What the server keeps of a page that was opened: the parts that it changed, not what they show.

Gradio keeps more: a description of every part and the last value of each, of the last 10,000 pages,
closed ones too. It is for links that bring the values back, and ours are their query alone. Of this
page it would be 1 MiB once opened, 4 once every view was redrawn, and 50 ms to describe.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

from aqviz.memory import give_back, settle

TIDY_EVERY = 30.0  # seconds
MOST = 500  # pages, after which the one that was used longest ago is as if newly opened
# Gradio's statistics of the last 10,000 events, made anew after each of them, for a page of its
# own that is not served here
STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}


class Session(SessionState):
    """One page, of which nothing is described or valued until it changes."""

    def __init__(self, blocks: gr.Blocks) -> None:
        none = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(cast("gr.Blocks", none))

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.pop(key, None)

    def _update_config(self, key: int) -> None:
        """Not described."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Not kept."""


class Sessions(StateHolder):
    """All pages."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """From before the first answer of the server to after its last."""
    app.state_holder = Sessions()  # type: ignore[no-untyped-call]
    app.state_holder.set_blocks(app.get_blocks())
    settle()
    tidying = asyncio.create_task(_tidy())
    yield
    tidying.cancel()
    with suppress(asyncio.CancelledError):
        await tidying


async def _tidy() -> None:
    """Give free memory back as long as the server runs, whatever its visitors do."""
    while True:
        await asyncio.sleep(TIDY_EVERY)
        await asyncio.to_thread(give_back)


def without_statistics() -> None:
    """To be called before the queue is made."""
    for name, value in STATISTICS.items():
        os.environ.setdefault(name, value)
