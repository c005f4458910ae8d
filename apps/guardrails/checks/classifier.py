"""The policy's own trained classifier; its threshold is the live model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.guardrails.checks.interface import Evaluate, Found, Kind, Subject


def build(settings: Mapping[str, Any]) -> Evaluate:
    raise AssertionError("The bundle evaluates classifiers, all policies' together.")


def evaluate_for(policy: str) -> Evaluate:
    """The classifier of a policy, once its score stands in the subject."""

    def evaluate(subject: Subject) -> Found:
        score = subject.scores.get(policy)
        return Found(0.0, failed="no_model") if score is None else Found(score)

    return evaluate


KIND = Kind(
    name="classifier",
    title="Classifier",
    about="The classifier that is trained from this policy's labels, at its live threshold.",
    fields=(),
    build=build,
)
