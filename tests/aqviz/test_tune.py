"""The Tune tab: its sentence, table and replies against numbers worked by hand; its wiring."""

import json
import time
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
import trials
from documents import engine

from aqviz import app, notebook, permalink, recordings, studies
from aqviz import engine as engines
from aqviz.figures.tuning import draw_tuning, view_tuning
from aqviz.jobs import Job, State
from aqviz.parts import study
from aqviz.parts.study import Runner, Study, StudyView
from aqviz.shown.tune import VIEW, TuneState, replies, run_table, show, verdict
from quantcore import results, trial
from quantcore.errors import InputError
from quantcore.trial import Trial
from quantcore.weight import Scheme

THREE = Trial(inits=("greedy", "oa-em", "oa-em-adam"))


def unfinished(document):
    """The second initialiser has just begun to tune."""
    cut = json.loads(json.dumps(document))
    run = cut["runs"][1]
    run |= {"complete": False, "curve": run["curve"][:2], "replies": {"before": "a", "after": None}}
    run |= {"steps": 1, "seconds": 2.0, "best_kl": run["start_kl"], "best_step": 0}
    return cut | {"complete": False}


def test_the_sentence_says_who_ends_lower_and_by_how_much():
    assert verdict(trials.trial(THREE)) == (
        "Before tuning OA-EM is lowest at a KL of 0.06 nats a token, OA-EM (Adam) 6.7 % above it, "
        "greedy 33.3 % above it; after it OA-EM is lowest at a KL of 0.04 nats a token, greedy "
        "25.0 % above it, OA-EM (Adam) 60.0 % above it (greedy 4 steps in 20 s, OA-EM 4 steps in "
        "20 s, OA-EM (Adam) 4 steps in 20 s). One run each on a few windows of text: another seed "
        "may turn this around."
    )
    assert verdict(unfinished(trials.trial())) == (
        "greedy: the KL went from 0.08 to 0.05 nats a token in 4 steps in 20 s."
    )
    assert verdict(None) == verdict(trial.begin(Trial()))
    assert "when the first one is done" in verdict(None)


def test_the_curves_are_those_of_the_document_in_seconds():
    document = trials.trial(THREE)
    view = view_tuning({run["init"]: run["curve"] for run in document["runs"]})
    assert view.unit == "seconds"
    greedy, oaem, adam = view.courses
    assert greedy.label == "greedy"
    assert (greedy.steps, greedy.times) == ((0, 3, 4), (0.0, 7.0, 20.5))
    assert oaem.kl == pytest.approx((0.06, 0.04, 0.045))
    assert (oaem.best, adam.best) == (1, 0)
    drawing = draw_tuning(view, "nothing yet")
    assert drawing.layout.xaxis.title.text == "seconds of tuning"
    assert view.table.columns[2] == "seconds"
    assert "nothing yet" in draw_tuning(view_tuning({"greedy": []}), "nothing yet").to_json()


def test_the_table_has_a_row_for_each_initialiser_at_every_stage():
    whole = run_table(trials.trial())
    for words in ("greedy", "OA-EM", "9.2", "0.03", "0.08", "0.05", "20.5"):
        assert words in whole, words
    begun = trial.begin(Trial())
    begun["runs"] = [trials.run("greedy") | trial.attempt.begin("greedy")]
    assert run_table(begun).count("–") == 5
    assert "greedy" not in run_table(None)


def test_what_models_say_is_escaped_and_told_apart():
    told = replies(trials.trial())
    assert "Light &lt;b&gt;scatters&lt;/b&gt;." in told
    assert "<b>" not in told
    assert "The sky &amp; the sea." in told
    assert told.count("<section>") == 1 + 2 * 2
    for label in ("original", "greedy", "greedy + PV", "OA-EM", "OA-EM + PV"):
        assert f"<h4>{label}</h4>" in told
    hostile = trials.trial(Trial(prompt="Say <i>hello</i> & go"))
    assert "Say &lt;i&gt;hello&lt;/i&gt; &amp; go" in replies(hostile)
    assert replies(unfinished(trials.trial())).count("<section>") == 1 + 2 + 1
    assert "when its turn comes" in replies(None)


def test_every_stage_of_a_document_is_shown():
    state = TuneState()
    for document in (None, trial.begin(Trial()), unfinished(trials.trial()), trials.trial()):
        told, figure, *_ = show(state, document)
        assert told.startswith('<p class="headline">')
        json.loads(figure)
    *_, command, python, files = show(state, None)
    assert files == ""
    assert command.startswith("quantcore trial --blocks 10 --scheme 1x8g8 ")
    assert "document = trial.run(config" in python


