"""The table of what was tried, and the same as JSON where AQVIZ_FUZZ_JSON names a file."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import harness
import pytest

from quantcore import files, machine


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, no Hub and no packaged model: inputs alone decide."""
    from quantcore import sources

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzz-cache")
        patch.setenv("QUANTCORE_CACHE", str(folder))
        patch.setattr(machine, "hub_reachable", lambda: False)
        patch.setattr(sources, "PACKAGE", "no_such_package")
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        yield folder


def pytest_terminal_summary(terminalreporter):
    """Target, inputs, seconds, refused, accepted, the slowest input."""
    terminalreporter.section("inputs of strangers")
    line = "{:34} {:>7} {:>9} {:>8} {:>9} {:>10}".format
    terminalreporter.line(line("target", "inputs", "seconds", "refused", "accepted", "slowest, s"))
    for name, tally in harness.TALLIES.items():
        figures = (f"{tally.seconds:.1f}", tally.refused, tally.accepted, f"{tally.slowest:.2f}")
        terminalreporter.line(line(name, tally.inputs, *figures))
    total = sum(tally.inputs for tally in harness.TALLIES.values())
    terminalreporter.line(line("all", total, *[""] * 4))
    path = os.environ.get("AQVIZ_FUZZ_JSON")
    if path:
        document = {
            "targets": {name: asdict(tally) for name, tally in harness.TALLIES.items()},
            "inputs": total,
            "times": harness.TIMES,
            "machine": machine.describe(),
            "versions": machine.versions(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        files.write_json(Path(path), document)


@pytest.fixture(scope="session")
def core(cache, tmp_path_factory):
    """The app's core over a fake engine, with what is recorded."""
    from documents import engine

    from aqviz import app

    made = app.make_core(engine(), tmp_path_factory.mktemp("fuzz-jobs"))
    assert made.ready.wait(60)
    yield made
    made.store.close()


@pytest.fixture(scope="session")
def page(core):
    """The whole page, as far as it is built before it is served."""
    from aqviz import app

    made = app.build(core)
    made.css = ""
    return made


@pytest.fixture(scope="session")
def opened(page):
    """The handler that opens each view's link, and what its controls say at first."""
    from aqviz.parts.links import Wiring, values_of

    found = {}
    for function in page.fns.values():
        wiring = getattr(function.fn, "__self__", None)
        if isinstance(wiring, Wiring) and function.fn.__name__ == "opened":
            found[wiring.view.name] = function.fn, values_of(wiring.view.kind())
    return found


@pytest.fixture
def uncompressed(monkeypatch):
    """Zips as they are: to compress plotly's script takes most of their time."""
    import zipfile

    monkeypatch.setattr(zipfile, "ZIP_DEFLATED", zipfile.ZIP_STORED)
