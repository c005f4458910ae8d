"""How much a long text's number of pieces is held against it, learnt from texts held out.

The odds of a long text's n pieces are divided by n ** exponent, n being no more than labelled texts
of its length have, and by less where a good text of such pieces would not lie as high (panel.py).
The exponent is what would make good texts of 10 kB score as good single ones do, at the top, where
thresholds lie. That is an aim: few of the held-out texts have the highest pieces, and it is not let
go above 1; longer texts may be stopped somewhat more or less often.
Imports the classifier: for workers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from apps.guardrails.learning import features, panel
from apps.guardrails.learning.artifact import BELOW_ALL
from apps.guardrails.learning.classifier import Fold
from apps.guardrails.learning.panel import (
    HIGH,
    LINE,
    LONG,
    NEAR,
    PARAGRAPH,
    STEP,
    WINDOW,
    whole_and_pieces,
)

READ = 500
"""Held-out good texts that are read for a fold, each cut at LONG code points."""
MOST = 100_000
"""Code points that they are joined to."""
LEAST = 150
"""Good texts below which the top of their scores is not known well enough: all pay in full."""
LOWEST, INDEPENDENT = 0.3, 1.0
"""Not below 0.3: traffic has long texts of more kinds than were labelled."""
_TOP = (0.8, 0.85, 0.9, 0.95)
_REACHED = 0.95
"""The share of good long texts whose pieces together lie no further above their median."""
_LEAST_SPREAD = 1e-6

RECIPE = {
    "long_text_pieces": [LONG, WINDOW, STEP, PARAGRAPH, LINE],
    "long_text_read": READ,
    "long_text_code_points": MOST,
    "long_text_near": NEAR,
    "long_text_quantiles": list(_TOP),
    "long_text_high": HIGH,
    "long_text_reached": _REACHED,
}
"""What a Length depends on besides the data; JSON-able."""


class Length(NamedTuple):
    """What a model holds against a long text.

    exponent: in [0.3, 1], of the number of pieces that its odds are divided by.
    pieces: how many a text of 10,000 code points pays for, and longer ones in proportion.
    reach: by how many of its own spreads the pieces of such a text together lie above their median.
    top: the calibrated log odds that the highest of single good texts have.
    """

    exponent: float
    pieces: float
    reach: float
    top: float


IN_FULL = Length(INDEPENDENT, 70.0, 0.0, BELOW_ALL)
"""Of what little is known of; 66 to 77 pieces are what the texts of the benchmarks have."""


def learn(
    folds: Sequence[Fold],
    good: NDArray[np.bool_],
    read: Callable[[NDArray[np.intp]], list[str]],
    *,
    slope: float,
    offset: float,
    seed: int,
) -> Length:
    """What a model of these folds holds against a long text.

    The good texts that a fold held out are joined and looked at piece by piece by the classifier
    that has not seen them. As many neighbouring pieces as 10 kB of them have make a long text. The
    exponent is by how much the upper quantiles of long texts lie above those of the texts
    themselves, in calibrated log odds, divided by the log of how many pieces these are; the reach
    is what most of the long texts stay below.

    Args:
        good: which of the rows that calibrate comply, (rows).
        read: the texts of the rows with these numbers, or their first LONG code points.
        slope, offset: of the calibration.
    """
    draw = np.random.default_rng(seed)
    alone = np.concatenate([fold.scores[good[fold.rows]] for fold in folds])
    if len(alone) < LEAST:
        return IN_FULL
    joined = []
    for fold in folds:
        rows = draw.permutation(fold.rows[good[fold.rows]])[:READ]
        joined.append(_long(read(rows), draw))
    looked_at = [whole_and_pieces(text) for text in joined]
    each = [pieces for _, *pieces in looked_at]
    near = sum(map(len, each)) * NEAR // max(1, sum(len(whole) for whole, *_ in looked_at))
    long = [
        sliding_window_view(slope * fold.score(features.extract(here)) + offset, near).T
        for fold, here in zip(folds, each, strict=True)
        if len(here) >= near > 1
    ]
    if not long:
        return IN_FULL
    top = float(np.quantile(slope * alone + offset, _TOP).mean())
    scores = np.concatenate([panel.together(margins) for margins in long])
    median, spread = np.hstack([panel.median_and_spread(margins) for margins in long])
    reaches = (scores - median) / np.maximum(spread, _LEAST_SPREAD)
    return Length(
        exponent=float(
            np.clip((np.quantile(scores, _TOP).mean() - top) / np.log(near), LOWEST, INDEPENDENT)
        ),
        pieces=float(near),
        reach=max(float(np.quantile(reaches, _REACHED)), 0.0),
        top=top,
    )


def _long(texts: Sequence[str], draw: np.random.Generator) -> str:
    """A long text of them: in one random order after another, as often as it takes."""
    parts: list[str] = []
    size = 0
    while texts and size < MOST:
        parts += [texts[place][:LONG] for place in draw.permutation(len(texts))]
        size = sum(map(len, parts)) + 2 * len(parts)
    return "\n\n".join(parts)[:MOST]
