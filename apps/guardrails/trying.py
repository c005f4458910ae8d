"""A text before a guardrail, live or draft: what each check says, and the gate."""

from __future__ import annotations

from dataclasses import dataclass

from apps.guardrails.assembling import standing
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.gate import Verdict
from apps.guardrails.guarding import Check, Heard, look, score_all
from apps.policies.models import Policy


@dataclass(frozen=True)
class Tried:
    """What a guardrail says of a text; each check beside what was heard of it."""

    verdict: Verdict
    checks: list[tuple[Check, Heard]]


def try_text(policy: Policy, text: str, configuration: Configuration | None = None) -> Tried:
    """Judge a text by what guards the policy, or by a configuration instead."""
    guards = standing(policy)
    guardrail = guards.guardrail(configuration=configuration)
    subjects = score_all(guards.panel, [Subject(text)])
    heard = {c.key: look(guardrail, c, subjects, guards.panel) for c in guardrail.checks}
    return Tried(
        guardrail.verdict(heard), [(check, heard[check.key]) for check in guardrail.checks]
    )
