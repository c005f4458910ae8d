"""The extractor against scikit-learn's pair of TfidfVectorizers: speed, latency and quality.

    .venv/bin/python bench/features.py [--data ../shared/data] [--seeds 10] [--rounds 5]

Megabytes are 10**6 bytes of UTF-8. Everything runs in one process on one thread; rounds of the two
sides alternate, so that a slow moment of the machine meets both. "ours" is texts to weighed rows
(extract, document frequency, IDF, weigh), as `fit_transform` is; "extract" is the counts alone.
Quality: the same logistic regression on 1,000 labels drawn by seed, average precision on up to
3,000 of the rest; rows of one group are on one side. Intervals are of the mean paired difference
(Student's t over seeds).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import sparse, stats  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from apps.guardrails.learning import features  # noqa: E402
from apps.guardrails.learning.classifier import RECIPE  # noqa: E402

SETS = ("openai_moderation", "xstest_refusal", "davidson_hate", "hatecheck", "sms_spam")
TRAIN_LABELS = 1_000
MAXIMUM_TEST = 3_000
SPEED_ROWS = 5_000
LATENCY_TEXTS = 500


def load(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def vectorisers() -> tuple[TfidfVectorizer, TfidfVectorizer]:
    """The pair of ml.md section 1."""
    words = TfidfVectorizer(
        ngram_range=(1, 2),
        max_features=50_000,
        sublinear_tf=True,
        strip_accents="unicode",
        dtype=np.float32,
    )
    characters = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(2, 5),
        max_features=100_000,
        sublinear_tf=True,
        strip_accents="unicode",
        dtype=np.float32,
    )
    return words, characters


def ours(texts: list[str]) -> tuple[features.Counts, NDArray[np.float32]]:
    """Counts and IDF of the texts, weighed in between as training does."""
    counts = features.extract(texts)
    idf = features.inverse_document_frequency(features.document_frequency(counts), len(texts))
    features.weigh(counts, idf)
    return counts, idf


def matrix(counts: features.Counts, idf: NDArray[np.float32]) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (features.weigh(counts, idf), counts.columns, counts.offsets),
        shape=(counts.rows, features.COLUMNS),
    )


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def speed(texts: list[str], rounds: int) -> dict[str, float]:
    """Median MB a second of each side."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    words, characters = vectorisers()
    actions: dict[str, Callable[[], object]] = {
        "fit_transform": lambda: (words.fit_transform(texts), characters.fit_transform(texts)),
        "transform": lambda: (words.transform(texts), characters.transform(texts)),
        "ours": lambda: ours(texts),
        "extract": lambda: features.extract(texts),
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return {name: megabytes / float(np.median(times)) for name, times in taken.items()}


def latency(texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """p50, p95 and p99 in ms of one text alone: to a score for ours, to rows for theirs."""
    _, idf = ours(texts)
    weights = np.ones(features.COLUMNS, np.float32)
    words, characters = vectorisers()
    words.fit(texts)
    characters.fit(texts)

    def score(text: str) -> object:
        counts = features.extract([text])
        return features.dot(counts, features.weigh(counts, idf), weights)

    actions: dict[str, Callable[[str], object]] = {
        "extract": lambda text: features.extract([text]),
        "extract and score": score,
        "scikit-learn": lambda text: (words.transform([text]), characters.transform([text])),
    }
    result = {}
    for name, action in actions.items():
        times = [seconds(partial(action, text)) for text in texts]
        result[name] = np.percentile(np.array(times) * 1e3, [50, 95, 99])
    return result


def split(rows: list[dict[str, Any]], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers to train on (about 1,000) and to test on; groups whole."""
    names = [str(row.get("group", number)) for number, row in enumerate(rows)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[name] for name in names])
    random = np.random.default_rng(seed)
    place = random.permutation(len(numbers))[groups]
    order = np.argsort(place, kind="stable")
    last_train = place[order[min(TRAIN_LABELS, len(order) * 6 // 10)]]
    test = random.permutation(np.flatnonzero(place >= last_train))
    return np.flatnonzero(place < last_train), test[:MAXIMUM_TEST]


def precision(
    train: Any,
    labels: NDArray[np.bool_],
    test: Any,
    truth: NDArray[np.bool_],
    *,
    tolerance: float,
) -> float:
    model = LogisticRegression(
        C=RECIPE["C"],
        tol=tolerance,
        max_iter=RECIPE["max_iter"],
        class_weight=RECIPE["class_weight"],
        solver="liblinear",
        dual=True,
        random_state=0,
    )
    model.fit(train, labels)
    return float(average_precision_score(truth, model.decision_function(test)))


def quality(rows: list[dict[str, Any]], seeds: int) -> NDArray[np.float64]:
    """Average precision of (theirs, ours) by seed; (seeds, 2)."""
    texts = [row["text"] for row in rows]
    violates = np.array([row["label"] == 1 for row in rows])
    counts = features.extract(texts)
    results = []
    for seed in range(seeds):
        train, test = split(rows, seed)
        vectorised = [
            (
                vectoriser.fit_transform([texts[row] for row in train]),
                vectoriser.transform([texts[row] for row in test]),
            )
            for vectoriser in vectorisers()
        ]
        theirs = [sparse.hstack(blocks, format="csr") for blocks in zip(*vectorised, strict=True)]
        chosen = features.take(counts, train)
        idf = features.inverse_document_frequency(features.document_frequency(chosen), chosen.rows)
        tested = features.take(counts, test)
        score = partial(precision, labels=violates[train], truth=violates[test])
        results.append(
            [
                score(theirs[0], test=theirs[1], tolerance=1e-4),  # as scikit-learn has it
                score(matrix(chosen, idf), test=matrix(tested, idf), tolerance=RECIPE["tol"]),
            ]
        )
    return np.array(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = {name: load(options.data / f"{name}.jsonl.gz") for name in SETS}

    print("MB/s, median (x: ours / theirs)")
    print(
        f"{'set':18} {'MB':>5} {'fit_transform':>13} {'transform':>10} {'ours':>6} "
        f"{'extract':>8} {'x fit':>6} {'x transf':>8}"
    )
    for name, rows in data.items():
        texts = [row["text"] for row in rows][:SPEED_ROWS]
        rates = speed(texts, options.rounds)
        print(
            f"{name:18} {sum(len(text.encode()) for text in texts) / 1e6:5.2f} "
            f"{rates['fit_transform']:13.2f} {rates['transform']:10.2f} {rates['ours']:6.2f} "
            f"{rates['extract']:8.2f} {rates['ours'] / rates['fit_transform']:6.1f} "
            f"{rates['extract'] / rates['transform']:8.1f}"
        )

    print("\none text of openai_moderation, ms (p50 / p95 / p99)")
    texts = [row["text"] for row in data["openai_moderation"]][:LATENCY_TEXTS]
    for name, times in latency(texts).items():
        print(f"{name:18} " + " / ".join(f"{time:.2f}" for time in times))

    print(f"\naverage precision at {TRAIN_LABELS:,} labels, {options.seeds} seeds")
    print(f"{'set':18} {'theirs':>7} {'ours':>7} {'difference':>26}")
    for name, rows in data.items():
        found = quality(rows, options.seeds)
        theirs, mine = found.T
        print(f"{name:18} {theirs.mean():7.4f} {mine.mean():7.4f} {interval(mine - theirs)}")


def interval(differences: NDArray[np.float64]) -> str:
    """Mean and its 95 % interval."""
    mean = float(differences.mean())
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    return f"{mean:+8.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


if __name__ == "__main__":
    main()
