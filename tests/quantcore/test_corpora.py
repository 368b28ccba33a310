import gzip
import hashlib
import json

import pandas as pd
import pytest
import torch
from models import tiny_tokenizer

from quantcore import corpora, machine
from quantcore.errors import SourceError

SPLITS = ("calibration", "evaluation")
DOCUMENTS = [f"document {n}" for n in range(10)]


def both(spec):
    return [corpora.load_text(str(spec), split)[0] for split in SPLITS]


@pytest.mark.parametrize("split", SPLITS)
def test_the_built_in_text_is_its_files_in_order(split):
    text, source = corpora.load_text("default", split)
    parts = sorted((corpora.ASSETS / split).glob("*.txt"))
    assert len(parts) >= 3
    assert text.split("\n\n") == "\n\n".join(p.read_text().strip() for p in parts).split("\n\n")
    assert split in source.note
    assert source.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_the_built_in_parts_share_no_paragraph():
    first, second = (set(text.split("\n\n")) for text in both("default"))
    assert not {p for p in first & second if len(p) > 40}


def test_a_checkout_without_texts_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "ASSETS", tmp_path)
    with pytest.raises(SourceError, match=r"built-in texts are missing .* give a text file"):
        corpora.load_text("default", "calibration")


def test_a_plain_text_gives_its_last_quarter_to_evaluation(tmp_path):
    lines = [f"line {n:02}" for n in range(40)]
    path = tmp_path / "notes.txt"
    path.write_text("\n".join(lines))
    calibration, evaluation = both(path)
    assert calibration.splitlines() + evaluation.splitlines() == lines
    assert 8 <= len(evaluation.splitlines()) <= 10


def test_a_text_of_one_line_is_cut_between_words(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("one two three four five six seven eight")
    calibration, evaluation = both(path)
    assert f"{calibration} {evaluation}" == path.read_text()


def write(path, documents):
    if path.suffix == ".parquet":
        pd.DataFrame({"text": documents}).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps([{"text": text, "n": 1} for text in documents]))
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.json", "a.jsonl"])
def test_every_fourth_document_goes_to_evaluation(tmp_path, name):
    calibration, evaluation = both(write(tmp_path / name, DOCUMENTS))
    assert evaluation.split("\n\n") == DOCUMENTS[3::4]
    assert calibration.split("\n\n") == [d for n, d in enumerate(DOCUMENTS) if n % 4 != 3]


def test_few_documents_are_cut_like_a_text(tmp_path):
    calibration, evaluation = both(write(tmp_path / "a.jsonl", ["one two three four", "five six"]))
    assert f"{calibration} {evaluation}" == "one two three four\n\nfive six"


def test_documents_without_text_are_passed_over(tmp_path):
    path = write(tmp_path / "a.parquet", [*DOCUMENTS[:4], None, *DOCUMENTS[4:]])
    assert both(path)[1].split("\n\n") == DOCUMENTS[3::4]


def test_reading_a_file_writes_no_second_copy(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    both(write(tmp_path / "a.parquet", DOCUMENTS))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("wikitext-2", "did you mean 'wikitext2'"), ("/no/such.txt", "use one of default, wiki")],
)
def test_an_unknown_text_offers_the_known(spec, hint):
    with pytest.raises(SourceError, match=f"no text '{spec}'.*{hint}"):
        corpora.load_text(spec, "calibration")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF", r"a\.pdf is not a text that can be read; use one of \.txt, "),
        ("a.txt", b"\xff\xfe\x00", r"a\.txt cannot be read as UTF-8 text"),
        ("a.txt", b"", "the calibration part of text .* is empty; give a longer text"),
        ("a.jsonl", b"", r"a\.jsonl cannot be read as json: it is empty"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"te',
            r"a\.jsonl cannot be read as json: Unterminated string",
        ),
        ("a.jsonl", b'{"body": "a", "n": 1}\n', r"no column 'text'; its columns are body, n"),
        ("a.json", b" \nnull", "part of text .* is empty"),
        ("a.json", b'[null, {"text": null}]', "part of text .* is empty"),
        ("a.json", b'{"text": "\\ud800"}', r"a\.json cannot be read as json: 'utf-8' codec"),
        ("a.json", b"[" * 100_000, r"a\.json cannot be read as json: maximum recursion"),
        ("a.jsonl", b'{"a\\nb": 1}\n', r"its columns are 'a\\nb'"),
        ("a.json", b"what?", r"a\.json cannot be read as json: "),
        ("a.parquet", b"PAR1 and then nothing", r"a\.parquet cannot be read as parquet: "),
        ("a.parquet", b"", r"a\.parquet cannot be read as parquet: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path, caplog, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as refusal:
        corpora.load_text(str(tmp_path / name), "calibration")
    assert "\n" not in str(refusal.value)
    assert not caplog.records  # nor anything logged


def test_a_parquet_file_cut_short_is_refused(tmp_path):
    whole = write(tmp_path / "whole.parquet", DOCUMENTS).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"cut\.parquet cannot be read as parquet"):
        corpora.load_text(str(tmp_path / "cut.parquet"), "calibration")


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def cached_file(cache, repository, name):
    """Where the Hub's client keeps a file it has fetched."""
    folder = cache / f"datasets--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    path = folder / "snapshots" / ("0" * 40) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_wikitext_is_joined_as_gptq_does(hub_cache):
    lines = {"calibration": ["", " = Train = \n"], "evaluation": ["", " = Test = \n", " words \n"]}
    for split, rows in lines.items():
        name = corpora.WIKITEXT_FILES[split]
        write(cached_file(hub_cache, "Salesforce/wikitext", name), rows)
    for split, rows in lines.items():
        text, source = corpora.load_text("wikitext2", split)
        assert text == "\n\n".join(rows)
        assert "WikiText-2 raw" in source.note


