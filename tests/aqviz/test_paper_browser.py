"""The Paper and the rho tab in a real Chromium, over invented recordings."""

import pytest
from browsing import hosted
from documents import document, engine
from surveys import candidate, evaluation, frontier, rho_survey

from aqviz import app, recordings
from aqviz.tabs.paper import draw_paper
from aqviz.tabs.rho import draw_rho

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 360, "height": 780}
RECORDED = {"first": document(), "rho": rho_survey(), "frontier": frontier()}
OURS = evaluation(candidate("greedy", 44.0, [400, 380]), candidate("oa-em", 43.0, [390, 380]))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """One server for all of the module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "read", lambda name="first", *_: RECORDED.get(name))
        kept = {"models-2x8g8": OURS, "rho": RECORDED["rho"], "frontier": RECORDED["frontier"]}
        patch.setattr(recordings, "every", lambda kind: kept)
        patch.setattr(app, "TABS", {"paper": ("Paper", draw_paper), "rho": ("ρ", draw_rho)})
        core = app.make_core(engine(), tmp_path_factory.mktemp("jobs"))
        with hosted(core) as address:
            yield address
        core.store.close()


@pytest.fixture
def visit(address, browse):
    """Opens a view at a size."""
    return lambda query, size=DESKTOP: browse(address, query, **size)


def first_cells(page, column: int) -> list[str]:
    return page.eval_on_selector_all(
        f"#paper-rows tbody tr > :nth-child({column})", "cells => cells.map(c => c.innerText)"
    )


def test_a_linked_table_is_shown_and_sorts_by_keyboard(visit):
    page = visit("?view=paper&table=5")
    page.wait_for_function("document.querySelector('#paper-rows')?.innerText.includes('LAMBADA')")
    assert first_cells(page, 4) == ["1.04", "1.39", "3.49"]
    head = page.get_by_role("button", name="greedy / OA-EM", exact=True)
    head.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert first_cells(page, 4) == ["3.49", "1.39", "1.04"]
    assert head.locator("..").get_attribute("aria-sort") == "descending"


def test_every_claim_has_its_verdict(visit):
    page = visit("?view=paper")
    page.wait_for_selector("#claims .badge")
    assert page.locator("#claims li").count() == 10
    assert page.locator("#claims .badge.no-recording").count() == 0
    assert "models-2x8g8" in page.inner_text("#claims")


def test_the_dials_of_a_link_are_set_and_move_the_numbers(visit):
    page = visit("?view=rho&model=Llama+3.1+8B&codebooks=3")
    page.wait_for_function("document.querySelector('#rho-facts')?.innerText.includes('16,777,216')")
    assert page.get_by_label("Model", exact=True).input_value() == "Llama 3.1 8B"
    page.locator("#rho-layer").get_by_label("down", exact=True).check()
    page.wait_for_function("document.querySelector('#rho-facts')?.innerText.includes('0.438')")
    page.wait_for_function("location.search.includes('layer=down')")


def test_a_clicked_mark_offers_its_race(visit):
    page = visit("?view=rho")
    page.wait_for_selector("#plot-rho .main-svg")
    page.evaluate(
        "const gd = document.querySelector('#plot-rho .plot');"
        "gd.emit('plotly_click', {points: [{x: 10.1, y: 1.1, curveNumber: 1, pointNumber: 2,"
        "customdata: gd.data[1].customdata[2]}]})"
    )
    link = page.locator("#rho-picked a")
    link.wait_for()
    assert "scheme=2x6g8" in link.get_attribute("href")


@pytest.mark.parametrize("view", ["paper", "rho"])
def test_a_phone_needs_no_sideways_scroll(visit, view):
    page = visit(f"?view={view}", PHONE)
    page.wait_for_selector(f"#plot-{'paper_tuning' if view == 'paper' else 'rho'} .main-svg")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") == 0
