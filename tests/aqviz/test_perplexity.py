import json
import math
import statistics

import evaluated
import models as tiny
import pytest
from evaluated import CURVE, GENERATIONS, WORDS

from aqviz import evaluations, generations, permalink, recordings, theme
from aqviz.evaluations import Difference
from aqviz.figures.kl import draw_kl, view_kl
from aqviz.figures.models import draw_models, view_models
from aqviz.figures.pairs import draw_pairs, view_pairs
from aqviz.figures.tokens import Token, draw_tokens, view_tokens
from aqviz.figures.tuning import draw_tuning, view_tuning
from aqviz.shown import perplexity_panels as panels
from aqviz.shown.perplexity import Perplexity, show, shown
from aqviz.tabs.perplexity import choices
from quantcore import generate, sources
from quantcore.errors import InputError
from quantcore.generate import GenerateConfig

DOCUMENTS = {
    "none": None,
    "begun": {**evaluated.document(), "original": None, "candidates": [], "tokens": None},
    "whole": evaluated.document(),
    "one candidate": evaluated.document({"greedy": 0.5}),
    "old": evaluated.document(old=True),
}
FIGURES = {
    "models": lambda made: draw_models(view_models(made)),
    "pairs": lambda made: draw_pairs(view_pairs(made, "original")),
    "pairs of greedy": lambda made: draw_pairs(view_pairs(made, "greedy")),
    "kl": lambda made: draw_kl(view_kl(made)),
    "tokens": lambda made: draw_tokens(view_tokens(made, "greedy", "original", 1)),
}


@pytest.fixture
def document():
    return evaluated.document()


@pytest.fixture
def recorded(monkeypatch, document):
    """The recordings of one scheme."""
    kept = {
        "models-2x8g8": document,
        "tuning-2x8g8": {"2x8g8-greedy": CURVE},
        "generations-2x8g8": GENERATIONS,
    }

    def read(name):
        assert "/" not in name  # a link names no other file
        return kept.get(name)

    monkeypatch.setattr(recordings, "read", read)
    return kept


