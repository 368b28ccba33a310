"""The app: the page's look, its parts in order, and how it is served."""

import argparse
import json
import logging
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from fastapi.exceptions import RequestValidationError
from gradio.events import api as publish
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aqviz import metrics, recordings
from aqviz.api import Api
from aqviz.bundle import AbsentError
from aqviz.core import Core
from aqviz.engine import Document, Engine
from aqviz.first_paint import FirstPaint
from aqviz.gate import limited
from aqviz.limits import Limits
from aqviz.memory import few_arenas
from aqviz.parts.look import THEME
from aqviz.plot_host import script_route
from aqviz.serving import UPLOAD_SECONDS, Serving, fetch_nothing, malformed
from aqviz.sessions import MOST, lifespan, without_statistics
from aqviz.shown.bundles import zip_of
from aqviz.static.folder import write
from aqviz.static.render import INDEX
from aqviz.store import JobStore
from aqviz.tabs.basins import draw_basins
from aqviz.tabs.inside import draw_inside
from aqviz.tabs.learn import draw_learn
from aqviz.tabs.map import draw_map
from aqviz.tabs.paper import draw_paper
from aqviz.tabs.perplexity import draw_perplexity
from aqviz.tabs.race import draw_race
from aqviz.tabs.rho import draw_rho
from aqviz.tabs.search import draw_search
from aqviz.tabs.tune import draw_tune
from aqviz.text import TITLES
from aqviz.uploads import Uploads
from aqviz.worker import hosted
from quantcore.errors import InputError, QuantcoreError

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
PORT = 7860
UNHURRIED = 10.0  # seconds from the start, after which the first page has been seen
ZIPS = 2  # made at a time: each takes a processor for a second
DRAWN: dict[str, Callable[[Core], None]] = {
    "race": draw_race,
    "map": draw_map,
    "search": draw_search,
    "basins": draw_basins,
    "rho": draw_rho,
    "perplexity": draw_perplexity,
    "tune": draw_tune,
    "inside": draw_inside,
    "learn": draw_learn,
    "paper": draw_paper,
}
TABS = {view: (title, DRAWN[view]) for view, title in TITLES.items()}  # view -> title, drawing
TYPES = {"json": "application/json", "csv": "text/csv", "zip": "application/zip"}
BODIES: dict[str, Callable[[Document], str]] = {
    "json": json.dumps,
    "csv": lambda document: metrics.table(document).to_csv(index=False),
}


def make_core(
    engine: Engine | None = None, folder: Path | None = None, limits: Limits | None = None
) -> Core:
    """The engine, the jobs of this machine and the recorded run.

    Args:
        engine: What runs; None makes it in a process of its own.
        folder: Of the jobs; None is where the environment says.
        limits: What is allowed; None is what the environment says.

    Raises:
        InputError: a setting of the environment is wrong.
    """
    few_arenas()
    limits = limits or Limits.here()
    within = 0.0 if engine else UNHURRIED
    engine = limited(engine or hosted(), limits)
    store = JobStore(folder or limits.folder("jobs"), engine, limits)
    core = Core(engine, store, recordings.read(), uploads=Uploads.here(limits), limits=limits)
    core.warm_up(within)
    return core


def build(core: Core) -> gr.Blocks:
    """The page."""
    demo = gr.Blocks(
        title="aqviz",
        fill_width=True,
        analytics_enabled=False,
        delete_cache=(UPLOAD_SECONDS, UPLOAD_SECONDS),
    )
    demo.space_id = None  # by which the page would put a header on, with what other servers have
    with demo:
        for function in Api(core).functions():  # first, so that no handler has taken their names
            publish(one_sentence(function))
        with gr.Row(elem_classes="top", equal_height=False):
            gr.HTML(
                '<h1 class="brand">aqviz</h1>',
                apply_default_css=False,
            )
            gr.HTML(
                '<button type="button" class="theme" aria-label="switch light and dark">◐</button>',
                js_on_load=(HERE / "theme.js").read_text(encoding="utf-8"),
                elem_id="theme",
                apply_default_css=False,
            )
        with gr.Tabs(elem_id="views", overflow_behavior="wrap"):  # links look for every tab
            for view, (title, draw) in TABS.items():
                with gr.Tab(title, id=view, elem_id=f"view-{view}"):
                    draw(core)
    return demo


