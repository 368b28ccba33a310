"""Every view over the real recordings: readable by everyone, at every width, by keyboard alone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import recorded

from aqviz import app

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESKTOP = {"width": 360, "height": 780}, {"width": 1440, "height": 1000}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
GRADIOS_OWN = "image-redundant-alt"  # minor: the picture in its Settings button
STEPS = 400  # of the Tab key, more than any view has
REACHED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const look = getComputedStyle(one);
  const ringed = look.outlineStyle !== "none" || look.boxShadow !== "none";
  return { name: one.id || one.ariaLabel || one.textContent.trim().slice(0, 40) || one.tagName,
           mark: one.dataset.kept || null, ringed };
}"""
MARK = """() => {
  const view = [...document.querySelectorAll("[role=tabpanel]")].find(one => one.offsetParent);
  let count = 0;
  for (const one of view.querySelectorAll("button, input, select, textarea, a[href]")) {
    const grouped = one.type === "radio" && !one.checked; // arrows go from one to the other
    if (one.disabled || grouped || !one.checkVisibility({ visibilityProperty: true })) continue;
    if (one.tabIndex >= 0) one.dataset.kept = String(count++);
  }
  return count;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The whole app, over the recordings that come with it."""
    with recorded(tmp_path_factory.mktemp("jobs")) as served:
        yield served


@pytest.fixture(params=app.TABS)
def view(request):
    return request.param


def opened(page, view: str) -> None:
    page.wait_for_function(f"document.getElementById('view-{view}-button').ariaSelected === 'true'")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].filter(one => one.offsetParent)"
        ".every(one => one.dataset.drawn || one.textContent)"
    )


def violations(page) -> list[str]:
    found = Axe().run(page, options=RULES).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]}"
        for one in found
        if one["id"] != GRADIOS_OWN
        for node in one["nodes"]
    ]


def test_a_view_is_accessible_in_light_and_dark_and_fits_a_phone(address, view, browse):
    page = browse(address, f"?v=1&view={view}", **DESKTOP)
    opened(page, view)
    assert violations(page) == []
    page.locator("#theme button").click()
    page.wait_for_function("document.body.classList.contains('dark')")
    page.wait_for_timeout(300)  # colours move
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert violations(page) == []


def test_the_tab_key_reaches_everything_and_shows_where_it_is(address, view, browse):
    page = browse(address, f"?v=1&view={view}", **DESKTOP)
    opened(page, view)
    count, met, nowhere = page.evaluate(MARK), {}, 0
    page.locator(f"#view-{view}-button").focus()
    for _ in range(STEPS):
        page.keyboard.press("Tab")
        reached = page.evaluate(REACHED)
        nowhere = nowhere + 1 if reached is None else 0  # a list of choices closes by losing it
        if nowhere > 1:
            break
        if reached:
            met[reached["mark"]] = reached
    assert count > 0
    assert {str(n) for n in range(count)} <= set(met), "some controls are never reached"
    assert [one["name"] for one in met.values() if not one["ringed"]] == []


def test_on_a_phone_every_tab_is_there_for_a_link_to_find(address, browse):
    page = browse(address, "?v=1&view=paper", width=360, height=780)
    opened(page, "paper")
    assert "view=paper" in page.url
    tabs = page.locator("#views [role=tab]")
    assert [tabs.nth(n).is_visible() for n in range(tabs.count())] == [True] * len(app.TABS)
