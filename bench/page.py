"""What a visitor of the app waits for, in seconds, on the real default model in a real Chromium.

    python bench/page.py [--json FILE] [--port 7878]

Starts the app on a cache folder of its own that already has the model, so that nothing is known
but the recordings; needs playwright and a Chromium. Run it on a quiet machine.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from gradio_client import Client
from playwright.sync_api import Browser, Page, sync_playwright

from aqviz.app import TABS
from aqviz.shown.learn import Learn, drawing
from quantcore import files, machine

SMALL = "layer=model.layers.10.self_attn.k_proj&scheme=2x8g8"  # not what is recorded
FAR_MBIT, FAR_MS = 20, 40  # the line to a server elsewhere: its width, and until a first byte
REPEATS, CLIENTS, LESSONS = 5, 8, range(1, 8)
QUIET = 20  # percent of all processors at most
LOADED = """view => {
  const tab = document.getElementById(`view-${view}-button`);
  const seen = [...document.querySelectorAll("gradio-app .plot")].filter(one => one.offsetParent);
  return tab && tab.ariaSelected === "true" && seen.length > 0 && seen[0].dataset.drawn;
}"""
# the moments at which the first figure in sight is there and the page around it can be used, by the
# page's own clock
DRAWN = """window.moments = {};
new MutationObserver(() => {
  const seen = (where) => {
    const first = [...document.querySelectorAll(`${where} .plot`)].find(one => one.offsetParent);
    return first && first.dataset.drawn;
  };
  if (seen("body")) moments.figure ??= performance.now();
  if (seen("gradio-app")) moments.page ??= performance.now();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-drawn"] });"""
STAMP = "document.querySelectorAll('.plot').forEach(one => delete one.dataset.drawn)"


class Meter:
    """The lines of the table: what, the goal, the seconds."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, what: str, value: float | str, goal: str = "") -> None:
        """Enter and show one line."""
        self.lines.append({"what": what, "goal": goal, "value": value})
        shown = f"{value:.2f}" if isinstance(value, float) else value
        print(f"{what:<72} {shown:>10}  {goal}", flush=True)  # noqa: T201 - what it is for

    def time(self, what: str, act: Callable[[], Any], goal: str = "", repeats: int = 1) -> None:
        """Enter how long it takes; of several, the median."""
        taken = []
        for _ in range(repeats):
            begun = time.perf_counter()
            act()
            taken.append(time.perf_counter() - begun)
        self.add(what, statistics.median(taken), goal)


@contextmanager
def served(port: int, settings: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """The address and process id of an app whose cache holds the model and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").symlink_to(machine.cache_dir() / "models")
        main = "from aqviz.app import main; main()"
        command = [sys.executable, "-c", main, "--no-browser", "--port", str(port)]
        surroundings = os.environ | {"QUANTCORE_CACHE": folder, "GRADIO_SSR_MODE": "False"}
        surroundings |= settings or {}
        app = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: urlopen(address, timeout=5).status == 200)
            yield address, app.pid
        finally:
            app.terminate()
            app.wait()


def wait_for(asked: Callable[[], bool], seconds: float = 120) -> None:
    """Ask until it is so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if asked():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError


def measure(browser: Browser, address: str, meter: Meter) -> None:
    """All that one visitor waits for."""
    asked: list[str] = []
    visitor = browser.new_context(viewport={"width": 1440, "height": 1000})
    visitor.set_default_timeout(90_000)
    visitor.add_init_script(DRAWN)
    visitor.on("request", lambda request: asked.append(request.url))
    for where in ("on a first visit, right after the start", "in a new tab"):
        figure, whole = arrive(visitor.new_page(), address, "race")
        meter.add(f"first figure of race {where}", figure, "< 1 s")
        meter.add(f"its controls {where}", whole)
        while psutil.cpu_percent(interval=1) > QUIET:  # it prepares the model, and the first run
            pass
    figure, _ = arrive(visitor.new_page(), address, "learn&lesson=3")
    meter.add("first figure of a link to the third lesson in a new tab", figure, "< 1 s")
    page = visitor.new_page()
    for view in TABS:
        taken = [arrive(page, address, view) for _ in range(REPEATS)]
        figure, whole = (statistics.median(one) for one in zip(*taken, strict=True))
        meter.add(f"first figure of {view}", figure, "< 1 s")
        meter.add(f"its controls, {view}", whole)
    outside = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    meter.add("requests to anywhere else", str(len(outside)), "0")
    redraws(page, address, meter)
    runs(page, address, meter)
    plane(page, address, meter)


def arrive(page: Page, address: str, view: str) -> tuple[float, float]:
    """Seconds from the request for a view to its first figure, and to its controls."""
    page.goto(f"{address}/?v=1&view={view}")
    page.wait_for_function("window.moments.page")
    moments = page.evaluate("window.moments")
    return moments["figure"] / 1000, moments["page"] / 1000


def far(browser: Browser, address: str, meter: Meter) -> None:
    """First visits to a public server elsewhere: nothing in the cache, and a line between."""
    line = {"offline": False, "latency": FAR_MS, "uploadThroughput": FAR_MBIT * 125_000}
    line["downloadThroughput"] = line["uploadThroughput"]
    taken = []
    for _ in range(REPEATS):
        visitor = browser.new_context(viewport={"width": 1440, "height": 1000})
        visitor.add_init_script(DRAWN)
        page = visitor.new_page()
        wire = visitor.new_cdp_session(page)
        wire.send("Network.enable")
        wire.send("Network.emulateNetworkConditions", line)
        taken.append(arrive(page, address, "race"))
        visitor.close()
    where = f"a first visit to a public server over {FAR_MBIT} Mbit/s and {FAR_MS} ms"
    figure, whole = (statistics.median(one) for one in zip(*taken, strict=True))
    meter.add(f"first figure of race on {where}", figure)
    meter.add(f"its controls on {where}", whole)


def go(page: Page, address: str, view: str) -> None:
    """Open a view and see its first figure."""
    page.goto(f"{address}/?v=1&view={view}")
    page.wait_for_function(LOADED, arg=view, polling=20)


def redraws(page: Page, address: str, meter: Meter) -> None:
    """From a change of a control to the new figure."""
    go(page, address, "map")
    page.wait_for_function("window.aqvizAsked === ''")

    def colour(label: str) -> None:
        page.evaluate(STAMP)
        page.get_by_label("Colour by").click()
        page.get_by_role("option", name=label, exact=True).click()
        page.wait_for_function(LOADED, arg="map", polling=20)

    labels = iter(["kurtosis of the weights", "ρ = N / K^M"] * REPEATS)
    meter.time(
        "another colour of the map, two clicks included", lambda: colour(next(labels)), "", REPEATS
    )
    for lesson in LESSONS:
        meter.time(
            f"lesson {lesson} computed and drawn, in Python",
            lambda n=lesson: drawing(Learn(lesson=n)),
            "< 0.1 s",
            REPEATS,
        )
        page.goto(f"{address}/?v=1&view=learn&lesson={lesson}")
        page.wait_for_selector(f"#plot-lesson-{lesson} .plot[data-drawn]")
        page.wait_for_function("window.aqvizAsked === ''")
        dial = page.locator(".lesson:not(.hide) .dials input[type=range]")
        if dial.count():
            meter.time(
                f"a dial of lesson {lesson}",
                lambda n=lesson, d=dial: turn(page, n, d.first),
                "",
                REPEATS,
            )


def turn(page: Page, lesson: int, dial: Any) -> None:
    """One step of a dial, back where it is at its end, until its figure is drawn."""
    page.evaluate(STAMP)
    dial.press("ArrowLeft" if dial.evaluate("one => one.value === one.max") else "ArrowRight")
    page.wait_for_selector(f"#plot-lesson-{lesson} .plot[data-drawn]")


def runs(page: Page, address: str, meter: Meter) -> None:
    """A comparison of a small layer, its cancelling, its coming back."""
    prepare(page, address)
    meter.time(
        "greedy against OA-EM on k_proj, everything measured anew",
        lambda: run_to(page, "done"),
        "< 30 s",
    )
    told = page.inner_text("#headline")
    query = page.url.partition("?")[2]
    page.goto(f"{address}/?{query}")
    meter.time("its link shows it again", lambda: state(page, "done"))
    same = page.inner_text("#headline") == told
    meter.add("the same settings give the same numbers", "yes" if same else "no", "yes")
    page.goto(f"{address}/?v=1&view=race&layer=model.layers.10.mlp.down_proj&seeds=5&beam=8")
    page.wait_for_function("window.aqvizAsked === ''")
    run_to(page, "running")
    page.wait_for_function("location.search.includes('job=')")
    page.reload()
    meter.time("a reload finds the running job again", lambda: state(page, "running"))
    page.wait_for_function("document.querySelector('#status').innerText.includes('left')")
    meter.time("cancel of a running search", lambda: cancel(page), "< 1 s")


def plane(page: Page, address: str, meter: Meter) -> None:
    """The plane and the line between two runs of the default layer that are not recorded."""
    go(page, address, "basins")
    page.goto(f"{address}/?v=1&view=basins&seed_a=1&seed_b=1")
    page.wait_for_function("window.aqvizAsked === ''")

    def run() -> None:
        page.get_by_role("button", name="Run", exact=True).first.click()
        page.wait_for_selector("#basins-status .status.done")

    meter.time("plane and line between two new runs of the default layer, Hessians included", run)


def prepare(page: Page, address: str) -> None:
    """Choose the small layer and wait until the program knows how long it will take."""
    page.goto(f"{address}/?v=1&view=race&{SMALL}")
    told = "(document.querySelector('#facts')?.innerText ?? '')"
    page.wait_for_function(f"{told}.includes('estimate') && !{told}.includes('…')")


def state(page: Page, name: str) -> None:
    """Wait for a job's state."""
    page.wait_for_selector(f"#status .status.{name}")


def run_to(page: Page, name: str) -> None:
    """Press Run and wait for a state."""
    page.get_by_role("button", name="Run", exact=True).click()
    state(page, name)


def cancel(page: Page) -> None:
    """Press Cancel and wait until it is."""
    page.get_by_role("button", name="Cancel", exact=True).click()
    state(page, "cancelled")


def crowd(address: str, meter: Meter) -> None:
    """Several clients at once, each of which must get its own layer back."""

    def visit(number: int) -> bool:
        client = Client(address, verbose=False)
        layer = f"model.layers.{number}.self_attn.k_proj"
        job = client.predict(layer, "1x6g8", settings={"windows": 0}, api_name="/race")
        while job["state"] in {"queued", "running"}:
            time.sleep(0.2)
            job = client.predict(job["id"], api_name="/job")
        return job["state"] == "done" and job["document"]["layer"] == layer

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        right = sum(pool.map(visit, range(CLIENTS)))
    meter.add(f"{CLIENTS} clients at once, each a layer", time.perf_counter() - begun)
    meter.add("of these, with their own result", f"{right} of {CLIENTS}", f"{CLIENTS}")


def main() -> None:
    """Measure, print, and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--port", type=int, default=7878)
    chosen, meter = parser.parse_args(), Meter()
    begun = time.perf_counter()
    with served(chosen.port) as (address, _), sync_playwright() as driver:
        meter.add("start of the program until it answers", time.perf_counter() - begun)
        path = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        measure(browser, address, meter)
        crowd(address, meter)
        with served(chosen.port + 1, {"AQVIZ_PUBLIC": "1"}) as (public, _):
            far(browser, public, meter)
        browser.close()
    if chosen.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        facts |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "lines": meter.lines}
        files.write_json(chosen.json, facts)


if __name__ == "__main__":
    main()
