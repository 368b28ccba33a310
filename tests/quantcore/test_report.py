import io
import json
import os

import pandas as pd
import pytest

from quantcore import entries, files, report
from quantcore.errors import InputError


def perplexity(value, difference=None):
    facts = {"value": value, "standard_error": 0.5, "windows": 4, "tokens": 44}
    if difference is not None:
        facts |= {"difference": difference, "difference_error": 0.01}
    return facts


CURVE = [
    {"step": 0, "seconds": 1.0, "validation_kl": 0.5, "perplexity": 30.0},
    {"step": 1, "seconds": 2.0, "validation_kl": None, "perplexity": None},
    {"step": 2, "seconds": 3.0, "validation_kl": 0.2, "perplexity": 25.0},
    {"step": 4, "seconds": 6.5, "validation_kl": 0.3, "perplexity": 26.0},
]
MANIFEST = {
    "format": 1,
    "model": {"kind": "folder", "name": "small"},
    "config": {"bpp": 2.0, "init": "oa-em", "seed": 3},
    "plan": [
        {"name": "a", "scheme": {"codebooks": 2, "bits": 8, "group": 8}},
        {"name": "b", "scheme": None},
        {"name": "c", "scheme": {"codebooks": 1, "bits": 8, "group": 8}},
        {"name": "d", "scheme": {"codebooks": 2, "bits": 8, "group": 8}},
    ],
    "blocks": {"0": {"seconds": 3.0}, "1": {"seconds": 4.5}},
    "ledger": {"layer_bits": 2.1234},
    "tuning": {"config": {"lr": 1}, "curve": CURVE, "complete": True},
}
EVALUATION = {
    "kind": "evaluation",
    "text": {"spec": "wikitext2"},
    "tokens": {"sha256": "0123456789abcdef", "windows": 4, "length": 12},
    "original": {"model": {"name": "small"}, "perplexity": perplexity(20.0)},
    "candidates": [
        {
            "model": {"name": "q"},
            "quantization": entries.quantization(MANIFEST),
            "perplexity": perplexity(25.125, 0.2231),
            "kl": {"mean": 0.3, "mean_error": 0.02},
            "top1": {"share": 0.75, "share_error": None},
            "seconds": 7.25,
        }
    ],
}
RUN = {
    "init": "greedy",
    "seed": 1,
    "relative_error": 0.0125,
    "heldout_relative_error": 0.02,
    "perplexity": perplexity(21.0, 0.05),
    "seconds": {"total": 3.5},
}
LAYER = {
    "layer": "a|b",
    "model": {"name": "small"},
    "scheme": {"codebooks": 1, "bits": 8, "group": 8},
    "bits_per_weight": 1.25,
    "config": {"search": "descent", "text": "c4", "perplexity_windows": 8, "window": 256},
    "runs": [RUN, RUN | {"seed": 2, "perplexity": None}],
}


def test_an_evaluation_has_a_row_for_the_original_and_each_candidate():
    frame = report.table({"e.json": EVALUATION})
    original, candidate = frame.to_dict("records")
    assert (original["model"], original["perplexity"]) == ("small", 20.0)
    assert pd.isna(original["kl"])
    want = {
        "document": "e.json",
        "model": "q",
        "scheme": "2x8 g8, 1x8 g8",
        "bits": 2.1234,
        "init": "oa-em",
        "seed": 3,
        "tuned": "step 2 of 4",
        "measured_on": "wikitext2, 4 x 12 (01234567)",
        "perplexity": 25.125,
        "perplexity_error": 0.5,
        "difference": 0.2231,
        "difference_error": 0.01,
        "kl": 0.3,
        "kl_error": 0.02,
        "top1": 0.75,
        "seconds": 14.0,
    }
    assert candidate == want  # columns that nothing has are not there


def test_a_layer_has_a_row_for_each_run():
    first, second = report.table({"l.json": LAYER}).to_dict("records")
    assert (first["layer"], first["init"], first["seed"], first["search"]) == (
        "a|b", "greedy", 1, "descent",
    )  # fmt: skip
    assert (first["scheme"], first["bits"], first["seconds"]) == ("1x8 g8", 1.25, 3.5)
    assert (first["relative_error"], first["heldout_relative_error"]) == (0.0125, 0.02)
    assert (first["perplexity"], first["measured_on"]) == (21.0, "c4, 8 x 256")
    assert second["seed"] == 2
    assert pd.isna(second["perplexity"])
    assert pd.isna(second["measured_on"])


