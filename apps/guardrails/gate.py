"""How the checks of a guardrail become one verdict: pure, and honest about what failed. No Django.

A check that failed has no vote. The gate then asks whether it matters: every gate here is
monotone, so if it fires without the missing votes it fires anyway, and if it does not fire with
all of them against the text it does not fire anyway. Only in between nobody can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("any", "all", "at_least", "weighted")


@dataclass(frozen=True)
class Gate:
    """When a guardrail fires.

    Args:
        kind: any check, all of them, at least `least` of them, or the weighted mean of their
            scores, calibrated, at `threshold`.
        threshold: of the weighted gate, in (0, 1].
        slope, offset: of its calibration, c = sigmoid(slope * mean + offset); None: the mean is c.
    """

    kind: str = "any"
    least: int = 1
    threshold: float = 0.5
    slope: float | None = None
    offset: float = 0.0


class Vote(NamedTuple):
    """One check's: its score in [0, 1], whether that is enough for it, and its weight (> 0).

    `score` is None when the check failed, and the least it can be where it failed `partly`: on
    some of the text.
    """

    score: float | None
    fired: bool = False
    weight: float = 1.0
    partly: bool = False

    @property
    def known(self) -> bool:
        return self.score is not None and not self.partly


@dataclass(frozen=True)
class Verdict:
    """What a gate says: `fires` is None when the votes that are missing would decide.

    turns: the places of the texts on which it fires, whatever is missing.
    """

    fires: bool | None
    score: float | None
    turns: tuple[int, ...] = ()


def combine(gate: Gate, texts: Sequence[tuple[Vote, ...]]) -> Verdict:
    """The gate's verdict on texts, of each all votes of a guardrail: it fires if it does on any.

    What one check finds in one text and another in another is never counted together. Without any
    vote it does not fire. The score c in [0, 1] of a text is the highest of the checks' (any), the
    lowest (all), the k-th highest (at least k) or the calibrated weighted mean; that of several the
    highest; None where a missing one would change it.
    """
    if len(texts) == 1:  # as nearly always, where each microsecond counts
        each = [_bounds(gate, texts[0])]
    else:
        known = {votes: _bounds(gate, votes) for votes in set(texts)}
        each = [known[votes] for votes in texts]
    low, high = max(one.low for one in each), max(one.high for one in each)
    turns = tuple([turn for turn, one in enumerate(each) if one.without])
    undecided = not turns and any(one.with_all for one in each)
    return Verdict(None if undecided else bool(turns), low if low == high else None, turns)


class _Bounds(NamedTuple):
    """The score at least and at most, and whether it fires without and with the missing votes."""

    low: float
    high: float
    without: bool
    with_all: bool


def _bounds(gate: Gate, votes: Sequence[Vote]) -> _Bounds:
    if not votes:
        return _Bounds(0.0, 0.0, False, False)
    if all(vote.known for vote in votes):
        score = _score(gate, votes)
        fires = _fires(gate, votes, score)
        return _Bounds(score, score, fires, fires)
    least = [vote if vote.score is not None else Vote(0.0, False, vote.weight) for vote in votes]
    most = [vote if vote.known else Vote(1.0, True, vote.weight) for vote in votes]
    low, high = _score(gate, least), _score(gate, most)
    return _Bounds(low, high, _fires(gate, least, low), _fires(gate, most, high))


def _fires(gate: Gate, votes: Sequence[Vote], score: float) -> bool:
    if gate.kind == "weighted":
        return score >= gate.threshold
    return sum(vote.fired for vote in votes) >= _wanted(gate, votes)


def _wanted(gate: Gate, votes: Sequence[Vote]) -> int:
    """How many checks have to fire; never more than there are."""
    if gate.kind == "any":
        return 1
    return len(votes) if gate.kind == "all" else min(gate.least, len(votes))


def _score(gate: Gate, votes: Sequence[Vote]) -> float:
    scores = [vote.score or 0.0 for vote in votes]
    if gate.kind != "weighted":
        return sorted(scores, reverse=True)[_wanted(gate, votes) - 1]
    mean = weighted_mean(votes)
    if gate.slope is None:
        return mean
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, gate.slope * mean + gate.offset))))


def weighted_mean(votes: Sequence[Vote]) -> float:
    """Sum of weight * score over the sum of weights, in [0, 1]; what a calibration is fitted on."""
    total = math.fsum(vote.weight for vote in votes)
    return math.fsum(vote.weight * (vote.score or 0.0) for vote in votes) / total
