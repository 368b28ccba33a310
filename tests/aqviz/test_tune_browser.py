"""The Tune tab in a real Chromium, over an engine that invents its curves."""

import re
import time
from dataclasses import replace

import pytest
import trials
from documents import engine

from aqviz import app, recordings
from aqviz.tabs.tune import draw_tune
from quantcore import attempt
from quantcore.progress import Progress

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 360, "height": 780}


def run(config, observe, previous=None):
    """A trial of a few seconds, its curves growing; one that is stopped keeps them."""
    whole = trials.trial(config)
    growing = {**whole, "runs": [], "complete": False}
    for run in whole["runs"]:
        growing["runs"].append(attempt.begin(run["init"]))
        for number, point in enumerate(run["curve"] * 4):
            growing["runs"][-1]["curve"] = run["curve"][: number + 1]
            growing["runs"][-1]["steps"] = point["step"]
            observe(Progress(f"tune from {run['init']}", number, 40, 3.0), growing)
            time.sleep(0.1)
        growing["runs"][-1] = run
    return whole


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "every", lambda kind: {})
    monkeypatch.setattr(app, "TABS", {"tune": ("Tune", draw_tune)})
    core = app.make_core(replace(engine(), run=run, seconds=lambda config: 95.0), tmp_path / "jobs")
    assert core.ready.wait(5)
    yield core
    core.store.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(request, serve, made, browse):
    """Opens the view by a link."""
    address = serve(made)
    return lambda query: browse(address, query, **request.param)


def test_a_run_grows_is_cancelled_and_goes_on_to_its_end(visit):
    page = visit("?v=1&view=tune&prompt=Say+%3Cb%3E")
    page.wait_for_selector("#tune-status :text('It takes about 2 min')")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.input_value("#tune-prompt textarea") == "Say <b>"
    assert "Press Run" in page.inner_text("#plot-trial .told")
    page.locator("#tune-run").click()
    page.wait_for_selector("#plot-trial .plot[data-drawn] .main-svg .scatterlayer .trace")
    page.locator("#tune-cancel").click()
    page.wait_for_selector("#tune-status .cancelled")
    page.locator("#tune-run").click()
    page.wait_for_selector("#tune-status .done")
    assert "OA-EM is lowest" in page.inner_text("#tune-told")
    assert page.locator("#tune-replies section").count() == 5
    assert "Light <b>scatters</b>." in page.inner_text("#tune-replies")
    assert page.locator("#tune-runs tbody tr").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_controls_change_link_and_command_and_what_cannot_be_is_one_sentence(visit):
    page = visit("?v=1&view=tune")
    page.wait_for_selector("#tune-status :text('Nobody has run this yet')")
    page.fill("#tune-steps input", "12")
    page.press("#tune-steps input", "Tab")
    page.wait_for_url(re.compile("steps=12"))
    command = page.input_value("#tune-command textarea")
    assert command.startswith("quantcore trial --blocks 10 --scheme 1x8g8 --steps 12")
    page.fill("#tune-blocks textarea, #tune-blocks input", "0-9")
    page.wait_for_selector("#tune-alert :text('At most 6 blocks are tuned here')")
