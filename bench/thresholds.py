"""What it costs that a threshold stands in the middle of a gap between scores.

Trains as a retrain does on so many labels of a set and chooses the threshold for a share of good
traffic, next to the last good text and in the middle of the gap above it. Prints recall and
false-positive rate on the rest of the set for both, and how often the rate is above its limit.

    python bench/thresholds.py FOLDER [--sets davidson_hate ...] [--labels 100 200 1000]
        [--limits 0.05 0.1] [--seeds 4]   # how often each set is cut in two
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from apps.guardrails.learning import calibration, classifier, features, threshold
from bench.long_texts import SETS, Row, cut, group_of, read

MOST_RATED = 3_000
FEWEST = 8


def scored(train: Sequence[Row], rest: Sequence[Row]) -> tuple[NDArray[np.float64], ...]:
    """Out-of-fold probabilities of the labels, and the model's of the rest."""
    texts = [row["text"] for row in train]
    counts = features.extract(texts)
    frequency = features.document_frequency(counts)
    groups = np.unique([group_of(row) for row in train], return_inverse=True)[1]
    learned = classifier.learn(
        counts, violating(train), groups.tolist(), frequency, len(texts), seed=1
    )
    slope, offset = calibration.fit_sigmoid(learned.scores, violating(train))
    others = features.extract([row["text"] for row in rest])
    raw = features.dot(others, features.weigh(others, learned.idf), learned.linear.weights)
    return (
        calibration.apply_sigmoid(learned.scores, slope, offset),
        calibration.apply_sigmoid(raw + learned.linear.intercept, slope, offset),
        groups,
    )


def violating(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row["label"] == 1 for row in rows])


def rates(line: float, scores: NDArray[np.float64], violates: NDArray[np.bool_]) -> list[float]:
    flagged = scores >= line
    return [float(flagged[violates].mean()), float(flagged[~violates].mean())]


def one(
    folder: Path, name: str, labels: int, limits: Sequence[float], seed: int
) -> list[list[float]]:
    """Of each limit: recall and false-positive rate next to the last good text, and in the gap."""
    rows = read(folder, name)
    train, rest = cut(rows, random.Random(seed), min(labels, len(rows) // 2))
    if violating(train).sum() < FEWEST:
        return []
    rest = rest[:MOST_RATED]
    known, unseen, groups = scored(train, rest)
    found = []
    for limit in limits:
        asked = (known, violating(train), threshold.Targets(limit), groups)
        with patch.object(threshold, "_in_the_gap", lambda line, _: line):
            beside = threshold.choose(*asked).threshold
        lines = (beside, threshold.choose(*asked).threshold)
        found.append([rate for line in lines for rate in rates(line, unseen, violating(rest))])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the data sets are")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--labels", nargs="*", type=int, default=[100, 200, 1_000])
    parser.add_argument("--limits", nargs="*", type=float, default=[0.05, 0.1])
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    for labels in given.labels:
        cuts = [
            found
            for name in given.sets
            for seed in range(given.seeds)
            if (found := one(given.folder, name, labels, given.limits, seed))
        ]
        for limit, each in zip(given.limits, np.array(cuts).swapaxes(0, 1), strict=True):
            recall, rate, in_gap, rate_in_gap = each.mean(axis=0)
            above = [(each[:, column] > limit).mean() for column in (1, 3)]
            print(
                f"{labels} labels, at most {limit:.0%} of good traffic, {len(each)} cuts: recall "
                f"{recall:.3f} beside, {in_gap:.3f} in the gap; stopped {rate:.3f} and "
                f"{rate_in_gap:.3f}; above the limit {above[0]:.2f} and {above[1]:.2f} of the time"
            )


if __name__ == "__main__":
    main()
