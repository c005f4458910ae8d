"""Several models at once, and long texts through windows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from apps.guardrails.learning import artifact, features
from apps.guardrails.learning.panel import LONG, WINDOW, Panel, windows

WORDS = ["sea", "walk", "bread", "stone", "river", "light", "paper", "table", "winter", "green"]


def model(seed: int) -> artifact.Model:
    chance = np.random.default_rng(seed)
    return artifact.Model(
        idf=chance.uniform(0, 8, features.COLUMNS).astype(np.float32),
        weights=chance.normal(0, 1, features.COLUMNS).astype(np.float32),
        intercept=-0.3,
        slope=1.2,
        offset=0.1,
        threshold=0.5,
    )


def text(seed: int, length: int) -> str:
    chance = np.random.default_rng(seed)
    return " ".join(chance.choice(WORDS, length))[:length]


def test_scores_are_those_of_each_model_alone() -> None:
    models = {str(seed): model(seed) for seed in range(4)}
    texts = ["", "one word", text(1, 900), "日本語のテキスト"]
    counts = features.extract(texts)
    alone = np.column_stack([artifact.score(one, counts) for one in models.values()])
    assert Panel(models).score(texts) == pytest.approx(alone, abs=1e-6)


def test_a_text_is_scored_the_same_whatever_other_texts_there_are() -> None:
    panel = Panel({"a": model(1)})
    texts = [text(seed, 200 + 3000 * seed) for seed in range(4)]
    together = panel.score(texts)
    assert [panel.score([one])[0, 0] for one in texts] == together[:, 0].tolist()


@pytest.mark.parametrize("length", [LONG, LONG + 1, LONG + WINDOW // 2, 65_536])
def test_windows_cover_all_of_a_long_text_and_overlap(length: int) -> None:
    letters = "".join(chr(0x10000 + n) for n in range(length))
    covered = set()
    for window in windows(letters):
        covered.update(range(letters.index(window), letters.index(window) + len(window)))
    assert covered == set(range(length))


def test_a_short_text_has_no_windows() -> None:
    assert windows("x" * (LONG - 1)) == []


@pytest.mark.parametrize("exponent", [1.0, 0.4])
def test_a_long_text_has_the_highest_odds_of_its_pieces_shared_out(exponent: float) -> None:
    panel = Panel({"a": replace(model(1), length_exponent=exponent)})
    long = text(2, 2 * LONG)
    pieces = windows(long)
    (whole,), *parts = panel._margins(features.extract([long, *pieces])).tolist()
    highest = max(whole, *(margin for (margin,) in parts)) - exponent * math.log(1 + len(pieces))
    assert panel.score([long])[0, 0] == pytest.approx(1 / (1 + math.exp(-highest)))
