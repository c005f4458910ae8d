"""The classifier: L2 logistic regression over weighed counts (ml.md sections 2 and 3).

Imports scikit-learn, which costs 3 s and 208 MB: for workers only, never for the web process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from apps.guardrails.learning import features, forks

RECIPE: dict[str, str | int | float] = {
    "name": "hashed n-grams, L2 logistic regression (liblinear, dual)",
    "extractor": features.EXTRACTOR_VERSION,
    "C": 10.0,
    "tol": 0.1,
    "max_iter": 1000,
    "class_weight": "balanced",
    "folds": 5,
    "folds_from_3000": 3,
    "calibration": "sigmoid",
}
"""What a trained model depends on besides its data; JSON-able, part of the configuration's hash."""

MINIMUM_PER_SIDE = 5
"""Labels needed of each side before anything is trained."""

FORK_FROM = 2000
"""Labels from which the fits take longer than the forks they run in."""

AT_ONCE = 2
"""Fits at the same time, at most: one of 10,000 labels holds 0.3 GB while it runs."""


def folds_for(labels: int) -> int:
    """How many folds so many labels are cut into: with thousands, three tell as much as five."""
    return 3 if labels >= 3000 else 5


@dataclass(frozen=True, eq=False)
class Linear:
    """A fitted classifier: score = dot(row, weights) + intercept, above 0 for "violates".

    weights: float32 (COLUMNS).
    converged: whether the solver met its tolerance within the recipe's number of iterations.
    """

    weights: NDArray[np.float32]
    intercept: float
    converged: bool


class TooFewGroups(ValueError):
    """The labels of one side all come from one group, so no fold can be held out."""