@pytest.mark.parametrize("made", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_every_figure_draws_and_says_what_it_is(draw, made):
    figure = draw(made)
    assert figure.to_json()
    assert figure.layout.meta["alt"].endswith(".")
    assert figure.layout.height >= 150


@pytest.mark.parametrize("made", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_everything_is_shown_of_every_document(made):
    assert len(shown(Perplexity(), made)) == 13


def test_models_are_named_by_how_they_were_made(document):
    found = evaluations.models(document)
    assert list(found) == ["original", *evaluated.COST]
    assert found["oa-em-adam"].label == "OA-EM (Adam)"
    assert found["oa-em-tuned"].label == "OA-EM + PV"
    assert found["oa-em-tuned"].style is theme.STYLES["oa-em"]


def test_models_of_another_search_are_named_and_drawn_by_it():
    costs = {"greedy": 0.1, "greedy-with-beam": 0.5, "oa-em-with-beam-tuned": 0.3}
    made = evaluated.document(costs)
    found = evaluations.models(made)
    assert list(found) == ["original", *costs]
    assert found["oa-em-with-beam-tuned"].label == "OA-EM with beam + PV"
    assert found["greedy-with-beam"].init == "greedy"
    assert found["greedy-with-beam"].style.colour == found["greedy"].style.colour
    assert found["greedy-with-beam"].style.dash != found["greedy"].style.dash
    assert view_models(made).rows == ("original", "greedy", "greedy with beam", "OA-EM with beam")
    assert [dot.row for dot in view_models(made).dots] == [0, 1, 2, 3]


def test_verdicts_compare_within_a_search_and_searches_from_one_start():
    starts = ("greedy", "greedy-with-beam", "oa-em-adam-with-beam")
    costs = {start: 0.1 * n for n, start in enumerate(starts, start=1)}
    told = evaluations.verdicts(evaluated.document(costs))
    assert len(told) == 2
    assert "the loss of OA-EM (Adam) with beam is 0.1" in told[0]
    assert "above that of greedy with beam" in told[0]
    assert "the loss of greedy with beam is 0.1" in told[1]
    assert "above that of greedy:" in told[1]


def test_a_course_is_drawn_by_what_its_name_says():
    courses = view_tuning({"x-greedy-tuned": CURVE, "oa-em-adam-with-beam-tuned": CURVE}).courses
    assert [course.label for course in courses] == ["greedy", "OA-EM (Adam) with beam"]


def test_a_model_made_otherwise_and_a_second_one_keep_their_names(document):
    document["candidates"][1]["quantization"] = document["candidates"][0]["quantization"]
    document["candidates"][2]["quantization"] = None
    assert list(evaluations.models(document))[1:4] == ["greedy", "q-oa-em", "q-oa-em-adam"]


def test_the_choices_are_those_of_all_recordings(document):
    other = evaluated.document({"greedy": 0.1, "oa-em-adam-tuned": 0.2})
    found = choices(map(evaluations.models, (document, other)))
    assert [key for _, key in found] == ["original", *evaluated.COST, "oa-em-adam-tuned"]
    assert choices([]) == []


def test_a_difference_is_paired(document):
    found = evaluations.models(document)
    one, other = found["oa-em"], found["greedy"]
    each = [
        (a - b) / evaluated.PREDICTED
        for a, b in zip(one.entry["window_nll"], other.entry["window_nll"], strict=True)
    ]
    got = evaluations.difference(one, other)
    assert got.mean == pytest.approx(statistics.mean(each))
    assert got.error == pytest.approx(statistics.stdev(each) / math.sqrt(len(each)))
    # 0.06 apart in every window but the last, where it is 0.02 less
    assert got == pytest.approx((-0.06 + 0.02 / 6, 0.02 / 6))
    assert got.interval == pytest.approx((-0.06 - 0.02 / 6, -0.06 + 0.06 / 6))


@pytest.mark.parametrize(
    ("found", "shows"),
    [
        (Difference(0.3, 0.1), True),
        (Difference(-0.3, 0.1), True),
        (Difference(0.2, 0.1), False),
        (Difference(0.1, 0.1), False),
        (Difference(0.3, None), False),
        (Difference(0.0, 0.0), False),
    ],
)
def test_a_difference_is_shown_beyond_two_errors(found, shows):
    assert found.shown is shows


def test_an_old_document_knows_differences_from_the_original_only():
    new, old = (
        evaluations.models(made) for made in (evaluated.document(), evaluated.document(old=True))
    )
    for key in evaluated.COST:
        want = evaluations.difference(new[key], new["original"])
        assert evaluations.difference(old[key], old["original"]) == pytest.approx(want)
        back = evaluations.difference(old["original"], old[key])
        assert back == pytest.approx((-want.mean, want.error))
    assert evaluations.difference(old["oa-em"], old["greedy"]) is None


def test_verdicts_say_what_is_shown_and_what_is_not():
    costs = {"greedy": 0.5, "oa-em": 0.495, "oa-em-adam": 0.7, "oa-em-tuned": 0.3}
    told = evaluations.verdicts(evaluated.document(costs))
    # -0.005 with 0.02 more in one of six windows: mean -0.0017, error 0.0033
    assert told[0] == (
        "Before PV-tuning, no difference between OA-EM and greedy is shown: "
        "−0.0017 nats a token (−0.0083 to +0.0050)."
    )
    mean, reach = 0.2 + 0.04 / 6, 2 * 0.04 / 6
    assert told[1] == (
        f"Before PV-tuning, the loss of OA-EM (Adam) is {mean:.4f} nats a token "
        f"({mean - reach:.4f} to {mean + reach:.4f}) above that of greedy: "
        f"a perplexity {100 * math.expm1(mean):.1f} % higher."
    )
    assert told[2].startswith("On the same windows, the loss of OA-EM + PV is 0.18")
    assert told[2].endswith("lower.")
    assert len(told) == 3


def test_verdicts_of_what_cannot_be_known():
    assert evaluations.verdicts(None) == ()
    assert evaluations.verdicts(evaluated.document({"oa-em": 0.4})) == ()
    assert evaluations.verdicts(evaluated.document(old=True)) == (evaluations.NO_PAIRS,)


def test_rows_are_starts_and_dots_are_models(document):
    view = view_models(document)
    assert view.rows == ("original", "greedy", "OA-EM", "OA-EM (Adam)")
    assert [dot.row for dot in view.dots] == [0, 1, 2, 3, 1, 2]
    for dot in view.dots:
        assert dot.value == dot.model.entry["perplexity"]["value"]
        assert f"{dot.model.label} {dot.value:.2f} ± {dot.error:.2f}" in view.alt
    symbols = {t.hovertemplate.split("<br>")[0]: t.marker.symbol for t in _dots(view)}
    assert symbols["OA-EM"] == "diamond-open"
    assert symbols["OA-EM + PV"] == "diamond"
    lines = [t for t in draw_models(view).data if t.mode == "lines"]
    assert len(lines) == 2  # greedy's and OA-EM's, from before tuning to after it


def _dots(view):
    return [t for t in draw_models(view).data if t.mode == "markers"]


def test_pairs_are_against_the_chosen_model(document):
    view = view_pairs(document, "greedy")
    assert view.reference == "greedy"
    keys = [pair.model.key for pair in view.pairs]
    assert keys == ["original", "oa-em", "oa-em-adam", "greedy-tuned", "oa-em-tuned"]
    assert "OA-EM −0.0567 (−0.0633 to −0.0500), shown" in view.alt
    assert view.table.rows[1][0] == "OA-EM"
    assert view.table.rows[1][3] == "shown"
    none = view_pairs(evaluated.document({"greedy": 0.5, "oa-em": 0.495}), "greedy")
    assert "OA-EM −0.0017 (−0.0083 to +0.0050), not shown" in none.alt
    hollow = [t.marker.symbol for t in draw_pairs(none).data]
    assert hollow == ["cross", "diamond-open"]


def test_pairs_of_an_old_document_are_explained():
    assert view_pairs(evaluated.document(old=True), "greedy").alt == evaluations.NO_PAIRS
    assert len(view_pairs(evaluated.document(old=True), "original").pairs) == 5
    assert "not in this recording" in view_pairs(evaluated.document(), "nobody").alt


def test_the_tail_of_kl_is_that_of_the_quantiles(document):
    tails = view_kl(document).tails
    assert [tail.model.key for tail in tails] == list(evaluated.COST)
    for tail, entry in zip(tails, document["candidates"], strict=True):
        quantiles = entry["kl"]["quantiles"]
        assert tail.above == pytest.approx((50, 25, 10, 5, 1, 0.1))
        assert tail.values == tuple(
            quantiles[share] for share in ("0.5", "0.75", "0.9", "0.95", "0.99", "0.999")
        )
        assert tail.of_worst == pytest.approx(100 * entry["worst_shares"][1]["of_kl"])
    assert f"greedy median {tails[0].median:.3f}, mean {tails[0].mean:.3f}" in view_kl(document).alt


def test_a_model_like_its_original_has_no_tail(document):
    for entry in document["candidates"]:
        entry["kl"]["quantiles"] = dict.fromkeys(entry["kl"]["quantiles"], 0.0)
    assert draw_kl(view_kl(document)).to_json()


def test_tokens_have_the_losses_of_both_models(document):
    view = view_tokens(document, "oa-em", "greedy", 2)
    assert view.opening == WORDS[0]
    assert [token.text for token in view.tokens] == WORDS[1:]
    one, other = (document["candidates"][n]["sample"]["nll"][1] for n in (1, 0))
    assert [token.one for token in view.tokens] == one
    assert [token.excess for token in view.tokens] == [
        a - b for a, b in zip(one, other, strict=True)
    ]
    mean = sum(token.excess for token in view.tokens) / len(view.tokens)
    assert mean == pytest.approx(-0.06, abs=1e-4)
    assert "Window 2 as OA-EM reads it: −0.060 nats a token over greedy" in view.alt
    assert view.table.rows[0][:2] == (1, WORDS[1])
    original = view_tokens(document, "original", "greedy", 1)
    assert {token.kl for token in original.tokens} == {None}


def test_the_sentence_counts_notable_tokens(document):
    sample = document["candidates"][0]["sample"]["nll"][0]
    base = document["original"]["sample"]["nll"][0]
    sample[:] = base
    sample[4], sample[5], sample[6] = base[4] + 7, base[5] + 2.5, base[6] - 3
    sample[7], sample[8] = base[7] - 1, base[8] + 1.5  # not notable
    alt = view_tokens(document, "greedy", "original", 1).alt
    assert f"of {len(base)} tokens 2 are more than 2 nats worse and 1 more than 2 better" in alt
    assert f"the worst is {WORDS[5].strip()!r} at position 5." in alt


@pytest.mark.parametrize(
    ("excess", "level"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (-0.5, -1), (1, 2), (-2, -3), (3.9, 3), (4, 4), (-40, -4)],
)
def test_marks_grow_in_four_steps(excess, level):
    assert Token("a", 5.0 + excess, 5.0, None).level == level


def test_what_keeps_no_tokens_says_so(document):
    assert (
        "before the tokens" in view_tokens(evaluated.document(old=True), "oa-em", "greedy", 1).alt
    )
    assert "not in this recording" in view_tokens(document, "nobody", "greedy", 1).alt
    assert "not in this recording" in view_tokens(None, "oa-em", "greedy", 1).alt


def test_the_course_of_tuning_and_its_best_state():
    view = view_tuning({"2x8g8-oa-em-adam-tuned": CURVE, "untouched": []})
    (course,) = view.courses
    assert course.label == "OA-EM (Adam)"
    assert (course.steps, course.best) == ((0, 10, 20), 1)
    assert view.unit == "minutes"
    assert course.times == pytest.approx((1 / 60, 1, 2))
    assert "OA-EM (Adam) from 0.900 to 0.600 at step 10 of 20." in view.alt
    sizes = draw_tuning(view).data[0].marker.size
    assert sizes[1] > sizes[0] == sizes[2]
    assert draw_tuning(view_tuning(None)).to_json()


def test_empty_lines_of_a_reply_are_left_out():
    assert "<p>one\ntwo\n three</p>" in panels.said("Say.", {"greedy": "one\n\n \ntwo\n three\n\n"})


def test_words_of_others_are_escaped(document):
    text = panels.text(view_tokens(document, "greedy", "original", 1))
    assert "&lt;b&gt;counts&lt;/b&gt;" in text
    assert "<b>" not in text
    assert text.count('title="') == len(WORDS) - 1
    worst = panels.worst(document, "greedy")
    assert "&lt;12&gt;" in worst
    assert "<u>" not in worst
    said = panels.replies(GENERATIONS)
    assert "Is 1 &lt; 2?" in said
    assert "<i>" not in said
    assert "OA-EM + PV" in said
    document["original"]["model"]["note"] = "<script>"
    assert "<script>" not in panels.about(document)
    bars = draw_tokens(view_tokens(document, "greedy", "original", 1))
    assert not any("<b>counts" in words for words in bars.data[0].customdata)


def test_what_is_not_there_is_said_in_words(document):
    assert "Choose a quantized model" in panels.worst(document, "original")
    assert "No replies" in panels.replies(None)
    assert "No evaluation" in panels.about(None)
    assert panels.verdicts(None) == ""


def test_the_command_and_the_python_repeat_it(document, recorded, tmp_path, monkeypatch):
    document["config"] |= {"against": None, "windows": 6, "sample": 2}
    found = show(Perplexity(model="oa-em", beside="greedy"))
    names = " ".join(f"q-{key}" for key in evaluated.COST)
    assert found.command == (
        f"quantcore evaluate {names} --text default --windows 6 --window 12 --sample 2 "
        "--json models.json"
    )
    (tmp_path / "models.json").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    said = {}
    exec(found.python, said)
    assert said["mean"] == pytest.approx(-0.06 + 0.02 / 6)
    exec(show(Perplexity(beside="original")).python, said)
    assert said["mean"] == pytest.approx(0.44 + 0.04 / 6)


def test_a_state_shows_its_recording(recorded):
    found = show(Perplexity(model="greedy-tuned", beside="oa-em", window=2))
    assert "Window 2 as greedy + PV reads it" in found.tokens
    assert "Loss over that of OA-EM" in found.pairs
    assert "from 0.900 to 0.600" in found.tuning
    assert "Yes, &lt;i&gt;" in found.replies


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recording": "models-9x9g9"}, "there is no recording 'models-9x9g9'"),
        ({"recording": "models-/../../first"}, "there is no recording"),
        ({"recording": "tuning-2x8g8"}, "there is no recording"),
        ({"model": "best"}, "no model 'best'; it has original, greedy, OA-EM"),
        ({"beside": "none"}, "no model 'none'"),
        ({"window": 3}, "this recording keeps 2 windows of its text"),
    ],
)
def test_what_a_recording_lacks_is_one_sentence(recorded, change, words):
    with pytest.raises(InputError, match=words):
        show(Perplexity(**change))


