"""What a model learns about long texts from the texts that its folds held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from apps.guardrails.learning import calibration, classifier, features, long_texts
from apps.guardrails.learning.artifact import Model
from apps.guardrails.learning.long_texts import IN_FULL, INDEPENDENT, LOWEST
from apps.guardrails.learning.panel import STEP, Panel

NEUTRAL = [f"{first}{last}" for first in ("ba", "ko", "mi", "tu", "re") for last in "lmnprstvxz"]
BAD = ["prize", "offer", "casino", "winner"]


def corpus(count: int, seed: int, share: float = 0.25) -> tuple[list[str], np.ndarray]:
    """Made-up texts; the bad words are in a few good ones too."""
    draw = np.random.default_rng(seed)
    violates = draw.random(count) < share
    bads = np.where(violates, draw.poisson(4, count), draw.poisson(2, count))
    texts = [
        " ".join(draw.permutation([*draw.choice(NEUTRAL, 150), *draw.choice(BAD, int(number))]))
        for number in bads
    ]
    return texts, violates


def learn(count: int) -> tuple[list[str], np.ndarray, classifier.Learned]:
    texts, violates = corpus(count, seed=1)
    counts = features.extract(texts)
    frequency = features.document_frequency(counts)
    return (
        texts,
        violates,
        classifier.learn(counts, violates, range(count), frequency, count, seed=1),
    )


def length(
    learned: tuple[list[str], np.ndarray, classifier.Learned],
    *,
    slope: float = 1.0,
    offset: float = 0.0,
    seed: int = 1,
    text: str | None = None,
) -> long_texts.Length:
    """What is learnt of long texts; as if all texts were this one, where one is given."""
    texts, violates, it = learned

    def read(rows: np.ndarray) -> list[str]:
        return [texts[row] if text is None else text for row in rows]

    return long_texts.learn(it.folds, ~violates, read, slope=slope, offset=offset, seed=seed)


@pytest.fixture(scope="module")
def learned() -> tuple[list[str], np.ndarray, classifier.Learned]:
    return learn(1_000)


def test_good_long_texts_are_stopped_about_as_often_as_good_single_ones(learned) -> None:
    _, violates, it = learned
    slope, offset = calibration.fit_sigmoid(it.scores, violates)
    found = length(learned, slope=slope, offset=offset).exponent
    fresh, bad = corpus(3_000, seed=2)
    good = [text for text, is_bad in zip(fresh, bad, strict=True) if not is_bad]
    long = [" ".join(good[start : start + 16]) for start in range(0, len(good) - 16, 16)]

    def stopped(power: float) -> float:
        linear = it.linear
        model = Model(it.idf, linear.weights, linear.intercept, slope, offset, 0.5, power)
        threshold = np.quantile(Panel({"a": model}).score(good), 0.9)
        return float((Panel({"a": model}).score(long) >= threshold).mean())

    assert LOWEST < found < INDEPENDENT
    assert stopped(0) > 0.5
    assert stopped(1) == 0
    assert 0.02 < stopped(found) < 0.25


def test_good_long_texts_of_another_kind_are_stopped_about_as_often_and_a_bad_one_found(
    learned,
) -> None:
    """Traffic that is easier than what was labelled, with one violating text somewhere."""
    _, violates, it = learned
    slope, offset = calibration.fit_sigmoid(it.scores, violates)
    draw = np.random.default_rng(3)
    easy = ["\n\n".join(" ".join(draw.choice(NEUTRAL, 40)) for _ in range(60)) for _ in range(60)]
    needle = " ".join(draw.permutation([*draw.choice(NEUTRAL, 30), *BAD * 4]))
    bad = [f"{text[:8_000]}\n\n{needle}\n\n{text[8_000:]}" for text in easy]
    linear = it.linear
    model = Model(it.idf, linear.weights, linear.intercept, slope, offset, 0.5)
    held = length(learned, slope=slope, offset=offset)
    panel = Panel(
        {
            "in full": replace(model, length_exponent=held.exponent, length_pieces=held.pieces),
            "as learnt": Model(it.idf, linear.weights, linear.intercept, slope, offset, 0.5, *held),
            "alone": model,
        }
    )
    in_full, as_learnt, _ = panel.score(bad).T
    alone = panel.score([needle])[0, 2]
    assert (as_learnt >= in_full).all()
    assert as_learnt.mean() > in_full.mean()
    assert as_learnt == pytest.approx(alone, abs=0.2)
    line = np.quantile(calibration.apply_sigmoid(it.scores[~violates], slope, offset), 0.95)
    assert (panel.score(easy)[:, 1] >= line).mean() <= 0.1
    assert alone >= line
    assert (as_learnt >= line).all()


def test_only_good_texts_that_a_fold_held_out_are_read_and_not_all_of_many(learned) -> None:
    texts, violates, it = learned
    reads: list[np.ndarray] = []

    def read(rows: np.ndarray) -> list[str]:
        reads.append(rows)
        return [texts[row] for row in rows]

    long_texts.learn(it.folds, ~violates, read, slope=1.0, offset=0.0, seed=1)
    for rows, fold in zip(reads, it.folds, strict=True):
        assert not violates[rows].any()
        assert set(rows) <= set(fold.rows)
        assert 0 < len(rows) <= long_texts.READ


@pytest.mark.parametrize("slope", [0.0, -2.0, 1e9])
def test_the_exponent_stays_in_its_range_whatever_the_calibration(learned, slope) -> None:
    found = length(learned, slope=slope, offset=0.5)
    assert LOWEST <= found.exponent <= INDEPENDENT
    assert np.isfinite(found).all()


def test_with_few_good_texts_the_pieces_count_as_independent_and_no_text_as_easier(learned) -> None:
    texts, violates, it = learned
    few = ~violates & (np.arange(len(texts)) < 150)

    def read(rows: np.ndarray) -> list[str]:
        raise AssertionError("nothing is read")

    assert long_texts.learn(it.folds, few, read, slope=1.0, offset=0.0, seed=1) == IN_FULL


@pytest.mark.parametrize("text", ["", "x", " \n", "word " * 30_000])
def test_any_texts_give_an_exponent_the_same_each_time(learned, text: str) -> None:
    one, again = (length(learned, text=text) for _ in range(2))
    assert one == again
    assert LOWEST <= one.exponent <= INDEPENDENT
    assert np.isfinite(one).all()


def test_which_texts_were_drawn_hardly_matters(learned) -> None:
    found = [length(learned, slope=0.5, seed=seed) for seed in range(5)]
    assert (np.std(found, axis=0) < [0.05, 2, 0.3, 0.1]).all()


def test_the_pieces_are_those_of_10_000_code_points_of_the_labelled_texts(learned) -> None:
    words = "A line of so many words that it is a piece, and of no more of them."
    assert length(learned, text=words).pieces == pytest.approx(10_000 / 69 + 10_000 / STEP, abs=2)
    assert length(learned, text=" ".join([words] * 50)).pieces == pytest.approx(25, abs=2)
