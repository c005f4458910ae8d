"""Bounds against known values, and the promise of the threshold by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr

from apps.guardrails.learning import threshold
from apps.guardrails.learning.threshold import Targets, choose

RUNS = 2000


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 59), (3, 100), (50, 100), (99, 100), (7, 7)])
def test_bound_is_clopper_pearson(k: int, n: int) -> None:
    upper = stats.binomtest(k, n, alternative="less").proportion_ci(0.95).high
    assert threshold.upper_bound(k, n) == pytest.approx(upper)


def test_bound_of_nothing_and_nonsense() -> None:
    assert threshold.upper_bound(0, 0) == 1.0
    for k, n in [(-1, 3), (4, 3)]:
        with pytest.raises(ValueError, match="no proportion"):
            threshold.upper_bound(k, n)


def test_negatives_needed() -> None:
    assert threshold.negatives_needed(0.05) == 59
    assert threshold.negatives_needed(0.01) == 299
    for rate in (0.01, 0.05, 0.1, 0.5):
        needed = threshold.negatives_needed(rate)
        assert threshold.upper_bound(0, needed) <= rate < threshold.upper_bound(0, needed - 1)
    for rate in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            threshold.negatives_needed(rate)


@pytest.mark.parametrize(("count", "limit"), [(59, 0.05), (100, 0.05), (500, 0.05), (1000, 0.01)])
def test_the_promise_on_good_traffic_holds(count: int, limit: float) -> None:
    """Uniform scores: the true false-positive rate of a threshold t is 1 - t."""
    random = np.random.default_rng(count)
    violates = np.zeros(count, bool)
    kept = sum(
        1 - choose(random.random(count), violates, Targets(limit)).threshold <= limit
        for _ in range(RUNS)
    )
    assert kept / RUNS >= 0.93


def test_the_promise_holds_with_tied_scores() -> None:
    """Scores of 40 levels: the true rate is the share of levels at or above the threshold."""
    random = np.random.default_rng(0)
    violates = np.zeros(300, bool)
    levels = np.arange(40) / 40
    kept = 0
    for _ in range(RUNS):
        chosen = choose(random.choice(levels, 300), violates, Targets(0.1))
        kept += (levels >= chosen.threshold).mean() <= 0.1
    assert kept / RUNS >= 0.93


def alike(random: np.random.Generator, groups: np.ndarray, share: float) -> np.ndarray:
    """Uniform scores; so much of the variance of their normal quantiles is their group's."""
    own = random.standard_normal(len(groups))
    of_group = random.standard_normal(groups.max() + 1)[groups]
    return ndtr(math.sqrt(share) * of_group + math.sqrt(1 - share) * own)


def alike_at_the_top(random: np.random.Generator, groups: np.ndarray, _: float) -> np.ndarray:
    """Uniform scores; a tenth of the groups has all of the top tenth, and one score each."""
    kinds = groups.max() + 1
    top, place, own = random.random(kinds) < 0.1, random.random(kinds), random.random(len(groups))
    return np.where(top[groups], 0.9 + 0.1 * place[groups], 0.9 * own)