def one_sentence(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; what it refuses reaches the caller as its one sentence."""

    @wraps(function)
    def guarded(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except QuantcoreError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return guarded


def serve(demo: gr.Blocks, core: Core, **launch: Any) -> Any:
    """Launch the page with its look, its script and its downloads.

    Node never draws it, though a Space asks for that: what Node answers by itself carries no policy
    and no visitor's name (`serving`).
    """
    fetch_nothing()
    without_statistics()
    demo.queue(default_concurrency_limit=4, max_size=40, api_open=False)
    return demo.launch(
        theme=THEME,
        css_paths=[HERE / "app.css", *sorted((HERE / "styles").glob("*.css"))],
        footer_links=["settings"],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        max_file_size=core.uploads.largest,
        state_session_capacity=MOST,
        app_kwargs={
            "lifespan": lifespan,
            "routes": [script_route(), results_route(core), zip_route(core)],
            "middleware": [
                *([Middleware(GZipMiddleware, compresslevel=5)] if core.limits.public else []),
                Middleware(Serving, public=core.limits.public, largest=core.uploads.largest),
                Middleware(FirstPaint, demo=demo),
            ],
            "exception_handlers": {RequestValidationError: malformed},
        },
        **launch,
    )


def results_route(core: Core) -> Route:
    """Serves what a job or the recording holds, as JSON or CSV."""

    async def results(request: Request) -> Response:
        name, kind = request.path_params["name"], request.path_params["kind"]
        document = core.document(name)
        if kind not in BODIES or not metrics.there(document):
            return _refused("there is no such result", 404)
        return _file(await run_in_threadpool(BODIES[kind], document), f"aqviz-{name}", kind)

    return Route("/gradio_api/aqviz/results/{name}.{kind}", results)


def zip_route(core: Core) -> Route:
    """Serves everything of a view in a zip; it is asked for with the query of the view's link."""
    few = CapacityLimiter(ZIPS)

    async def everything(request: Request) -> Response:
        query = dict(request.query_params)
        try:
            body = await to_thread.run_sync(zip_of, core, query, request.url.query, limiter=few)
        except AbsentError as error:
            return _refused(str(error), 404)
        except QuantcoreError as error:
            return _refused(str(error), 400)
        return _file(body, f"aqviz-{query['view']}", "zip")

    return Route("/gradio_api/aqviz/zip", everything)


def _file(body: str | bytes, name: str, kind: str) -> Response:
    disposition = {"Content-Disposition": f'attachment; filename="{name}.{kind}"'}
    return Response(body, media_type=TYPES[kind], headers=disposition)


def _refused(words: str, status: int) -> Response:
    return Response(words, status_code=status, media_type="text/plain")


def main() -> None:
    """Console script: serve the app on this machine, or write its static twin."""
    parser = _parser()
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        chosen.act(chosen)
    except InputError as error:  # a setting of the environment, or a folder that is in use
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aqviz", description="Explore LLM quantization.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument("--mcp", action="store_true", help="serve the functions as MCP tools too")
    parser.set_defaults(act=_serve_here)
    words = "write the recorded views as a site that needs no server"
    static = parser.add_subparsers().add_parser("static", help=words, description=words)
    static.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="a new or empty folder, or an earlier site, which is replaced",
    )
    static.set_defaults(act=_write_static)
    return parser


def _serve_here(chosen: argparse.Namespace) -> None:
    if chosen.mcp and find_spec("mcp") is None:
        raise InputError('--mcp needs the extra: pip install "aqviz[mcp]"')
    core = make_core()
    serve(
        build(core),
        core,
        server_name=chosen.host,
        server_port=chosen.port,
        inbrowser=not chosen.no_browser,
        mcp_server=chosen.mcp,
    )


def _write_static(chosen: argparse.Namespace) -> None:
    written = write(chosen.out)
    size = f"{written.pages} pages, {written.files} files, {written.bytes / 1e6:.1f} MB"
    log.info("%s; open %s", size, chosen.out / INDEX)
