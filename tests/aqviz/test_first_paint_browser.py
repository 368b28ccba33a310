"""What is there before Gradio starts, over the real recordings: the same as afterwards."""

import re

import pytest
from browsing import recorded
from test_every_view_browser import violations

from aqviz import app

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GRADIO = re.compile(r"/assets/index-[^/]*\.js")
TOLD = "[...document.querySelectorAll('.plot')].find(one => one.offsetParent)?.dataset.drawn"
QUERIES = tuple(app.TABS)
LINKS = (
    *("map&colour=kurtosis", "learn&lesson=3", "inside&row=3&group=5", "rho&search=beam"),
    *("search&shown=feedback-descent", "basins&codes=fixed_a"),
)
GONE = "!document.getElementById('first-paint')"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with recorded(tmp_path_factory.mktemp("jobs")) as served:
        yield served


@pytest.fixture
def held():
    """Requests for Gradio's script that were not answered yet."""
    return []


@pytest.fixture
def page(chromium, held):
    """A page on which Gradio starts no sooner than the test lets it."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    made = context.new_page()
    made.route(GRADIO, lambda route: held.append(route))  # noqa: PLW0108 - not of a builtin
    yield made
    context.close()


def titled(page, within: str) -> str:
    """The first title that is seen there."""
    return page.evaluate(
        f"[...document.querySelectorAll('{within} h2')].find(one => one.offsetParent).textContent"
    )


@pytest.mark.parametrize("query", [*QUERIES, *LINKS])
def test_a_view_is_there_before_gradio_and_looks_as_it_will(address, query, page, held):
    page.goto(f"{address}/?v=1&view={query}", wait_until="commit")
    page.wait_for_selector("#first-paint .plot[data-drawn]", state="attached")
    view = query.partition("&")[0]
    title, told = titled(page, "#first-paint"), page.evaluate(TOLD)
    assert page.inner_text("#first-paint .selected") == app.TABS[view][0]
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert violations(page) == []
    held.pop().continue_()
    page.wait_for_function(GONE)
    assert titled(page, f"#view-{view}") == title
    assert page.evaluate(TOLD) == told
    assert told


def test_a_link_shows_another_figure_than_its_view_at_first(address, page):
    told = set()
    for query in ("map", "map&colour=kurtosis", "learn", "learn&lesson=3"):
        page.goto(f"{address}/?v=1&view={query}", wait_until="commit")
        page.wait_for_selector("#first-paint .plot[data-drawn]", state="attached")
        told.add(page.evaluate(TOLD))
    assert len(told) == 4


def test_its_colours_are_those_that_were_chosen(address, page):
    for theme in ("dark", "light"):
        page.goto(f"{address}/?v=1&view=race&__theme={theme}", wait_until="commit")
        page.wait_for_selector("#first-paint .plot[data-drawn]", state="attached")
        assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def test_where_there_is_no_such_view_gradio_says_so(address, page):
    page.goto(f"{address}/?view=nothing", wait_until="commit")
    page.wait_for_function("Boolean(window.aqvizPlot)")
    assert page.evaluate(GONE)


def test_one_tab_leads_to_another(address, page):
    page.goto(f"{address}/", wait_until="commit")
    page.click("#first-paint .views a:text-is('Basins')")
    page.wait_for_function("new URLSearchParams(location.search).get('view') === 'basins'")
    page.wait_for_selector("#first-paint .plot[data-drawn]", state="attached")
    assert page.inner_text("#first-paint .selected") == "Basins"


def test_gradios_loading_lies_over_nothing_and_its_errors_do(address, browse):
    page = browse(address, "?v=1&view=learn")
    shown = """(inner) => {
      const over = document.createElement("div");
      over.dataset.testid = "status-tracker";
      over.innerHTML = inner;
      document.querySelector("gradio-app .main.fillable").append(over);
      return getComputedStyle(over).display;
    }"""
    assert page.evaluate(shown, "<p>Loading...</p>") == "none"
    assert page.evaluate(shown, '<span class="error">Error</span>') != "none"


def test_a_chosen_look_is_kept_while_gradio_starts(address, browse):
    page = browse(address, "?v=1&view=map")
    page.evaluate("localStorage.setItem('aqviz-theme', 'dark')")
    page.add_init_script("""addEventListener("DOMContentLoaded", () => {
      const say = () => looks.push(document.body.classList.contains("dark"));
      window.looks = [];
      say();
      const painted = () => (say(), requestAnimationFrame(painted));
      requestAnimationFrame(painted);
    })""")
    page.goto(f"{address}/?v=1&view=map")
    page.wait_for_function(GONE)
    page.wait_for_function("window.aqvizAsked === ''")
    looks = page.evaluate("looks")
    assert len(looks) > 5
    assert all(looks)
