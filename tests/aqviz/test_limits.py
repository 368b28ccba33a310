from dataclasses import fields, replace
from pathlib import Path

import pytest
from documents import LAYER, engine, experiment

from aqviz import uploads
from aqviz.gate import limited
from aqviz.limits import NEVER, Limits
from quantcore.errors import InputError, SourceError
from quantcore.grid import Survey
from quantcore.trial import Trial

PUBLIC = Limits.here({"AQVIZ_PUBLIC": "1"})


def test_on_ones_own_machine_only_what_is_kept_is_bounded():
    own = Limits.here({})
    assert own == Limits()
    assert not own.public
    assert own.largest_layer == own.longest_job == own.each == NEVER


def test_a_space_is_public_unless_it_says_otherwise():
    assert Limits.here({"SPACE_ID": "me/it"}) == PUBLIC
    assert PUBLIC.each == 1
    assert PUBLIC.longest_job == 600
    assert Limits.here({"SPACE_ID": "me/it", "AQVIZ_PUBLIC": "0"}) == Limits()


def test_every_setting_is_read_from_its_variable():
    words = {"public": "1", "models": " a/b, c ", "bucket": "/data"}
    given = {one.metadata["name"]: words.get(one.name, "7.5") for one in fields(Limits)}
    read = Limits.here(given)
    assert read.models == ("a/b", "c")
    assert read.folder("jobs") == Path("/data/jobs")
    assert all(getattr(read, one.name) == 7.5 for one in fields(Limits) if one.name not in words)


@pytest.mark.parametrize("value", ["yes", "2", "-1"])
def test_public_is_yes_or_no(value):
    with pytest.raises(InputError, match="AQVIZ_PUBLIC must be 0 or 1"):
        Limits.here({"AQVIZ_PUBLIC": value})


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan", "inf"])
def test_a_number_is_above_zero_and_finite(value):
    with pytest.raises(InputError, match="AQVIZ_LONGEST_JOB must be a number above 0"):
        Limits.here({"AQVIZ_LONGEST_JOB": value})


@pytest.mark.parametrize("model", ["other/model", "/etc", "~/models/x", "../x.gguf"])
def test_in_public_no_other_model_is_touched(model):
    def untouchable(*_):
        raise AssertionError("the model was looked at")

    made = limited(replace(engine(), layers=untouchable, seconds=untouchable), PUBLIC)
    config = experiment(model=model)
    for ask in (
        lambda: made.layers(model),
        lambda: made.estimate(config, 8, 8),
        lambda: made.seconds(Survey(model=model)),
        lambda: made.admit(Trial(model=model)),
    ):
        with pytest.raises(InputError, match="is not offered on this server; choose one of"):
            ask()


def test_models_that_are_named_are_offered():
    made = limited(engine(), replace(PUBLIC, models=("my/model", "SmolLM2-135M (packaged)")))
    assert made.models() == ["SmolLM2-135M (packaged)", "my/model"]
    assert made.layers("my/model") == engine().layers("my/model")


@pytest.mark.parametrize("text", ["/etc/passwd", "notes.txt", "https://example.org/a.txt"])
def test_in_public_no_file_is_a_text(text):
    with pytest.raises(InputError, match=r"the text .* is not offered on this server"):
        limited(engine(), PUBLIC).admit(experiment(text=text))
    assert limited(engine(), Limits()).admit(experiment(text=text)) == 1.0


def test_a_problem_is_an_upload_and_no_path():
    with pytest.raises(InputError, match="an uploaded file is named like upload-"):
        limited(engine(), Limits()).admit(experiment(problem="/etc/passwd"))
    assert not uploads.NAME.fullmatch("upload-../../0123456789")


def test_a_layer_above_the_limit_is_refused_with_both_sizes():
    made = limited(engine(), replace(PUBLIC, largest_layer=0.1))
    with pytest.raises(InputError, match=r"192 x 576 has 0\.111 million weights and at most 0\.1"):
        made.admit(experiment())
    assert limited(engine(), replace(PUBLIC, largest_layer=0.4)).admit(experiment()) == 1.0


def test_the_largest_layer_of_a_survey_counts():
    limits = replace(PUBLIC, largest_layer=0.4)
    assert limited(engine(), limits).admit(Survey(layers=(LAYER,))) == 1.0
    with pytest.raises(InputError, match=r"at most 0\.4 million"):
        limited(engine(), limits).admit(Survey())


def test_a_run_above_the_limit_is_refused_with_both_times():
    slow = replace(engine(), seconds=lambda config: 1200.0)
    with pytest.raises(InputError, match="about 20 minutes and at most 10 are given"):
        limited(slow, PUBLIC).admit(experiment())
    assert limited(slow, Limits()).admit(experiment()) == 1200.0


def test_a_layer_that_is_not_there_is_refused_before_it_waits():
    with pytest.raises(SourceError, match=r"this model has no layer model\.nothing"):
        limited(engine(), Limits()).admit(experiment(layer="model.nothing"))
