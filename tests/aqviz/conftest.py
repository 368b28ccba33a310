import os
import shutil
import socket

import pytest
from documents import document, engine

from aqviz import app, recordings


@pytest.fixture
def core(tmp_path, monkeypatch):
    """The app's core over a fake engine, with a recording, ready."""
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    made = app.make_core(engine(), tmp_path / "jobs")
    assert made.ready.wait(5)
    yield made
    made.store.close()


def free_port() -> int:
    """A port nobody listens on; looking for one itself, Gradio leaves a socket open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve():
    """Serves a core in this process and gives the address; closed at the end."""
    served = []

    def start(core) -> str:
        demo = app.build(core)
        served.append(demo)
        _, url, _ = app.serve(
            demo,
            core,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            server_name="127.0.0.1",
            server_port=free_port(),
        )
        return url.rstrip("/")

    yield start
    for demo in served:
        demo.close()


@pytest.fixture(scope="session")
def chromium():
    """A real Chromium; its absence is an error where the environment requires it."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("AQVIZ_REQUIRE_BROWSER") == "1":
            pytest.fail("AQVIZ_REQUIRE_BROWSER is set, but there is no chromium on the path")
        pytest.skip("there is no chromium on the path")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
