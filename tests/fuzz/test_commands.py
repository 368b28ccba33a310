"""The command line, given any value for any option: exit code 2 and one sentence, or the work."""

import json
from pathlib import Path

import pytest
import typer
from harness import check_sentence, many, tried
from hostile import JSONS, NAMES, NUMBERS, SCHEMES
from hypothesis import example, given
from hypothesis import strategies as st

from quantcore import __main__ as cli
from quantcore import evaluation, experiment, landscape, model, sources, starts, survey, trial
from quantcore.commands import console
from quantcore.errors import InputError
from quantcore.pv import folder as tuning

COMMANDS = typer.main.get_command(cli.app).commands
WORKS = (experiment, survey, landscape, starts, trial, evaluation, model, tuning)
BEGUN = "the work begins"
ENDS = (0, console.BAD_INPUT)
TYPED = st.sampled_from(
    NUMBERS + SCHEMES + tuple(one for one in NAMES if "\x00" not in one and one != "\ud800")
)
PATHS = st.sampled_from(
    ["a.json", "held.json", "folder", "", ".", "gone/a.json", "x" * 300, "held.json/x", "é.json"]
)
FILES = {"json_file", "folder", "out", "problem"}
LAYER = ["--layer", "model.layers.0.self_attn.q_proj"]


@pytest.fixture(scope="module", autouse=True)
def idle(tmp_path_factory):
    """Work that says so and ends, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in WORKS:
            patch.setattr(module, "run", begun)
        patch.setattr(sources, "load", begun)
        patch.setattr("builtins.input", begun)
        patch.chdir(tmp_path_factory.mktemp("work"))
        Path("folder").mkdir()
        yield


def begun(*_: object, **__: object) -> None:
    raise InputError(BEGUN)


@st.composite
def command_lines(draw) -> list[str]:
    """A command with some of its options, each with a value that it hopes for or any other."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    words = [name]
    params = [one for one in COMMANDS[name].params if one.name != "help"]
    for one in params:
        if one.param_type_name == "argument" and draw(st.integers(0, 4)):
            words.append(draw(TYPED))
    options = [one for one in params if one.param_type_name == "option"]
    for one in draw(st.lists(st.sampled_from(options), max_size=4)) if options else ():
        words.append(one.opts[0])
        if one.is_flag:
            continue
        words.append(draw(PATHS if one.name in FILES else TYPED))
    return words + (
        LAYER if draw(st.booleans()) and name in {"layer", "landscape", "starts"} else []
    )


def run(words, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["quantcore", *words])
    monkeypatch.setattr(console, "out", console.Console(width=console.WIDE))
    monkeypatch.setattr(console, "err", console.Console(stderr=True, width=10_000))
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    told = capsys.readouterr()
    assert code in ENDS, (code, told.err)
    assert "Traceback" not in told.err
    if code:
        own = [line for line in told.err.splitlines() if line.startswith("Error: ")]
        if "Usage:" not in told.err:  # typer's own refusals come in a box
            assert told.err.endswith(own[0] + "\n"), told.err  # before it, which model is used
            check_sentence(own[0])
        raise InputError("refused")


@pytest.fixture
def quantcore(monkeypatch, capsys):
    return lambda words: run(words, monkeypatch, capsys)


@many(250)
@given(command_lines())
@example(["layers", "--bpp", "nan"])
@example(["report", "/dev/zero"])
@example(["layer", "--seeds", "9" * 12, *LAYER])
def test_any_options(quantcore, words):
    Path("held.json").write_text("{")
    tried("command line: options", lambda: quantcore(words))


@many(60)
@given(
    st.sampled_from(["layer", "survey", "landscape", "starts", "trial", "evaluate"]),
    st.dictionaries(
        st.sampled_from(["kind", "key", "config", "runs", "candidates", "starts"]), JSONS
    )
    | JSONS,
    st.booleans(),
)
def test_any_earlier_result(quantcore, name, held, right):
    """`--json FILE` where FILE holds anything: it is gone on with, or not overwritten."""
    words = {"layer": LAYER, "landscape": LAYER, "starts": LAYER, "evaluate": ["a"]}.get(name, [])
    kind = {"evaluate": evaluation.KIND}.get(name, name)
    found = (
        {"kind": kind, "key": "x", "config": {}} | held
        if right and isinstance(held, dict)
        else held
    )
    Path("held.json").write_text(json.dumps(found))
    tried("command line: earlier results", lambda: quantcore([name, *words, "--json", "held.json"]))
    assert Path("held.json").exists()


@many(60)
@given(JSONS | st.fixed_dictionaries({"runs": JSONS, "model": JSONS, "config": JSONS}))
def test_any_report(quantcore, held):
    Path("held.json").write_text(json.dumps(held))
    tried("command line: report", lambda: quantcore(["report", "held.json"]))
