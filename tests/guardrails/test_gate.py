"""Gates: closed forms, and what a missing vote may not change."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from apps.guardrails.gate import KINDS, Gate, Verdict, Vote, combine

YES, NO, LOST = Vote(0.9, True), Vote(0.2, False), Vote(None)
votes = some.lists(
    some.builds(
        lambda score, lost, weight: Vote(None if lost else score, score >= 0.5, weight),
        some.floats(0, 1),
        some.booleans(),
        some.floats(0.1, 10),
    ),
    min_size=1,
    max_size=6,
)
gates = some.builds(
    Gate,
    kind=some.sampled_from(KINDS),
    least=some.integers(1, 4),
    threshold=some.floats(0.05, 1),
    slope=some.none() | some.floats(0.1, 20),
    offset=some.floats(-5, 5),
)


@pytest.mark.parametrize(
    ("gate", "given_votes", "fires", "score"),
    [
        (Gate("any"), [NO, YES], True, 0.9),
        (Gate("any"), [NO, NO], False, 0.2),
        (Gate("all"), [YES, NO], False, 0.2),
        (Gate("all"), [YES, YES], True, 0.9),
        (Gate("at_least", least=2), [YES, NO, YES], True, 0.9),
        (Gate("at_least", least=2), [YES, NO, NO], False, 0.2),
        (Gate("at_least", least=9), [YES, YES], True, 0.9),
        (Gate("weighted", threshold=0.5), [Vote(1.0, weight=3), Vote(0.0)], True, 0.75),
        (Gate("weighted", threshold=0.5), [Vote(1.0), Vote(0.0, weight=3)], False, 0.25),
    ],
)
def test_a_gate_combines_votes(
    gate: Gate, given_votes: list[Vote], fires: bool, score: float
) -> None:
    found = combine(gate, [tuple(given_votes)])
    assert found.fires is fires
    assert found.score == pytest.approx(score)


def test_a_weighted_mean_is_calibrated_by_its_sigmoid() -> None:
    found = combine(Gate("weighted", slope=4.0, offset=-2.0), [(Vote(0.75),)])
    assert found.score == pytest.approx(1 / (1 + math.exp(-1.0)))


def test_no_check_at_all_never_fires() -> None:
    assert combine(Gate("all"), [()]) == Verdict(False, 0.0)


@pytest.mark.parametrize(
    ("gate", "given_votes", "fires"),
    [
        (Gate("any"), [YES, LOST], True),
        (Gate("any"), [NO, LOST], None),
        (Gate("all"), [NO, LOST], False),
        (Gate("all"), [YES, LOST], None),
        (Gate("at_least", least=2), [NO, NO, LOST], False),
        (Gate("weighted", threshold=0.9), [NO, LOST], False),
    ],
)
def test_a_missing_vote_matters_only_where_it_would_decide(
    gate: Gate, given_votes: list[Vote], fires: bool | None
) -> None:
    assert combine(gate, [tuple(given_votes)]).fires is fires


@given(gates, votes, some.floats(0, 1), some.booleans())
def test_what_is_certain_stays_whatever_the_missing_votes_are(
    gate: Gate, given_votes: list[Vote], score: float, fired: bool
) -> None:
    before = combine(gate, [tuple(given_votes)])
    filled = [v if v.score is not None else Vote(score, fired, v.weight) for v in given_votes]
    after = combine(gate, [tuple(filled)])
    assert after.fires is not None
    assert before.fires in (None, after.fires)


@given(gates, votes)
def test_a_higher_score_never_silences_a_gate(gate: Gate, given_votes: list[Vote]) -> None:
    louder = [Vote(1.0, True, v.weight) if v.score is not None else v for v in given_votes]
    if combine(gate, [tuple(given_votes)]).fires:
        assert combine(gate, [tuple(louder)]).fires


@given(gates, votes, some.randoms())
def test_the_order_of_checks_does_not_matter(gate: Gate, given_votes: list[Vote], chance) -> None:
    shuffled = list(given_votes)
    chance.shuffle(shuffled)
    assert combine(gate, [tuple(shuffled)]).fires == combine(gate, [tuple(given_votes)]).fires