def fit(
    counts: features.Counts,
    data: NDArray[np.float32],
    violates: NDArray[np.bool_],
    *,
    seed: int,
) -> Linear:
    """Fits the recipe; the same inputs and seed give the same bits.

    Args:
        data: `features.weigh` of the counts.
        violates: the label of each row, (rows).
        seed: in [0, 2**32), for the order in which the solver visits rows.

    Raises ValueError if one side has no label.
    """
    if violates.all() or not violates.any():
        raise ValueError("Labels of both sides are needed to fit a classifier.")
    model = LogisticRegression(
        C=RECIPE["C"],
        tol=RECIPE["tol"],
        max_iter=RECIPE["max_iter"],
        class_weight=RECIPE["class_weight"],
        solver="liblinear",
        dual=True,
        random_state=seed,
    )
    # Ascending columns matter: scikit-learn would sort others in place, inside the caller's arrays.
    rows = csr_matrix((data, counts.columns, counts.offsets), shape=(counts.rows, features.COLUMNS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(rows, violates)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return Linear(model.coef_[0].astype(np.float32), float(model.intercept_[0]), converged)


@dataclass(frozen=True, eq=False)
class Fold:
    """A classifier fitted without some rows, nor their groups, and what it says of them.

    rows: the numbers of the rows held out.
    scores: their raw scores, (rows held out).
    idf: float32 (COLUMNS), of the population without them.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    linear: Linear
    idf: NDArray[np.float32]

    def score(self, counts: features.Counts) -> NDArray[np.float64]:
        """Raw scores of any other texts."""
        return _raw(counts, self.linear, self.idf)


@dataclass(frozen=True, eq=False)
class Learned:
    """What the labels teach.

    linear: the classifier fitted on all of them, over the counts weighed by idf.
    idf: float32 (COLUMNS).
    scores: the raw score of each row by a classifier that saw neither it nor its group; (rows).
    folds: those classifiers.
    """

    linear: Linear
    idf: NDArray[np.float32]
    scores: NDArray[np.float64]
    folds: list[Fold]


def learn(
    counts: features.Counts,
    violates: NDArray[np.bool_],
    groups: Iterable[Hashable],
    frequency: NDArray[np.int32],
    documents: int,
    *,
    seed: int,
    folds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Learned:
    """Fit the classifier on all rows, and score each row by one that has not seen it.

    Everything fitted is refitted inside each fold. The held-out rows are taken out of the
    document counts before the IDF: an IDF that had seen them made a threshold that was meant to
    hold in 95 % of runs hold in 3 % (ml.md section 3).

    Args:
        violates: the label of each row, (rows).
        groups: the group of each row; rows of one group are held out together.
        frequency: in how many texts of the train side each column occurs, (COLUMNS); the rows
            are among those texts.
        documents: how many texts those are.
        folds: how many to try; fewer where a side has fewer groups.
        progress: called with (fits done, fits) after each fit and, while fits run in forks, each
            second; what it raises ends the work.

    Raises TooFewGroups if all labels of a side are in one group.
    """
    fold_of = _usable_folds(violates, _numbers(groups), seed=seed, folds=folds)
    held_out = [fold_of == fold for fold in range(int(fold_of.max()) + 1)]
    idf = features.inverse_document_frequency(frequency, documents)
    fits: list[Callable[[], Any]] = [
        lambda: fit(counts, features.weigh(counts, idf), violates, seed=seed),
        *(
            partial(_fit_fold, counts, violates, rows, frequency, documents, seed=seed)
            for rows in held_out
        ),
    ]
    linear, *fitted = forks.results(
        fits,
        at_once=min(AT_ONCE, forks.processors()) if counts.rows >= FORK_FROM else 1,
        tick=(lambda done: progress(done, len(fits))) if progress else None,
    )
    scores = np.zeros(counts.rows)
    for fold in fitted:
        scores[fold.rows] = fold.scores
    return Learned(linear, idf, scores, fitted)


def _fit_fold(
    counts: features.Counts,
    violates: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    frequency: NDArray[np.int32],
    documents: int,
    *,
    seed: int,
) -> Fold:
    """A classifier fitted on the other rows, and its scores of the held-out ones."""
    test = features.take(counts, held_out)
    idf = fold_idf(test, frequency, documents)
    train = features.take(counts, ~held_out)
    model = fit(train, features.weigh(train, idf), violates[~held_out], seed=seed)
    return Fold(np.flatnonzero(held_out), _raw(test, model, idf), model, idf)


def _raw(counts: features.Counts, linear: Linear, idf: NDArray[np.float32]) -> NDArray[np.float64]:
    return features.dot(counts, features.weigh(counts, idf), linear.weights) + linear.intercept


def fold_idf(
    held_out: features.Counts, frequency: NDArray[np.int32], documents: int
) -> NDArray[np.float32]:
    """The IDF of the population without the held-out texts; (COLUMNS)."""
    remaining = np.maximum(frequency - features.document_frequency(held_out), 0)
    return features.inverse_document_frequency(remaining, max(documents - held_out.rows, 0))


def _numbers(groups: Iterable[Hashable]) -> NDArray[np.intp]:
    """Numbers 0, 1, ... in place of the groups' names, in order of first occurrence."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.intp)


def _usable_folds(
    violates: NDArray[np.bool_], groups: NDArray[np.intp], *, seed: int, folds: int
) -> NDArray[np.intp]:
    """The fold of each row, such that both sides remain whichever fold is held out."""
    most = min(folds, len(np.unique(groups[violates])), len(np.unique(groups[~violates])))
    for count in range(most, 1, -1):
        fold_of = stratified_folds(violates, groups, seed=seed, folds=count)
        remaining = [violates[fold_of != fold] for fold in range(count)]
        if all(side.any() and not side.all() for side in remaining):
            return fold_of
    raise TooFewGroups(
        "All labels of one side come from one group of texts; "
        "label a text of another group on that side."
    )


def stratified_folds(
    violates: NDArray[np.bool_], groups: NDArray[np.intp], *, seed: int, folds: int
) -> NDArray[np.intp]:
    """The fold of each row, in [0, folds): groups whole, each side spread evenly; (rows).

    Groups, the most uneven first and in random order otherwise, go one by one to the fold that
    keeps the sum over sides and folds of squared shares smallest. The same aim as scikit-learn's
    StratifiedGroupKFold, which takes 1.1 s for 10,000 groups; this takes 0.02 s.

    Args:
        groups: whole numbers from 0, (rows).
    """
    bad = np.bincount(groups, weights=violates)
    good = np.bincount(groups, weights=~violates)
    shares = np.column_stack([bad / max(bad.sum(), 1), good / max(good.sum(), 1)])
    order = np.random.default_rng(seed).permutation(len(shares))
    order = order[np.argsort(-np.abs(shares[order]).max(axis=1), kind="stable")]
    filled = [[0.0, 0.0] for _ in range(folds)]
    chosen = np.zeros(len(shares), np.intp)
    for group, (bad_share, good_share) in zip(order.tolist(), shares[order].tolist(), strict=True):
        growth = [bad_share * bads + good_share * goods for bads, goods in filled]
        fold = growth.index(min(growth))
        filled[fold][0] += bad_share
        filled[fold][1] += good_share
        chosen[group] = fold
    return chosen[groups]
