import io
import urllib.error
import urllib.request

import pandas as pd
import pytest
from documents import document, experiment
from gradio_client import Client

from aqviz import app
from aqviz.jobs import State
from aqviz.plot_host import SCRIPT_URL
from quantcore.experiment import Experiment

NAMES = ("layers", "regime", "recordings", "recording", "race", "job", "cancel")
PUBLIC_ENDPOINTS = {f"/{name}" for name in NAMES}  # of aqviz.api, and none of the page's handlers


@pytest.fixture
def address(core, serve):
    return serve(core)


def fetch(url: str):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.status, reply.headers, reply.read()


def test_no_handler_of_the_page_is_a_public_endpoint(address):
    client = Client(address, verbose=False)
    try:
        listed = client.view_api(return_format="dict", print_info=False)
    finally:
        client.close()
    assert set(listed["named_endpoints"]) == PUBLIC_ENDPOINTS
    assert not listed["unnamed_endpoints"]


def test_plotly_comes_from_this_server_and_may_be_kept(address):
    status, headers, body = fetch(f"{address}/{SCRIPT_URL}")
    assert status == 200
    assert b"plotly.js v" in body[:200]
    assert "immutable" in headers["Cache-Control"]


def test_the_page_names_no_folder_of_this_machine(address):
    _, _, page = fetch(address)
    assert b"site-packages" not in page
    assert str(app.HERE).encode() not in page


def test_the_first_page_already_holds_the_recorded_result(address):
    _, _, config = fetch(f"{address}/config")
    assert b"OA-EM started 30.0 % below greedy" in config


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_the_recording_and_a_job_can_be_downloaded(address, core, kind):
    job = core.store.submit(experiment(beam=2))
    while core.store.get(job.id).state is not State.DONE:
        pass
    for name in ("first", job.id):
        status, headers, body = fetch(f"{address}/gradio_api/aqviz/results/{name}.{kind}")
        assert status == 200
        assert f"aqviz-{name}.{kind}" in headers["Content-Disposition"]
        if kind == "csv":
            assert list(pd.read_csv(io.BytesIO(body))["init"]) == ["greedy", "oa-em"]


@pytest.mark.parametrize("name", ["nobody.json", "first.exe", "first.zip", "..%2Fjobs%2Fx.json"])
def test_what_is_not_a_result_is_not_found(address, name):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(f"{address}/gradio_api/aqviz/results/{name}")


def test_it_builds_without_a_recording(core):
    bare = app.Core(core.engine, core.store, None, core.ready)
    assert app.build(bare).blocks


def test_it_builds_where_the_default_model_cannot_be_had(core):
    from dataclasses import replace

    from quantcore.errors import SourceError

    def gone(model):
        raise SourceError("the Hub cannot be reached")

    bare = app.Core(replace(core.engine, layers=gone), core.store, None, core.ready)
    assert app.build(bare).blocks


def test_the_recorded_experiment_is_what_the_controls_say(core):
    config, layers = core.first()
    assert config == experiment()
    assert isinstance(config, Experiment)
    assert layers[config.layer].projection == "self_attn.k_proj"
    assert document()["layer"] in layers


def test_tools_without_their_package_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["aqviz", "--mcp"])
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        app.main()
    assert 'needs the extra: pip install "aqviz[mcp]"' in capsys.readouterr().err
