"""The classifier: determinism, folds, and that nothing held out is seen."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from apps.guardrails.learning import classifier, features, forks

GOOD = ["the weather", "is fine", "today", "and we walk", "along", "a river", "with", "bread"]
BAD = ["buy cheap", "pills", "now", "click this", "link", "to win", "free cash", "prize", "offer"]


def corpus(count: int, seed: int = 0, share: float = 0.4) -> tuple[list[str], np.ndarray]:
    """Made-up texts, of which words of one side's list are more frequent."""
    random = np.random.default_rng(seed)
    violates = random.random(count) < share
    violates[:10] = np.arange(10) % 2 == 0
    texts = []
    for bad in violates:
        own, other = (BAD, GOOD) if bad else (GOOD, BAD)
        words = [*random.choice(own, 6), *random.choice(other, 4)]
        texts.append(" ".join(random.permutation(words)))
    return texts, violates


def prepared(count: int = 200) -> tuple[features.Counts, np.ndarray, np.ndarray]:
    texts, violates = corpus(count)
    counts = features.extract(texts)
    return counts, violates, features.document_frequency(counts)


def weighed(counts: features.Counts) -> np.ndarray:
    frequency = features.document_frequency(counts)
    return features.weigh(counts, features.inverse_document_frequency(frequency, counts.rows))


def test_recipe_is_json() -> None:
    assert json.loads(json.dumps(classifier.RECIPE)) == classifier.RECIPE


