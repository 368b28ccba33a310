import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from browsing import Browser, hosted
from documents import document, engine

from aqviz import app, recordings


@pytest.fixture
def core(tmp_path, monkeypatch):
    """The app's core over a fake engine, with a recording, ready."""
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    recordings._all.cache_clear()  # what others read is not what is read here, nor the other way
    made = app.make_core(engine(), tmp_path / "jobs")
    assert made.ready.wait(5)
    yield made
    made.store.close()
    recordings._all.cache_clear()


@pytest.fixture(scope="session")
def twin(tmp_path_factory):
    """The static twin of what is recorded, written once, by the command."""
    place = tmp_path_factory.mktemp("twin") / "site"
    command = [sys.executable, "-c", "from aqviz.app import main; main()"]
    subprocess.run([*command, "static", "--out", place], check=True, cwd=Path(__file__).parents[2])
    return place


@pytest.fixture
def serve():
    """Serves a core in this process and gives the address; closed at the end."""
    with ExitStack() as stack:
        yield lambda core: stack.enter_context(hosted(core))


@pytest.fixture
def browse(chromium):
    """Opens pages of an address; at the end none of them may have met a fault."""
    browsers = {}

    def open_page(address: str, query: str, **context):
        browser = browsers.setdefault(address, Browser(chromium, address))
        return browser.open(query, **context)

    yield open_page
    for browser in browsers.values():
        browser.close()


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
