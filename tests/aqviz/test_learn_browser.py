"""The Learn tab in a real Chromium: dials, links, lecture mode by keyboard, a phone."""

import pytest
from documents import document, engine

from aqviz import app, recordings
from aqviz.tabs.learn import draw_learn

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def address(serve, tmp_path, monkeypatch):
    """The app with this tab beside the first one."""
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    tabs = {"race": app.TABS["race"], "learn": ("Learn", draw_learn)}
    monkeypatch.setattr(app, "TABS", tabs)
    core = app.make_core(engine(), tmp_path / "jobs")
    yield serve(core)
    core.store.close()


@pytest.fixture
def visit(address, browse):
    """Opens a lesson by its link."""

    def open_page(lesson=1, query="", **context):
        page = browse(address, f"?v=1&view=learn&lesson={lesson}{query}", **context)
        drawn(page, lesson)
        page.wait_for_function("document.querySelector('#learn-link :is(input, textarea)').value")
        return page

    return open_page


def drawn(page, lesson: int) -> None:
    """Waits until this lesson, and no other, is seen with its figure."""
    page.wait_for_selector(f"#plot-lesson-{lesson} .main-svg")
    page.wait_for_function("document.querySelectorAll('.lesson:not(.hide)').length === 1")


def told(page, lesson: int, words: str) -> None:
    page.wait_for_function(
        "([id, words]) => document.querySelector(id)?.textContent.includes(words)",
        arg=[f"#plot-lesson-{lesson} .told", words],
    )


def full(page, *, on: bool) -> None:
    page.wait_for_function(
        "on => (getComputedStyle(document.querySelector('#learn')).position === 'fixed') === on",
        arg=on,
    )


def test_a_dial_redraws_and_goes_into_the_link(visit):
    page = visit(1)
    told(page, 1, "With 3 bits the 8 levels evenly spaced")
    page.get_by_label("fitted by k-means", exact=True).check()
    told(page, 1, "8 levels fitted by k-means")
    page.locator("#learn-bits input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    told(page, 1, "With 2 bits the 4 levels fitted")
    page.wait_for_function("location.search.endsWith('view=learn&bits=2&spacing=fitted')")
    again = visit(1, "&bits=2&spacing=fitted")
    told(again, 1, "With 2 bits the 4 levels fitted")
    assert again.get_by_label("fitted by k-means", exact=True).is_checked()


def test_lessons_are_chosen_by_name_or_in_turn(visit):
    page = visit(2)
    assert page.get_by_role("radio", name="2 Vectors instead of numbers").is_checked()
    page.get_by_role("button", name="Next", exact=True).click()
    drawn(page, 3)
    told(page, 3, "2 books of 4 words make 16 sums")
    page.get_by_role("radio", name="7 Tuning the codes").check()
    drawn(page, 7)
    page.wait_for_function("document.querySelector('#learn-next').disabled")
    page.wait_for_function("location.search.endsWith('lesson=7')")


def test_a_lecture_is_led_by_the_keyboard_and_left_by_escape(visit):
    page = visit(3)
    page.get_by_role("button", name="Lecture mode").click()
    full(page, on=True)
    page.wait_for_function("location.search.includes('full=1')")
    assert not page.get_by_role("tab", name="Race").is_visible()
    page.keyboard.press("ArrowRight")
    drawn(page, 4)
    page.keyboard.press("PageUp")
    drawn(page, 3)
    page.keyboard.press("Escape")
    full(page, on=False)
    page.keyboard.press("ArrowRight")  # outside a lecture the arrows are the page's
    assert page.get_by_role("tab", name="Race").is_visible()
    page.wait_for_function("!location.search.includes('full')")
    drawn(page, 3)


def test_a_link_opens_a_lecture_and_its_button_leaves_it(visit):
    page = visit(6, "&full=1&width=8")
    full(page, on=True)
    told(page, 6, "under a beam of 8")
    page.get_by_role("button", name="Leave lecture mode (Esc)").click()
    full(page, on=False)


def test_a_link_that_cannot_be_is_one_sentence(visit, address):
    page = visit(1)
    page.goto(f"{address}/?v=1&view=learn&bits=99")
    page.wait_for_selector("#learn [role=alert]")
    assert page.inner_text("#learn [role=alert]") == "Bits must be 1 to 5, got 99"


@pytest.mark.parametrize("lesson", [2, 4, 7])
def test_a_phone_needs_no_sideways_scroll(visit, lesson):
    page = visit(lesson, width=360)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") == 0
    width = page.evaluate(f"document.querySelector('#plot-lesson-{lesson} .plot').scrollWidth")
    assert 0 < width <= 360