def test_c4_is_a_part_of_its_validation_documents(hub_cache, monkeypatch):
    monkeypatch.setattr(corpora, "C4_DOCUMENTS", 4)
    path = cached_file(hub_cache, "allenai/c4", corpora.C4_FILE)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"text": text, "url": "u"}) + "\n" for text in DOCUMENTS)
    assert both("c4")[1].split("\n\n") == [DOCUMENTS[3]]


@pytest.mark.parametrize("spec", ["wikitext2", "c4"])
def test_without_the_hub_its_texts_are_refused_at_once(hub_cache, monkeypatch, spec):
    monkeypatch.setattr(machine, "hub_reachable", lambda: False)
    with pytest.raises(SourceError, match=f"'{spec}' comes from the Hub, which cannot be reached"):
        corpora.load_text(spec, "evaluation")


def test_a_failing_download_is_a_sentence(hub_cache, monkeypatch):
    def download(*_, local_files_only=False, **__):
        if local_files_only:
            raise corpora.LocalEntryNotFoundError("not here")
        raise OSError("connection reset.\nmore")

    monkeypatch.setattr(machine, "hub_reachable", lambda: True)
    monkeypatch.setattr(corpora, "hf_hub_download", download)
    with pytest.raises(SourceError, match=r"fetched from the Hub: connection reset$"):
        corpora.load_text("c4", "evaluation")


def test_windows_are_full_and_do_not_overlap():
    tokenizer, text = tiny_tokenizer(), "the cat sat on the mat."
    ids = tokenizer(text)["input_ids"]
    cut = corpora.windows(tokenizer, text, 5)
    assert cut.tolist() == [ids[0:5], ids[5:10], ids[10:15], ids[15:20]]
    assert corpora.windows(tokenizer, text, 5, 2).tolist() == cut[:2].tolist()
    assert corpora.windows(tokenizer, text, 5, 99).shape == (4, 5)


def test_a_text_of_exactly_n_windows_gives_n():
    assert corpora.windows(tiny_tokenizer(), "abcdef", 3).shape == (2, 3)


def test_a_text_too_short_for_a_window_says_by_how_much():
    with pytest.raises(SourceError, match="the text has 4 tokens and one window needs 5"):
        corpora.windows(tiny_tokenizer(), "abcd", 5)


def test_a_window_longer_than_the_model_sees_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 8
    assert corpora.windows(tokenizer, "a" * 20, 8).shape == (2, 8)
    with pytest.raises(SourceError, match="windows of 9 tokens are longer than the 8 this model"):
        corpora.windows(tokenizer, "a" * 20, 9)


def test_a_window_predicts_something():
    with pytest.raises(SourceError, match="at least 2 tokens, got 1"):
        corpora.windows(tiny_tokenizer(), "abcd", 1)


def test_reference_files_are_read(shared):
    text, _ = corpora.load_text(str(shared / "data" / "wikitext2_raw_test_head.txt"), "evaluation")
    whole = (shared / "data" / "wikitext2_raw_test_head.txt").read_text()
    assert whole.endswith(text)
    frame = pd.read_parquet(shared / "data" / "c4_en_validation_1000.parquet")
    documents, _ = corpora.load_text(
        str(shared / "data" / "c4_en_validation_1000.parquet"), "evaluation"
    )
    assert documents == "\n\n".join(frame["text"][3::4])
    assert torch.is_tensor(corpora.windows(tiny_tokenizer(), text, 64, 3))
