from dataclasses import fields
from inspect import signature

import gradio as gr
import pytest

from aqviz import permalink, text
from aqviz.shown.learn import DIALS, LESSONS, Learn
from aqviz.tabs.learn import draw_learn, show
from quantcore.errors import InputError


def test_a_dial_of_every_lesson_is_a_field_and_an_argument_of_its_view():
    assert [field.name for field in fields(Learn)] == ["lesson", "full", *DIALS]
    for lesson in LESSONS.values():
        assert list(signature(lesson.view).parameters) == list(lesson.dials)
        assert len(lesson.dials) <= 3


def test_a_link_says_the_lesson_and_the_dials_that_were_moved():
    state = Learn(lesson=5, full=True, angle=75.0, rounds=3)
    query = permalink.encode("learn", state)
    assert query == "v=1&view=learn&lesson=5&full=1&angle=75.0&rounds=3"
    asked = dict(pair.split("=") for pair in query.split("&"))
    assert permalink.decode(Learn, asked) == state


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"lesson": "8"}, "there is no lesson 8"),
        ({"bits": "6"}, "bits must be 1 to 5, got 6"),
        ({"angle": "-1"}, "angle must be 0 to 175"),
        ({"spacing": "<b>"}, "spacing must be one of even, fitted"),
        ({"words": "3"}, "words must be one of 2, 4, 8, got 3"),
        ({"width": "5"}, "width must be one of 1, 2, 3, 4, 6, 8, 12, 16"),
        ({"pace": "nan"}, "pace must be a number"),
    ],
)
def test_a_link_that_asks_for_what_is_not_offered_is_refused(asked, words):
    with pytest.raises(InputError, match=words):
        permalink.decode(Learn, asked)


def test_only_the_open_lesson_is_seen_and_drawn():
    shown = show(Learn(lesson=4))
    columns, figures = shown[:7], shown[7:14]
    assert [column["visible"] for column in columns] == [n == 4 for n in LESSONS]
    assert [isinstance(figure, str) for figure in figures] == [n == 4 for n in LESSONS]


def test_buttons_offer_what_there_is():
    back, onward, lecture = show(Learn(lesson=1, full=True))[14:]
    assert (back["interactive"], onward["interactive"]) == (False, True)
    assert lecture["value"].startswith("Leave")
    back, onward, lecture = show(Learn(lesson=7))[14:]
    assert (back["interactive"], onward["interactive"]) == (True, False)
    assert lecture["value"] == "Lecture mode"


def test_the_words_of_every_lesson_have_three_parts_and_a_lesson_s_length():
    for number in LESSONS:
        words = text.read(f"lesson_{number}")
        parts = words.body.split("\n\n")
        starts = ["**What it shows.**", "**How to read it.**", "**What to try.**"]
        assert [part[: len(start)] for part, start in zip(parts, starts, strict=True)] == starts
        assert 80 <= len(words.body.split()) <= 150
        assert words.title


def test_the_tab_is_drawn_with_one_lesson_open(core):
    with gr.Blocks() as page:
        draw_learn(core)
    columns = [
        block
        for block in page.blocks.values()
        if "lesson" in " ".join(getattr(block, "elem_classes", None) or []).split()
    ]
    assert [column.visible for column in columns] == [True, *[False] * 6]
