"""Whether a violation is found wherever it stands in a long text, at what price.

Trains as a retrain does on half of a set, then places each violating text of the other half
somewhere in 30 kB of good texts. Prints how often it is caught where 5 % of good texts of the same
traffic and length are stopped: alone, in the long text as it is served, and in the long text scored
whole, and cut exactly where its pieces were joined, which no one knows of a real text; how often a
long text is stopped for a good text of the set in its place; and what the threshold does that a
retrain would choose, to texts of which a third or all violate as well.

    python bench/long_texts.py FOLDER [--sets openai_moderation_sexual xstest_refusal ...]
        [--seeds 3]                 # how often each set is cut in two
        [--filler xstest_refusal]   # good texts of another set: ordinary ones, where a set's own
                                    # are chosen to be hard to tell from what violates; the set
                                    # itself is filled with good texts of openai_moderation_sexual;
                                    # python: prose that is no traffic, Python's own reference
        [--known 400]               # so many of those are among the labels it learns from, as texts
                                    # of the traffic are; none of these is in a long text
        [--between "\\n"]           # what stands between the texts that make a long one

All answers to a prompt are on one side of every cut. A line at 5 % of 200 long texts is set by one
or two of the texts that fill them, so a figure of one cut may well be 0.1 off.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from apps.guardrails.learning import calibration, classifier, features, long_texts, panel, threshold
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
OTHER = "openai_moderation_sexual"
PROSE = "python"
SHORTEST = 120
MOST = 200
Row = dict[str, Any]


def trained(rows: Sequence[Row]) -> Model:
    """The model that a retrain of these labels would make."""
    texts = [row["text"] for row in rows]
    violates = np.array([row["label"] == 1 for row in rows])
    groups = np.unique([group_of(row) for row in rows], return_inverse=True)[1]
    counts = features.extract(texts)
    frequency = features.document_frequency(counts)
    learned = classifier.learn(counts, violates, groups.tolist(), frequency, len(texts), seed=1)
    slope, offset = calibration.fit_sigmoid(learned.scores, violates)
    chosen = threshold.choose(
        calibration.apply_sigmoid(learned.scores, slope, offset),
        violates,
        threshold.Targets(RATE),
        groups,
    )
    length = long_texts.learn(
        learned.folds,
        ~violates,
        lambda rows: [texts[row] for row in rows],
        slope=slope,
        offset=offset,
        seed=1,
    )
    linear = learned.linear
    return Model(
        learned.idf, linear.weights, linear.intercept, slope, offset, chosen.threshold, *length
    )


def group_of(row: Row) -> str:
    return str(row.get("group") or row["id"])


def cut(rows: Sequence[Row], draw: random.Random, size: int) -> tuple[list[Row], list[Row]]:
    """About so many of the rows, and the rest; no group is on both sides."""
    groups = sorted({group_of(row) for row in rows})
    draw.shuffle(groups)
    place = {group: n for n, group in enumerate(groups)}
    ordered = sorted(rows, key=lambda row: place[group_of(row)])
    while 0 < size < len(rows) and group_of(ordered[size - 1]) == group_of(ordered[size]):
        size += 1
    return ordered[:size], ordered[size:]


def long_text(texts: list[str], draw: random.Random, inside: str = "") -> list[str]:
    """The parts of about 30 kB of texts, in any order, with another somewhere between them."""
    parts: list[str] = []
    while sum(map(len, parts)) < LENGTH:
        parts.append(draw.choice(texts))
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


def read(folder: Path, name: str) -> list[Row]:
    if name == PROSE:
        paragraphs = "\n\n".join(topics.values()).split("\n\n")
        prose = sorted({one.strip() for one in paragraphs if len(one) > SHORTEST})
        return [{"id": number, "text": text, "label": 0} for number, text in enumerate(prose)]
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def texts_of(rows: Sequence[Row], label: int) -> list[str]:
    return [row["text"] for row in rows if row["label"] == label]


def one(
    folder: Path, name: str, seed: int, *, filler: str, known: int, between: str
) -> dict[str, float]:
    """The shares of one cut."""
    draw = random.Random(seed)
    rows = read(folder, name)
    train, test = cut(rows, draw, min(len(rows) // 2, 2_000))
    good, bad = texts_of(test, 0), texts_of(test, 1)[:MOST]
    traffic = [row for row in test if row["label"] == 0]
    if filler:
        others = read(folder, OTHER if filler == name else filler)
        learnt, traffic = cut([row for row in others if row["label"] == 0], draw, known)
        train = [*train, *learnt]
    judges = Panel({name: trained(train)})
    # the halves do not overlap: what a long text is made of is not what sets the line for one alone
    single, fill = (texts_of(half, 0) for half in cut(traffic, draw, len(traffic) // 2))
    good_parts = [long_text(fill, draw) for _ in range(MOST)]
    bad_parts = [long_text(fill, draw, text) for text in bad]
    instead = [long_text(fill, draw, draw.choice(good)) for _ in range(MOST)]
    third = [long_text(draw.choices(bad, k=100) + draw.choices(fill, k=200), draw) for _ in bad]
    throughout = [long_text(bad, draw) for _ in bad]
    long_good, long_bad, long_instead, long_third, long_throughout = (
        [between.join(each) for each in all_of]
        for all_of in (good_parts, bad_parts, instead, third, throughout)
    )
    alone_good, alone_bad = judges.score(single)[:, 0], judges.score(bad)[:, 0]
    served_good, served_bad = judges.score(long_good)[:, 0], judges.score(long_bad)[:, 0]
    shares = {
        "alone": caught(alone_bad, alone_good),
        "alone among its own good": caught(alone_bad, judges.score(good)[:, 0]),
        "in 30 kB": caught(served_bad, served_good),
        "a good text instead": caught(judges.score(long_instead)[:, 0], served_good),
        "whole": caught(whole_only(judges, long_bad), whole_only(judges, long_good)),
        "cut where joined": caught(
            where_joined(judges, bad_parts), where_joined(judges, good_parts)
        ),
    }
    line = judges.models[name].threshold
    at_threshold = {
        "good alone": float(np.mean(alone_good >= line)),
        "good in 30 kB": float(np.mean(served_good >= line)),
        "bad alone": float(np.mean(alone_bad >= line)),
        "bad in 30 kB": float(np.mean(served_bad >= line)),
        "a third bad": float(np.mean(judges.score(long_third)[:, 0] >= line)),
        "bad throughout": float(np.mean(judges.score(long_throughout)[:, 0] >= line)),
    }
    told = ", ".join(f"{where} {share:.2f}" for where, share in shares.items())
    stopped = ", ".join(f"{where} {share:.2f}" for where, share in at_threshold.items())
    print(f"{name}: caught where {RATE:.0%} are stopped: {told}")
    model = judges.models[name]
    print(
        f"  at its threshold stopped: {stopped} "
        f"(exponent {model.length_exponent:.2f}, reach {model.length_reach:.1f}, "
        f"top {model.length_top:.1f})"
    )
    return shares | at_threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the data sets are")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--filler", default="", help="the set whose good texts fill; else its own")
    parser.add_argument("--known", type=int, default=0, help="how many of those it learns from")
    parser.add_argument("--between", default="\n\n", help="what stands between the parts")
    parser.add_argument("--seeds", type=int, default=1, help="how often each set is cut in two")
    given = parser.parse_args()
    cuts = []
    for name in given.sets:
        of_set = [
            one(
                given.folder,
                name,
                seed,
                filler=given.filler,
                known=given.known,
                between=given.between,
            )
            for seed in range(7, 7 + given.seeds)
        ]
        _mean(name, of_set)
        cuts += of_set
    _mean("all", cuts)


def _mean(name: str, cuts: list[dict[str, float]]) -> None:
    means = {where: float(np.mean([cut[where] for cut in cuts])) for where in cuts[0]}
    told = ", ".join(f"{where} {share:.3f}" for where, share in means.items())
    print(f"{name}, mean of {len(cuts)}: {told}", flush=True)


if __name__ == "__main__":
    main()
