import math

import pytest
from documents import document, experiment, stages

from aqviz import metrics, report
from aqviz.figures.ends import view_ends
from aqviz.figures.perplexity import view_perplexity
from aqviz.figures.trace import view_trace
from aqviz.figures.usage import POINTS, effective_words, view_usage
from quantcore.weight import Scheme

SEEDS = experiment(seeds=(0, 1, 2))


def partial(steps: int, config=None):
    for count, (_, made) in enumerate(stages(config or experiment()), start=1):
        if count == steps:
            return made
    raise AssertionError("the run has fewer steps")


def test_a_curve_is_the_runs_trace_in_percent():
    curve = view_trace(made := document()).curves[0]
    trace = made["runs"][0]["trace"]
    assert curve.init == "greedy"
    assert curve.seconds == tuple(step["seconds"] for step in trace)
    assert curve.calibration.mean == tuple(100 * step["relative_error"] for step in trace)
    assert curve.heldout.mean == tuple(100 * step["heldout_relative_error"] for step in trace)
    assert curve.calibration.low == curve.calibration.high == curve.calibration.mean


def test_the_start_is_where_initialisation_ends():
    curve = view_trace(document()).curves[0]
    assert curve.start == 1  # two codebooks, two points
    assert curve.names[curve.start] == "initialise"


def test_the_phases_fill_the_time_without_gaps():
    curve = view_trace(document()).curves[1]
    starts = [span.start for span in curve.spans]
    ends = [span.start + span.length for span in curve.spans]
    assert starts[0] == 0
    assert starts[1:] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(curve.seconds[-1])
    assert [span.words for span in curve.spans][:5] == [
        "initialise", "refit 1", "feedback 1", "refit 1", "descent 1",
    ]  # fmt: skip


@pytest.mark.parametrize("search", ["feedback", "descent", "beam"])
def test_a_sweep_of_one_search_is_a_refit_and_that_search(search):
    spans = view_trace(document(experiment(search=search, sweeps=1))).curves[0].spans
    assert [span.phase for span in spans] == ["init", "refit", search, "refit"]


def test_where_a_curve_rises_the_view_says_so():
    curve = view_trace(document()).curves[0]
    assert [
        name for name, rose in zip(curve.names, curve.calibration.rose, strict=True) if rose
    ] == ["feedback 3"]
    assert curve.heldout.rose == curve.calibration.rose
    assert not any(view_trace(document(experiment(search="beam"))).curves[0].calibration.rose)


def test_several_seeds_make_a_mean_and_a_band_around_it():
    greedy = view_trace(made := document(SEEDS)).curves[0]
    ends = [100 * run["relative_error"] for run in made["runs"] if run["init"] == "greedy"]
    assert greedy.seeds == 3
    assert greedy.calibration.mean[-1] == pytest.approx(sum(ends) / 3)
    assert greedy.calibration.low[-1] == pytest.approx(min(ends))
    assert greedy.calibration.high[-1] == pytest.approx(max(ends))


def test_a_seed_that_stopped_early_shortens_the_mean_not_the_figure():
    made = document(SEEDS)
    made["runs"][0]["trace"] = made["runs"][0]["trace"][:5]
    greedy, oaem = view_trace(made).curves
    assert len(greedy.seconds) == 5
    assert len(oaem.seconds) == len(made["runs"][1]["trace"])


def test_a_run_still_going_is_a_curve_of_its_own():
    made = document(SEEDS)
    made["runs"][-1] |= {"complete": False, "trace": made["runs"][-1]["trace"][:3]}
    curves = view_trace(made).curves
    assert [(c.init, c.complete, c.seeds) for c in curves] == [
        ("greedy", True, 3),
        ("oa-em", True, 2),
        ("oa-em", False, 1),
    ]
    assert "OA-EM is at" in view_trace(made).alt


def test_without_heldout_text_there_is_no_dashed_curve():
    made = document(heldout=False)
    assert all(curve.heldout is None for curve in view_trace(made).curves)
    assert not any(journey.heldout for journey in view_ends(made).journeys)


def test_the_rows_are_there_before_their_runs():
    assert view_trace(partial(2)).rows == ("greedy", "oa-em")
    assert [curve.init for curve in view_trace(partial(2)).curves] == ["greedy"]


def test_a_journey_goes_from_the_start_to_the_end_of_each_text():
    view = view_ends(made := document(SEEDS))
    runs = [run for run in made["runs"] if run["init"] == "oa-em"]
    heldout = next(j for j in view.journeys if j.init == "oa-em" and j.heldout)
    assert heldout.starts == tuple(100 * run["init_heldout_relative_error"] for run in runs)
    assert heldout.ends == tuple(100 * run["heldout_relative_error"] for run in runs)
    assert heldout.end == pytest.approx(sum(heldout.ends) / 3)
    assert [round(j.row) for j in view.journeys] == [0, 0, 1, 1]


