import gzip
import io
import json
import urllib.error
import urllib.request
from dataclasses import replace

import pandas as pd
import pytest
from documents import document, experiment
from gradio_client import Client

from aqviz import app
from aqviz.gate import limited
from aqviz.jobs import State
from aqviz.limits import Limits
from aqviz.parts.visitors import COOKIE
from aqviz.plot_host import SCRIPT_URL
from aqviz.serving import HEADERS
from quantcore.experiment import Experiment

NAMES = ("layers", "regime", "recordings", "recording", "race", "job", "cancel")
PUBLIC_ENDPOINTS = {f"/{name}" for name in NAMES}  # of aqviz.api, and none of the page's handlers


@pytest.fixture
def address(core, serve):
    return serve(core)


def fetch(url: str | urllib.request.Request):
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


@pytest.mark.parametrize("public", [True, False])
def test_what_goes_far_is_compressed(core, serve, public):
    limits = Limits.here({"AQVIZ_PUBLIC": str(int(public))})
    asked = urllib.request.Request(
        serve(replace(core, limits=limits)), headers={"Accept-Encoding": "gzip"}
    )
    _, headers, page = fetch(asked)
    assert headers["Content-Encoding"] == ("gzip" if public else None)
    whole = gzip.decompress(page) if public else page
    assert b"first-paint" in whole
    assert (len(whole) > 4 * len(page)) == public


def test_node_draws_no_page_though_a_space_asks_for_it(core, serve, monkeypatch):
    monkeypatch.setenv("GRADIO_SSR_MODE", "True")
    _, headers, page = fetch(serve(core))
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert headers["Set-Cookie"].startswith(f"{COOKIE}=")
    assert b"window.gradio_config" in page


def test_on_a_space_the_page_asks_for_no_header_of_others(core, monkeypatch):
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "me/aqviz")
    assert app.build(core).get_config_file()["space_id"] is None


def test_no_function_can_be_called_past_the_queue(address):
    call = urllib.request.Request(
        f"{address}/gradio_api/run/regime",
        b'{"data": [8, 8, "2x8g8"]}',
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(call, timeout=10)


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
    from quantcore.errors import SourceError

    def gone(model):
        raise SourceError("the Hub cannot be reached")

    bare = app.Core(replace(core.engine, layers=gone), core.store, None, core.ready)
    assert app.build(bare).blocks


OF_MODELS = {"model", "map-model", "search-model", "basins-model", "tune-model"}


def of_choice(core, limits) -> tuple[list[dict], str]:
    """What the page's fields for models say and offer, and what the one for texts is called."""
    page = app.build(replace(core, engine=limited(core.engine, limits), limits=limits))
    parts = [part["props"] for part in page.config["components"]]
    models = [props for props in parts if props.get("elem_id") in OF_MODELS]
    assert len(models) == len(OF_MODELS)
    (text,) = (props["label"] for props in parts if str(props.get("label")).startswith("Text"))
    return models, text


def test_in_public_the_fields_offer_what_is_allowed_and_name_nothing_else(core):
    allowed = replace(Limits.here({"AQVIZ_PUBLIC": "1"}), models=("my/model",))
    models, text = of_choice(core, allowed)
    for model in models:
        assert [value for _, value in model["choices"]] == ["", *core.engine.models(), "my/model"]
        assert model["label"] == "Model"
        assert "no other" in model["info"]
    assert text == "Text"


def test_on_ones_own_machine_the_fields_name_all_that_may_be_given(core):
    models, text = of_choice(core, Limits())
    assert {one["label"] for one in models} == {"Model (or a Hub id, folder, GGUF file)"}
    assert text == "Text (or a file)"


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


@pytest.mark.parametrize("body", [b'{"data": 1e999}', b'"half a letter: \\ud800"', b"NaN", b"["])
def test_what_is_no_call_is_refused_and_not_repeated(address, body):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(
            urllib.request.Request(
                f"{address}/gradio_api/call/regime", body, {"Content-Type": "application/json"}
            ),
            timeout=10,
        )
    assert refused.value.code == 422
    (found,) = json.load(refused.value)["detail"]
    assert set(found) == {"type", "loc", "msg"}


def test_the_model_is_prepared_when_somebody_waits_for_it(core):
    waiting = app.Core(core.engine, core.store, None)
    waiting.warm_up(within=60.0)
    assert not waiting.ready.wait(0.1)
    assert waiting.layers(None)
    assert waiting.ready.is_set()
