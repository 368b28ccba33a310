import pytest
from documents import document, experiment
from surveys import candidate, evaluation, frontier, rho_survey, run, survey

from aqviz import evidence
from aqviz.evidence import Ratio, beams, by_search, gaps, model_pairs, models, ratio
from quantcore.weight import Scheme

Q = "model.layers.10.self_attn.q_proj"


def two(starts, ends, **changes):
    """Greedy and OA-EM of one seed."""
    seed = changes.pop("seed", 0)
    return [
        run(Q, "2x8g8", init, seed, start, end, **changes)
        for init, start, end in zip(("greedy", "oa-em"), starts, ends, strict=True)
    ]


def test_a_gap_worked_by_hand():
    runs = two((0.4, 0.1), (0.03, 0.02)) + two((0.6, 0.1), (0.07, 0.04), seed=1)
    (gap,) = gaps(survey(runs))
    assert gap.seeds == 2
    assert gap.start.mean == pytest.approx(5)
    assert gap.start.error == pytest.approx(1)  # of 4 and 6: deviation sqrt(2), over sqrt(2)
    assert gap.end.mean == pytest.approx((1.5 + 1.75) / 2)
    assert gap.case.rho == Scheme(2, 8, 8).rho(576, 576)


def test_seeds_are_paired_whatever_their_order():
    runs = two((0.4, 0.1), (0.03, 0.02)) + two((0.6, 0.1), (0.07, 0.04), seed=1)
    assert gaps(survey(runs[::-1])) == gaps(survey(runs))


def test_a_seed_that_only_one_has_finished_is_left_out():
    runs = two((0.4, 0.1), (0.03, 0.02)) + two((0.6, 0.1), (0.07, 0.04), seed=1)
    runs[3] |= {"complete": False}
    (gap,) = gaps(survey(runs))
    assert (gap.seeds, gap.start.error) == (1, None)


@pytest.mark.parametrize(
    "change", [{"beam": 4}, {"search": "descent"}, {"calibration_tokens": 2048}, {"shrinkage": 0.2}]
)
def test_runs_of_other_settings_are_other_cases(change):
    runs = two((0.4, 0.1), (0.03, 0.02)) + two((0.4, 0.1), (0.03, 0.02), **change)
    assert len(gaps(survey(runs))) == 2


def test_an_experiment_is_read_like_a_survey():
    made = document(experiment(seeds=(0, 1, 2), search="beam"))
    (gap,) = gaps(made)
    ends = {(r["init"], r["seed"]): r["heldout_relative_error"] for r in made["runs"]}
    expected = sum(ends["greedy", s] / ends["oa-em", s] for s in range(3)) / 3
    assert gap.end.mean == pytest.approx(expected)
    assert (gap.case.search, gap.case.beam, gap.case.rho) == ("beam", 8, made["rho"])


def test_a_document_from_before_there_was_a_choice_was_the_beam():
    made = document(experiment(search="beam"))
    del made["config"]["search"]
    assert gaps(made)[0].case.search == "beam"


def test_without_a_document_or_heldout_text_there_are_no_gaps():
    assert gaps(None) == []
    assert gaps(document(heldout=False)) == []


@pytest.mark.parametrize(
    ("mean", "error", "side"),
    [(1.1, 0.04, "above"), (1.1, 0.06, "level"), (0.9, 0.04, "below"), (1.5, None, "level")],
)
def test_a_gap_is_shown_beyond_two_standard_errors(mean, error, side):
    assert Ratio(mean, error).side == side


def test_equal_ratios_have_no_error():
    assert ratio([(2.0, 1.0), (4.0, 2.0)]) == Ratio(2.0, 0.0)


def test_rho_orders_gaps_that_rise_with_it():
    schemes = ("3x8g8", "2x8g8", "2x7g8", "2x6g8", "2x5g8")  # rho rises
    runs = [
        run(Q, scheme, init, 0, 0.1, 0.01 * (1 + rank if init == "greedy" else 1))
        for rank, scheme in enumerate(schemes)
        for init in ("greedy", "oa-em")
    ]
    found = evidence.with_rho(gaps(survey(runs)))
    assert (found["spearman"], found["low"], found["high"]) == (1.0, 1.0, 1.0)
    assert evidence.with_rho([])["why"]


def test_gaps_are_sorted_out_by_search():
    found = by_search(gaps(rho_survey()))
    assert list(found) == ["beam", "feedback-descent"]
    assert {len(mine) for mine in found.values()} == {15}


def test_beams_are_compared_seed_by_seed():
    found = beams(frontier(oa_em=(1.0, 2.0, 3.0)), ("oa-em", 16), ("oa-em", 4))
    assert found.mean == pytest.approx(3)
    assert found.error == pytest.approx(0, abs=1e-12)
    time = beams(frontier(), ("oa-em", 4), ("greedy", 16), time=True)
    assert time.mean == pytest.approx(0.25)


def test_other_searches_are_no_beams():
    made = frontier()
    for one in made["runs"]:
        one["search"] = "feedback-descent"
    assert beams(made, ("oa-em", 16), ("oa-em", 4)) is None


def test_beams_that_were_not_run_have_no_ratio():
    assert beams(frontier(), ("oa-em", 32), ("greedy", 4)) is None
    assert beams(None, ("oa-em", 4), ("greedy", 4)) is None


def test_models_are_paired_within_a_recording():
    one = evaluation(candidate("greedy", 44.0, [400, 380]), candidate("oa-em", 43.0, [390, 380]))
    other = evaluation(candidate("greedy", 41.0, [400, 380], tuned=True))
    points = models({"a": one, "b": other, "c": document()})
    assert [(p.recording, p.init, p.tuned) for p in points] == [
        ("a", "greedy", False),
        ("a", "oa-em", False),
        ("b", "greedy", True),
    ]
    ((greedy, oa_em),) = model_pairs(points, tuned=False)
    assert model_pairs(points, tuned=True) == []
    mean, error = evidence.paired(greedy, oa_em)
    assert mean == pytest.approx(0.05)  # 10 and 0 of 100 tokens each
    assert error == pytest.approx(0.05)


def test_models_are_paired_within_a_search_with_the_papers_oa_em_where_ours_is_missing():
    inits = ("greedy", "oa-em-adam", "oa-em")
    ours = [candidate(init, 44.0, [400, 380]) for init in inits]
    released = [candidate(init, 90.0, [500, 480], search="beam") for init in inits[:2]]
    pairs = model_pairs(models({"a": evaluation(*ours, *released)}), tuned=False)
    assert [(a.search, a.init, b.init) for a, b in pairs] == [
        ("feedback-descent", "greedy", "oa-em"),
        ("beam", "greedy", "oa-em-adam"),
    ]


def test_models_without_their_windows_are_not_compared():
    made = [candidate(init, 44.0, [400, 380]) for init in ("greedy", "oa-em")]
    for one in made:
        del one["window_nll"]
    assert evidence.paired(*models({"a": evaluation(*made)})) is None
