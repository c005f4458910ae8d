"""Figures against known values, exact intervals, and their coverage by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from apps.evidence.estimators import (
    ENOUGH,
    bounds,
    curve,
    effective_size,
    figures,
    histogram,
    proportion,
)

RUNS = 1000
LEAST_COVERAGE = 0.93


def table(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    violates = np.array([True] * tp + [False] * fp + [True] * fn + [False] * tn, bool)
    flagged = np.array([True] * tp + [True] * fp + [False] * fn + [False] * tn, bool)
    return violates, flagged, np.ones(len(violates))


def test_figures_are_those_of_scikit_learn() -> None:
    violates, flagged, weights = table(40, 10, 15, 100)
    found = figures(violates, flagged, weights)
    precision, recall, f1, _ = precision_recall_fscore_support(violates, flagged, average="binary")
    assert found.precision.value == pytest.approx(precision)
    assert found.recall.value == pytest.approx(recall)
    assert found.f1.value == pytest.approx(f1)
    assert found.false_positive_rate.value == pytest.approx(10 / 110)


def test_equal_weights_give_the_interval_of_clopper_and_pearson() -> None:
    violates, flagged, weights = table(40, 10, 15, 100)
    found = figures(violates, flagged, weights).precision
    exact = binomtest(40, 50).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_the_interval_of_f1_is_the_one_of_its_jaccard_index() -> None:
    violates, flagged, weights = table(40, 10, 15, 100)
    exact = binomtest(40, 65).proportion_ci(method="exact")
    found = figures(violates, flagged, weights).f1
    assert found.low == pytest.approx(2 * exact.low / (1 + exact.low))
    assert found.high == pytest.approx(2 * exact.high / (1 + exact.high))


@pytest.mark.parametrize("hits", [0, 20])
def test_none_or_all_still_has_an_interval(hits: int) -> None:
    value, low, high = proportion(np.arange(20) < hits, np.ones(20))
    exact = binomtest(hits, 20).proportion_ci(method="exact")
    assert (value, low, high) == pytest.approx((hits / 20, exact.low, exact.high))


def test_too_few_items_say_nothing_but_how_many_more_it_takes() -> None:
    violates, flagged, weights = table(3, 1, 2, 94)
    found = figures(violates, flagged, weights)
    assert found.precision.value is None
    # 4 of 100 are flagged, so about 150 more labels bring the 6 that are missing
    assert found.precision.needed == 150
    assert found.recall.needed == 100


def test_without_any_item_the_forecast_is_still_a_number() -> None:
    found = figures(*table(0, 0, 0, 0))
    assert found.precision.value is None
    assert found.precision.needed >= ENOUGH


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=60))
def test_the_value_lies_in_its_interval_and_the_interval_in_0_1(
    rows: list[tuple[bool, int]],
) -> None:
    successes = np.array([row[0] for row in rows])
    weights = np.array([float(row[1]) for row in rows])
    value, low, high = proportion(successes, weights)
    assert 0 <= low <= value <= high <= 1


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=2, max_size=60))
def test_unequal_weights_never_count_as_more_items(rows: list[tuple[bool, int]]) -> None:
    successes = np.array([row[0] for row in rows])
    weights = np.array([float(row[1]) for row in rows])
    value = float(np.sum(weights[successes]) / np.sum(weights))
    assert effective_size(successes, weights, value) <= len(rows) + 1e-9


def test_bounds_hold_every_way_the_unresolved_items_can_be_answered() -> None:
    violates, flagged, weights = table(10, 4, 3, 20)
    unresolved = np.zeros(len(violates), bool)
    unresolved[[0, 11, 15, 30]] = True
    found = bounds(violates, flagged, weights, unresolved)
    reached: dict[str, set[float]] = {}
    for answers in itertools.product([True, False], repeat=4):
        said = violates.copy()
        said[unresolved] = answers
        answered = figures(said, flagged, weights)
        for name in ("precision", "recall", "false_positive_rate"):
            value = getattr(answered, name).value
            low, high = found[name]
            assert low is not None
            assert high is not None
            if value is not None:
                assert low - 1e-12 <= value <= high + 1e-12
                reached.setdefault(name, set()).add(value)
    for name, values in reached.items():
        assert found[name] == pytest.approx((min(values), max(values)))


def test_the_curve_has_the_average_precision_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(150)
    violates = rng.random(150) < scores
    points = curve(violates, scores, np.ones(150))
    recalls = np.array([0.0] + [point[2] or 0.0 for point in points])
    precisions = np.array([point[1] or 0.0 for point in points])
    area = float(np.sum(np.diff(recalls) * precisions))
    assert area == pytest.approx(average_precision_score(violates, scores))


def test_the_histogram_counts_every_item_once() -> None:
    scores = np.array([0.0, 0.04, 0.5, 0.99, 1.0])
    violates = np.array([True, False, True, False, True])
    found = histogram(violates, scores)
    assert sum(found["violates"]) == 3
    assert sum(found["complies"]) == 2
    assert found["violates"][0] == 1
    assert found["violates"][-1] == 1


@pytest.mark.parametrize("truth", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("skew", [False, True])
def test_intervals_cover_the_weighted_truth(truth: float, skew: bool) -> None:
    """A population of groups of 1 to 12 texts alike; one text a group is asked for."""
    rng = np.random.default_rng(11)
    sizes = rng.choice([1, 2, 5, 12], 4000, p=[0.6, 0.2, 0.15, 0.05]) if skew else np.ones(4000)
    share = truth + 0.15 * (sizes > 2) * (1 if truth < 0.7 else -1)
    hits = rng.random(4000) < share
    target = float(np.sum(sizes[hits]) / np.sum(sizes))
    inside = 0
    for _ in range(RUNS):
        drawn = rng.choice(4000, 120, replace=False)
        _, low, high = proportion(hits[drawn], sizes[drawn].astype(float))
        inside += low <= target <= high
    assert inside / RUNS >= LEAST_COVERAGE
