"""The functions for programs, given JSON of any type, in the process and through HTTP."""

import http.client
import json
from urllib.parse import quote, urlencode, urlsplit

import gradio as gr
import pytest
from browsing import hosted
from harness import SECONDS, TRACES, check_sentence, many, tried
from hostile import JSONS, NUMBERS, SCHEMES, WORDS, queries
from hypothesis import example, given
from hypothesis import strategies as st

from aqviz.api import Api
from aqviz.app import one_sentence
from aqviz.permalink import OPTIONAL
from quantcore.errors import InputError

LAYER = "model.layers.0.self_attn.k_proj"
COUNTS = st.integers(-2, 1000) | st.sampled_from([10**15, 10**18 + 9, 10**400, -(10**30)])
GIVEN = {  # what is nearly right
    "layers": [WORDS],
    "regime": [COUNTS, COUNTS, st.sampled_from(SCHEMES)],
    "race": [
        st.just(LAYER),
        st.sampled_from(["2x8g8", "1x4g4"]),
        st.none() | st.just(["greedy"]),
        st.sampled_from(["beam", "descent"]),
        st.none() | st.integers(1, 4),
        st.integers(1, 5),
        st.dictionaries(
            st.sampled_from(["model", "seed", *(one.query for one in OPTIONAL)]),
            st.sampled_from(NUMBERS) | JSONS,
            max_size=3,
        )
        | st.none(),
    ],
    "job": [WORDS],
    "cancel": [WORDS],
    "recordings": [],
    "recording": [WORDS],
}
NAMED = st.dictionaries(
    st.sampled_from(["rows", "model", "layer", "settings", "job_id", "x"]), JSONS
)


def given_to(name: str):
    """Arguments for a function: right, nearly right, of any type, too many or too few."""
    return (
        st.lists(JSONS, max_size=8)
        | st.tuples(*(one | JSONS for one in GIVEN[name]))
        | st.tuples(*GIVEN[name])
    )


def told(function):
    """The function, whose refusal has its kind again: a page's error is not of our own."""

    def called(*given, **named):
        try:
            found = one_sentence(function)(*given, **named)
        except gr.Error as error:
            raise InputError(error.message) from None
        json.dumps(found)
        return found

    return called


@pytest.mark.parametrize("name", GIVEN)
def test_a_function(core, name):
    function = next(one for one in Api(core).functions() if one.__name__ == name)

    @many(80 if name in {"race", "regime"} else 30)
    @given(given_to(name), st.just({}) | NAMED)
    def call(arguments, named):
        tried(f"api: {name}", lambda: told(function)(*arguments, **named))

    call()


@pytest.fixture(scope="module")
def address(core):
    with hosted(core) as found:
        yield urlsplit(found)


def ask(address, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of what the server answers."""
    line = http.client.HTTPConnection(address.hostname, address.port, timeout=SECONDS)
    try:
        line.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        reply = line.getresponse()
        return reply.status, reply.read()
    finally:
        line.close()


def check_reply(status: int, body: bytes) -> None:
    """No fault of the server, and nothing of its insides."""
    assert status < 500, (status, body[:500])
    assert not any(trace.encode() in body for trace in TRACES), body[:500]


def call_over_http(address, name: str, body: bytes) -> None:
    status, reply = ask(address, "POST", f"/gradio_api/call/{name}", body)
    check_reply(status, reply)
    if status != 200:
        raise InputError(str(status))
    event = json.loads(reply)["event_id"]
    status, reply = ask(address, "GET", f"/gradio_api/call/{name}/{event}")
    check_reply(status, reply)
    kind, data = (line.partition(": ")[2] for line in reply.decode().splitlines()[:2])
    if kind == "complete":
        return
    assert kind == "error", reply[:500]
    words = json.loads(data)
    if isinstance(words, dict) and words.get("error") is not None:
        check_sentence(words["error"])
    raise InputError("refused")


@pytest.mark.parametrize("name", GIVEN)
def test_a_function_over_http(address, name):
    @many(12)
    @given(given_to(name).map(lambda found: {"data": list(found)}) | JSONS)
    def call(payload):
        body = json.dumps(payload).encode()
        tried("http: functions", lambda: call_over_http(address, name, body))

    call()


@many(40)
@given(
    st.binary(max_size=60) | st.text(max_size=40).map(str.encode), st.sampled_from([*GIVEN, "x"])
)
@example(b"", "race")
@example(b'{"data": [', "race")
@example(b'{"data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "race")
@example(b'{"data": [1e999, NaN]}', "regime")
@example(b'{"data": 1e999}', "regime")
@example(b'"half a letter: \\ud800"', "race")
@example(b'{"data": {"\\ud800": 1}, "\\udfff": NaN}', "race")
@example(b'{"data": ["' + b"x" * 2_000_000 + b'"]}', "race")
@example(b'{"data": ["a"], "session_hash": {"$ne": 1}, "event_data": []}', "job")
def test_any_body(address, body, name):
    tried("http: any body", lambda: call_over_http(address, name, body))


@many(40)
@given(WORDS, st.sampled_from(["json", "csv", "zip", "", "exe", "json/.."]))
@example("../first", "json")
@example("first", "csv")
def test_a_result_over_http(address, name, kind):
    path = quote(name.encode("utf-8", "replace")[:2000], safe="")

    def asked():
        status, body = ask(address, "GET", f"/gradio_api/aqviz/results/{path}.{kind}")
        check_reply(status, body)
        if status != 200:
            raise InputError(str(status))

    tried("http: results", asked)


@many(40)
@given(queries(["layer", "scheme", "job", "problem", "seeds", "beam", "text", "model"]), WORDS)
@example({"view": "race\r\nX-Evil: 1"}, "race")
def test_a_zip_over_http(address, query, view):
    line = urlencode({"view": view, **query}, errors="replace")[:8000]

    def asked():
        status, body = ask(address, "GET", f"/gradio_api/aqviz/zip?{line}")
        check_reply(status, body)
        if status != 200:
            check_sentence(body.decode())
            raise InputError(str(status))

    tried("http: zip", asked)
