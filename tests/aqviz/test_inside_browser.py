"""The Inside tab in a real Chromium: links, clicks, the keyboard, Play, a phone."""

import time
from dataclasses import replace

import pytest
from documents import document, engine

from aqviz import app, inside, permalink, recordings
from aqviz.tabs.inside import draw_inside

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = "#inside-link textarea, #inside-link input"
FIGURES = ("inside_map", "inside_group", "inside_bytes", "inside_tables", "inside_counts")


@pytest.fixture
def address(serve, tmp_path, monkeypatch):
    """The app with this tab beside the first one."""
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    tabs = {"race": app.TABS["race"], "inside": ("Inside", draw_inside)}
    monkeypatch.setattr(app, "TABS", tabs)
    core = app.make_core(engine(), tmp_path / "jobs")
    yield serve(core)
    core.store.close()


@pytest.fixture
def visit(address, browse):
    """Opens the tab by a link."""

    def open_page(query="", **context):
        page = browse(address, f"?v=1&view=inside&{query}", **context)
        page.wait_for_selector("#plot-inside_counts .main-svg")
        page.wait_for_function(f"document.querySelector('{LINK}').value")
        return page

    return open_page


def told(page, name: str) -> str:
    return page.inner_text(f"#plot-{name} .told")


def wait_told(page, name: str, words: str) -> None:
    page.wait_for_function(
        "([name, words]) => document.querySelector(`#plot-${name} .told`)"
        ".textContent.includes(words)",
        arg=[name, words],
        timeout=30_000,
    )


def value(page, name: str) -> str:
    return page.locator(f"#inside-{name} input[type=number]").input_value()


def test_a_link_opens_the_group_it_names(visit):
    page = visit("init=greedy&row=5&group=7&scheme=2x6g8&step=12")
    wait_told(page, "inside_group", "Row 5, group 7")
    wait_told(page, "inside_map", "with greedy: row 5, group 7")
    wait_told(page, "inside_bytes", "Scheme 2x6 g8: 1.50 bits")
    wait_told(page, "inside_tables", "Row 5 with greedy, group 12 of 72")
    assert (value(page, "row"), value(page, "group"), value(page, "step")) == ("5", "7", "12")
    for name in FIGURES:
        image = page.locator(f"#plot-{name} [role=img]")
        assert len(image.get_attribute("aria-label")) > 40
    said = "row=5&group=7&scheme=2x6g8&step=12"  # once every control has told of its change
    page.wait_for_function(f"document.querySelector('{LINK}').value.includes('{said}')")


def test_no_answer_about_the_controls_as_they_were_stays(visit, monkeypatch):
    read, asked = permalink.from_values, []

    def first_comes_last(*given):
        asked.append(time.monotonic())
        time.sleep(0 if asked[1:] else 1.5)
        return read(*given)

    monkeypatch.setattr(permalink, "from_values", first_comes_last)
    page = visit("init=greedy&row=5&group=7&scheme=2x6g8&step=12")
    while not asked or time.monotonic() < asked[-1] + 4:
        page.wait_for_timeout(100)
    assert "Row 5, group 7" in told(page, "inside_group")
    assert page.input_value(LINK).endswith("init=greedy&row=5&group=7&scheme=2x6g8&step=12")


def test_a_link_opens_what_was_run_and_the_controls_offer_that(visit, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path))
    recorded, key = inside.read(), "0123456789abcdef"
    weight = recorded.versions["oa-em"]
    other = replace(
        recorded,
        weight=recorded.weight[:5],
        versions={"oa-em-adam": replace(weight, codes=weight.codes[:5], scales=weight.scales[:5])},
        totals={"oa-em-adam": recorded.totals["oa-em"][:5]},
        facts=recorded.facts | {"inits": ["oa-em-adam"]},
    )
    inside.write(other, inside.place(key))
    page = visit(f"init=oa-em-adam&row=3&group=9&run={key}")
    wait_told(page, "inside_group", "Row 3, group 9")
    assert page.locator("#inside-init label").all_inner_texts() == ["OA-EM (Adam)"]
    assert page.locator("#inside-row input[type=range]").get_attribute("max") == "4"
    page.locator("#inside-row input[type=number]").fill("4")
    page.locator("#inside-row input[type=number]").press("Tab")
    wait_told(page, "inside_group", "Row 4, group 9")
    page.wait_for_function("location.search.includes('row=4&group=9')")
    assert page.inner_text("#inside-alert") == ""
    back = page.get_by_role("link", name="Back to the recorded layer")
    assert back.get_attribute("href") == "?v=1&view=inside"


def test_a_click_on_the_map_opens_the_group_and_the_address_says_so(visit):
    page = visit()
    plot = page.locator("#plot-inside_map .nsewdrag").first
    plot.scroll_into_view_if_needed()
    area = plot.bounding_box()
    page.mouse.click(area["x"] + 0.25 * area["width"], area["y"] + 0.25 * area["height"])
    page.wait_for_function("new URLSearchParams(location.search).has('row')", timeout=30_000)
    row, group = value(page, "row"), value(page, "group")
    assert abs(int(row) - 48) <= 2
    assert abs(int(group) - 18) <= 1
    wait_told(page, "inside_group", f"Row {row}, group {group},")
    page.wait_for_function(f"location.search.includes('row={row}&group={group}')")


def test_a_number_tells_its_arithmetic_to_the_keyboard_and_the_pointer(visit):
    page = visit()
    first = page.locator("#inside-numbers tbody button").first
    first.focus()
    assert "word" in page.inner_text("#inside-numbers .arithmetic")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "×" in page.inner_text("#inside-numbers .arithmetic")
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.told")
    assert page.inner_text("#inside-numbers .arithmetic") == focused
    page.locator("#inside-numbers tfoot button").click()
    assert page.locator("#inside-numbers [aria-current]").count() == 1
    assert page.locator("#inside-numbers button[tabindex='0']").count() == 1


def test_play_goes_on_by_itself_until_it_is_paused(visit):
    page = visit("step=3")
    wait_told(page, "inside_tables", "group 3 of 72")
    page.get_by_role("button", name="Play", exact=True).click()
    wait_told(page, "inside_tables", "group 5 of 72")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    page.wait_for_timeout(1_500)
    stopped = value(page, "step")
    page.wait_for_timeout(1_500)
    assert value(page, "step") == stopped


def test_where_motion_is_not_wanted_play_goes_to_the_end(visit):
    page = visit(reduced_motion="reduce")
    page.get_by_role("button", name="Play", exact=True).click()
    wait_told(page, "inside_tables", "group 71 of 72")


def test_a_scheme_that_does_not_fit_is_a_sentence(visit):
    page = visit("scheme=2x8g7")
    page.wait_for_selector("#inside-alert [role=alert]", timeout=30_000)
    assert "do not divide into groups of 7" in page.inner_text("#inside-alert")


def test_a_phone_needs_no_sideways_scroll(visit):
    page = visit(width=360)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") == 0
