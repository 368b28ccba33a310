import re

import pytest
from documents import document, engine
from surveys import candidate, evaluation, frontier, rho_survey

from aqviz import app, cautions, paper, permalink, recordings
from aqviz.evidence import models
from aqviz.figures.paper_pareto import draw_pareto, view_pareto
from aqviz.figures.paper_texts import draw_texts, view_texts
from aqviz.figures.paper_tuning import draw_tuning, view_tuning
from aqviz.paper_tables import TABLES
from aqviz.shown import paper as shown
from aqviz.shown.paper import PaperState
from aqviz.shown.tables import Anchor, table
from aqviz.tabs import paper as tab
from quantcore.errors import InputError

MEANS = (.573, .589, .585, .591, .585, .591, .563, .572, .649, .656, .606, .603)  # fmt: skip
OURS = {
    "models-2x8g8": evaluation(
        candidate("greedy", 44.0, [400, 380]),
        candidate("oa-em", 43.0, [390, 380]),
        candidate("greedy", 42.0, [390, 380], tuned=True),
    )
}


def column(number: str, name: str) -> list:
    chosen = TABLES[number]
    return [row[chosen.columns.index(name)] for row in chosen.rows]


def test_the_mean_accuracies_that_the_paper_prints_follow_from_its_tasks():
    assert column("3", "mean accuracy") == list(MEANS)


def test_the_changes_that_the_paper_prints_follow_from_its_perplexities():
    assert column("2", "change") == [-339.73, -5.29, -48.85, -5.86, -34.0, -5.04, -73.03, -7.15]


def test_the_ratios_by_text_that_the_paper_prints_follow():
    assert column("5", "greedy / OA-EM") == [1.04, 1.39, 3.49]


def test_every_table_has_a_cell_for_every_head():
    for chosen in TABLES.values():
        assert {len(row) for row in chosen.rows} == {len(chosen.columns)}


def test_pairs_are_the_same_model_from_both_starts():
    for greedy, oa_em in paper.pairs():
        assert (greedy.init, oa_em.init) == ("greedy", "oa-em")
        assert (greedy.model, greedy.bits, greedy.settings) == (
            *(oa_em.model, oa_em.bits),
            oa_em.settings,
        )
    assert len(paper.pairs()) == 7


def test_the_arithmetic_of_the_cautions():
    told = " ".join(one.numbers for one in cautions.cautions())
    assert "4 won, 1 tied, 1 lost" in told
    assert "C4 11.45 against 11.43" in told
    assert "0.12, 0.14, 0.2, 0.23" in told
    assert "18 for q, o, 6 for k, v, 48 for gate, up, 48 for down" in told
    assert "2.8 to 21 times" in told  # 46.01 / 16.53 and 352.39 / 16.82
    assert "4 to 14 %" in told  # 18.64 / 18.00 and 20.66 / 18.09
    assert "better with OA-EM in 3 of 4" in told


def test_journeys_go_from_before_to_after_tuning():
    view = view_tuning(models(OURS))
    assert [(one.init, one.before, one.after) for one in view.ours] == [
        ("greedy", 44.0, 42.0),
        ("oa-em", 43.0, None),
    ]
    first = view.paper[0]
    assert (first.init, first.before, first.after) == ("greedy", 352.39, 12.66)
    assert len(view.table.rows) == 14 + 2


def test_the_texts_figure_has_the_unquantized_ratio_as_its_line():
    view = view_texts()
    (low, high), (start, end) = view.line
    assert start / low == pytest.approx(7.28 / 11.04)
    assert end / high == pytest.approx(7.28 / 11.04)
    assert view.places[0].ratio == 17.06  # 352.39 / 20.66
    assert sum(place.tuned for place in view.places) == 6  # C4 after tuning was printed for six
    assert "17.1 times" in view.alt


def test_our_frontier_is_the_mean_over_seeds():
    view = view_pareto(frontier())
    point = next(p for p in view.ours if (p.init, p.name) == ("oa-em", "beam 8"))
    assert point.time == 4.0
    assert point.loss == pytest.approx(0.98 * 1.0005)
    assert [p.name for p in view.ours[::2]] == ["beam 4", "beam 8", "beam 16"]
    assert "11.53 in 6.1 hours" in view.alt
    assert "12.01 in 16.9" in view.alt


def test_without_a_frontier_the_figure_says_so():
    assert "no recorded frontier" in view_pareto(None).alt
    assert view_pareto(None).ours == ()


@pytest.mark.parametrize(
    "drawing",
    [
        lambda: draw_tuning(view_tuning(models(OURS))),
        lambda: draw_tuning(view_tuning([])),
        lambda: draw_tuning(view_tuning([], runs=())),
        lambda: draw_texts(view_texts()),
        lambda: draw_pareto(view_pareto(frontier())),
        lambda: draw_pareto(view_pareto(None)),
        lambda: draw_pareto(view_pareto(None, runs=())),
    ],
)
def test_every_figure_draws_and_says_what_it_shows(drawing):
    made = drawing()
    assert made.to_json()
    assert len(made.layout.meta["alt"]) > 20


def test_a_table_escapes_what_others_wrote():
    made = table("<b>", ["<i>", "n"], [["<script>", 1.5], [Anchor("<u>", '?a="b'), None]])
    assert not re.search(r"<(b|i|u|script)>", made)
    assert 'href="?a=&quot;b"' in made
    assert 'data-value="1.5"' in made
    assert 'data-value=""' in made  # sorted last


def test_a_recordings_words_are_escaped():
    made = evaluation(candidate("<b>", 44.0, [400, 380]))
    assert "<b>" not in shown.our_table({"models-x": made})
    assert "No evaluation" in shown.our_table({})


def test_claims_are_listed_with_status_and_recordings():
    made = shown.claims({"rho": rho_survey(), "frontier": frontier(), **OURS})
    assert made.count("<li>") == 10
    assert "models-2x8g8" in made
    assert shown.claims({}).count("badge no-recording") == 8


def test_the_link_names_the_table_and_refuses_others():
    state = PaperState("7")
    query = permalink.encode("paper", state)
    assert query == "v=1&view=paper&table=7"
    assert permalink.decode(PaperState, {"v": "1", "view": "paper", "table": "7"}) == state
    assert "Tables 7 to 11" not in shown.paper_table(state)
    assert "Table 7 to 11" in shown.paper_table(state)
    with pytest.raises(InputError, match="no table '99'"):
        PaperState("99")


def test_only_recordings_that_exist_are_read(monkeypatch):
    monkeypatch.setattr(recordings, "read", {"first": document()}.get)
    monkeypatch.setattr(recordings, "every", lambda kind: {"evaluation": OURS}[kind])
    assert list(shown.recorded()) == ["first", "models-2x8g8"]


def test_the_tab_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "TABS", {"paper": ("Paper", tab.draw_paper)})
    core = app.make_core(engine(), tmp_path)
    try:
        ids = {block.elem_id for block in app.build(core).blocks.values()}
    finally:
        core.store.close()
    assert {"claims", "paper-table", "paper-rows", "paper-ours", "paper-link"} <= ids
