"""Figures inside the pages of lower apps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import template
from django.db.models import F

from apps.evidence import services, sparklines
from apps.evidence.models import Evaluation
from apps.guardrails.assembling import configuration_of, newest_guardrails
from apps.guardrails.configuring import awaiting
from apps.guardrails.models import ModelVersion
from apps.labeling.models import LabelCounter
from apps.policies.models import Policy
from apps.policies.permissions import is_owner

register = template.Library()
VERSIONS_SHOWN = 20


@register.inclusion_tag("evidence/model_pill.html")
def live_model_pill(policy: Policy) -> dict[str, Any]:
    """Which model is live, and since when (owners only)."""
    if policy.own_role == "annotator":
        return {"version": None}
    rows = ModelVersion.objects.filter(policy=policy, status=ModelVersion.Status.LIVE)
    return {"version": rows.first()}


@register.inclusion_tag("evidence/cards.html", takes_context=True)
def policy_cards(context: dict[str, Any], policies: Sequence[Policy]) -> dict[str, Any]:
    """A card a policy: figures with intervals, a sparkline, labels since the last retrain.

    Annotators' cards carry no figures. Costs four queries whatever the number of policies, two
    more where some want a second person.
    """
    actor = context["actor"]
    owned = [policy for policy in policies if is_owner(actor, policy)]
    newest = services.newest_of(owned)
    history = services.history_of(owned, versions=VERSIONS_SHOWN)
    counts = {c.policy_id: c for c in LabelCounter.objects.filter(policy__in=owned)}
    waiting = awaiting(actor, owned)
    guardrails = newest_guardrails(owned)
    return {
        "cards": [
            {
                "policy": policy,
                "owned": policy in owned,
                "rules_wait": policy.pk in waiting["rules"],
                "guardrail_waits": policy.pk in waiting["guardrail"],
                "evaluation": newest.get(policy.pk),
                "guardrail": guardrails.get(policy.pk),
                "asks_classifier": configuration_of(guardrails.get(policy.pk)).asks_classifier,
                "counts": counts.get(policy.pk),
                "lines": _lines(history.get(policy.pk, [])),
            }
            for policy in policies
        ]
    }


@register.inclusion_tag("evidence/histogram.html")
def histogram_card(policy: Policy) -> dict[str, Any]:
    """Scores of the audit labels by what people said."""
    evaluation = services.newest(policy)
    if evaluation is None:
        return {"evaluation": None}
    histogram = evaluation.histogram
    bins = len(histogram["violates"])
    return {
        "evaluation": evaluation,
        "data": {**histogram, "threshold": evaluation.threshold},
        "rows": [
            (i / bins, (i + 1) / bins, histogram["violates"][i], histogram["complies"][i])
            for i in range(bins)
        ],
    }


@register.inclusion_tag("evidence/curve.html")
def curve_card(policy: Policy) -> dict[str, Any]:
    """Precision and recall of the audit labels at every threshold."""
    evaluation = services.newest(policy)
    if evaluation is None:
        return {"evaluation": None}
    figures = evaluation.figures
    live = {
        "threshold": evaluation.threshold,
        "precision": figures["precision"]["value"],
        "recall": figures["recall"]["value"],
    }
    known = live["precision"] is not None and live["recall"] is not None
    data = {"points": evaluation.curve, "live": live if known else None, "previous": None}
    return {"evaluation": evaluation, "data": data}


@register.simple_tag
def figures_of_models(versions: Sequence[ModelVersion]) -> dict[UUID, dict[str, Any]]:
    """The last figures of each model version at its threshold, in one query."""
    rows = (
        Evaluation.objects.filter(
            model_version__in=versions, threshold=F("model_version__threshold")
        )
        .order_by("model_version", "-watermark", "-id")
        .distinct("model_version")
    )
    return {row.model_version_id: row.figures for row in rows}


def _lines(rows: Sequence[Evaluation]) -> dict[str, dict[str, str]]:
    lines = {}
    for name in ("precision", "recall"):
        figures = [row.figures[name] for row in rows]
        lines[name] = {
            "points": sparklines.points([figure["value"] for figure in figures]),
            "band": sparklines.band(
                [figure["low"] for figure in figures], [figure["high"] for figure in figures]
            ),
        }
    return lines