def test_a_layer_from_before_there_was_a_choice_was_searched_by_beam():
    old = LAYER | {"config": {k: v for k, v in LAYER["config"].items() if k != "search"}}
    assert set(report.table({"l.json": old})["search"]) == {"beam"}


def test_a_problem_files_runs_have_no_model():
    assert "model" not in report.table({"l.json": LAYER | {"model": None}})


def test_a_manifest_is_a_row():
    (row,) = report.table({"q": MANIFEST}).to_dict("records")
    assert row == {
        "document": "q",
        "model": "small",
        "scheme": "2x8 g8, 1x8 g8",
        "bits": 2.1234,
        "init": "oa-em",
        "seed": 3,
        "tuned": "step 2 of 4",
        "measured_on": "validation text",
        "perplexity": 25.0,
        "kl": 0.2,
        "seconds": 14.0,
    }
    untuned = MANIFEST | {"tuning": None}
    assert report.table({"q": untuned})["seconds"].tolist() == [7.5]
    begun = MANIFEST | {"tuning": {"config": {}, "curve": [], "complete": False}}
    assert "tuned" not in report.table({"q": begun})
    bare = MANIFEST | {"tuning": None, "ledger": None, "blocks": {}}
    assert list(report.table({"q": bare})) == [
        "document", "model", "scheme", "init", "seed",
    ]  # fmt: skip


def measured(name, *window_nll):
    """A candidate of windows of 11 predicted tokens."""
    facts = perplexity(25.0, 0.2) | {"windows": len(window_nll), "tokens": 11 * len(window_nll)}
    entry = EVALUATION["candidates"][0]
    return entry | {"model": {"name": name}, "perplexity": facts, "window_nll": list(window_nll)}


def test_every_two_candidates_of_an_evaluation_are_a_pair():
    losses = {"a": (11.0, 22.0), "b": (0.0, 33.0), "c": (5.5, 16.5)}
    entries = [measured(name, *nll) for name, nll in losses.items()]
    frame = report.pairs({"e.json": EVALUATION | {"candidates": entries}})
    rows = frame.to_dict("records")
    assert [(row["model"], row["other"]) for row in rows] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [row["over_other"] for row in rows] == [0.0, 0.5, 0.5]
    # nats a token apart by window: 1 and -1, 0.5 and 0.5, -0.5 and 1.5
    assert [row["over_other_error"] for row in rows] == pytest.approx([1.0, 0.0, 1.0])
    assert {row["measured_on"] for row in rows} == {"wikitext2, 4 x 12 (01234567)"}
    assert "| a | b | wikitext2, 4 x 12 (01234567) | 0.0000 ± 1.0000 |" in report.markdown(frame)


def test_pairs_of_what_has_none_are_refused():
    old = EVALUATION | {"candidates": [measured("a", 1.0), EVALUATION["candidates"][0]]}
    with pytest.raises(InputError, match=r"e\.json is from before windows' losses were kept"):
        report.pairs({"e.json": old})
    with pytest.raises(InputError, match=r"q is no evaluation; give what"):
        report.pairs({"q": MANIFEST})
    assert report.pairs({"e.json": EVALUATION}).empty  # one candidate has no other


def test_documents_stand_in_their_order():
    frame = report.table({"q": MANIFEST, "e": EVALUATION, "l": LAYER})
    assert frame["document"].tolist() == ["q", "e", "e", "l", "l"]


def test_an_evaluation_that_has_measured_nothing_has_no_row():
    assert report.table({"e": EVALUATION | {"original": None}}).empty


def test_markdown_has_numbers_with_their_errors():
    lines = report.markdown(report.table({"e.json": EVALUATION, "l": LAYER})).splitlines()
    heads = [cell.strip() for cell in lines[0].strip("|").split(" | ")]
    assert lines[1] == "|" + " --- |" * len(heads)
    assert len(lines) == 2 + 4
    cells = dict(
        zip(heads, lines[3].removeprefix("| ").removesuffix(" |").split(" | "), strict=True)
    )
    assert cells["perplexity"] == "25.125 ± 0.500"
    assert cells["nats over the original"] == "0.2231 ± 0.0100"
    assert cells["KL"] == "0.3000 ± 0.0200"
    assert cells["same top word"] == "0.7500"
    assert cells["seed"] == "3"
    assert cells["bits per weight"] == "2.123"
    assert cells["error"] == ""
    assert "a\\|b" in lines[4]


