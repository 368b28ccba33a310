"""A view's zip, taken in a real Chromium."""

import json
import zipfile

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_link_in_the_card_brings_the_zip_of_what_is_shown(browse, serve, core):
    page = browse(serve(core), "?v=1&view=inside&row=5", accept_downloads=True)
    link = page.locator("#inside-files").get_by_role("link", name="Download everything (zip)")
    link.wait_for()
    page.wait_for_function("document.querySelector('#inside-files a').href.includes('row=5')")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "aqviz-inside.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("config.json"))["view"]["row"] == 5
