import pytest
from surveys import candidate, evaluation, frontier, rho_survey, run, survey

from aqviz import verdicts
from aqviz.claims import CLAIMS
from aqviz.verdicts import Status

Q = "model.layers.10.self_attn.q_proj"
DOWN = "model.layers.10.mlp.down_proj"


def cases(*given, seconds=(2.0, 2.0), **changes):
    """A survey of (scheme, start ratio, end ratio): three seeds, a spread far below the gap."""
    made = []
    for scheme, start, end in given:
        for seed in range(3):
            noise = 1 + 1e-4 * seed
            greedy = run(
                *(Q, scheme, "greedy", seed, 0.1 * start * noise, 0.01 * end * noise),
                seconds=seconds[0],
                **changes,
            )
            oa_em = run(Q, scheme, "oa-em", seed, 0.1, 0.01, seconds=seconds[1], **changes)
            made += [greedy, oa_em]
    return {"rho": survey(made)}


def tuned(greedy, oa_em):
    """A recording of two tuned models by the losses of their windows."""
    return {
        "models-2x8g8": evaluation(
            candidate("greedy", 42.0, greedy, tuned=True),
            candidate("oa-em", 41.5, oa_em, tuned=True),
        )
    }


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.title)
def test_without_recordings_no_claim_is_judged(claim):
    found = claim.judge({})
    assert found.status in {Status.ABSENT, Status.UNTESTABLE}
    assert found.recordings == ()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.title)
def test_with_recordings_every_verdict_names_them(claim):
    found = claim.judge({"rho": rho_survey(), "frontier": frontier()})
    if found.status is not Status.UNTESTABLE:
        assert set(found.recordings) <= {"rho", "frontier"}
        assert found.recordings
        assert found.status is not Status.ABSENT


@pytest.mark.parametrize(
    ("starts", "status"),
    [((3.0, 2.0), Status.SEEN), ((3.0, 1.0), Status.PART), ((0.9, 0.8), Status.NOT)],
)
def test_greedy_starts_worse_where_every_start_does(starts, status):
    found = verdicts.starts(cases(("2x8g8", starts[0], 1.1), ("3x8g8", starts[1], 1.1)))
    assert found.status is status


def test_a_start_counts_once_however_it_was_searched():
    made = cases(("2x8g8", 3.0, 1.1))["rho"]
    made["runs"] += cases(("2x8g8", 3.0, 1.1), search="descent", beam=1)["rho"]["runs"]
    assert "1 of 1" in verdicts.starts({"rho": made}).sentence


def test_a_gap_that_stays_whole_is_persistence():
    assert verdicts.persists(cases(("2x8g8", 3.0, 2.5))).status is Status.SEEN


def test_a_gap_of_which_little_is_left_is_seen_in_part():
    found = verdicts.persists(cases(("2x8g8", 4.0, 2.0**0.2)))
    assert found.status is Status.PART
    assert "10 % is left" in found.sentence  # log 2^0.2 over log 2^2


def test_a_gap_that_the_search_closes_is_not_seen():
    assert verdicts.persists(cases(("2x8g8", 4.0, 0.98))).status is Status.NOT


@pytest.mark.parametrize(
    ("greedy", "status"),
    [([410, 390, 400], Status.SEEN), ([390, 390, 391], Status.NOT), ([400, 370, 395], Status.NOT)],
)
def test_tuned_models_are_judged_window_by_window(greedy, status):
    assert verdicts.persists(tuned(greedy, [400, 380, 391])).status is status


def test_tuned_models_without_their_windows_are_no_evidence():
    assert verdicts.persists(tuned([], [])).status is Status.ABSENT


def test_a_wider_beam_is_judged_for_both():
    judge = verdicts.wider
    assert judge({"frontier": frontier()}).status is Status.SEEN
    assert judge({"frontier": frontier(greedy=(1.1, 1.05, 1.0))}).status is Status.PART
    both = frontier(oa_em=(1.0, 0.9, 0.95), greedy=(1.1, 1.05, 1.0))
    assert judge({"frontier": both}).status is Status.NOT


def test_a_narrow_beam_is_compared_with_a_wide_one():
    judge = verdicts.pareto
    assert judge({"frontier": frontier()}).status is Status.SEEN
    assert judge({"frontier": frontier(oa_em=(1.07, 1, 1))}).status is Status.PART  # level
    assert judge({"frontier": frontier(oa_em=(1.2, 1, 1))}).status is Status.NOT


