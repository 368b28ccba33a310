from importlib.resources import files

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from aqviz.first_paint import BODY, FirstPaint, head
from aqviz.vendor import PLOTLY, PLOTLY_VERSION

PAGE = "<html><head><title>t</title></head><body>'</body>' ends it</body></html>"
OTHER = "<html>no head, no end"


async def page(_request):
    return HTMLResponse(PAGE)


async def pieces(_request):
    async def sent():
        for letter in PAGE:
            yield letter

    return StreamingResponse(sent(), media_type="text/html")


async def other(_request):
    return HTMLResponse(OTHER)


def served(answer) -> TestClient:
    middleware = [Middleware(FirstPaint, theme=lambda: "7" * 64)]
    routes = [Route("/", answer, methods=["GET", "POST"]), Route("/other", page)]
    return TestClient(Starlette(routes=routes, middleware=middleware))


@pytest.mark.parametrize("sent", [page, pieces])
def test_the_page_is_completed_at_both_ends(sent):
    answer = served(sent).get("/?v=1")
    begun, ended = PAGE.partition("<head>"), PAGE.rpartition("</body>")
    whole = head("7" * 64)
    assert answer.text == (
        begun[0] + "<head>" + whole + ended[0].partition("<head>")[2] + BODY + "</body></html>"
    )
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert f"theme.css?v={'7' * 64}" in answer.text


def test_everything_else_goes_out_as_it_is():
    assert served(page).get("/other").text == PAGE
    assert served(page).post("/").text == PAGE
    assert served(other).get("/").text == OTHER


def test_the_pages_load_the_plotly_of_the_package():
    whole = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    assert f"* plotly.js v{PLOTLY_VERSION}\n" in whole[:200]
    assert f"/* plotly.js v{PLOTLY_VERSION}, " in PLOTLY.read_text(encoding="utf-8")[:200]