def test_evenly_used_words_are_worth_their_number_and_one_word_is_worth_one():
    assert effective_words([5, 5, 5, 5]) == pytest.approx(4)
    assert effective_words([7, 0, 0]) == pytest.approx(1)
    assert effective_words([3, 1]) == pytest.approx(
        math.exp(-0.75 * math.log(0.75) + math.log(4) / 4)
    )


def test_usage_counts_fall_with_rank_and_leave_unused_words_out():
    made = document()
    made["runs"][0]["usage"][0] = [10, 4, 2, 0]
    line = view_usage(made).lines[0]
    assert line.ranks == (1, 2, 3)
    assert line.counts == (10, 4, 2)
    assert line.used == 3


def test_even_use_is_groups_over_words():
    view = view_usage(made := document())
    assert view.even == made["groups"] / 256
    assert view.books == 2


def test_a_large_codebook_is_thinned_but_keeps_its_ends():
    line = view_usage(document(experiment(scheme=Scheme(1, 13, 8)))).lines[0]
    assert len(line.ranks) <= POINTS
    assert line.ranks[0] == 1
    assert line.ranks[-1] == line.used


def test_the_original_comes_first_and_has_no_difference():
    view = view_perplexity(made := document())
    assert [point.init for point in view.points] == ["original", "greedy", "oa-em"]
    assert view.points[0].difference is None
    assert view.points[1].value == made["runs"][0]["perplexity"]["value"]
    assert view.points[2].difference_error == made["runs"][1]["perplexity"]["difference_error"]


def test_perplexity_switched_off_is_told_from_not_yet_measured():
    assert "is off" in view_perplexity(document(experiment(perplexity_windows=0))).missing
    assert "is measured after" in view_perplexity(partial(3)).missing


def test_nothing_gives_empty_views():
    assert view_trace(None).curves == ()
    assert view_ends(None).journeys == ()
    assert view_usage(None).lines == ()
    assert view_perplexity(None).points == ()
    assert report.rows(None) == []


def test_a_row_is_the_mean_over_seeds():
    made = document(SEEDS)
    mine = [run for run in made["runs"] if run["init"] == "oa-em"]
    row = report.rows(made)[1]
    assert row.end == pytest.approx(100 * sum(run["relative_error"] for run in mine) / 3)
    assert row.difference == pytest.approx(sum(run["perplexity"]["difference"] for run in mine) / 3)
    assert (row.seeds, row.size, row.used) == (3, 256, 256)


def told(state: str = "done", **changes) -> str:
    made = document()
    made["runs"][1] |= changes
    return report.sentence(made, state)


def test_the_sentence_says_by_how_much():
    assert told() == (
        "OA-EM started 30.0 % below greedy and ended 12.0 % below it on the calibration text "
        "(2.32 % against 2.63 %), and 12.0 % below it on held-out text; with only this layer "
        "replaced, perplexity goes from 18.21 to 18.65 (greedy) and 18.59 (OA-EM)."
    )


def test_the_sentence_does_not_hide_a_loss_on_heldout_text():
    assert ", but 21.6 % above it on held-out text" in told(heldout_relative_error=0.04)


def test_a_tiny_gap_is_called_level():
    first = document()["runs"][0]
    assert "ended level with it" in told(relative_error=first["relative_error"] * 1.001)


def test_a_perplexity_within_two_standard_errors_is_not_called_a_change():
    made = document()
    for run in made["runs"]:
        run["perplexity"] |= {"difference": 0.001, "difference_error": 0.001}
    assert "changes by less than these windows of text can show" in report.sentence(made, "done")


def test_the_sentence_follows_a_run():
    assert report.sentence(None, "queued") == "Nothing is finished yet."
    assert report.sentence(partial(3), "running").startswith("On the calibration text greedy is at")
    assert "greedy was at" in report.sentence(partial(3), "cancelled")
    both = report.sentence(partial(20), "running")
    assert "greedy ended at 2.63 % and OA-EM is at" in both


def test_a_run_without_a_point_yet_is_being_initialised():
    made = document()
    made["runs"] = [made["runs"][0] | {"complete": False, "trace": []}]
    told_now = report.sentence(made, "running")
    assert told_now == "On the calibration text greedy is being initialised."


def test_the_table_has_one_plain_line_a_run():
    table = metrics.table(document(SEEDS))
    assert len(table) == 6
    assert set(table["search"]) == {"feedback-descent"}
    assert set(table["beam"]) == {1}
    assert {"init", "seed", "relative_error", "seconds_total", "used_1"} <= set(table.columns)
    assert table["perplexity_difference"].notna().all()


def test_the_seeds_of_an_initialiser_share_its_row():
    view = view_perplexity(document(SEEDS))
    assert view.rows == ("original", "greedy", "OA-EM")
    oaem = [point.row for point in view.points if point.init == "oa-em"]
    assert sum(oaem) / 3 == pytest.approx(2)
    assert len({round(row, 6) for row in oaem}) == 3
    assert all(abs(row - 2) < 0.5 for row in oaem)
