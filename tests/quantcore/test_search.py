import cases
import pytest
import torch

from quantcore import beam, feedback
from quantcore.errors import InputError
from quantcore.search import SEARCHES, SearchConfig, Searcher


@pytest.mark.parametrize(
    ("name", "sweep", "want"),
    [
        ("beam", 1, ("beam",)),
        ("descent", 2, ("descent",)),
        ("feedback", 3, ("feedback",)),
        ("feedback-descent", 1, ("feedback", "descent")),
        ("feedback-descent", 2, ("feedback", "descent")),
        ("feedback-descent", 3, ("descent",)),
    ],
)
def test_steps_of_a_sweep(name, sweep, want):
    assert SearchConfig(name, feedback_sweeps=2).steps(sweep) == want


def test_each_search_has_its_own_width():
    assert [SearchConfig(name).kept for name in SEARCHES] == [1, 1, 1, 8]
    assert SearchConfig("beam", 3).kept == 3
    assert SearchConfig("beam", 3).descent().widths(2) == (3, 3)
    assert SearchConfig("descent", 2).descent().widths(3) == (16, 16, 2)
    assert SearchConfig("feedback", 2).feedback().widths(2) == (32, 2)


def test_steps_are_the_searches_they_name(rng):
    case = cases.make(rng)
    searcher = Searcher(case.problem, SearchConfig(), 4)
    fed = feedback.run(
        case.problem, case.weight, feedback.factor(case.problem, 4), SearchConfig().feedback()
    )
    assert torch.equal(searcher.run("feedback", case.weight, rng).codes, fed.codes)
    down = beam.run(case.problem, case.weight, SearchConfig().descent(), rng)
    assert torch.equal(searcher.run("descent", case.weight, rng).codes, down.codes)


def test_unknown_names_and_bad_widths_are_refused():
    with pytest.raises(InputError, match="there is no search 'magic'; choose one of feedback-desc"):
        SearchConfig("magic")
    with pytest.raises(InputError, match="width must be at least 1, got 0"):
        SearchConfig("beam", 0)
