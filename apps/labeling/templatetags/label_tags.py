"""Labels inside the pages of lower apps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template

from apps.corpus.models import PolicyExample
from apps.labeling.labels import current_verdicts
from apps.labeling.models import Label, Skip

register = template.Library()


@register.simple_tag
def verdicts_of(rows: Sequence[PolicyExample]) -> dict[int, str]:
    """The current verdict of each row that has one."""
    return current_verdicts([row.pk for row in rows])


@register.inclusion_tag("labeling/answers.html")
def answers_of(found: PolicyExample) -> dict[str, Any]:
    """Every answer and skip of one example, newest first."""
    labels = Label.objects.filter(policy_example=found).select_related(
        "annotator__user", "policy_version"
    )
    skips = Skip.objects.filter(slot__policy_example=found).select_related("membership__user")
    return {"labels": labels.order_by("-sequence")[:50], "skips": skips.order_by("-id")[:50]}
