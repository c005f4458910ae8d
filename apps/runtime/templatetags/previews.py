"""Recent decisions under a draft, inside the pages of lower apps."""

from __future__ import annotations

from typing import Any

from django import template

from apps.guardrails.configuration import Configuration
from apps.policies.models import Policy
from apps.policies.specification import missing
from apps.runtime import replaying

register = template.Library()


@register.inclusion_tag("runtime/preview.html")
def guardrail_preview(policy: Policy, configuration: Configuration) -> dict[str, Any]:
    """What a guardrail would have done to the newest kept decisions."""
    return {"preview": replaying.preview(policy, configuration=configuration)}


@register.inclusion_tag("runtime/preview.html")
def draft_preview(policy: Policy) -> dict[str, Any]:
    """What the draft of a policy would have done to them; nothing for one that is not active."""
    specification = policy.draft.specification
    if policy.current_version_id is None or missing(specification):
        return {"preview": None}
    return {"preview": replaying.preview(policy, specification=specification)}
