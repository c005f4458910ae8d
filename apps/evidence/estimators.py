"""Precision, recall and their kin from a probability sample, each with a 95 % interval. No Django.

Figures are of distinct texts. The sample has one text a group, and a text of a group of m stands
for m texts: that is its weight. With equal weights every interval is the exact one of Clopper and
Pearson (1934); with unequal ones it is Korn and Graubard's (1998): the same with the effective
sample size in place of n.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

ENOUGH = 10
_TAIL = 0.025

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A proportion in [0, 1] with its two-sided 95 % interval, from n items.

    Below ENOUGH items value, low and high are None, and `needed` forecasts how many more audit
    labels would do at today's rate.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    needed: int = 0


@dataclass(frozen=True)
class Figures:
    """All figures of one model at one threshold on one sample."""

    precision: Figure
    recall: Figure
    false_positive_rate: Figure
    f1: Figure
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def figures(violates: Booleans, flagged: Booleans, weights: Floats) -> Figures:
    """The figures of a sample.

    Args:
        violates: what people said, shape (n,).
        flagged: what the model does at its threshold, shape (n,).
        weights: how many texts each stands for, shape (n,), positive.
    """
    n = len(violates)
    either = violates | flagged
    jaccard = _figure(violates & flagged, either, weights, n)
    return Figures(
        precision=_figure(violates, flagged, weights, n),
        recall=_figure(flagged, violates, weights, n),
        false_positive_rate=_figure(flagged, ~violates, weights, n),
        f1=_monotone(jaccard),
        true_positives=int(np.sum(violates & flagged)),
        false_positives=int(np.sum(~violates & flagged)),
        false_negatives=int(np.sum(violates & ~flagged)),
        true_negatives=int(np.sum(~violates & ~flagged)),
    )


def proportion(successes: Booleans, weights: Floats) -> tuple[float, float, float]:
    """(value, low, high) of a weighted share; needs at least one item."""
    value = float(np.sum(weights[successes]) / np.sum(weights))
    effective = effective_size(successes, weights, value)
    hits = value * effective
    low = 0.0 if value == 0 else float(betaincinv(hits, effective - hits + 1, _TAIL))
    high = 1.0 if value == 1 else float(betaincinv(hits + 1, effective - hits, 1 - _TAIL))
    return value, min(low, value), max(high, value)


def effective_size(successes: Booleans, weights: Floats, value: float) -> float:
    """How many equally weighted items carry as much: exactly n when the weights are equal.

    Korn and Graubard (1998): p(1-p) over the linearised variance, times the ratio of squared
    t quantiles; never more than Kish's (sum w)^2 / sum w^2, which also stands in at p = 0 and 1.
    """
    n = len(weights)
    kish = float(np.sum(weights) ** 2 / np.sum(weights**2))
    if n < 2 or np.all(weights == weights[0]) or value in (0.0, 1.0):
        return kish
    residuals = weights * (successes - value)
    variance = float(np.sum(residuals**2) / np.sum(weights) ** 2) * n / (n - 1)
    if variance <= 0:
        return kish
    effective = min(value * (1 - value) / variance, kish)
    # quantiles of Student's t
    narrow, wide = stdtrit(n - 1, 1 - _TAIL), stdtrit(max(effective - 1, 1), 1 - _TAIL)
    return float(min(kish, effective * (narrow / wide) ** 2))


def bounds(
    violates: Booleans, flagged: Booleans, weights: Floats, unresolved: Booleans
) -> dict[str, tuple[float | None, float | None]]:
    """How far each figure could move when the unresolved items are answered.

    Precision is lowest when none of them violates and highest when all do; recall and the
    false-positive rate when people say of each the opposite of what the model does, or the same.
    `violates` is ignored where `unresolved` is true.
    """

    def share(successes: Booleans, among: Booleans) -> float | None:
        return _share(successes, among, weights)

    none, every = violates & ~unresolved, violates | unresolved
    against, alike = (np.where(unresolved, said, violates) for said in (~flagged, flagged))
    return {
        "precision": _range(share(none, flagged), share(every, flagged)),
        "recall": _range(share(flagged, against), share(flagged, alike)),
        "false_positive_rate": _range(share(flagged, ~alike), share(flagged, ~against)),
    }


def _range(*ends: float | None) -> tuple[float | None, float | None]:
    known = [value for value in ends if value is not None]
    return (min(known), max(known)) if known else (None, None)


def _share(successes: Booleans, among: Booleans, weights: Floats) -> float | None:
    total = float(np.sum(weights[among]))
    return float(np.sum(weights[among & successes])) / total if total else None


def _figure(successes: Booleans, among: Booleans, weights: Floats, sampled: int) -> Figure:
    n = int(np.sum(among))
    if n < ENOUGH:
        return Figure(None, None, None, n, needed=_needed(n, sampled))
    value, low, high = proportion(successes[among], weights[among])
    return Figure(value, low, high, n)


def _needed(n: int, sampled: int) -> int:
    """More audit labels until ENOUGH items count, if as many count as so far."""
    rate = n / sampled if n else 1 / (sampled + 1)
    return max(ENOUGH - n, math.ceil((ENOUGH - n) / rate))


def _monotone(jaccard: Figure) -> Figure:
    """F1 = 2J / (1 + J) grows with J = TP / (TP + FP + FN), so its interval is J's, mapped."""

    def f1(value: float | None) -> float | None:
        return None if value is None else 2 * value / (1 + value)

    return Figure(f1(jaccard.value), f1(jaccard.low), f1(jaccard.high), jaccard.n, jaccard.needed)


def curve(
    violates: Booleans, scores: Floats, weights: Floats
) -> list[tuple[float, float | None, float | None]]:
    """(threshold, precision, recall) at every distinct score, thinned to at most 200 points."""
    if not len(scores) or not violates.any():
        return []
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(weights[order] * violates[order])
    taken = np.cumsum(weights[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    if len(last) > 200:
        last = last[np.unique(np.linspace(0, len(last) - 1, 200).astype(int))]
    total = hits[-1]
    return [
        (float(scores[order][i]), float(hits[i] / taken[i]), float(hits[i] / total)) for i in last
    ]


def histogram(violates: Booleans, scores: Floats, *, bins: int = 20) -> dict[str, list[int]]:
    """Unweighted counts of scores in equal bins of [0, 1], by what people said."""
    edges = np.linspace(0, 1, bins + 1)
    return {
        "violates": np.histogram(scores[violates], edges)[0].tolist(),
        "complies": np.histogram(scores[~violates], edges)[0].tolist(),
    }
