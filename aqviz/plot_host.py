"""Plotly inside gr.HTML, drawn by a plotly.js of the plotly package's version (`vendor`).

gr.Plot runs an older plotly.js, rebuilds the plot on every value (so a zoom is lost while a run
goes on) and ignores the dark theme. Here `Plotly.react` updates in place, layout.uirevision keeps
the zoom, frames play, text and hover follow the page. layout.meta.alt becomes the accessible name
and the sentence under the figure, layout.meta.table its table and CSV; pictures are made in the
browser.

plotly.js is served by a route of our own, not as a file of Gradio's, so the page names no path of
this machine; its URL carries the version and may be cached for ever. The browser reads it, and the
host's own script once for all figures, before Gradio starts (`first_paint`).
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from aqviz.vendor import PLOTLY, PLOTLY_VERSION

SCRIPT_URL = f"gradio_api/aqviz/plotly-{PLOTLY_VERSION}.min.js"
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
TEMPLATE = (
    '<div class="plot"></div><p class="told"></p><div class="tools"></div>'
    '<div class="sheet" tabindex="0" role="region" aria-label="the figure as a table" hidden></div>'
)
JS = (Path(__file__).parent / "plot_host.js").read_text(encoding="utf-8")
SCRIPT = f"""
window.aqvizPlot = function (element, props, watch, trigger) {{
{JS}
}};
"""


def script_route() -> Route:
    """The route that serves plotly.js."""

    async def script(request: Request) -> FileResponse:
        return FileResponse(PLOTLY, media_type="text/javascript", headers=FOREVER)

    return Route(f"/{SCRIPT_URL}", script)
