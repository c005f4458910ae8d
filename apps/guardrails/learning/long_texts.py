"""How much a long text's number of pieces is held against it, learnt from texts held out.

A long text's odds are the highest of its n pieces', divided by n ** exponent (panel.py). With 1
the pieces would be as independent as texts are; but windows overlap, and what they cut out varies
less than whole texts do, so 1 lets long texts through that a single text of that kind would not
be. The exponent is what makes good long texts score as good single ones do, at the top, where
thresholds lie. Imports the classifier: for workers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from apps.guardrails.learning import features
from apps.guardrails.learning.classifier import Fold
from apps.guardrails.learning.panel import STEP, windows

READ = 300
"""Held-out good texts that are read for a fold."""
MOST = 60_000
"""Code points of them that are joined."""
PIECES = 25
"""Windows of a text of 10 kB: its maximum is compared with single texts."""

LEAST_TEXTS = 150
LEAST_MAXIMA = 100
"""Below either the top of the scores is not known well enough, and the exponent stays 1."""

LOWEST, INDEPENDENT = 0.3, 1.0
_TOP = (0.8, 0.85, 0.9, 0.95)


def exponent(
    folds: Sequence[Fold],
    good: NDArray[np.bool_],
    read: Callable[[NDArray[np.intp]], list[str]],
    *,
    slope: float,
    seed: int,
) -> float:
    """The exponent for a model of these folds, in [0.3, 1].

    The good texts that a fold held out are joined and looked at through windows by the classifier
    that has not seen them. The maxima over 25 neighbouring windows are long texts' scores; the
    exponent is by how much their upper quantiles lie above those of the texts themselves, in
    calibrated log odds, divided by log 25.

    Args:
        good: which rows are randomly drawn and comply, (rows).
        read: the texts of the rows with these numbers.
        slope: of the calibration.
    """
    draw = np.random.default_rng(seed)
    alone = np.concatenate([fold.scores[good[fold.rows]] for fold in folds])
    if len(alone) < LEAST_TEXTS:
        return INDEPENDENT
    maxima = []
    for fold in folds:
        rows = draw.permutation(fold.rows[good[fold.rows]])[:READ]
        scores = fold.score(features.extract(windows(joined(read(rows)))))
        if len(scores) >= PIECES:
            maxima.append(sliding_window_view(scores, PIECES).max(axis=1))
    if sum(map(len, maxima)) < LEAST_MAXIMA:
        return INDEPENDENT
    higher = np.quantile(np.concatenate(maxima), _TOP) - np.quantile(alone, _TOP)
    return float(np.clip(slope * higher.mean() / np.log(PIECES), LOWEST, INDEPENDENT))


def joined(texts: Sequence[str]) -> str:
    """The texts one after another, as far as they go into the longest that is looked at."""
    return "\n\n".join(texts)[: MOST - MOST % STEP]
