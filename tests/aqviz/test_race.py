from dataclasses import replace

import gradio as gr
import pytest
from documents import LAYER, document, experiment, layers

from aqviz import permalink, theme
from aqviz.jobs import Job, State
from aqviz.parts.board import board_values, followed, resume, start
from aqviz.parts.links import View, Wiring
from aqviz.shown import panels, race_panels
from aqviz.shown.form import Form, blocks_of, projections_of
from aqviz.shown.map import MapState
from aqviz.shown.race import Shown, check, first_facts, show_job, show_recording, visit
from aqviz.shown.search import SearchState
from aqviz.store import Place
from aqviz.tabs.race import default_width
from quantcore.errors import QuantcoreError, SourceError
from quantcore.progress import Progress
from quantcore.search import DEFAULT_WIDTHS, SEARCHES
from quantcore.weight import Scheme

FORM = Form.of(experiment(), layers(None))
FIRST = Place(0, 0.0)


def query(config, job=None) -> dict[str, str]:
    from urllib.parse import parse_qsl

    return dict(parse_qsl(permalink.to_query(config, job)))


def test_a_form_and_its_experiment_are_two_ways_to_say_one_thing():
    config = experiment(
        model="m",
        scheme=Scheme(3, 7, 8),
        inits=("oa-em",),
        seeds=(4, 5),
        search="beam",
        beam=3,
        shrinkage=0.2,
    )
    assert Form.of(config, layers(None)).experiment(layers(None)) == config
    assert FORM.experiment(layers(None)) == experiment(beam=1)


@pytest.mark.parametrize("search", SEARCHES)
def test_the_beam_is_the_searchs_own_until_another_is_chosen(search):
    assert default_width(search) == DEFAULT_WIDTHS[search]
    assert Form.of(experiment(search=search), layers(None)).beam == DEFAULT_WIDTHS[search]
    assert Form.of(experiment(search=search, beam=5), layers(None)).beam == 5


