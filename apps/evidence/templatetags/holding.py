"""What would keep a draft from going live, inside the pages of lower apps."""

from __future__ import annotations

from typing import Any

from django import template

from apps.evidence.cases import CaseResult, run_cases
from apps.guardrails.assembling import drafted_rules
from apps.guardrails.configuring import turned_checks
from apps.policies.models import Policy

register = template.Library()


@register.simple_tag
def draft_held(policy: Policy) -> dict[str, Any]:
    """Checks and must-pass cases that hold the complete draft of a published policy back.

    For evidence/draft_held.html: `turned` checks, `results` of cases, and whether it `holds`.
    """
    rules = drafted_rules(policy.draft.specification)
    turned = turned_checks(policy, rules)
    results = [] if turned else run_cases(policy, rules=rules)
    failed = any(not result.passes for result in results)
    return {"turned": turned, "results": results, "holds": bool(turned or failed)}


@register.inclusion_tag("evidence/held.html")
def held(policy: Policy, results: list[CaseResult]) -> dict[str, Any]:
    """How many must-pass cases a candidate passes, and each that it does not."""
    failed = [result for result in results if not result.passes]
    return {"policy": policy, "passed": len(results) - len(failed), "failed": failed}