def test_a_single_seed_shows_nothing():
    found = verdicts.wider({"frontier": frontier(seeds=(0,))})
    assert found.status is Status.NOT
    assert found.sentence.count("no change shown") == 2


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ((1.0, 1.1, 1.2, 1.3, 1.4, 1.5), Status.SEEN),
        ((1.5, 1.4, 1.3, 1.2, 1.1, 1.0), Status.NOT),
        ((1.2, 1.5, 1.0, 1.3, 1.1, 1.4), Status.NOT),
    ],
)
def test_severity_follows_the_ranks_of_rho(ends, status):
    schemes = ("3x8g8", "2x8g8", "2x7g8", "2x6g8", "2x5g8", "2x4g8")  # rho rises
    made = cases(*((scheme, 3.0, end) for scheme, end in zip(schemes, ends, strict=True)))
    assert verdicts.severity(made).status is status


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (1.0, (1.2, 1.0), Status.SEEN),
        (1.1, (1.2, 1.0), Status.PART),
        (1.0, (1.2, 1.2), Status.PART),
        (1.1, (1.2, 1.2), Status.NOT),
    ],
)
def test_necessary_and_sufficient_are_two_questions(low, high, status):
    made = cases(("2x8g8", 3, low), ("2x6g8", 3, high[0]), ("1x8g8", 3, high[1]))
    found = verdicts.necessary(made)
    assert found.status is status
    assert ("not necessary" in found.sentence) == (low > 1)
    assert ("not sufficient" in found.sentence) == (min(high) == 1.0)


@pytest.mark.parametrize(
    ("three", "status"), [(1.02, Status.SEEN), (0.95, Status.NOT), (1.3, Status.NOT)]
)
def test_three_bits_are_a_small_gap_in_favour_of_oa_em(three, status):
    made = cases(("2x8g8", 3, 1.1), ("3x8g8", 3, three))
    assert verdicts.three_bits(made).status is status


@pytest.mark.parametrize(
    ("seconds", "status"), [((2.0, 2.0), Status.SEEN), ((2.0, 2.6), Status.NOT)]
)
def test_no_cost_is_up_to_five_percent(seconds, status):
    found = verdicts.free(cases(("2x8g8", 3, 1.1), seconds=seconds))
    assert found.status is status
    assert f"{seconds[1] / seconds[0]:.2f}" in found.sentence


def test_a_model_that_costs_more_is_part_of_the_answer():
    plain = evaluation(
        candidate("greedy", 44.0, [400, 380], seconds=600.0),
        candidate("oa-em", 43.0, [390, 380], seconds=700.0),
    )
    found = verdicts.free(cases(("2x8g8", 3, 1.1)) | {"models-2x8g8": plain})
    assert found.status is Status.PART
    assert found.recordings == ("rho", "models-2x8g8")


def test_seconds_of_a_shared_machine_compare_nothing():
    plain = evaluation(
        candidate("greedy", 44.0, [400, 380], seconds=600.0),
        candidate("oa-em", 43.0, [390, 380], seconds=700.0),
    )
    plain["shared"] = True
    found = verdicts.free(cases(("2x8g8", 3, 1.1)) | {"models-2x8g8": plain})
    assert found.status is Status.SEEN
    assert found.recordings == ("rho",)
    assert "600 s on 2 cores, shared" in verdicts.hours({"models-2x8g8": plain}).sentence


def test_what_cannot_be_tested_says_what_is_nearest():
    plain = evaluation(candidate("greedy", 44.0, [400, 380]), candidate("oa-em", 43.0, [390, 380]))
    found = verdicts.catastrophe({"models-2x8g8": plain})
    assert found.status is Status.UNTESTABLE
    assert "44.00" in found.sentence
    assert "27.10" in found.sentence
    assert "600 s on 2 cores" in verdicts.hours({"models-2x8g8": plain}).sentence


def test_the_single_layers_stand_in_until_there_is_a_survey():
    made = cases(("2x8g8", 3, 1.1))["rho"]
    assert verdicts.starts({"first_beam": made}).recordings == ("first_beam",)
    assert verdicts.starts({"first_beam": made, "rho": made}).recordings == ("rho",)
