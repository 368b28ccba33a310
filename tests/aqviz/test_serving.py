import os
import time

import gradio as gr
import pytest
from browsing import completed
from gradio import processing_utils
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from aqviz import serving
from aqviz.parts.visitors import COOKIE
from aqviz.serving import (
    BODY,
    FULL,
    HEADERS,
    LONG,
    UNUSED,
    UPLOAD,
    UPLOAD_SECONDS,
    WAITING,
    Serving,
    fetch_nothing,
)


async def hello(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse(request.cookies.get(COOKIE, "nobody"))


@pytest.fixture
def served():
    """An app that says who the visitor is, public or not."""

    def make(public: bool) -> TestClient:
        middleware = [Middleware(Serving, public=public, largest=100)]
        paths = ("/", "/other", UPLOAD, *UNUSED)
        routes = [Route(path, hello, methods=["GET", "POST"]) for path in paths]
        return TestClient(Starlette(routes=routes, middleware=middleware))

    return make


def test_every_answer_carries_the_headers(served):
    for path in ("/", "/other", "/nothing"):
        answer = served(False).get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_whether_the_page_is_there_is_said_without_writing_it(served):
    answer = served(False).head("/")
    assert (answer.status_code, answer.text) == (200, "")
    assert "content-length" not in answer.headers
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_visitor_gets_a_name_once(served):
    client = served(False)
    name = client.get("/").cookies[COOKIE]
    assert len(name) == 16
    again = client.get("/")
    assert again.text == name
    assert "set-cookie" not in again.headers
    assert served(False).get("/").cookies[COOKIE] != name


def test_only_the_page_gives_names(served):
    assert "set-cookie" not in served(False).get("/other").headers


def test_in_a_frame_of_another_site_the_name_is_kept_too(served):
    given = served(True).get("/").headers["set-cookie"]
    for word in ("HttpOnly", "Secure", "SameSite=None", "Partitioned"):
        assert word in given
    assert "Secure" not in served(False).get("/").headers["set-cookie"]


@pytest.mark.parametrize("path", ["/", "/config"])
def test_no_cache_keeps_the_page_for_others(served, path):
    assert served(True).get(path).headers["cache-control"] == "private, no-cache"


def test_a_page_of_another_site_acts_for_no_visitor(served):
    client = served(True)
    client.cookies.set(COOKIE, "somebody")
    for site in ("cross-site", "same-site"):
        assert client.post("/other", headers={"Sec-Fetch-Site": site}).text == "nobody"
        assert "set-cookie" not in client.get("/", headers={"Sec-Fetch-Site": site}).headers
    for own in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert client.post("/other", headers=own).text == "somebody"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where uploads wait."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def test_files_that_wait_are_bounded_all_together(served, folder):
    client = served(True)
    (folder / "one").mkdir()
    (folder / "one" / "file").write_bytes(bytes(100 * WAITING))
    assert client.get(UPLOAD).status_code == 200
    (folder / "more").write_bytes(b"1")
    refused = client.get(UPLOAD)
    assert refused.status_code == 503
    assert "too many files are being uploaded here" in refused.text
    assert client.get("/other").status_code == 200


def test_files_on_their_way_count_as_if_they_lay_there_already(served, folder):
    client = served(True)
    for _ in range(2):  # what has come is no longer on its way
        assert client.post(UPLOAD, content=bytes(100 * WAITING)).status_code == 200
    refused = client.post(UPLOAD, content=bytes(100 * WAITING + 1))
    assert (refused.status_code, refused.text) == (503, FULL)


def test_what_waits_for_too_long_is_removed(served, folder):
    for name, age in (("old", UPLOAD_SECONDS + 1), ("new", 0)):
        (folder / name).write_bytes(bytes(100 * WAITING))
        os.utime(folder / name, (time.time() - age,) * 2)
    assert served(True).get(UPLOAD).status_code == 200
    assert [file.name for file in folder.iterdir()] == ["new"]


@pytest.mark.parametrize(("path", "most"), [("/other", BODY), (UPLOAD, BODY + 100)])
def test_a_request_has_a_largest_size(served, folder, monkeypatch, path, most):
    monkeypatch.setattr(serving, "WAITING", 2 * BODY)
    client = served(True)
    assert client.post(path, content=bytes(most)).status_code == 200
    refused = client.post(path, content=iter([bytes(most), b"1"]))  # it does not say how long it is
    assert (refused.status_code, refused.text) == (413, LONG)


@pytest.mark.parametrize("path", UNUSED)
def test_what_the_page_does_not_use_is_not_there(served, path):
    answer = served(False).get(path)
    assert answer.status_code == 404
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("address", ["http://1.1.1.1/x", "https://huggingface.co/x"])
def test_no_file_is_fetched_from_an_address(address, tmp_path):
    fetch_nothing()
    with pytest.raises(gr.Error, match="none is fetched from an address"):
        completed(processing_utils.async_ssrf_protected_download(address, str(tmp_path)))
