"""The live model's scores, and that there is none, inside the pages of lower apps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template

from apps.base.templatetags.parapet import share
from apps.corpus.models import Example, PolicyExample
from apps.guardrails.assembling import configuration_of
from apps.guardrails.configuration import Configuration
from apps.guardrails.configuring import current_guardrail
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.scores import live_score, live_scores
from apps.guardrails.services import given_way, live_model
from apps.policies.models import Policy

register = template.Library()


@register.simple_tag
def scores_of(policy: Policy, rows: Sequence[PolicyExample]) -> dict[int, float | None]:
    """The live model's c of each row; None where it cannot be told."""
    scores = live_scores(policy, [row.example.output for row in rows])
    return dict(zip((row.pk for row in rows), scores, strict=True))


@register.simple_tag
def score_of(policy: Policy, example: Example) -> str:
    """The live model's c of one example."""
    try:
        score = live_score(policy, example.output)
    except ArtifactRefused as refusal:
        return str(refusal)
    return "no live model" if score is None else share(score)


@register.inclusion_tag("guardrails/given_way.html")
def given_way_notice(policy: Policy) -> dict[str, Any]:
    """That a retrain put its own threshold in the place of one chosen by hand."""
    live = live_model(policy)
    return {"policy": policy, "live": live, "before": given_way(live) if live else None}


@register.inclusion_tag("guardrails/no_model.html")
def no_model_notice(
    policy: Policy, configuration: Configuration | None = None
) -> dict[str, object]:
    """That a classifier without a model has a vote, in a draft or in what guards now."""
    content = configuration or configuration_of(current_guardrail(policy))
    return {"policy": policy, "missing": content.asks_classifier and live_model(policy) is None}
