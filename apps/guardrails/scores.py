"""Scores for pages and API: the live model's, or none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from apps.guardrails import artifacts
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.services import live_model
from apps.policies.models import Policy

LONGEST_IN_A_LIST = 100_000
MOST_IN_A_LIST = 2_000_000


def live_score(policy: Policy, text: str) -> float | None:
    """The live model's probability of a violation; None without a live model.

    Raises ArtifactRefused if its file is not what was trained.
    """
    version = live_model(policy)
    return float(artifacts.score_texts(version, [text])[0]) if version else None


def live_scores(policy: Policy, texts: Sequence[str]) -> list[float | None]:
    """The same for each text of a list; None without a model that works.

    A page of long texts would take seconds: None for each beyond LONGEST_IN_A_LIST characters, and
    for those after MOST_IN_A_LIST.
    """
    scores: list[float | None] = [None] * len(texts)
    version = live_model(policy) if texts else None
    if version is None:
        return scores
    short = [place for place, text in enumerate(texts) if len(text) <= LONGEST_IN_A_LIST]
    sizes = accumulate(len(texts[place]) for place in short)
    scored = [place for place, size in zip(short, sizes, strict=True) if size <= MOST_IN_A_LIST]
    try:
        found = artifacts.score_texts(version, [texts[place] for place in scored])
    except ArtifactRefused:
        return scores
    for place, score in zip(scored, found, strict=True):
        scores[place] = float(score)
    return scores