def test_a_preset_is_a_choice_and_another_scheme_is_spelled_out():
    assert FORM.preset == "2"
    assert Form.of(experiment(scheme=Scheme(1, 5, 8)), layers(None)).preset == "own"
    assert FORM._replace(preset="3").scheme() == Scheme(3, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": None}, "The beam width is empty; enter a number"),
        ({"inits": 3.5}, "The inits is of a type that it cannot be"),
        ({"model": 3}, "The model is of a type that it cannot be"),
        ({"beam": 2.5}, "The beam width must be a whole number, got 2.5"),
        ({"beam": 0}, "1, got 0"),
        ({"search": "magic"}, "There is no search &#x27;magic&#x27;; choose one of"),
        ({"search": None}, "No search is chosen; choose one"),
        ({"search": "feedback", "beam": 0}, "1, got 0"),
        ({"sweeps": -1}, "got -1"),
        ({"seeds": 9}, "The number of seeds must be 1 to 5, got 9"),
        ({"seeds": 0}, "The number of seeds must be 1 to 5, got 0"),
        ({"seed": None}, "The seed is empty"),
        ({"inits": []}, "No initialiser is chosen; choose at least one"),
        ({"preset": "own", "group": 7}, "do not divide into groups of 7"),
        ({"preset": "own", "bits": 40}, "Bits must be 1 to 16, got 40"),
        ({"block": "99"}, "Block 99 has no layer self_attn.k_proj"),
        ({"shrinkage": 2}, "hrinkage must be between 0 and 1"),
        ({"damping": -1}, "amping must be at least 0"),
        ({"windows": -1}, "erplexity windows must be at least 0"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_started(core, change, message):
    form = FORM._replace(**change)
    facts, alert = check(core, form)
    assert facts == ""
    assert message in alert
    with pytest.raises(QuantcoreError):
        start(core, form)
    assert core.store.find(experiment()) is None


def test_the_facts_are_known_before_anything_runs(core):
    facts, alert = check(core, FORM)
    assert alert == ""
    assert "ρ = 0.211" in facts
    assert "2.62" in facts
    assert "13,824 groups share 65,536 sums, fewer groups than sums" in facts
    assert "more groups than sums" in check(core, FORM._replace(preset="1"))[0]


def test_the_first_facts_leave_the_estimate_open(core):
    assert "…" in first_facts(core)
    assert "…" not in check(core, FORM)[0]


def test_a_model_that_cannot_be_had_is_a_sentence(core):
    def gone(model):
        raise SourceError(f"there is no model {model}")

    core = replace(core, engine=replace(core.engine, layers=gone))
    assert "There is no model x" in check(core, FORM._replace(model="x"))[1]
    assert "There is no model x" in visit(core, query(experiment(model="x")))[0]


def test_a_link_brings_back_form_and_job(core):
    job = start(core, FORM._replace(search="beam", beam=3))
    alert, form, found = visit(core, query(job.config, job.id))
    assert (alert, form.search, form.beam, found.id) == ("", "beam", 3, job.id)


def test_a_link_without_a_job_finds_the_same_experiments_result(core):
    job = start(core, FORM)
    assert visit(core, query(experiment()))[2].id == job.id
    assert visit(core, query(experiment(beam=2)))[2] is None
    assert visit(core, query(experiment(search="descent", beam=1)))[2] is None


def test_a_link_to_a_lost_job_keeps_its_settings(core):
    alert, form, found = visit(core, query(experiment(beam=3), "lost"))
    assert "is not kept here" in alert
    assert form.beam == 3
    assert found is None


def test_a_bad_link_is_a_sentence_and_the_page_stays(core):
    assert "beam must be a whole number" in visit(core, {"layer": LAYER, "beam": "x"})[0]
    assert "no search &#x27;x&#x27;" in visit(core, {"layer": LAYER, "search": "x"})[0]
    assert "no layer nowhere" in visit(core, {"layer": "nowhere"})[0]
    assert visit(core, {}) == ("", None, None)


def test_resume_submits_the_same_experiment(core):
    job = start(core, FORM)
    assert resume(core, job.id).id == job.id
    assert resume(core, "nobody") is None


def test_blocks_and_their_layers():
    assert blocks_of(layers(None)) == ["0", "1", "2", "3"]
    assert "mlp.down_proj" in projections_of(layers(None), "2")
    assert projections_of(layers(None), "9") == []


def job(**changes) -> Job:
    return Job("id", "key", experiment(), document=document(), **changes)


def test_a_running_job_says_phase_count_and_time_left():
    progress = Progress("oa-em, seed 0: beam search", 30.0, 120.0, 42.0)
    status = panels.status(job(state=State.RUNNING, progress=progress), FIRST)
    assert "oa-em, seed 0: beam search: 25 %, about 42 s left" in status
    assert "2 of 2 runs finished" in status
    assert 'aria-valuenow="25"' in status


def test_a_waiting_job_says_how_many_are_before_it():
    assert "1 run is before it" in panels.status(job(), Place(1, None))
    told = panels.status(job(), Place(3, 95.0))
    assert "3 runs are before it" in told
    assert "begins in about 2 min" in told


@pytest.mark.parametrize("state", list(State))
def test_every_state_of_a_job_is_shown(state):
    shown = show_job(job(state=state, error="it failed"), FIRST)
    assert state in shown.status
    assert all(isinstance(value, str) and value for value in shown)


def test_words_from_others_cannot_become_markup():
    made = document() | {"layer": "<script>", "model": {"note": "<img src=x>"}}
    shown = show_job(Job("i", "k", experiment(), State.FAILED, document=made, error="<b>"), FIRST)
    assert "<script>" not in shown.headline
    assert "<img" not in shown.status
    assert "<b>" not in shown.status
    assert "<u>" not in panels.alert("<u>")


def test_a_recording_says_that_it_is_one_with_date_machine_model_and_text():
    status = show_recording(document()).status
    assert "recorded" in status
    assert "Made on 2026-09-01 on a test, 2 cores." in status
    assert "SmolLM2-135M from the installed package" in status
    assert "The texts that come with this program." in status


def test_the_command_names_the_model_that_the_default_stood_for():
    assert "--model SmolLM2-135M --layer" in show_recording(document()).command
    assert "--model" not in show_job(Job("i", "k", experiment()), FIRST).command
    assert (
        "--model mine" in show_job(replace(job(), config=experiment(model="mine")), FIRST).command
    )


@pytest.mark.parametrize("search", SEARCHES)
def test_the_result_names_its_search(search):
    made = document(experiment(search=search))
    words = f"· {theme.SEARCHES[search]}, beam {DEFAULT_WIDTHS[search]}</p>"
    assert words in show_recording(made).headline
    assert f"--search {search} --beam" in show_recording(made).command


def test_a_result_from_before_there_was_a_choice_is_the_beams():
    made = document(experiment(search="beam", beam=8))
    del made["config"]["search"]
    assert "· beam search (as released), beam 8</p>" in show_recording(made).headline
    assert "--search beam --beam 8" in show_recording(made).command


def test_without_a_recording_the_page_says_what_to_do():
    assert "press Run" in show_recording(None).status


def test_the_table_has_a_row_for_each_initialiser_and_the_original():
    table = race_panels.results(document())
    assert table.count('<th scope="row">') == 3
    assert "2.63 %" in table
    assert "18.65 <small>± 1.40</small>" in table
    assert "perplexity" not in race_panels.results(document(experiment(perplexity_windows=0)))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "< 1 s"), (12, "12 s"), (100, "2 min"), (9000, "2.5 h")]
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert panels.duration(seconds) == words


