"""Scores for pages and API: the live model's, or none."""

from __future__ import annotations

from collections.abc import Sequence

from apps.guardrails import artifacts
from apps.guardrails.services import live_model
from apps.policies.models import Policy


def live_scores(policy: Policy, texts: Sequence[str]) -> list[float | None]:
    """The live model's probability of a violation for each text; None without a live model."""
    version = live_model(policy) if texts else None
    if version is None:
        return [None] * len(texts)
    return [float(score) for score in artifacts.score_texts(version, texts)]
