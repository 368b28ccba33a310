"""A visitor's own layer in a real Chromium, quantized by the real engine."""

from dataclasses import replace

import pytest
import torch
from documents import document, engine
from safetensors.torch import save_file

from aqviz import app, recordings
from aqviz import engine as real

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ALERT = "#own-alert [role=alert]"


@pytest.fixture
def address(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("QUANTCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recordings, "read", lambda *_: document())
    core = app.make_core(replace(engine(), run=real.run), tmp_path / "jobs")
    yield serve(core)
    core.store.close()


@pytest.fixture
def file(tmp_path, rng):
    path = tmp_path / "mine.safetensors"
    inputs = torch.randn(64, 16, generator=rng)
    tensors = {"mine.weight": torch.randn(12, 16, generator=rng)}
    save_file(tensors | {"mine.hessian": inputs.T @ inputs / len(inputs)}, path)
    return path


def opened(browse, address):
    """The race with the place for a file open, reached by keyboard."""
    page = browse(address, "")
    own = page.get_by_role("button", name="Your own layer")
    own.focus()
    page.keyboard.press("Enter")
    return page


def choose(page, path) -> None:
    """Give it this file, by keyboard."""
    with page.expect_file_chooser() as asked:
        page.get_by_role("button", name="Choose a file, at most 64 MiB").press("Enter")
    asked.value.set_files(path)


def layer(page) -> str:
    return page.get_by_label("Layer", exact=True).input_value()


def model(page):
    return page.get_by_label("Model (or a Hub id, folder, GGUF file)", exact=True)


def test_a_layer_of_ones_own_is_run_and_its_link_opens_it_again(browse, address, file):
    page = opened(browse, address)
    choose(page, file)
    page.wait_for_selector("#brought b")
    assert layer(page) == "mine"
    assert not model(page).is_visible()
    page.locator("#preset label", has_text="own").click()
    bits = page.get_by_label("Bits a code", exact=True)
    bits.fill("3")
    bits.press("Tab")
    page.wait_for_function("document.querySelector('#facts').innerText.includes('12 × 16')")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_selector("#status .status.done")
    assert "mine · 12 × 16 · 2x3 g8" in page.inner_text("#headline")
    assert "from the uploaded file upload-" in page.inner_text("#status")
    assert "perplexity" not in page.inner_text("#results")
    assert "--problem FILE.safetensors --name mine" in page.input_value("#race-command textarea")
    assert "problem=upload-" in page.url
    again = browse(address, "?" + page.url.partition("?")[2])
    again.wait_for_selector("#status .status.done")
    again.wait_for_selector("#brought b")
    assert layer(again) == "mine"
    assert again.inner_text("#headline") == page.inner_text("#headline")
    again.get_by_role("button", name="Use the model again").click()
    model(again).wait_for()
    again.wait_for_function("document.querySelector('#facts').innerText.includes('576 × 576')")
    assert layer(again) == "self_attn.q_proj"


def test_a_file_that_cannot_be_taken_is_one_sentence_and_a_good_one_mends_it(browse, address, file):
    page = opened(browse, address)
    bad = file.with_name("bad.safetensors")
    bad.write_bytes(b"\x80\x04 these are no weights")
    choose(page, bad)
    page.wait_for_selector(ALERT)
    assert "The file bad.safetensors is no safetensors file" in page.inner_text(ALERT)
    assert layer(page) == "self_attn.k_proj"
    assert model(page).is_visible()
    choose(page, file)
    page.wait_for_selector("#brought b")
    page.wait_for_selector(ALERT, state="detached")


def test_a_link_to_a_file_that_is_gone_says_so_and_the_page_goes_on(browse, address):
    page = browse(address, "?problem=upload-0123456789abcdef&layer=mine")
    page.wait_for_selector("#alert [role=alert]")
    page.wait_for_timeout(1000)
    assert "is no longer kept here; choose it again" in page.inner_text("#alert [role=alert]")
    assert layer(page) == "self_attn.k_proj"