def test_the_default_state_is_the_recorded_study_in_any_order_of_choices():
    assert TuneState().trial.key() == studies.TRIAL.key()
    assert TuneState(inits=("oa-em", "greedy")).trial == studies.TRIAL
    assert engines.kind_of(studies.TRIAL) == "trial"


def test_a_state_names_its_study():
    state = TuneState(
        model="tiny", blocks="0-1,4", scheme="1x6g8", steps=7, seconds=5.0, prompt="Hi", seed=3
    )
    config = state.trial
    assert (config.model, config.blocks, config.scheme) == ("tiny", (0, 1, 4), Scheme(1, 6, 8))
    assert (config.steps, config.seconds, config.prompt, config.seed) == (7, 5.0, "Hi", 3)
    query = dict(parse_qsl(permalink.encode(VIEW, state)))
    assert permalink.decode(TuneState, query) == state
    assert VIEW in app.TABS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": 301.0}, "seconds must be at most 300 here; the command has no limit"),
        ({"steps": 301}, "steps must be at most 300 here"),
        ({"reply_tokens": 201}, "reply tokens must be at most 200 here"),
        ({"blocks": "0-6"}, "at most 6 blocks are tuned here"),
        ({"blocks": "a"}, "blocks are numbers such as 0-3 or 0,2,5-7, got 'a'"),
        ({"scheme": "2by8"}, "a scheme is written like 2x8g8"),
        ({"inits": ()}, "at least one initialiser"),
        ({"inits": ("magic",)}, "magic"),
        ({"search": "magic"}, "there is no search 'magic'"),
        ({"steps": -1}, "steps of tuning must be at least 1, got -1"),
        ({"prompt": ""}, "the prompt is empty; say something"),
        ({"prompt": "a" * 1001}, "the prompt must have at most 1000 letters here"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        TuneState(**change)


def test_python_tells_the_same_study():
    config = replace(studies.TRIAL, blocks=(3,), scheme=Scheme(1, 8, 8), steps=5)
    lines = [line for line in notebook.python(config).splitlines() if "run(" not in line]
    made: dict = {}
    exec("\n".join(lines), made)
    assert made["config"] == config


class Wired:
    """The tab's events over a fake engine."""

    def __init__(self, core):
        self.core = core
        self.view = StudyView(VIEW, TuneState, lambda state: state.trial, show)
        self.study = Study(core, self.view, 7)
        state = TuneState()
        self.values = [getattr(state, name) for name in TuneState.__dataclass_fields__]


@pytest.fixture
def wired(tmp_path, monkeypatch):
    def run(config, observe, previous):
        return trials.trial(config)

    monkeypatch.setattr(recordings, "every", lambda kind: {})
    core = app.make_core(replace(engine(), run=run, seconds=lambda config: 95.0), tmp_path)
    assert core.ready.wait(5)
    yield Wired(core)
    core.store.close()


def test_the_estimate_stands_before_run_and_the_result_after_it(wired):
    status, *_ = study.values(wired.core, wired.view, TuneState())
    assert "It takes about 2 min on this machine." in status
    assert wired.study.begin(*wired.values)[0] == ""
    job = ended(wired.core, studies.TRIAL)
    assert job.state is State.DONE
    status, *_, told, _, table, said, _, _, files = study.values(
        wired.core, wired.view, TuneState()
    )
    assert "Every run has finished" in status
    assert "OA-EM is lowest" in told
    assert "greedy" in table
    assert "<section>" in said
    assert "zip?v=1&amp;view=tune" in files


def test_what_cannot_be_run_is_one_sentence(wired):
    values = [*wired.values]
    values[1] = "x"
    alert, *rest = wired.study.begin(*values)
    assert "Blocks are numbers such as" in alert
    assert len(rest) == len(Runner.HELD) + 7


def ended(core, config):
    """The study's job when it has ended."""
    until = time.monotonic() + 30
    while not core.store.find(config).state.ended:
        assert time.monotonic() < until
        time.sleep(0.02)
    return core.store.find(config)


def test_a_job_s_file_brings_the_study_back():
    job = Job("a", Trial().key(), replace(Trial(), blocks=(1, 2)), document=trials.trial())
    assert Job.from_json(job.to_json()).config == job.config
    assert results.finished(job.document) == 2


def test_the_recording_is_found_by_its_key(wired, monkeypatch):
    recorded = {"trial": trials.trial(studies.TRIAL)}
    monkeypatch.setattr(recordings, "every", lambda kind: recorded if kind == "trial" else {})
    status, *_ = study.values(wired.core, wired.view, TuneState())
    assert "An earlier run of this program" in status
    status, *_ = study.values(wired.core, wired.view, TuneState(prompt="Hello"))
    assert "Nobody has run this yet" in status
