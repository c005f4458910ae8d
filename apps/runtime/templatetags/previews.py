"""Recent decisions under a draft, inside the pages of lower apps."""

from __future__ import annotations

from typing import Any

from django import template

from apps.accounts.permissions import allowed
from apps.guardrails.configuration import Configuration
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy
from apps.policies.specification import missing
from apps.runtime import replaying

register = template.Library()


@register.inclusion_tag("runtime/preview.html", takes_context=True)
def guardrail_preview(
    context: dict[str, Any],
    policy: Policy,
    configuration: Configuration | None = None,
    model: ModelVersion | None = None,
) -> dict[str, Any]:
    """What a guardrail or a model would have done to the newest kept decisions.

    Their texts are for admins.
    """
    preview = replaying.preview(policy, configuration=configuration, model=model)
    return {"preview": preview, "may_read": allowed(context["actor"], "decisions.view")}


@register.inclusion_tag("runtime/preview.html", takes_context=True)
def draft_preview(context: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """What the draft of a policy would have done to them; nothing for one that is not active."""
    specification = policy.draft.specification
    if policy.current_version_id is None or missing(specification):
        return {"preview": None}
    preview = replaying.preview(policy, specification=specification)
    return {"preview": preview, "may_read": allowed(context["actor"], "decisions.view")}
