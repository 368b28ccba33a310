import colorsys

import pytest
from documents import document, experiment, stages

from aqviz import theme
from aqviz.figures.ends import draw_ends, view_ends
from aqviz.figures.perplexity import draw_perplexity, view_perplexity
from aqviz.figures.trace import draw_trace, view_trace
from aqviz.figures.usage import draw_usage, view_usage
from aqviz.shown.panels import SHAPES
from quantcore import search
from quantcore.weight import Scheme

FIGURES = {
    "trace": (view_trace, draw_trace),
    "ends": (view_ends, draw_ends),
    "usage": (view_usage, draw_usage),
    "perplexity": (view_perplexity, draw_perplexity),
}
INITS = ("greedy", "oa-em", "oa-em-adam")
SEARCHES = ("feedback", "descent", "beam")
DOCUMENTS = {
    "none": None,
    "finished": document(),
    "three initialisers": document(experiment(inits=INITS)),
    "five seeds": document(experiment(seeds=(0, 1, 2, 3, 4))),
    "no held-out text": document(heldout=False),
    "no perplexity": document(experiment(perplexity_windows=0)),
    "one book": document(experiment(scheme=Scheme(1, 8, 8))),
    **{name: document(experiment(search=name)) for name in SEARCHES},
    "four books": document(experiment(scheme=Scheme(4, 8, 8))),
}


@pytest.fixture(params=FIGURES.values(), ids=FIGURES.keys())
def draw(request):
    view, drawing = request.param
    return lambda made: drawing(view(made))


@pytest.mark.parametrize("made", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_every_figure_draws_and_says_what_it_is(draw, made):
    figure = draw(made)
    assert figure.to_json()
    assert len(figure.layout.meta["alt"]) > 10
    assert figure.layout.height >= 300


def test_every_figure_draws_at_every_step_of_a_run(draw):
    config = experiment(seeds=(0, 1), sweeps=2)
    assert all(draw(made).to_json() for _, made in stages(config))


def test_calibration_is_solid_and_heldout_dashed():
    lines = [
        t.line.dash for t in draw_trace(view_trace(document())).data if t.customdata is not None
    ]
    assert lines == ["solid", "dash", "solid", "dash"]


def test_initialisers_differ_in_colour_and_in_marker():
    figure = draw_trace(view_trace(document(experiment(inits=INITS))))
    drawn = [t for t in figure.data if t.customdata is not None]
    assert len({t.marker.color for t in drawn}) == 3
    assert len({t.marker.symbol.removesuffix("-open") for t in drawn}) == 3
    assert len({theme.style(init).dash for init in INITS}) == 3


def test_a_band_is_drawn_only_where_there_are_several_seeds():
    one = draw_trace(view_trace(document()))
    three = draw_trace(view_trace(document(experiment(seeds=(0, 1, 2)))))
    assert not [t for t in one.data if t.type == "scatter" and t.fill == "toself"]
    assert len([t for t in three.data if t.type == "scatter" and t.fill == "toself"]) == 4


def test_every_marker_has_a_swatch_for_the_table():
    assert {theme.style(init).symbol for init in INITS} <= set(SHAPES)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [theme.PAGE_LIGHT, theme.PAGE_DARK])
@pytest.mark.parametrize("style", [*theme.STYLES.values(), theme.ORIGINAL], ids=lambda s: s.label)
def test_every_colour_stands_out_on_both_pages(style, page):
    assert contrast(style.colour, page) >= 3


@pytest.mark.parametrize("style", theme.STYLES.values(), ids=lambda s: s.label)
def test_words_on_a_colour_can_be_read(style):
    assert contrast(style.colour, style.ink) >= 4.5


def test_hues_are_far_apart():
    hues = [
        colorsys.rgb_to_hsv(*(int(s.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0]
        for s in theme.STYLES.values()
    ]
    assert len({round(hue, 1) for hue in hues}) == 3


def test_phases_that_encode_anew_have_a_pattern_and_refits_are_pale():
    bars = [t for t in draw_trace(view_trace(document())).data if t.type == "bar"]
    shapes = {t.hovertemplate.split(": ")[1].split()[0].split("<")[0]: t for t in bars}
    assert {name: bar.marker.pattern.shape for name, bar in shapes.items()} == {
        "initialise": "/",
        "feedback": "\\",
        "descent": None,
        "refit": None,
    }
    assert shapes["refit"].marker.color == theme.fade(shapes["descent"].marker.color)


def test_a_point_that_rose_says_so_where_it_is_pointed_at():
    drawn = [t for t in draw_trace(view_trace(document())).data if t.customdata is not None]
    for trace in drawn:
        assert [words for words in trace.customdata if "higher" in words] == [
            "feedback 3, higher than before"
        ]


def test_every_search_has_a_name_in_words():
    assert tuple(theme.SEARCHES) == search.SEARCHES
    assert len(set(theme.SEARCHES.values())) == len(search.SEARCHES)


def test_the_end_of_initialisation_is_the_one_large_marker():
    drawn = [t for t in draw_trace(view_trace(document())).data if t.customdata is not None]
    for trace in drawn:
        sizes = list(trace.marker.size)
        assert sizes.index(max(sizes)) == list(trace.customdata).index("refit 1") - 1
        assert sizes.count(max(sizes)) == 1
