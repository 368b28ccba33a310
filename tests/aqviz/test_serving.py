import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from aqviz.serving import HEADERS, Serving
from aqviz.tabs.visitors import COOKIE


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.cookies.get(COOKIE, "nobody"))


@pytest.fixture
def served():
    """An app that says who the visitor is, public or not."""

    def make(public: bool) -> TestClient:
        middleware = [Middleware(Serving, public=public)]
        routes = [Route("/", hello), Route("/other", hello)]
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
