"""What the server keeps of pages: little of each, and of so many."""

import asyncio
import gc
import threading
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from browsing import completed, free_port
from documents import engine
from gradio_client import Client

from aqviz import app, memory, sessions
from aqviz.sessions import MOST, Sessions, lifespan


@pytest.fixture
def blocks():
    with gr.Blocks() as made:
        gr.Dropdown(["one"], elem_id="layer")
        gr.HTML("a figure " * 1000)
    made.state_session_capacity = 2
    return made


@pytest.fixture
def pages(blocks):
    made = Sessions()
    made.set_blocks(blocks)
    return made


def number(blocks, kind):
    return next(key for key, block in blocks.blocks.items() if isinstance(block, kind))


def test_a_page_keeps_the_parts_that_it_changed_and_no_other_page_has_them(blocks, pages):
    layer = number(blocks, gr.Dropdown)
    pages["a"][layer] = gr.Dropdown(["one", "two"], render=False)
    assert [value for _, value in pages["a"][layer].choices] == ["one", "two"]
    assert [value for _, value in pages["b"][layer].choices] == ["one"]
    assert [value for _, value in blocks.blocks[layer].choices] == ["one"]


def test_of_more_pages_than_are_kept_the_one_used_longest_ago_is_as_if_newly_opened(pages):
    first, second = pages["a"], pages["b"]
    assert pages["a"] is first
    assert pages["c"] is not None
    assert len(pages.session_data) == 2
    assert pages["a"] is first
    assert pages["b"] is not second


def test_free_memory_is_given_back_again_and_again_as_long_as_the_server_runs(blocks, monkeypatch):
    times = threading.Semaphore(0)
    monkeypatch.setattr(sessions, "TIDY_EVERY", 0.001)
    monkeypatch.setattr(sessions, "give_back", times.release)

    async def run() -> list[bool]:
        async with lifespan(SimpleNamespace(get_blocks=lambda: blocks)):
            return [await asyncio.to_thread(times.acquire, timeout=5) for _ in range(3)]

    assert all(completed(run()))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server of the whole page, its address and the page."""
    core = app.make_core(engine(), tmp_path_factory.mktemp("jobs"))
    demo = app.build(core)
    where = {"server_name": "127.0.0.1", "server_port": free_port()}
    server, url, _ = app.serve(demo, core, prevent_thread_lock=True, quiet=True, **where)
    yield server, url.rstrip("/"), demo
    demo.close()
    core.store.close()


def test_what_a_page_shows_is_not_kept(served):
    server, address, demo = served
    redraws = [one for one in demo.fns.values() if (one.api_name or "").startswith("redraw")]
    for event in redraws:
        data = [getattr(part, "value", None) for part in event.inputs]
        body = {"fn_index": event._id, "data": data, "session_hash": "a page"}
        answer = httpx.post(f"{address}/gradio_api/run/predict", json=body, timeout=60)
        assert answer.status_code == 200
    page = server.state_holder["a page"]
    assert len(redraws) > 8
    assert page.config_values == {}
    assert server.state_holder.capacity == MOST


def test_no_statistics_are_kept_of_what_was_asked(served):
    _, address, demo = served
    client = Client(address, verbose=False)
    for rows in (8, 16, 24):
        client.predict(rows, 512, "2x8g8", api_name="/regime")
    client.close()
    assert len(demo._queue.event_analytics) <= 1
    assert demo._queue.cached_event_analytics_summary == {"functions": {}}


def test_the_collector_passes_over_what_is_there_when_the_server_starts(served):
    there = gc.get_freeze_count()
    assert there > 100_000
    made = [[number] for number in range(10)]
    memory.settle()
    assert gc.get_freeze_count() == there
    assert len(made) == 10
