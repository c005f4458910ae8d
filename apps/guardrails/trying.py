"""What is tried before a guardrail, live or draft: what each check says, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.guardrails.assembling import standing
from apps.guardrails.checks.interface import Span, Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.contents import subjects_of
from apps.guardrails.gate import Verdict
from apps.guardrails.guarding import Check, Heard, heard_on
from apps.policies.models import Policy


@dataclass(frozen=True)
class Tried:
    """What a guardrail says of subjects; each check beside what was heard of it."""

    verdict: Verdict
    checks: list[tuple[Check, Heard]]
    subjects: list[Subject]

    @property
    def marks(self) -> list[tuple[str, str, tuple[Span, ...]]]:
        """Each text a check found something in: the check's key, the text, and where in it."""
        return [
            (check.key, self.subjects[turn].text, spans)
            for check, heard in self.checks
            for turn, spans in heard.places
            if spans
        ]


def try_out(
    policy: Policy,
    content: Mapping[str, Any],
    *,
    stage: str,
    configuration: Configuration | None = None,
) -> Tried:
    """Judge a request's content by what guards the policy, or by a configuration instead.

    Args:
        content: as `contents.subjects_of` takes it.
    """
    subjects = [subject.at(stage) for subject in subjects_of(content, stage=stage)]
    guards = standing(policy)
    guardrail = guards.guardrail(configuration=configuration)
    heard = heard_on(guardrail, subjects, guards.panel)
    checks = [(check, heard[check.key]) for check in guardrail.checks]
    return Tried(guardrail.verdict(heard), checks, subjects)
