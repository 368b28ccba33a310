import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from aqviz.parts.visitors import COOKIE
from aqviz.serving import HEADERS, UNUSED, UPLOAD, WAITING, Serving


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.cookies.get(COOKIE, "nobody"))


@pytest.fixture
def served():
    """An app that says who the visitor is, public or not."""

    def make(public: bool) -> TestClient:
        middleware = [Middleware(Serving, public=public, largest=100)]
        paths = ("/", "/other", UPLOAD, *UNUSED)
        routes = [Route(path, hello) for path in paths]
        return TestClient(Starlette(routes=routes, middleware=middleware))

    return make


def test_every_answer_carries_the_headers(served):
    for path in ("/", "/other", "/nothing"):
        answer = served(False).get(path)
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


def test_files_that_wait_are_bounded_all_together(served, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    client = served(True)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_bytes(bytes(100 * WAITING))
    assert client.get(UPLOAD).status_code == 200
    (tmp_path / "more").write_bytes(b"1")
    refused = client.get(UPLOAD)
    assert refused.status_code == 503
    assert "too many files are being uploaded here" in refused.text
    assert client.get("/other").status_code == 200


@pytest.mark.parametrize("path", sorted(UNUSED))
def test_what_the_page_does_not_use_is_not_there(served, path):
    assert served(False).get(path).status_code == 404
