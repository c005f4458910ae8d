"""Scores for pages and API: the live model's, or none."""

from __future__ import annotations

from collections.abc import Sequence

from apps.guardrails import artifacts
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.services import live_model
from apps.policies.models import Policy

LONGEST_IN_A_LIST = 100_000


def live_scores(policy: Policy, texts: Sequence[str]) -> list[float | None]:
    """The live model's probability of a violation for each text; None without a model that works.

    In a list, texts beyond LONGEST_IN_A_LIST are None as well: a page of them would take seconds.
    """
    version = live_model(policy) if texts else None
    if version is None:
        return [None] * len(texts)
    longest = LONGEST_IN_A_LIST if len(texts) > 1 else None
    scored = [i for i, text in enumerate(texts) if longest is None or len(text) <= longest]
    scores: list[float | None] = [None] * len(texts)
    try:
        found = artifacts.score_texts(version, [texts[i] for i in scored])
    except ArtifactRefused:
        return scores
    for i, score in zip(scored, found, strict=True):
        scores[i] = float(score)
    return scores