def test_states_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="beside itself"):
        Perplexity(model="oa-em", beside="oa-em")
    with pytest.raises(InputError, match="counted from 1, got 0"):
        Perplexity(window=0)


@pytest.mark.parametrize(
    "state",
    [Perplexity(), Perplexity("models-1x8g8", "greedy-tuned", "oa-em", 2)],
    ids=["first", "other"],
)
def test_a_link_brings_the_state_back(state):
    query = permalink.encode("perplexity", state)
    pairs = dict(part.split("=") for part in query.split("&"))
    assert permalink.decode(Perplexity, pairs) == state
    assert permalink.encode("perplexity", Perplexity()) == "v=1&view=perplexity"


def test_the_names_are_those_of_the_files(tmp_path):
    for name in ("models-2x8g8", "models-1x8g8", "tuning-2x8g8", "first"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert evaluations.names(tmp_path) == ("models-1x8g8", "models-2x8g8")


def test_the_recordings_that_are_here_can_be_shown():
    assert evaluations.names()
    for name in evaluations.names():
        document = evaluations.read(name)
        assert document is not None
        key = next(key for key in evaluations.models(document) if key != "original")
        assert show(Perplexity(recording=name, model=key))


def test_replies_are_recorded_for_every_model_and_prompt(tmp_path):
    folder = str(tiny.save_model(tmp_path / "tiny"))
    config = GenerateConfig(tokens=6, seed=4)
    made = generations.record({"original": folder, "oa-em": folder}, ["the cat", "a"], config)
    json.dumps(made)
    loaded = sources.load(sources.resolve(folder))
    want = [
        generate.reply(loaded, [{"role": "user", "content": text}], config, lambda piece: None).text
        for text in ("the cat", "a")
    ]
    assert made["replies"] == {"original": want, "oa-em": want}
    assert made["config"]["seed"] == 4
    assert "the cat" in panels.replies(made)
    with pytest.raises(InputError, match="at least one model and one prompt"):
        generations.record({}, ["a"])
