"""Platt scaling against scikit-learn's, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from apps.guardrails.learning import calibration


def sample(count: int, slope: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.normal(size=count) * 2
    chance = 1 / (1 + np.exp(-(slope * scores + offset)))
    return scores, random.random(count) < chance


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    from sklearn.calibration import _SigmoidCalibration

    scores, violates = sample(400, 1.3, -1.0, seed)
    theirs = _SigmoidCalibration().fit(scores, violates)
    slope, offset = calibration.fit_sigmoid(scores, violates)
    # scikit-learn's sigmoid is 1 / (1 + exp(a s + b)), and it stops at a rougher tolerance.
    assert slope == pytest.approx(-theirs.a_, rel=1e-3)
    assert offset == pytest.approx(-theirs.b_, rel=1e-3, abs=1e-3)


def test_finds_the_truth() -> None:
    scores, violates = sample(200_000, 0.7, -2.0, 1)
    slope, offset = calibration.fit_sigmoid(scores, violates)
    assert slope == pytest.approx(0.7, abs=0.02)
    assert offset == pytest.approx(-2.0, abs=0.03)
    probabilities = calibration.apply_sigmoid(scores, slope, offset)
    assert calibration.expected_calibration_error(probabilities, violates) < 0.005


def test_is_at_the_minimum() -> None:
    scores, violates = sample(60, 1.0, 0.5, 2)
    slope, offset = calibration.fit_sigmoid(scores, violates)
    positives, negatives = violates.sum(), (~violates).sum()
    targets = np.where(violates, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    gap = calibration.apply_sigmoid(scores, slope, offset) - targets
    assert abs(gap.sum()) < 1e-6
    assert abs((gap * scores).sum()) < 1e-6


def test_perfect_separation_stays_finite() -> None:
    scores = np.array([-3.0, -2.0, -1.0, 1.0, 2.0])
    slope, offset = calibration.fit_sigmoid(scores, scores > 0)
    assert 0 < slope < 100
    assert np.isfinite(offset)
    assert calibration.fit_sigmoid(scores, scores < 0)[0] < 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_and_shift_do_not_matter(scale: float) -> None:
    scores, violates = sample(300, 1.0, 0.0, 3)
    moved = scores * scale + 5 * scale
    slope, offset = calibration.fit_sigmoid(scores, violates)
    moved_slope, moved_offset = calibration.fit_sigmoid(moved, violates)
    assert np.allclose(
        calibration.apply_sigmoid(scores, slope, offset),
        calibration.apply_sigmoid(moved, moved_slope, moved_offset),
        atol=1e-9,
    )


def test_constant_scores_give_the_base_rate() -> None:
    violates = np.array([True, False, False, False])
    slope, offset = calibration.fit_sigmoid(np.full(4, 2.5), violates)
    expected = (2 / 3 + 3 * 1 / 5) / 4
    assert slope == 0
    assert calibration.apply_sigmoid(np.array([2.5]), slope, offset)[0] == pytest.approx(expected)


@pytest.mark.parametrize("side", [True, False])
def test_one_side_is_refused(side: bool) -> None:
    with pytest.raises(ValueError, match="both sides"):
        calibration.fit_sigmoid(np.array([1.0, 2.0]), np.array([side, side]))


def test_probabilities_stay_inside() -> None:
    scores = np.array([-1e308, -800.0, -40.0, 0.0, 40.0, 800.0, 1e308])
    with np.errstate(all="raise", under="ignore"):
        probabilities = calibration.apply_sigmoid(scores, 1.0, 0.0)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities[3] == 0.5
    assert probabilities.dtype == np.float64


def test_calibration_error() -> None:
    half = np.full(10, 0.5)
    assert calibration.expected_calibration_error(half, np.arange(10) % 2 == 0) < 0.6
    sure = np.array([0.9] * 10 + [0.1] * 10)
    truth = np.array([True] * 10 + [False] * 10)
    assert calibration.expected_calibration_error(sure, truth, 2) == pytest.approx(0.1)
    assert calibration.expected_calibration_error(sure, ~truth, 2) == pytest.approx(0.9)
    assert calibration.expected_calibration_error(sure[:1], truth[:1]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="No items"):
        calibration.expected_calibration_error(sure[:0], truth[:0])
