"""Raw scores to probabilities, and how well they are (ml.md section 3). NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 100
_TOLERANCE = 1e-10
_RIDGE = 1e-12
_SMALLEST = np.nextafter(0.0, 1.0)
_LARGEST = np.nextafter(1.0, 0.0)


def fit_sigmoid(scores: NDArray[np.float64], violates: NDArray[np.bool_]) -> tuple[float, float]:
    """The slope a and offset b of c = 1 / (1 + exp(-(a * score + b))).

    Platt 1999, "Probabilistic outputs for support vector machines", with his smoothed targets
    (n1 + 1) / (n1 + 2) and 1 / (n0 + 2); Newton's method with backtracking and the numerically
    stable form of Lin, Lin & Weng 2007, "A note on Platt's probabilistic outputs". The slope is
    positive if higher scores violate more often.

    Args:
        scores: out-of-fold scores, finite, (items).
        violates: their labels, (items).

    Raises ValueError if a side has no item.
    """
    positives, negatives = int(violates.sum()), int((~violates).sum())
    if not positives or not negatives:
        raise ValueError("Labels of both sides are needed to calibrate scores.")
    center, scale = float(scores.mean()), float(scores.std()) or 1.0
    standard = (scores - center) / scale
    targets = np.where(violates, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    slope, offset = _newton(standard, targets, start)
    return slope / scale, offset - slope * center / scale


def _newton(
    scores: NDArray[np.float64], targets: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[float, float]:
    """Minimises the cross entropy between targets and sigmoid(a * score + b) over (a, b)."""
    design = np.column_stack([scores, np.ones_like(scores)])
    parameters, loss = start, _loss(design @ start, targets)
    for _ in range(_ITERATIONS):
        probabilities = apply_sigmoid(design @ parameters, 1.0, 0.0)
        gradient = design.T @ (probabilities - targets)
        if np.abs(gradient).max() < _TOLERANCE * len(scores):
            break
        curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design
        step = np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient)
        size = 1.0
        while size > _TOLERANCE:
            candidate = parameters - size * step
            candidate_loss = _loss(design @ candidate, targets)
            if candidate_loss <= loss - 1e-4 * size * float(gradient @ step):
                break
            size /= 2
        else:
            break
        parameters, loss = candidate, candidate_loss
    return float(parameters[0]), float(parameters[1])


def _loss(margins: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    """Cross entropy in nats, summed; log(1 + exp) without overflow."""
    return float((np.logaddexp(0.0, margins) - targets * margins).sum())


def apply_sigmoid(scores: NDArray[np.float64], slope: float, offset: float) -> NDArray[np.float64]:
    """1 / (1 + exp(-(slope * score + offset))), strictly between 0 and 1; (items)."""
    margins = slope * np.asarray(scores, np.float64) + offset
    small = np.exp(-np.abs(margins))
    probabilities = np.where(margins >= 0, 1.0, small) / (1.0 + small)
    clipped: NDArray[np.float64] = np.clip(probabilities, _SMALLEST, _LARGEST)
    return clipped


def expected_calibration_error(
    probabilities: NDArray[np.float64], violates: NDArray[np.bool_], bins: int = 10
) -> float:
    """Mean over items of |mean probability - share violating| of the item's bin, in [0, 1].

    Bins of equal mass (Nixon et al. 2019): items in order of probability, cut into `bins` runs
    of equal length, fewer if there are fewer items. Raises ValueError if there are none.
    """
    if not len(probabilities):
        raise ValueError("No items to measure calibration on.")
    order = np.argsort(probabilities, kind="stable")
    gaps = [
        abs(float(probabilities[part].sum() - violates[part].sum()))
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return sum(gaps) / len(order)
