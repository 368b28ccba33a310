import json
import re
from importlib.resources import files

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from aqviz import app, permalink
from aqviz.first_paint import BODY, FirstPaint, head, sketch
from aqviz.parts.board import board_values
from aqviz.shown.race import Shown
from aqviz.vendor import PLOTLY, PLOTLY_VERSION

PAGE = "<html><head><i>'<body>'</i></head><body id='a'>'</body>' is it</body></html>"
OTHER = "<html>no head, no end"
FIGURE = re.compile(r'<script type="application/json">(.*?)</script>')


async def page(_request):
    return HTMLResponse(PAGE)


async def pieces(_request):
    async def sent():
        for letter in PAGE:
            yield letter

    return StreamingResponse(sent(), media_type="text/html")


async def other(_request):
    return HTMLResponse(OTHER)


@pytest.fixture
def demo(core):
    made = app.build(core)
    made.css, made.theme_hash = "h2 { color: red }", "7" * 64
    return made


def served(answer, demo) -> TestClient:
    middleware = [Middleware(FirstPaint, demo=demo)]
    routes = [Route("/", answer, methods=["GET", "POST"]), Route("/other", page)]
    return TestClient(Starlette(routes=routes, middleware=middleware))


def figure(made: str) -> dict:
    (found,) = FIGURE.findall(made)
    return json.loads(found)


@pytest.mark.parametrize("sent", [page, pieces])
def test_the_page_is_completed_in_three_places(sent, demo):
    answer = served(sent, demo).get("/?v=1&view=race")
    first = sketch(demo, "v=1&view=race")
    assert answer.text == (
        f"<html><head>{head(demo)}<i>'<body>'</i></head><body id='a'>{first}"
        f"'</body>' is it{BODY}</body></html>"
    )
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert f"theme.css?v={'7' * 64}" in answer.text


def test_everything_else_goes_out_as_it_is(demo):
    assert served(page, demo).get("/other").text == PAGE
    assert served(page, demo).post("/").text == PAGE
    assert served(other, demo).get("/").text.endswith("no head, no end")


def test_a_view_is_sketched_up_to_its_first_figure(demo):
    made = sketch(demo, "")
    assert made == sketch(demo, "v=1&view=race&__theme=dark")
    assert '<a href="?v=1&amp;view=race" class="selected" aria-current="page">Race</a>' in made
    assert "<h2>Error against time</h2>" in made
    assert "<h2>Results</h2>" not in made
    assert "<span>Bits of codes a weight</span>" in made
    assert figure(made)["layout"]["meta"]["alt"].startswith("Error against time. greedy ends")
    assert sketch(demo, "view=nothing") == ""


def test_what_an_address_asks_for_is_sketched(demo, core):
    from documents import experiment

    job = core.store.submit(experiment(seeds=(4,)))
    while not core.store.get(job.id).state.ended:
        pass
    made = sketch(demo, permalink.to_query(job.config, job.id))
    shown = Shown(*board_values(core, core.store.get(job.id))[: len(Shown._fields)])
    assert shown.headline in made
    assert figure(made) == json.loads(shown.trace)
    lesson = sketch(demo, "v=1&view=learn&lesson=3")
    assert "3. Sums of words" in lesson
    assert "1. Rounding" not in lesson.partition("</nav>")[2].replace("Previous", "")
    refused = sketch(demo, "v=1&view=rho&search=nonsense")
    assert 'role="alert"' in refused


def test_a_fault_costs_the_first_paint_and_not_the_page(demo, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("aqviz.first_paint._opened", broken)
    answer = served(page, demo).get("/?view=map&colour=kurtosis")
    assert "is it" in answer.text
    assert 'id="first-paint"' not in answer.text
    assert "the first paint of ?view=map&colour=kurtosis failed" in caplog.text


def test_nothing_of_a_figure_ends_its_script():
    with gr.Blocks() as demo:
        with gr.Row():
            gr.HTML("<h1>top</h1>")
        with gr.Tabs(elem_id="views"), gr.Tab("Race", elem_id="view-race"):
            gr.HTML('{"words": "</script><b>"}', elem_id="plot-one")
            gr.HTML("after it")
    demo.css = ""
    made = sketch(demo, "")
    assert figure(made) == {"words": "</script><b>"}
    assert "after it" not in made


def test_the_pages_load_the_plotly_of_the_package():
    whole = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    assert f"* plotly.js v{PLOTLY_VERSION}\n" in whole[:200]
    assert f"/* plotly.js v{PLOTLY_VERSION}, " in PLOTLY.read_text(encoding="utf-8")[:200]
