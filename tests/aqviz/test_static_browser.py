"""The static twin from disk in a real Chromium, without a network."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

from aqviz.text import TITLES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1280, "height": 900}
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"],
    "preload": False,  # it would ask for the style sheet, which a page from disk may not
}
FIRST = ("index", *TITLES)
OTHERS = (
    *("race-down-proj-beam", "map-kurtosis", "search-feedback-descent", "basins-fixed-a-heldout"),
    *("rho-llama-3-1-70b-down", "perplexity-2x6g8", "inside-greedy-row0-group0", "inside-step71"),
    *(f"learn-{number}" for number in range(2, 8)),
    *("learn-7-step0-limit8-pace8", "paper-5"),
)
ALIKE = ("tbody tr:nth-child(n+6)", ".tokens span:nth-of-type(n+60)")  # looked at once is enough
COLOURS = RULES | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
DRAWN = "[...document.querySelectorAll('.plot')].every(one => one.dataset.drawn)"
FITS = "document.documentElement.scrollWidth <= window.innerWidth"  # once plots are redrawn


@pytest.fixture(scope="module")
def faults():
    return []


@pytest.fixture(scope="module")
def context(chromium, faults):
    """One browser without a network; nothing but files may be asked for, nothing may go wrong."""
    made = chromium.new_context(viewport=DESKTOP, color_scheme="light", accept_downloads=True)
    made.set_offline(True)
    watch(made, faults)
    yield made
    made.close()


@pytest.fixture
def visit(context, twin, faults):
    """Opens pages of the site by their names, one after the other."""
    page = context.new_page()

    def opened(name: str):
        page.goto((twin / f"{name}.html").as_uri())
        page.wait_for_function(DRAWN)
        return page

    yield opened
    page.close()
    met = [faults.pop() for _ in range(len(faults))]
    assert met == []


def watch(context, faults: list[str]) -> None:
    def asked(request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            faults.append(f"request to {request.url}")

    def said(message) -> None:
        if message.type == "error":
            faults.append(f"console: {message.text}")

    context.on("request", asked)
    context.on("console", said)
    context.on("weberror", lambda error: faults.append(f"page error: {error.error}"))


def violations(page, rules=RULES) -> list[str]:
    context = {"exclude": [[one] for one in ALIKE]}
    found = Axe().run(page, context=context, options=rules).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("name", FIRST)
def test_a_page_is_accessible_in_light_and_dark_and_fits_a_phone(visit, name):
    page = visit(name)
    page.evaluate("localStorage.clear()")
    assert page.evaluate("document.body.classList.contains('dark')") is False
    if name in {"tune", "paper"}:  # folded tables are all alike
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert violations(page) == []
    page.locator("#theme button").click()
    page.wait_for_function("document.body.classList.contains('dark')")
    assert violations(page, COLOURS) == []  # all that dark changes
    page.locator("#theme button").click()
    page.set_viewport_size(PHONE)
    page.wait_for_function(FITS)


def test_other_states_draw_and_fit_a_phone_too(visit):
    for name in OTHERS:
        page = visit(name)
        count = page.locator(".drawing").count()
        assert count == page.locator(".plot .main-svg[role=img]").count() > 0, name
        page.set_viewport_size(PHONE)
        page.wait_for_function(FITS)
        page.set_viewport_size(DESKTOP)


def test_a_reader_walks_from_state_to_state_by_links(visit):
    page = visit("index")
    page.locator(".contents").get_by_role("link", name="Map").click()
    page.get_by_role("link", name="kurtosis of the weights").click()
    page.wait_for_function(DRAWN)
    assert page.url.endswith("/map-kurtosis.html")
    told = page.locator(".told").text_content()
    assert told.startswith("Kurtosis of the weights, 210 of 210 layers")
    chosen = page.locator(".choice [aria-current]")
    assert chosen.text_content() == "kurtosis of the weights"


def test_light_or_dark_is_kept_and_begins_with_the_system_s(visit, context):
    page = visit("learn")
    page.locator("#theme button").click()
    assert page.evaluate("document.body.classList.contains('dark')")
    assert visit("paper").evaluate("document.body.classList.contains('dark')")
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark")
    assert visit("learn-2").evaluate("document.body.classList.contains('dark')")
    page.emulate_media(color_scheme="light")
    page.wait_for_function("!document.body.classList.contains('dark')")


def test_where_storage_is_refused_the_button_still_works(visit):
    page = visit("index")
    refuse = "{ get() { throw new DOMException('refused', 'SecurityError') } }"
    page.add_init_script(f"Object.defineProperty(window, 'localStorage', {refuse})")
    page = visit("learn-3")
    page.locator("#theme button").click()
    assert page.evaluate("document.body.classList.contains('dark')")


def test_a_figure_s_numbers_and_pictures_can_be_kept(visit):
    page = visit("search")
    card = page.locator(".figure").filter(has=page.locator("#plot-frontier"))
    drawn = json.loads(card.locator("script").text_content())
    table = drawn["layout"]["meta"]["table"]
    assert card.get_by_role("button", name="Table").count() == 0  # the page has it itself
    for kind in ("CSV", "SVG", "PNG"):
        with page.expect_download() as download:
            card.get_by_role("button", name=f"as {kind}").click()
        assert download.value.suggested_filename.endswith(kind.lower())
        path = download.value.path()
        if kind == "CSV":
            lines = path.read_text().splitlines()
            assert lines[0] == ",".join(table["columns"])
            assert len(lines) == 1 + len(table["rows"])
        if kind == "SVG":
            assert "search.html" in path.read_text()
            assert "file:" not in path.read_text()


def test_a_table_sorts_and_a_number_tells_its_arithmetic(visit):
    page = visit("map")
    page.locator("#map-layers").get_by_role("button", name="kurtosis").click()
    cells = page.locator("#map-layers tbody tr td:nth-child(10)").all_text_contents()
    numbers = [float(cell.replace(",", "")) for cell in cells]
    assert numbers == sorted(numbers)
    page = visit("inside")
    page.locator("#inside-numbers tbody button").nth(2).click()
    assert "=" in page.locator("#inside-numbers .arithmetic").text_content()


def test_frames_play_unless_motion_is_not_wanted(visit):
    page = visit("basins")
    frames = "document.querySelector('#plot-plane .plot')._transitionData._frames.length"
    assert page.evaluate(frames) > 1
    play = page.locator("#plot-plane .updatemenu-button")
    assert play.count() == 1
    page.emulate_media(reduced_motion="reduce")
    visit("basins")
    assert play.count() == 0


def test_without_scripts_the_words_and_numbers_are_there(chromium, twin):
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((twin / "race.html").as_uri())
    page.locator("summary").first.click()
    assert page.locator(".in-numbers table").first.is_visible()
    assert page.locator(".told").first.text_content().startswith("Error against time.")
    context.close()