@pytest.mark.parametrize("unknown", [{}, {"kind": "other"}, {"plan": []}])
def test_an_unknown_document_is_refused(unknown):
    with pytest.raises(InputError, match=r"x\.json is no result that is known here; give what"):
        report.table({"e.json": EVALUATION, "x.json": unknown})


@pytest.fixture
def run(command_line):
    return lambda *arguments: command_line("report", *arguments, width=400)


@pytest.fixture
def written(tmp_path):
    """An evaluation's file and a quantized model's folder."""
    files.write_json(tmp_path / "e.json", EVALUATION)
    files.write_json(tmp_path / "q" / "quantcore.json", MANIFEST)
    return [tmp_path / "e.json", tmp_path / "q"]


def test_the_command_shows_markdown(run, written):
    code, out, err = run(*written)
    assert (code, err) == (0, "")
    documents = {str(path): report.read(path) for path in written}
    assert out == report.markdown(report.table(documents))


def test_the_command_shows_pairs(run, tmp_path):
    document = EVALUATION | {"candidates": [measured("a", 11.0, 22.0), measured("b", 0.0, 0.0)]}
    files.write_json(tmp_path / "e.json", document)
    code, out, _ = run(tmp_path / "e.json", "--pairs")
    assert code == 0
    assert "| nats a token over it |" in out
    assert "| a | b |" in out
    assert "| 1.5000 ± 0.5000 |" in out


def test_the_command_writes_csv(run, written, tmp_path):
    path = tmp_path / "table.csv"
    code, out, _ = run(*written, "--format", "csv", "--out", path)
    assert code == 0
    assert f"Written to {path}" in out
    frame = pd.read_csv(path)
    assert frame["perplexity"].tolist()[:2] == [20.0, 25.125]
    assert ",3," in path.read_text()  # a seed is no decimal
    assert frame["document"].tolist() == [str(written[0])] * 2 + [str(written[1])]
    shown = run(*written, "--format", "csv")[1]
    assert pd.read_csv(io.StringIO(shown)).equals(frame)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "there is no file"), ("[1]", "no JSON document"), ("{", "no JSON document")],
)
def test_what_is_no_document_is_one_sentence(run, tmp_path, text, words):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    code, _, err = run(path)
    assert code == 2
    assert words in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_what_has_no_end_is_not_read(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # a reader of it would wait
    code, _, err = run(tmp_path / "pipe")
    assert code == 2
    assert "there is no file" in err


def test_a_folder_without_a_manifest_is_refused(run, tmp_path):
    code, _, err = run(tmp_path)
    assert code == 2
    assert "there is no file" in err
    assert "quantcore.json" in err


@pytest.mark.parametrize("seed", ["1.5", 10**30, 1 << 63, "x"])
def test_a_seed_that_is_none_is_one_sentence(seed):
    run = dict.fromkeys(("layer", "init", "search", "beam", "relative_error"))
    run |= {"scheme": "2x8g8", "seed": seed, "seconds": {"total": 1.0}}
    run |= dict.fromkeys(("bits_per_weight", "heldout_relative_error"), 1.0)
    with pytest.raises(InputError, match="a seed that is no whole number"):
        report.table({"a": {"kind": "survey", "model": None, "runs": [run]}})


def test_a_survey_has_a_row_for_every_run(command_line, tmp_path):
    run = {
        "layer": "a",
        "scheme": "2x8g8",
        "bits_per_weight": 2.2,
        "init": "greedy",
        "search": "beam",
        "beam": 4,
        "seed": 1,
        "relative_error": 0.25,
        "heldout_relative_error": 0.5,
        "seconds": {"total": 3.0},
    }
    path = tmp_path / "survey.json"
    path.write_text(json.dumps({"kind": "survey", "model": None, "runs": [run]}))
    code, out, _ = command_line("report", path, "--format", "csv")
    assert code == 0
    row = out.splitlines()[1].removeprefix(f"{path},")
    assert row == "a,2x8 g8,2.2,greedy,beam 4,1,0.25,0.5,3.0"


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "survey"},
        {"kind": "survey", "model": None, "runs": [3]},
        {"runs": [], "model": None, "config": None},
        {"plan": [], "ledger": [], "model": {}},
        {"kind": "evaluation", "original": {"perplexity": {}}, "candidates": []},
    ],
)
def test_a_result_that_is_not_whole_is_one_sentence(document):
    with pytest.raises(InputError, match=r"mine is no whole result .*; make it again") as refused:
        report.table({"mine": document})
    assert "\n" not in str(refused.value)
