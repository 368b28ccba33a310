"""The Perplexity tab in a real Chromium: links, controls, the coloured text on a phone."""

import evaluated
import pytest
from browsing import hosted
from documents import document, engine

from aqviz import app, evaluations, recordings
from aqviz.tabs.perplexity import draw_perplexity

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FIGURES = ("models", "pairs", "kl", "tuning", "tokens")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app with this tab alone, over two recordings, one of them without tokens."""
    kept = {
        "first": document(),
        "models-1x8g8": evaluated.document(old=True),
        "models-2x8g8": evaluated.document(),
        "tuning-2x8g8": {"2x8g8-greedy": evaluated.CURVE},
        "generations-2x8g8": evaluated.GENERATIONS,
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recordings, "read", lambda name="first", *_: kept.get(name))
        patched.setattr(evaluations, "names", lambda: ("models-1x8g8", "models-2x8g8"))
        patched.setattr(app, "TABS", {"perplexity": ("Perplexity", draw_perplexity)})
        core = app.make_core(engine(), tmp_path_factory.mktemp("jobs"))
        with hosted(core) as address:
            yield address
        core.store.close()


@pytest.fixture
def visit(address, browse):
    """Opens the tab by a link."""

    def open_page(query="", theme="light", **context):
        page = browse(address, f"?v=1&view=perplexity&__theme={theme}&{query}", **context)
        page.wait_for_selector("#plot-tuning .main-svg")
        return page

    return open_page


def told(page, name):
    return page.inner_text(f"#plot-{name} .told")


def wait_for(page, name, words):
    page.wait_for_function(
        "([id, words]) => document.querySelector(id).innerText.includes(words)",
        arg=[f"#plot-{name} .told", words],
    )


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).last.click()


def test_the_tab_opens_on_the_recorded_models(visit):
    page = visit()
    for name in FIGURES:
        image = page.locator(f"#plot-{name} [role=img]")
        assert image.get_attribute("aria-label") == told(page, name)
    assert page.locator("#perplexity-verdicts li").count() == 5
    assert page.locator("#perplexity-text .tokens span").count() == evaluated.PREDICTED
    assert "<b>counts</b>" in page.inner_text("#perplexity-text")
    assert page.locator("#perplexity-replies section").count() == 2


def test_another_model_beside_changes_figures_text_and_link(visit):
    page = visit()
    choose(page, "Compared with", "greedy")
    wait_for(page, "pairs", "Loss over that of greedy")
    wait_for(page, "tokens", "over greedy")
    page.wait_for_function("location.search.includes('beside=greedy')")
    choose(page, "Model", "OA-EM + PV")
    wait_for(page, "tokens", "as OA-EM + PV reads it")
    assert "OA-EM + PV loses over greedy" in page.inner_text("#perplexity-text")
    assert page.input_value("#perplexity-link textarea, #perplexity-link input") in page.url


def test_a_link_brings_everything_back(visit):
    page = visit("model=greedy-tuned&beside=oa-em&window=2")
    wait_for(page, "tokens", "Window 2 as greedy + PV reads it")
    wait_for(page, "pairs", "Loss over that of OA-EM")
    assert page.get_by_label("Model", exact=True).input_value() == "greedy + PV"


def test_a_link_to_what_is_not_there_is_one_sentence(visit):
    page = visit("model=%3Cb%3E")
    page.wait_for_selector("#perplexity-alert .alert")
    assert "has no model '<b>'" in page.inner_text("#perplexity-alert")
    assert "as OA-EM reads it" in told(page, "tokens")


def test_an_older_recording_says_what_it_lacks(visit):
    page = visit()
    choose(page, "Scheme", "1x8g8")
    page.wait_for_function(
        "document.querySelector('#perplexity-text').innerText.includes('before the tokens')"
    )
    assert "before the windows' losses" in page.inner_text("#perplexity-verdicts")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(visit, theme):
    page = visit(width=360, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect())"
        ".filter(r => r.width).map(r => r.right)"
    )
    assert max(widths) <= 360
