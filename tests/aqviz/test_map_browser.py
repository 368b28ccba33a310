"""The map and the search tab in a real Chromium, over invented surveys."""

import re
import time
from dataclasses import replace

import grids
import pytest
from documents import engine

from aqviz import app, recordings, studies
from aqviz.parts import links
from aqviz.tabs.map import draw_map
from aqviz.tabs.search import draw_search
from quantcore.progress import Progress

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 360, "height": 780}


def run(config, observe, previous=None):
    """A survey that takes a second or two."""
    whole = grids.survey(config)
    growing = {**whole, "runs": []}
    for number, one in enumerate(whole["runs"]):
        growing["runs"].append(one)
        observe(Progress(f"run {number}", number, len(whole["runs"]), 1.0), growing)
        time.sleep(0.05)
    return whole


@pytest.fixture
def made(tmp_path, monkeypatch):
    surveys = {name: grids.survey(getattr(studies, name.upper())) for name in ("map", "frontier")}
    monkeypatch.setattr(recordings, "every", lambda kind: surveys if kind == "survey" else {})
    tabs = {"map": ("Map", draw_map), "search": ("Search", draw_search)}
    monkeypatch.setattr(app, "TABS", tabs)
    fake = replace(engine(), run=run, seconds=lambda config: 90.0, layers=lambda m: grids.layers())
    core = app.make_core(fake, tmp_path / "jobs")
    assert core.ready.wait(5)
    yield core
    core.store.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(request, serve, made, browse):
    """Opens a view."""
    address = serve(made)
    return lambda query: browse(address, query, **request.param)


def drawn(page, name: str) -> None:
    page.wait_for_selector(f"#plot-{name} .plot[data-drawn] .main-svg")


def test_a_click_and_a_link_choose_a_layer(visit):
    page = visit("?view=map")
    drawn(page, "layer_map")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.wait_for_selector("#map-facts h2:has-text('layers.10.self_attn.q_proj')")
    page.evaluate(
        "() => { const gd = document.querySelector('#plot-layer_map .plot');"
        "gd.emit('plotly_click', {points: [{x: 6, y: 3,"
        "customdata: gd.data[0].customdata[3][6], curveNumber: 0, pointNumber: [3, 6]}]}); }"
    )
    page.wait_for_selector("#map-facts h2:has-text('model.layers.3.mlp.down_proj')")
    page.wait_for_url(re.compile("layer=model.layers.3.mlp.down_proj"))
    again = visit(page.url[page.url.index("?") :])
    again.wait_for_selector("#map-facts h2:has-text('model.layers.3.mlp.down_proj')")
    assert again.locator("#map-layer input").input_value() == "model.layers.3.mlp.down_proj"


def test_a_click_before_the_link_is_open_is_not_undone(made, serve, browse, monkeypatch):
    opened = links.Wiring.opened
    monkeypatch.setattr(links.Wiring, "opened", lambda *given: time.sleep(3) or opened(*given))
    page = browse(serve(made), "?view=map", settled=False, **DESKTOP)
    click_on_a_cell(page)
    page.wait_for_timeout(3000)
    page.wait_for_selector("#map-facts h2:has-text('model.layers.2.self_attn.q_proj')")


def test_a_real_click_on_a_cell_names_its_layer(visit):
    page = visit("?view=map")
    click_on_a_cell(page)
    page.wait_for_selector("#map-facts h2:has-text('model.layers.2.self_attn.q_proj')")


def click_on_a_cell(page):
    drawn(page, "layer_map")
    plot = page.locator("#plot-layer_map .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + 0.5 * box["width"] / 7, box["y"] + 2.5 * box["height"] / 30)


def test_a_sorted_table_stays_sorted_when_the_colour_changes(visit):
    page = visit("?view=map")
    drawn(page, "layer_map")
    page.locator("#map-layers th button").nth(9).click()  # kurtosis
    first = page.locator("#map-layers tbody tr th").first.inner_text()
    page.get_by_label("Colour by").click()
    page.get_by_role("option", name="kurtosis of the weights").click()
    page.wait_for_function(
        "document.querySelector('#plot-layer_map .told').innerText.startsWith('Kurtosis')"
    )
    assert page.locator("#map-layers tbody tr th").first.inner_text() == first


def test_a_scheme_that_was_not_run_says_so_and_can_be_run(visit):
    page = visit("?view=search")
    drawn(page, "frontier")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert "instead of 8" in page.inner_text("#search-told")
    page.get_by_label("16", exact=True).uncheck()
    page.wait_for_selector("#search-status :text('Nobody has run this yet')")
    assert "2 min" in page.inner_text("#search-status")
    page.wait_for_url(re.compile("beams=1%2C2%2C4%2C8"))
    page.locator("#search-run").click()
    page.wait_for_selector("#search-status .done")
    drawn(page, "frontier")
    assert "at 8 instead of 4" in page.inner_text("#search-told")


def test_what_cannot_be_is_one_sentence(visit):
    page = visit("?view=search&beams=3")
    page.wait_for_selector("#search-alert :text('A beam must be one of')")
    page = visit("?view=map&scheme=2by8")
    page.wait_for_selector("#map-alert [role=alert]")
