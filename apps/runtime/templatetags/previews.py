"""Recent decisions under a draft, inside the pages of lower apps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.db.models import Count

from apps.accounts.permissions import allowed
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy
from apps.runtime import replaying, traffic
from apps.runtime.models import Incident
from apps.runtime.switches import kill_switch_of
from apps.runtime.traffic import LATENCIES

POLICIES_SHOWN = 5

register = template.Library()


@register.inclusion_tag("runtime/preview.html", takes_context=True)
def guardrail_preview(
    context: dict[str, Any],
    policy: Policy,
    configuration: Configuration | None = None,
    model: ModelVersion | None = None,
) -> dict[str, Any]:
    """What a guardrail or a model would have done to the newest kept decisions."""
    return _previewed(context, policy, configuration=configuration, model=model)


@register.inclusion_tag("runtime/preview.html", takes_context=True)
def draft_preview(context: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """What the complete draft of a published policy would have done to them."""
    return _previewed(context, policy, specification=policy.draft.specification)


def _previewed(context: dict[str, Any], policy: Policy, **draft: Any) -> dict[str, Any]:
    """None for who may not see it."""
    if not allowed(context["actor"], "decisions.preview", policy):
        return {"preview": None}
    return {"preview": replaying.preview(policy, **draft)}


@register.inclusion_tag("runtime/alone.html")
def draft_alone(
    policy: Policy, configuration: Configuration, stage: str, subjects: Sequence[Subject]
) -> dict[str, Any]:
    """The action that a draft would take on what is tried, and what would come of it."""
    return {"judged": replaying.alone(policy, configuration, stage=stage, subjects=subjects)}


@register.inclusion_tag("runtime/policy_traffic.html")
def policy_traffic(policy: Policy) -> dict[str, Any]:
    """What a policy did to the traffic of the last day, and would have done."""
    return {"rows": traffic.of_policy(policy), "hours": traffic.HOURS}


@register.inclusion_tag("runtime/policy_checks.html")
def policy_checks(policy: Policy) -> dict[str, Any]:
    """What became of a policy's checks in the traffic of the last day."""
    return {"rows": traffic.checks_of(policy), "hours": traffic.HOURS}


@register.inclusion_tag("runtime/stopped.html", takes_context=True)
def stopped_notice(context: dict[str, Any]) -> dict[str, Any]:
    """That the kill switch is on, for those whose policies it keeps from acting."""
    actor = context["actor"]
    sees = allowed(actor, "kill_switch.view")
    stopped = sees and kill_switch_of(actor.workspace).on
    return {"stopped": stopped, "may_turn": allowed(actor, "kill_switch.turn")}


@register.inclusion_tag("runtime/open_incidents.html", takes_context=True)
def open_incidents(context: dict[str, Any]) -> dict[str, Any]:
    """How many incidents wait, by policy, those of most first; "" for a canary's."""
    rows = (
        Incident.objects.visible_to(context["actor"])
        .unresolved()
        .values_list("policy__name")
        .annotate(count=Count("id"))
        .order_by("-count", "policy__name")
    )
    return {"rows": rows[:POLICIES_SHOWN]}


@register.simple_tag
def milliseconds(bound: float) -> str:
    """A latency's bound, which may lie beyond the last that is counted."""
    return f"{bound:,.0f} ms" if bound in LATENCIES else f"over {LATENCIES[-1]:,.0f} ms"
