from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aqviz.waiting import Line


def line(*asked: str) -> Line:
    """Jobs a1, a2, b1 of visitors a and b."""
    made = Line()
    for job in asked:
        made.add(job, job[0])
    return made


def test_one_visitors_jobs_keep_their_order():
    assert line("a1", "a2", "a3").order() == ["a1", "a2", "a3"]


def test_visitors_take_turns():
    assert line("a1", "a2", "a3", "b1", "c1", "b2").order() == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_whoever_had_a_turn_waits_for_those_who_had_none():
    made = line("a1", "a2")
    assert made.pop() == "a1"
    made.add("b1", "b")
    assert made.order() == ["b1", "a2"]


def test_a_removed_job_is_no_more():
    made = line("a1", "b1")
    made.remove("a1")
    assert "a1" not in made
    assert (len(made), made.pop(), len(made)) == (1, "b1", 0)


@given(st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_order_foretells_what_is_popped_and_is_fair(visitors):
    made = line(*(f"{visitor}{n}" for n, visitor in enumerate(visitors)))
    foretold = made.order()
    popped = [made.pop() for _ in range(len(made))]
    assert popped == foretold
    for visitor in set(visitors):  # between two turns of one, nobody who waits is left out
        turns = [n for n, job in enumerate(popped) if job[0] == visitor]
        for first, second in pairwise(turns):
            between = [job[0] for job in popped[first + 1 : second]]
            assert len(between) == len(set(between))
            assert {job[0] for job in popped[second:]} - {visitor} <= set(between)
