"""Where to draw the line (ml.md section 5, decisions.md 15).

An item is flagged when c >= threshold. Uses SciPy inside the functions: for workers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RECIPE = {"threshold": "Clopper-Pearson, groups by Korn and Graubard"}
CONFIDENCE = 0.95
ENOUGH_NEGATIVES = 60
"""Below this many random complying items a threshold is provisional (ml.md section 3)."""

FLAGS_NOTHING = 1.0
"""As c < 1 always."""


@dataclass(frozen=True)
class Targets:
    """What the owner wants; None where nothing was said. At least one must be set.

    false_positive_rate: at most this share of complying texts is flagged, in (0, 1).
    recall: at least this share of violating texts is flagged, in (0, 1).
    cost_ratio: a miss costs this many times what a false alarm costs, above 0.
    """

    false_positive_rate: float | None = 0.05
    recall: float | None = None
    cost_ratio: float | None = None


@dataclass(frozen=True)
class Choice:
    """A threshold and how it came about.

    threshold: in (0, 1]; 1 flags nothing.
    rule: the target that decided: "false_positive_rate", "recall" or "cost".
    provisional: too few items for the target, or fewer than ENOUGH_NEGATIVES complying ones.
    note: one clause for a page.
    """

    threshold: float
    rule: str
    provisional: bool
    note: str


def upper_bound(successes: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided upper bound on a proportion (Clopper & Pearson 1934), in (0, 1]; 1 of none."""
    _check(successes, trials)
    return _upper_bound(successes, trials, confidence)


def _upper_bound(successes: float, trials: float, confidence: float = CONFIDENCE) -> float:
    """The same for effective numbers, which need not be whole."""
    from scipy.special import betaincinv

    if successes >= trials:
        return 1.0
    return float(betaincinv(successes + 1, trials - successes, confidence))


