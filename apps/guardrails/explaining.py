"""Which n-grams moved a score, and how much: the classifier is linear, so this is all of it."""

from __future__ import annotations

from dataclasses import dataclass

from apps.guardrails import artifacts
from apps.guardrails.learning import features
from apps.guardrails.models import ModelVersion

MOST_SHOWN = 8
LONGEST_EXPLAINED = 5_000


@dataclass(frozen=True)
class Move:
    """What one n-gram adds to the score, in log odds: positive towards a violation."""

    gram: str
    odds: float


def moves(version: ModelVersion, text: str) -> tuple[list[Move], list[Move]]:
    """The n-grams that moved the text's score most, upwards and downwards, the strongest first.

    Of a very long text only the beginning is explained.

    Raises:
        ArtifactRefused: the model's file is missing or is not what was trained.
    """
    model = artifacts.load(version)
    text = text[:LONGEST_EXPLAINED]
    counts = features.extract([text])
    added = features.weigh(counts, model.idf) * model.weights[counts.columns] * model.slope
    named: dict[int, str] = {}
    for gram, column in features.explain(text):
        named.setdefault(column, gram)
    rows = [
        Move(named[column], odds)
        for column, odds in zip(counts.columns.tolist(), added.tolist(), strict=True)
        if column in named
    ]
    rows.sort(key=lambda move: move.odds)
    down = [move for move in rows[:MOST_SHOWN] if move.odds < 0]
    up = [move for move in reversed(rows[-MOST_SHOWN:]) if move.odds > 0]
    return up, down
