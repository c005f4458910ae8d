"""Whether a violation is found wherever it stands in a long text, at what price.

Trains as a retrain does on half of a set, then places each violating text of the other half
somewhere in 30 kB of its good texts. Prints, at the same false-positive rate on good texts of the
same length, how often it is caught alone, in the long text as it is served, and in the long text
scored whole, and cut exactly where its pieces were joined, which no one knows of a real text; and
what the served threshold, chosen on single texts, does to long ones.

    python bench/long_texts.py FOLDER [--sets openai_moderation_sexual xstest_refusal ...]
        [--seeds 3]                 # how often each set is cut in two
        [--filler xstest_refusal]   # good texts of another set: ordinary ones, where a set's own
                                    # are chosen to be hard to tell from what violates
        [--known 400]               # so many of those are among the labels it learns from, as texts
                                    # of the traffic are; none of these is in a long text
        [--between "\\n"]           # what stands between the texts that make a long one
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from apps.guardrails.learning import calibration, classifier, features, long_texts, panel
from apps.guardrails.learning.artifact import Model
from apps.guardrails.learning.panel import Panel

LENGTH = 30_000
RATE = 0.05
SETS = [
    "openai_moderation_sexual",
    "openai_moderation_hate",
    "xstest_refusal",
    "davidson_hate",
    "harmbench_val_3annot",
    "sms_spam",
]
MOST = 300


def trained(texts: list[str], violates: NDArray[np.bool_]) -> Model:
    """The model that a retrain of these labels would make, its threshold aside."""
    counts = features.extract(texts)
    frequency = features.document_frequency(counts)
    learned = classifier.learn(counts, violates, range(len(texts)), frequency, len(texts), seed=1)
    slope, offset = calibration.fit_sigmoid(learned.scores, violates)
    exponent = long_texts.exponent(
        learned.folds, ~violates, lambda rows: [texts[row] for row in rows], slope=slope, seed=1
    )
    linear = learned.linear
    return Model(learned.idf, linear.weights, linear.intercept, slope, offset, 0.5, exponent)


def long_text(good: list[str], draw: random.Random, inside: str = "") -> list[str]:
    """The parts of about 30 kB of good texts, in any order, with a text somewhere between them."""
    parts: list[str] = []
    while sum(map(len, parts)) < LENGTH:
        parts.append(draw.choice(good))
    if inside:
        parts.insert(draw.randrange(len(parts) + 1), inside)
    return parts


def where_joined(judges: Panel, parts: list[list[str]]) -> NDArray[np.float64]:
    """The highest score of the parts themselves."""
    each = sorted({part for text in parts for part in text})
    scores = dict(zip(each, judges.score(each)[:, 0], strict=True))
    return np.array([max(scores[part] for part in text) for text in parts])


def whole_only(judges: Panel, texts: list[str]) -> NDArray[np.float64]:
    with patch.object(panel, "LONG", 10**9):
        return judges.score(texts)[:, 0]


def caught(bad: NDArray[np.float64], good: NDArray[np.float64]) -> float:
    """The share of bad texts above the score that RATE of the good ones reach."""
    return float(np.mean(bad > np.quantile(good, 1 - RATE)))


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def one(
    folder: Path, name: str, seed: int, *, other: str, known: int, between: str
) -> tuple[float, float]:
    """How often a text is caught alone, and in a long text."""
    rows = read(folder, name)
    draw = random.Random(seed)
    draw.shuffle(rows)
    train, test = rows[: min(len(rows) // 2, 2_000)], rows[len(rows) // 2 :]
    others = [row for row in read(folder, other) if row["label"] == 0] if other else []
    draw.shuffle(others)
    train += others[:known]
    labels = np.array([row["label"] == 1 for row in train])
    judges = Panel({name: trained([row["text"] for row in train], labels)})
    good = [row["text"] for row in test if row["label"] == 0]
    bad = [row["text"] for row in test if row["label"] == 1][:MOST]
    # the good halves do not overlap: what a long text is made of is not what sets the line
    line, filler = good[: len(good) // 2], good[len(good) // 2 :]
    if other:
        filler = [row["text"] for row in others[known:]]
    alone_good, alone_bad = judges.score(line)[:, 0], judges.score(bad)[:, 0]
    good_parts = [long_text(filler, draw) for _ in range(MOST)]
    bad_parts = [long_text(filler, draw, text) for text in bad]
    long_good, long_bad = (
        [between.join(each) for each in all_of] for all_of in (good_parts, bad_parts)
    )
    good_served, bad_served = judges.score(long_good)[:, 0], judges.score(long_bad)[:, 0]
    good_whole, bad_whole = whole_only(judges, long_good), whole_only(judges, long_bad)
    served = np.quantile(alone_good, 1 - RATE)
    shares = {
        "alone": caught(alone_bad, alone_good),
        "in 30 kB": caught(bad_served, good_served),
        "in 30 kB scored whole": caught(bad_whole, good_whole),
        "in 30 kB cut where joined": caught(
            where_joined(judges, bad_parts), where_joined(judges, good_parts)
        ),
    }
    pieces = float(np.mean([len(parts) for parts in good_parts]))
    told = ", ".join(f"{where} {share:.2f}" for where, share in shares.items())
    print(
        f"{name}: caught where {RATE:.0%} of good texts are stopped: {told} ({pieces:.0f} pieces)"
    )
    print(
        f"  at the threshold of single texts it stops {np.mean(good_served > served):.1%} of"
        f" good long texts and catches {np.mean(bad_served > served):.2f} (exponent"
        f" {judges.models[name].length_exponent:.2f}); uncorrected it would"
        f" stop {np.mean(_uncorrected(judges, long_good) > served):.0%}"
    )
    return shares["alone"], shares["in 30 kB"]


def _uncorrected(judges: Panel, texts: list[str]) -> NDArray[np.float64]:
    """The highest piece's score, without the share that the number of pieces takes."""
    return np.array([judges.score([text, *panel.pieces(text)])[1:, 0].max() for text in texts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the data sets are")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--filler", default="", help="the set whose good texts fill; else its own")
    parser.add_argument("--known", type=int, default=0, help="how many of those it learns from")
    parser.add_argument("--between", default="\n\n", help="what stands between the parts")
    parser.add_argument("--seeds", type=int, default=1, help="how often each set is cut in two")
    given = parser.parse_args()
    cuts = [
        one(
            given.folder,
            name,
            seed,
            other=given.filler,
            known=given.known,
            between=given.between,
        )
        for name in given.sets
        if name != given.filler
        for seed in range(7, 7 + given.seeds)
    ]
    alone, inside = np.mean(cuts, axis=0)
    print(f"mean of {len(cuts)}: alone {alone:.3f}, in 30 kB {inside:.3f}")


if __name__ == "__main__":
    main()