@pytest.mark.parametrize("grows", [False, True])
def test_a_view_that_is_opened_without_a_link_is_redrawn_only_where_it_can_have_grown(grows):
    shown = []

    def show(state):
        shown.append(state)
        return ["drawn"]

    wiring = Wiring(View("map", MapState, show, grows), 5, 2)
    values = ["", "layer", "rho", "2x8g8", True]
    assert len(wiring.opened("view=search", *values)) == 5 + 2 + 1
    assert shown == ([MapState(layer="layer", colour="rho")] if grows else [])
    *controls, alert, drawn, query = wiring.opened("view=map&colour=kurtosis", *values)
    assert controls == ["", MapState.layer, "kurtosis", "2x8g8", True]
    assert (alert, drawn, query) == ("", "drawn", "v=1&view=map&colour=kurtosis")


def test_a_link_to_the_race_with_another_views_job_is_a_sentence(core):
    job = core.store.submit(SearchState(layer=LAYER).survey)
    alert, form, found = visit(core, {"job": job.id})
    assert "not kept here" in alert
    assert form is found is None
    assert board_values(core, core.race(job.id))[len(Shown._fields)] == ""


def test_a_page_that_follows_a_job_is_sent_what_is_new(core, monkeypatch):
    job = Job("one", "key", experiment(), State.RUNNING, document=document(), version=7, grown=5)
    monkeypatch.setattr(core.store, "get", lambda _: job)
    monkeypatch.setattr(core.store, "place", lambda _: FIRST)
    status = panels.status(job, FIRST)
    seen = [followed(core, job.id, mark) for mark in ("7 5", "6 5", "4 4", "")]
    assert seen[0] == gr.skip()
    told = {at: one for at, one in enumerate(seen[1]) if one != gr.skip()}
    whole = board_values(core, job)
    assert told == {0: status, len(Shown._fields) + 1: "7 5"}
    assert len(seen[1]) == len(whole)
    for one in seen[2:]:
        assert one[: len(Shown._fields)] == whole[: len(Shown._fields)]