def kept_with_groups(
    scored: Callable[..., np.ndarray], share: float, sizes: list[int], *, told: bool = True
) -> float:
    """How often the limit of 5 % holds."""
    random = np.random.default_rng(len(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    violates = np.zeros(len(groups), bool)
    kept = 0
    for _ in range(RUNS):
        scores = scored(random, groups, share)
        chosen = choose(scores, violates, Targets(0.05), groups if told else None)
        kept += 1 - chosen.threshold <= 0.05
    return kept / RUNS


@pytest.mark.parametrize("sizes", [[5] * 80, [2] * 200, [1, 2, 3, 4, 5, 6, 7] * 20])
@pytest.mark.parametrize(
    ("scored", "share"), [(alike, 0.0), (alike, 0.4), (alike, 1.0), (alike_at_the_top, 0.0)]
)
def test_the_promise_holds_over_groups(
    scored: Callable[..., np.ndarray], share: float, sizes: list[int]
) -> None:
    assert kept_with_groups(scored, share, sizes) >= 0.93


def test_groups_that_are_counted_as_independent_items_break_the_promise() -> None:
    # 0.93 is what a promise has to reach; the gap above each group of five makes up for some of it
    assert kept_with_groups(alike, 1.0, [5] * 80, told=False) < 0.9


def test_the_promise_on_recall_holds_over_groups() -> None:
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(80), 5)
    violates = np.ones(400, bool)
    kept = 0
    for _ in range(RUNS):
        chosen = choose(alike(random, groups, 0.7), violates, Targets(None, 0.8), groups)
        kept += 1 - chosen.threshold >= 0.8
    assert kept / RUNS >= 0.93


def test_one_large_group_does_not_outweigh_many_texts() -> None:
    random = np.random.default_rng(6)
    scores = np.append(random.random(500), np.full(100, 0.5))
    groups = np.append(np.arange(500), np.full(100, 500))
    chosen = choose(scores, np.zeros(600, bool), Targets(0.05), groups)
    assert 0.9 < chosen.threshold < 0.97


def test_groups_of_one_are_items_of_their_own() -> None:
    scores, violates = np.random.default_rng(3).random(200), np.zeros(200, bool)
    alone = choose(scores, violates, Targets(0.05))
    assert choose(scores, violates, Targets(0.05), np.arange(200)) == alone


def test_groups_are_said_in_the_note() -> None:
    scores, groups = np.repeat(np.arange(80) / 80, 2), np.repeat(np.arange(80), 2)
    note = choose(scores, np.zeros(160, bool), Targets(0.05), groups).note
    assert "of the 160 complying labels in 80 groups that calibrate it," in note


def test_too_few_independent_ones_are_provisional() -> None:
    scores, groups = np.repeat(np.arange(40) / 40, 2), np.repeat(np.arange(40), 2)
    chosen = choose(scores, np.zeros(80, bool), Targets(0.05), groups)
    assert chosen.provisional
    assert (
        "80 complying labels in 40 groups calibrate it, fewer groups than the 59 needed"
        in chosen.note
    )


@pytest.mark.parametrize(("count", "target"), [(60, 0.9), (300, 0.8)])
def test_the_promise_on_recall_holds(count: int, target: float) -> None:
    random = np.random.default_rng(count)
    violates = np.ones(count, bool)
    kept = sum(
        1 - choose(random.random(count), violates, Targets(None, target)).threshold >= target
        for _ in range(RUNS)
    )
    assert kept / RUNS >= 0.93


def items(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    violates = random.random(count) < 0.3
    scores = np.clip(random.normal(0.3 + 0.3 * violates, 0.15), 0.001, 0.999)
    return scores, violates


def test_lowest_threshold_within_the_limit() -> None:
    scores, violates = items()
    negatives = scores[~violates]
    chosen = choose(scores, violates, Targets(0.05))
    flagged = int((negatives >= chosen.threshold).sum())
    assert threshold.upper_bound(flagged, len(negatives)) <= 0.05
    assert threshold.upper_bound(flagged + 1, len(negatives)) > 0.05
    below, above = max(scores[scores < chosen.threshold]), min(scores[scores >= chosen.threshold])
    assert below in negatives, "one step lower it would flag one more"
    assert below < chosen.threshold <= above
    assert chosen.rule == "false_positive_rate"
    assert not chosen.provisional
    assert f"it flags {flagged} of the {len(negatives)} complying labels" in chosen.note


def test_ties_are_flagged_together_or_not_at_all() -> None:
    violates = np.zeros(200, bool)
    scores = np.repeat([0.1, 0.6], [190, 10])
    chosen = choose(scores, violates, Targets(0.05))
    assert 0.6 < chosen.threshold < 0.6001, "ten flagged are too many, and they are equal"
    scores = np.repeat([0.1, 0.6, 0.7], [190, 7, 3])
    chosen = choose(scores, violates, Targets(0.05))
    assert 0.6 < chosen.threshold < 0.7
    scores = np.repeat([0.1, 0.6, 0.7], [197, 2, 1])
    assert 0.1 < choose(scores, violates, Targets(0.05)).threshold < 0.6


@pytest.mark.parametrize("targets", [Targets(0.05), Targets(None, 0.9)])
def test_it_stands_in_the_middle_where_nothing_lies_between(targets: Targets) -> None:
    violates = np.arange(160) >= 80
    scores = np.where(violates, 0.95, 0.05)
    assert choose(scores, violates, targets).threshold == pytest.approx(0.5)


def test_a_target_of_recall_without_violating_labels_stands_at_one_half() -> None:
    scores = np.array([0.02, 0.2, 0.6, 0.7])
    assert choose(scores, np.zeros(4, bool), Targets(None, 0.9)).threshold == 0.5


@given(st.data())
def test_the_middle_flags_the_same_items(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 60))
    chance = st.floats(0, 1, exclude_max=True)
    scores = np.array(data.draw(st.lists(chance, min_size=count, max_size=count)))
    threshold_then = data.draw(st.sampled_from(sorted({*scores.tolist()} - {0.0}) or [0.5]))
    moved = threshold._in_the_gap(threshold_then, scores)
    assert ((scores >= moved) == (scores >= threshold_then)).all()
    assert 0 < moved <= 1


def test_too_few_negatives() -> None:
    scores = np.linspace(0.1, 0.7, 41)
    chosen = choose(np.append(scores, 0.65), np.arange(42) == 41, Targets(0.05))
    assert chosen.threshold == np.nextafter(0.7, 1)
    assert chosen.provisional
    apart = choose(np.append(scores, 0.95), np.arange(42) == 41, Targets(0.05))
    assert 0.8 < apart.threshold < 0.9
    assert chosen.note == (
        "aims at 5 % of good traffic; 41 complying labels calibrate it, fewer than the 59 needed, "
        "so it flags none of them"
    )
    one = choose(np.array([0.5]), np.array([False]), Targets(0.01))
    assert "1 complying label calibrates it, fewer than the 299 needed" in one.note


def test_no_negatives_flags_nothing() -> None:
    chosen = choose(np.array([0.9]), np.array([True]), Targets(0.05))
    assert chosen.threshold == threshold.FLAGS_NOTHING == 1.0
    assert chosen.provisional
    assert "59 are needed" in chosen.note


def test_below_sixty_negatives_is_provisional() -> None:
    scores = np.linspace(0.1, 0.7, 60)
    violates = np.zeros(60, bool)
    assert choose(scores[:59], violates[:59], Targets(0.05)).provisional
    assert not choose(scores, violates, Targets(0.05)).provisional
    assert choose(scores[:59], violates[:59], Targets(None, None, 2)).provisional
    assert "provisional" in choose(scores[:59], violates[:59], Targets(None, None, 2)).note


def test_limit_wins_then_recall_then_cost() -> None:
    scores, violates = items()
    assert choose(scores, violates, Targets(0.05, 0.8, 3)).rule == "false_positive_rate"
    assert choose(scores, violates, Targets(None, 0.8, 3)).rule == "recall"
    assert choose(scores, violates, Targets(None, None, 3)).rule == "cost"
    alone = choose(scores, violates, Targets(0.05))
    assert choose(scores, violates, Targets(0.05, 0.8, 3)).threshold == alone.threshold


def test_highest_threshold_that_catches_enough() -> None:
    scores, violates = items()
    positives = scores[violates]
    chosen = choose(scores, violates, Targets(None, 0.8))
    caught = int((positives >= chosen.threshold).sum())
    missed = len(positives) - caught
    assert threshold.upper_bound(missed, len(positives)) <= 0.2
    assert threshold.upper_bound(missed + 1, len(positives)) > 0.2
    assert min(scores[scores >= chosen.threshold]) in positives, "higher it would miss one more"


def test_too_few_positives() -> None:
    chosen = choose(np.array([0.4, 0.6, 0.1]), np.array([True, True, False]), Targets(None, 0.9))
    assert 0.1 < chosen.threshold < 0.4
    assert chosen.provisional
    assert "2 violating labels calibrate it, fewer than the 29 needed" in chosen.note
    none = choose(np.array([0.4]), np.array([False]), Targets(None, 0.9))
    assert none.threshold == 0.5
    assert none.provisional


@pytest.mark.parametrize(("ratio", "expected"), [(1, 0.5), (3, 0.25), (0.25, 0.8)])
def test_cost(ratio: float, expected: float) -> None:
    chosen = choose(*items(), Targets(None, None, ratio))
    assert chosen.threshold == expected
    assert not chosen.provisional


@pytest.mark.parametrize(
    "targets",
    [
        Targets(None),
        Targets(0.0),
        Targets(1.0),
        Targets(None, 1.0),
        Targets(None, None, 0.0),
        Targets(None, None, float("inf")),
        Targets(float("nan")),
    ],
)
def test_impossible_targets(targets: Targets) -> None:
    with pytest.raises(ValueError, match=r"target|cost ratio"):
        choose(*items(), targets)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), float("inf")])
def test_impossible_probabilities(value: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        choose(np.array([value, 0.5]), np.array([True, False]), Targets())


def test_threshold_is_in_range_at_the_extremes() -> None:
    largest, smallest = np.nextafter(1.0, 0), np.nextafter(0.0, 1)
    violates = np.zeros(100, bool)
    assert choose(np.full(100, largest), violates, Targets(0.05)).threshold == 1.0
    assert choose(np.zeros(100), violates, Targets(0.05)).threshold == smallest
    assert choose(np.zeros(100), ~violates, Targets(None, 0.5)).threshold == smallest