def _check(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")


def negatives_needed(rate: float) -> int:
    """How many complying items, none flagged, show a rate below `rate` with 95 % confidence.

    ceil(ln(0.05) / ln(1 - rate)): 59 for 5 %, 299 for 1 %. The same number of violating items,
    all flagged, shows a recall above 1 - rate. Raises ValueError outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError("a rate is between 0 and 1")
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate))


def choose(
    probabilities: NDArray[np.float64],
    violates: NDArray[np.bool_],
    targets: Targets,
    groups: NDArray[np.integer] | None = None,
) -> Choice:
    """The threshold for the targets: the false-positive limit wins, then recall, then cost.

    Where no item's score lies round it, it stands in the middle of that gap (in log-odds), for
    which the same items are flagged: next to the last good text it would flag what is only unlike
    all that was labelled.

    The promise of a limit holds in 95 % of cases if the items are independent of the classifier
    and groups of each other; on out-of-fold scores it is an aim (ml.md sections 3 and 5).

    Args:
        probabilities: calibrated c of each item, in [0, 1), (items).
        violates: the label of each item, (items).
        groups: which group each item belongs to, (items); None where all are independent.

    Raises ValueError for probabilities out of range, targets out of range or no target.
    """
    if not ((probabilities >= 0) & (probabilities < 1)).all():
        raise ValueError("probabilities are at least 0 and below 1")
    _check_targets(targets)
    if groups is None:
        groups = np.arange(len(probabilities))
    # false alarms stand at the upper end of good texts, misses at the lower end of bad ones
    negatives = _Side("complying", probabilities[~violates], groups[~violates])
    positives = _Side("violating", -probabilities[violates], groups[violates])
    if targets.false_positive_rate is not None:
        chosen = _for_false_positives(negatives, targets.false_positive_rate)
        return replace(chosen, threshold=_in_the_gap(chosen.threshold, probabilities))
    if targets.recall is not None:
        chosen = _for_recall(positives, negatives, targets.recall)
        if not positives.count:
            return chosen
        return replace(chosen, threshold=_in_the_gap(chosen.threshold, probabilities))
    return _for_cost(negatives, targets.cost_ratio or 1.0)


def _check_targets(targets: Targets) -> None:
    rates = (targets.false_positive_rate, targets.recall)
    if any(rate is not None and not 0 < rate < 1 for rate in rates):
        raise ValueError("a targeted rate is between 0 and 1")
    cost = targets.cost_ratio
    if cost is not None and not 0 < cost < math.inf:
        raise ValueError("a cost ratio is above 0")
    if cost is None and rates == (None, None):
        raise ValueError("no target is set")


class _Side:
    """The items of one label, those that err first at any threshold first.

    scores: highest first, (items).
    sizes: how many items are in the group of each, (items).
    """

    def __init__(
        self, label: str, scores: NDArray[np.float64], groups: NDArray[np.integer]
    ) -> None:
        order = np.argsort(-scores, kind="stable")
        self.label, self.count, self.scores = label, len(scores), scores[order]
        _, where, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
        self.groups, self.group_of, self.sizes = len(sizes), where, sizes

    def allowed(self, limit: float) -> int:
        """How many may err, so that the upper bound on the rate of errors is within the limit.

        Clopper and Pearson's bound with the effective number of items of Korn and Graubard (1998):
        as many as would have the variance that the groups' errors have. -1 where even none is too
        many: then a group counts as one. Where large groups that score alike are many, and none of
        them errs, the bound is too low.
        """
        if upper_bound(0, self.groups) > limit:
            return -1
        erring = np.zeros(self.groups)
        squares = products = 0.0
        everything = float((self.sizes**2).sum())
        for number in range(1, int(limit * self.count) + 1):
            group = self.group_of[number - 1]
            squares += 2 * erring[group] + 1
            products += self.sizes[group]
            erring[group] += 1
            rate = number / self.count
            variance = squares - 2 * rate * products + rate**2 * everything
            effective = min(self.count, self.count**2 * rate * (1 - rate) / variance)
            if _upper_bound(rate * effective, effective) > limit:
                return number - 1
        return int(limit * self.count)

    def told(self) -> str:
        """Those that calibrate a threshold, after a number of them."""
        grouped = f" in {self.groups} groups" if self.groups < self.count else ""
        return f"of the {self.count} {self.label} labels{grouped} that calibrate it"

    def too_few(self, needed: int) -> str:
        """That they are fewer than are needed."""
        if self.count == 1:
            return f"1 {self.label} label calibrates it, fewer than the {needed} needed"
        of_groups = f" in {self.groups} groups calibrate it, fewer groups than the {needed} needed"
        alone = f" calibrate it, fewer than the {needed} needed"
        grouped = self.groups < self.count
        return f"{self.count} {self.label} labels{of_groups if grouped else alone}"


def _for_false_positives(negatives: _Side, limit: float) -> Choice:
    """The lowest threshold whose upper bound on the false-positive rate is within the limit.

    With k flagged allowed that is just above the (k + 1)th highest negative, and so above all
    that are equal to it: the order statistic for which the Clopper-Pearson bound is exact.
    """
    needed = negatives_needed(limit)
    aim = f"aims at {_percent(limit)} of good traffic"
    if not negatives.count:
        note = (
            f"{aim}; no complying label calibrates it yet, {needed} are needed, so it flags nothing"
        )
        return Choice(FLAGS_NOTHING, "false_positive_rate", True, note)
    allowed = negatives.allowed(limit)
    if allowed < 0:
        note = f"{aim}; {negatives.too_few(needed)}, so it flags none of them"
        return Choice(_above(negatives.scores[0]), "false_positive_rate", True, note)
    threshold = _above(negatives.scores[allowed])
    flagged = int((negatives.scores >= threshold).sum())
    note = f"{aim}; it flags {flagged} {negatives.told()}, which leaves room for chance"
    provisional = negatives.groups < ENOUGH_NEGATIVES
    return Choice(threshold, "false_positive_rate", provisional, _hedge(note, provisional))


def _for_recall(positives: _Side, negatives: _Side, target: float) -> Choice:
    """The highest threshold whose lower bound on recall reaches the target."""
    needed = negatives_needed(1 - target)
    aim = f"aims at catching {_percent(target)} of violations"
    if not positives.count:
        note = (
            f"{aim}; no violating label calibrates it yet, {needed} are needed, "
            "so it stands at one half"
        )
        return Choice(0.5, "recall", True, note)
    # To catch at least the target is to miss at most the rest, and the bounds are symmetric.
    missable = positives.allowed(1 - target)
    if missable < 0:
        note = f"{aim}; {positives.too_few(needed)}, so it flags all of them"
        return Choice(_at(-positives.scores[0]), "recall", True, note)
    threshold = _at(-positives.scores[missable])
    caught = int((-positives.scores >= threshold).sum())
    provisional = negatives.groups < ENOUGH_NEGATIVES
    note = f"{aim}; it flags {caught} {positives.told()}, which leaves room for chance"
    return Choice(threshold, "recall", provisional, _hedge(note, provisional))


def _for_cost(negatives: _Side, ratio: float) -> Choice:
    """Least expected cost: flag when c * ratio >= 1 - c."""
    provisional = negatives.groups < ENOUGH_NEGATIVES
    note = f"a miss costs {ratio:g} times a false alarm"
    return Choice(_at(1 / (1 + ratio)), "cost", provisional, _hedge(note, provisional))


def _in_the_gap(threshold: float, probabilities: NDArray[np.float64]) -> float:
    """The middle between the scores around a threshold, in log-odds; where one side has none, it.

    No item lies above the one and below the other, so the same ones are flagged.
    """
    above = probabilities >= threshold
    if above.all() or not above.any():
        return threshold
    below, next_up = float(probabilities[~above].max()), float(probabilities[above].min())
    middle = (_log_odds(below) + _log_odds(next_up)) / 2
    return min(max(1 / (1 + math.exp(-middle)), _above(below)), _at(next_up))


def _log_odds(probability: float) -> float:
    held = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(held / (1 - held))


def _above(probability: float) -> float:
    return float(np.nextafter(probability, np.inf))


def _at(probability: float) -> float:
    """The probability, but never 0."""
    return max(float(probability), float(np.nextafter(0.0, 1.0)))


def _hedge(note: str, provisional: bool) -> str:
    if not provisional:
        return note
    few = f"fewer than {ENOUGH_NEGATIVES} complying labels (or groups of them) calibrate it"
    return f"{note}; provisional, as {few}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
