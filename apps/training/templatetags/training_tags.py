"""Training inside the pages of lower apps."""

from __future__ import annotations

from typing import Any

from django import template

from apps.accounts.permissions import allowed
from apps.base.jobs import ACTIVE
from apps.policies.models import Policy
from apps.training.models import TrainingRun

register = template.Library()


@register.inclusion_tag("training/retrain_button.html", takes_context=True)
def retrain_button(context: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """The button that starts a retrain, or a link to the one that runs."""
    actor = context["actor"]
    may = allowed(actor, "runs.start", policy) and policy.status == Policy.Status.ACTIVE
    return {
        "policy": policy,
        "may": may,
        "run": _active(policy) if may else None,
        "csrf_token": context["csrf_token"],
    }


@register.inclusion_tag("training/active_run.html")
def active_run(policy: Policy) -> dict[str, Any]:
    """The progress of the run that is on its way, if there is one; looks again by itself."""
    return {"policy": policy, "run": _active(policy)}


@register.inclusion_tag("training/active_runs.html")
def active_runs(policies: list[Policy]) -> dict[str, Any]:
    """The runs on their way of these policies."""
    rows = TrainingRun.objects.filter(policy__in=policies, status__in=ACTIVE)
    return {"runs": rows.select_related("policy").order_by("-id")[:10]}


def _active(policy: Policy) -> TrainingRun | None:
    return TrainingRun.objects.filter(policy=policy, status__in=ACTIVE).first()
