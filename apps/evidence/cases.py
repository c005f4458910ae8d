"""Must-pass cases: texts whose verdict is known, and which no candidate may get wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.evidence.models import MustPassCase
from apps.guardrails.assembling import exemption_of, rules_by_key, standing
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.guarding import heard_on
from apps.guardrails.models import ModelVersion, RuleException
from apps.policies.models import Policy, PolicyVersion, Rule

MOST_CASES = 500
SECONDS = 20.0


@dataclass(frozen=True)
class CaseResult:
    """What a guardrail says of a case.

    Args:
        fires: None where it could not be judged.
        found_by: the keys of the checks that found something.
    """

    case: MustPassCase
    fires: bool | None
    score: float | None
    found_by: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        return self.fires is (self.case.expected == MustPassCase.Expected.VIOLATES)


@transaction.atomic
def add_case(
    actor: Actor,
    *,
    policy: Policy,
    text: str,
    expected: str,
    why: str,
    facts: Mapping[str, Any] | None = None,
) -> MustPassCase:
    """From now on every candidate has to give this text this verdict.

    Args:
        facts: what else is judged with the text (`Subject.facts`).
    """
    errors = []
    if not text.strip():
        errors.append(FieldError("/text", "Give the text."))
    if expected not in MustPassCase.Expected.values:
        errors.append(FieldError("/expected", "Say violates or complies."))
    if not why.strip() or len(why) > 2000:
        errors.append(FieldError("/why", "Say why, in at most 2,000 characters."))
    if errors:
        raise Problem("The case was not added.", errors=errors)
    check_text(text)
    check_text(why)
    if cases_of(policy).count() >= MOST_CASES:
        raise Problem(f"A policy has at most {MOST_CASES} cases.", code="too_many", status=409)
    case = MustPassCase.objects.create(
        policy=policy,
        text=text,
        facts=facts or {},
        expected=expected,
        why=why,
        made_by=actor.label,
    )
    record(actor, "case.add", policy, case=str(case.pk), expected=expected)
    return case


@transaction.atomic
def withdraw_case(actor: Actor, *, case: MustPassCase) -> None:
    """Let the case count no more; a second time changes nothing."""
    counting = MustPassCase.objects.filter(pk=case.pk, withdrawn_at=None)
    if counting.update(withdrawn_at=timezone.now()):
        record(actor, "case.withdraw", case.policy, case=str(case.pk))


def cases_of(policy: Policy) -> QuerySet[MustPassCase]:
    """The cases that count, newest first."""
    return MustPassCase.objects.filter(policy=policy, withdrawn_at=None).order_by("-pk")


def run_cases(
    policy: Policy,
    *,
    cases: Sequence[MustPassCase] | None = None,
    model: ModelVersion | None = None,
    configuration: Configuration | None = None,
    rules: Mapping[str, Rule] | None = None,
    adding: RuleException | None = None,
    excepting: bool = True,
    seconds: float | None = None,
    between: Callable[[], object] = lambda: None,
) -> list[CaseResult]:
    """Every case judged by the whole guardrail, with a candidate in place of what is live.

    Args:
        cases: only these.
        adding: an exception that is not in force yet.
        excepting: whether exceptions count.
        seconds: after which further cases are left unjudged, where remote checks are slow;
            SECONDS unless told.
        between: called after each case, by whoever has to give signs of life.
    """
    cases = list(cases_of(policy)) if cases is None else cases
    if not cases:
        return []
    guards = standing(policy, model=model)
    guardrail = guards.guardrail(rules=rules, configuration=configuration)
    if adding is not None:
        exemptions = (*guardrail.exemptions, exemption_of(adding))
        guardrail = replace(guardrail, exemptions=exemptions)
    if not excepting:
        guardrail = guardrail.unexcepted
    found = []
    until = time.monotonic() + (SECONDS if seconds is None else seconds)
    for case in cases:
        if time.monotonic() > until:
            found.append(CaseResult(case, None, None))
            continue
        heard = heard_on(guardrail, [Subject.known(case.text, case.facts)], guards.panel)
        verdict = guardrail.verdict(heard)
        by = guardrail.found_by(heard)
        found.append(CaseResult(case, verdict.fires, verdict.score, by))
        between()
    return found


def refusal(results: list[CaseResult]) -> str:
    """Why a candidate may not go live, by the cases it fails; "" when it passes them all."""
    failed = [result for result in results if not result.passes]
    if not failed:
        return ""
    unjudged = sum(result.fires is None for result in failed)
    named = "; ".join(
        f"{result.case.name} must be told to {_verb(result.case)} ({result.case.why})"
        + (f", found by {', '.join(result.found_by)}" if result.found_by else "")
        for result in sorted(failed, key=lambda one: one.fires is None)[:5]
    )
    told = f"it fails {len(failed) - unjudged} of {len(results)} must-pass cases"
    if unjudged:
        told += f", and {unjudged} could not be judged"
    return f"{told}: {named}"


def hold_configuration(policy: Policy, configuration: Configuration) -> None:
    """Refuse a guardrail that fails a case."""
    _refuse(run_cases(policy, configuration=configuration))


def hold_version(policy: Policy, version: PolicyVersion) -> None:
    """Refuse a policy version under whose rules a case fails."""
    if policy.current_version_id is not None:
        _refuse(run_cases(policy, rules=rules_by_key(version)))


def judge_ahead(policy: Policy) -> None:
    """Have the cases judged once, so that slow remote checks answer from memory afterwards."""
    if policy.current_version_id is not None:
        run_cases(policy)


def hold_model(policy: Policy, model: ModelVersion) -> None:
    """Refuse a model, or a threshold of one, that fails a case."""
    _refuse(run_cases(policy, model=model))


def hold_exception(policy: Policy, exception: RuleException) -> None:
    """Refuse an exception, not in force yet, that would let the text of a case through.

    A case that fails without it as well does not keep anybody from mending a false block.
    """
    if policy.current_version_id is None:
        return
    results = run_cases(policy, adding=exception)
    if refusal(results):
        passed = {r.case.pk for r in run_cases(policy) if r.passes}
        _refuse([result for result in results if result.case.pk in passed])


def _refuse(results: list[CaseResult]) -> None:
    if reason := refusal(results):
        raise Problem(
            f"This does not go live: {reason}. Mend it, or withdraw the case.",
            code="case_failed",
            status=409,
        )


def _verb(case: MustPassCase) -> str:
    return "violate" if case.expected == MustPassCase.Expected.VIOLATES else "comply"