def test_learns_and_is_deterministic() -> None:
    counts, violates, _ = prepared()
    data = weighed(counts)
    before = [array.copy() for array in (data, counts.columns, counts.offsets, violates)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classifier.fit(counts, data, violates, seed=7)
    again = classifier.fit(counts, data, violates, seed=7)
    assert model.converged
    assert model.weights.dtype == np.float32
    assert model.weights.shape == (features.COLUMNS,)
    assert model.weights.tobytes() == again.weights.tobytes()
    assert model.intercept == again.intercept
    scores = features.dot(counts, data, model.weights) + model.intercept
    assert ((scores > 0) == violates).mean() > 0.95
    for array, copy in zip((data, counts.columns, counts.offsets, violates), before, strict=True):
        assert np.array_equal(array, copy), "the inputs are left alone"


def test_is_the_recipe_of_scikit_learn() -> None:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    counts, violates, _ = prepared()
    data = weighed(counts)
    rows = csr_matrix((data, counts.columns, counts.offsets), shape=(200, features.COLUMNS))
    exact = LogisticRegression(
        C=10, solver="liblinear", class_weight="balanced", tol=1e-8, max_iter=10_000
    ).fit(rows, violates)
    model = classifier.fit(counts, data, violates, seed=0)
    ours = features.dot(counts, data, model.weights) + model.intercept
    assert np.corrcoef(ours, exact.decision_function(rows))[0, 1] > 0.9999


def test_says_when_it_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, violates, _ = prepared()
    monkeypatch.setitem(classifier.RECIPE, "max_iter", 1)
    assert not classifier.fit(counts, weighed(counts), violates, seed=0).converged


def test_one_side_is_refused() -> None:
    counts, _, _ = prepared(20)
    for side in (np.zeros(20, bool), np.ones(20, bool)):
        with pytest.raises(ValueError, match="both sides"):
            classifier.fit(counts, weighed(counts), side, seed=0)


def test_held_out_texts_are_taken_out_of_the_idf() -> None:
    """The population is larger than the labelled rows, which are part of it."""
    texts, _ = corpus(120)
    everything = features.extract(texts)
    frequency = features.document_frequency(everything)
    held_out = np.arange(120) < 30
    without = features.take(everything, ~held_out)
    expected = features.inverse_document_frequency(features.document_frequency(without), 90)
    found = classifier.fold_idf(features.take(everything, held_out), frequency, 120)
    assert np.array_equal(found, expected)


def test_idf_of_rows_outside_the_population_stays_finite() -> None:
    counts, violates, frequency = prepared(40)
    assert np.isfinite(classifier.fold_idf(counts, frequency // 3, 10)).all()
    scores = classifier.learn(counts, violates, range(40), frequency // 3, 10, seed=0).scores
    assert np.isfinite(scores).all()


def test_out_of_fold_scores_are_those_of_models_that_saw_nothing_of_the_fold() -> None:
    counts, violates, frequency = prepared()
    groups = [f"group {number // 2}" for number in range(200)]
    scores = classifier.learn(counts, violates, groups, frequency, 200, seed=3).scores
    fold_of = classifier.stratified_folds(violates, np.arange(200) // 2, seed=3, folds=5)
    held_out = fold_of == 2
    train, test = features.take(counts, ~held_out), features.take(counts, held_out)
    idf = features.inverse_document_frequency(features.document_frequency(train), train.rows)
    model = classifier.fit(train, features.weigh(train, idf), violates[~held_out], seed=3)
    expected = features.dot(test, features.weigh(test, idf), model.weights) + model.intercept
    assert np.array_equal(scores[held_out], expected)
    again = classifier.learn(counts, violates, groups, frequency, 200, seed=3).scores
    assert np.array_equal(scores, again)
    assert ((scores > 0) == violates).mean() > 0.85


def test_fits_in_forks_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, violates, frequency = prepared()
    here = classifier.learn(counts, violates, range(200), frequency, 200, seed=3)
    monkeypatch.setattr(classifier, "FORK_FROM", 100)
    monkeypatch.setattr(forks, "processors", lambda: 3)
    forked = classifier.learn(counts, violates, range(200), frequency, 200, seed=3)
    assert forked.scores.tobytes() == here.scores.tobytes()
    assert forked.linear.weights.tobytes() == here.linear.weights.tobytes()
    assert forked.linear.intercept == here.linear.intercept


def test_twins_are_not_learnt_by_heart() -> None:
    """Labels by chance, each text five times: only folds that part a group could predict them."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(GOOD + BAD, 8)) for _ in range(60)]
    groups = np.repeat(np.arange(60), 5)
    violates = np.repeat(random.random(60) < 0.5, 5)
    counts = features.extract([texts[group] for group in groups])
    frequency = features.document_frequency(counts)

    def right(groups: np.ndarray) -> float:
        scores = classifier.learn(counts, violates, groups, frequency, 300, seed=0).scores
        return float(((scores > 0) == violates).mean())

    assert right(groups) < 0.7
    assert right(np.arange(300)) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_even_and_keep_groups_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, 400, 1000)
    violates = random.random(1000) < 0.1
    fold_of = classifier.stratified_folds(violates, groups, seed=seed, folds=5)
    assert all(len(set(fold_of[groups == group].tolist())) <= 1 for group in range(400))
    assert np.ptp(np.bincount(fold_of[violates], minlength=5)) <= 2
    assert np.ptp(np.bincount(fold_of[~violates], minlength=5)) <= 4
    other = classifier.stratified_folds(violates, groups, seed=seed + 1, folds=5)
    assert (other != fold_of).any()


def test_single_texts_are_dealt_evenly() -> None:
    violates = np.arange(103) < 23
    fold_of = classifier.stratified_folds(violates, np.arange(103), seed=0, folds=5)
    assert sorted(np.bincount(fold_of[violates])) == [4, 4, 5, 5, 5]
    assert sorted(np.bincount(fold_of[~violates])) == [16] * 5


def test_fewer_folds_for_few_groups() -> None:
    counts, _, frequency = prepared(40)
    calls: list[tuple[int, int]] = []
    for labels, folds in [(3, 3), (2, 2), (20, 5)]:
        calls.clear()
        learned = classifier.learn(
            counts,
            np.arange(40) < labels,
            range(40),
            frequency,
            40,
            seed=0,
            progress=lambda done, total: calls.append((done, total)),
        )
        assert calls == [(done + 1, folds + 1) for done in range(folds + 1)]
        assert np.isfinite(learned.scores).all()


def test_one_group_of_a_side_cannot_be_held_out() -> None:
    counts, _, frequency = prepared(40)
    violates = np.arange(40) < 6
    groups = ["prompt"] * 6 + list(range(34))
    with pytest.raises(classifier.TooFewGroups, match="one group"):
        classifier.learn(counts, violates, groups, frequency, 40, seed=0)


def test_progress_may_cancel() -> None:
    counts, violates, frequency = prepared(60)

    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        classifier.learn(counts, violates, range(60), frequency, 60, seed=0, progress=cancel)
