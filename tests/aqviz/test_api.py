"""The published functions, in the process and through gradio_client on a real server."""

import time

import pytest
from documents import LAYER, SHAPE, experiment
from gradio_client import Client
from gradio_client.exceptions import AppError

from aqviz import recordings
from aqviz.api import Api
from aqviz.parts.links import asked_of
from aqviz.shown.race import visit
from quantcore.errors import InputError, QuantcoreError
from quantcore.weight import Scheme


@pytest.fixture
def call(core):
    """Calls a published function by its name."""
    functions = {function.__name__: function for function in Api(core).functions()}
    return lambda name, *given, **named: functions[name](*given, **named)


@pytest.fixture
def client(core, serve):
    made = Client(serve(core), verbose=False)
    yield made
    made.close()


def ended(call, job_id: str) -> dict:
    for _ in range(200):
        told = call("job", job_id)
        if told["state"] not in {"queued", "running"}:
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_a_regime_by_hand(call):
    # 192 x 576 weights in groups of 8: 13,824 groups; two books of 64 words: 4,096 sums
    # 12 bits of codes for 8 weights, 2 x 64 words of 8 in 16 bits, 192 scales of 16 bits
    stored = 12 / 8 + (2 * 64 * 8 * 16 + 192 * 16) / (192 * 576)
    assert call("regime", 192, 576, "2x6g8") == {
        "scheme": "2x6g8",
        "groups": 13_824,
        "sums": 4_096,
        "rho": 3.375,
        "bits_per_weight": pytest.approx(stored),
    }


def test_layers_are_those_of_the_model(call, core):
    told = call("layers")
    assert [one["name"] for one in told] == list(core.layers(None))
    assert {"name": LAYER, "out": SHAPE[0], "columns": SHAPE[1]}.items() <= told[1].items()


def test_a_race_is_the_job_that_its_link_opens(call, core):
    told = call("race", LAYER, "2x6g8", ["greedy", "oa-em-adam"], "beam", 2, 2, {"sweeps": 3})
    done = ended(call, told["id"])
    assert done["state"] == "done"
    assert done["error"] is None
    assert done["sentence"].startswith("OA-EM (Adam) started")
    config = experiment(
        scheme=Scheme(2, 6, 8),
        inits=("greedy", "oa-em-adam"),
        search="beam",
        beam=2,
        seeds=(0, 1),
        sweeps=3,
    )
    assert done["document"]["key"] == config.key()
    assert len(done["document"]["runs"]) == 4
    _, form, job = visit(core, asked_of(told["link"][1:]))
    assert job.id == told["id"]
    assert form.experiment(core.layers(None)) == config


def test_the_same_race_is_one_job(call):
    first = call("race", LAYER)
    assert call("race", LAYER, settings={"sweeps": 4})["id"] == first["id"]
    assert call("race", LAYER, settings={"sweeps": 5})["id"] != first["id"]


def test_a_job_can_be_cancelled(call, core):
    told = [call("race", LAYER, seeds=n) for n in (1, 2, 3)][-1]
    call("cancel", told["id"])
    assert ended(call, told["id"])["state"] == "cancelled"


def test_recordings_are_listed_and_given_whole(call, monkeypatch):
    kept = {"first": {"key": "a", "date": "d"}, "rho": {"key": "b", "kind": "survey", "date": "e"}}
    monkeypatch.setattr(recordings, "studies", lambda: kept)
    assert call("recordings") == [
        {"name": "first", "kind": "experiment", "date": "d"},
        {"name": "rho", "kind": "survey", "date": "e"},
    ]
    assert call("recording", "rho") == kept["rho"]


def test_what_names_no_settings_is_no_recorded_study(tmp_path):
    recordings.write("study", {"key": "a"}, tmp_path)
    recordings.write("bench", {"rates": []}, tmp_path)
    assert recordings.studies(tmp_path) == {"study": {"key": "a"}}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("layers", (3,), "layers cannot use what it was given as model"),
        ("regime", ("192", 576), "given as rows: Input should be a valid integer"),
        ("regime", (True, 576), "given as rows"),
        ("regime", (0, 576), "at least one row"),
        ("regime", (192, 576, "2by8"), "2by8"),
        ("regime", (1, 10**15, "2x8g7"), "at most 1000000000 rows and columns"),
        ("regime", (10**400, 8), "at most 1000000000 rows and columns"),
        ("recordings", (3,), "recordings cannot use what it was given as 0: Unexpected"),
        ("race", ("a\nb",), r"no layer 'a\\nb'"),
        ("race", ("x" * 3000,), "must have at most 2000 letters"),
        ("race", (LAYER, "2x8g8", None, "beam", 1, 1, {"seed": 10**30}), "must fit into 64 bits"),
        ("job", ("x" * 10_000,), "no job of this id"),
        ("regime", (192, 576, "2x16g8"), "does not fit"),
        ("race", (), "given as layer: Missing"),
        ("race", ("",), "the layer is empty"),
        ("race", ("nowhere",), "no layer nowhere"),
        ("race", (LAYER, "2x8g8", "greedy"), "given as initialisers"),
        ("race", (LAYER, "2x8g8", ["best"]), "best"),
        ("race", (LAYER, "2x8g8", []), "initialiser"),
        ("race", (LAYER, "2x8g8", None, "luck"), "luck"),
        ("race", (LAYER, "2x8g8", None, "beam", 0), "beam"),
        ("race", (LAYER, "2x8g8", None, "beam", 1, 100), "1 to 5"),
        ("race", (LAYER, "2x8g8", None, "beam", 1, 1, {"sweep": 4}), "got sweep"),
        ("race", (LAYER, "2x8g8", None, "beam", 1, 1, {"sweeps": [4]}), "sweeps"),
        ("job", ("../first",), "no job of this id"),
        ("cancel", ("first",), "no job of this id"),
        ("recording", ("../models",), "no recording"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, name, given, words):
    with pytest.raises(QuantcoreError, match=words.replace("(", r"\(")) as refused:
        call(name, *given)
    assert "\n" not in str(refused.value)


def test_a_client_runs_a_race_and_reads_its_result(client):
    told = client.predict(layer=LAYER, initialisers=["greedy", "oa-em"], api_name="/race")

    def call(name, job_id):
        return client.predict(job_id, api_name=f"/{name}")

    done = ended(call, told["id"])
    assert [run["init"] for run in done["document"]["runs"]] == ["greedy", "oa-em"]
    with pytest.raises(AppError, match="this model has no layer nowhere; layers lists them"):
        client.predict("nowhere", api_name="/race")
    with pytest.raises(AppError, match="given as rows"):
        client.predict("many", 576, api_name="/regime")


def test_a_client_is_told_types_and_words(client):
    told = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    rows, columns, scheme = told["/regime"]["parameters"]
    assert (rows["parameter_name"], rows["type"]["type"]) == ("rows", "integer")
    assert columns["type"]["type"] == "integer"
    assert (scheme["parameter_default"], scheme["type"]["type"]) == ("2x8g8", "string")
    assert "rho" in told["/regime"]["description"]


def test_a_refusal_is_of_the_projects_own_kind(call):
    with pytest.raises(InputError):
        call("regime", 1.5, 576)
