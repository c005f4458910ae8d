"""Wrong decisions on their way back: feedback, examples to label, incidents, cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from apps.accounts.actor import Actor, task_actor
from apps.accounts.audit import record
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.corpus.adding import add_example
from apps.corpus.models import Side
from apps.evidence.cases import add_case, run_cases
from apps.evidence.models import MustPassCase
from apps.guardrails.assembling import standing
from apps.guardrails.checks.interface import Subject
from apps.guardrails.guarding import verdict_on
from apps.labeling.labels import LabelEvent
from apps.labeling.models import DECISIVE
from apps.labeling.queue import put_first
from apps.policies.models import Policy
from apps.runtime.checking import judged_subjects
from apps.runtime.models import Decision, Feedback, Incident

SOURCE = "feedback"
Status = Incident.Status
_WAITING = (Status.OPEN, Status.REPRODUCED)
_EXPECTED = {
    Feedback.Kind.WRONGLY_BLOCKED: MustPassCase.Expected.COMPLIES,
    Feedback.Kind.WRONGLY_ALLOWED: MustPassCase.Expected.VIOLATES,
}


def give_feedback(
    actor: Actor,
    *,
    decision: Decision,
    verdict: str,
    note: str = "",
    policy: str = "",
    content: Mapping[str, Any] | None = None,
) -> tuple[Feedback, list[Incident]]:
    """Keep what somebody says of a decision; where it was wrong, ask people and open incidents.

    Args:
        policy: slug of the policy that should have found something, for wrongly_allowed; what
            wrongly blocked is known from the decision's reasons.
        content: what was judged, where the workspace keeps no texts; it must be the same.

    Raises:
        Problem: when the text is not known, is another one, or no policy can be told.
    """
    check_text(note)
    if len(note) > 2000:
        raise Problem("At most 2,000 characters.", errors=[FieldError("/note", "Shorten it.")])
    wrong = []
    text = ""
    if verdict in _EXPECTED:
        text = _text_of(actor, decision, content)
        wrong = _policies(actor, decision, verdict, policy)
    with transaction.atomic():
        feedback = Feedback.objects.create(
            workspace=actor.workspace,
            decision=decision.pk,
            verdict=verdict,
            note=note,
            given_by=actor.label,
        )
        record(actor, "decision.feedback", feedback, decision=str(decision.pk), verdict=verdict)
    opened = [
        open_incident(
            actor,
            policy=one,
            text=text,
            expected=_EXPECTED[Feedback.Kind(verdict)],
            note=note,
            decision=decision,
        )
        for one in wrong
    ]
    return feedback, opened


def open_incident(
    actor: Actor,
    *,
    policy: Policy,
    text: str,
    expected: str,
    note: str = "",
    decision: Decision | None = None,
) -> Incident:
    """Begin an incident, put its text on top of the policy's queue, and try to reproduce it.

    The same text with the same expectation is the same incident while that one is not closed.
    """
    check_text(text)
    # judged before the transaction: a slow judge must not hold the audit trail
    wrong = is_wrong(policy, text, expected)
    with transaction.atomic():
        return _open(actor, policy, text, expected, note, decision, wrong)


def _open(
    actor: Actor,
    policy: Policy,
    text: str,
    expected: str,
    note: str,
    decision: Decision | None,
    wrong: bool,
) -> Incident:
    there = (
        Incident.objects.filter(policy=policy, expected=expected, text=text)
        .exclude(status__in=[Status.VERIFIED, Status.DISMISSED])
        .first()
    )
    if there is not None:
        return there
    example = add_example(policy, source=SOURCE, output=text)
    put_first(example.pk)
    incident = Incident.objects.create(
        workspace=actor.workspace,
        policy=policy,
        expected=expected,
        text=text,
        note=note,
        decision=decision.pk if decision else None,
        policy_example=example,
        opened_by=actor.label,
    )
    record(actor, "incident.open", incident, policy=policy.slug, expected=expected)
    if wrong:
        _move(actor, incident, Status.REPRODUCED)
    return incident


def is_wrong(policy: Policy, text: str, expected: str) -> bool:
    """Whether what is served now judges a text wrongly, or cannot judge it."""
    if policy.status != Policy.Status.ACTIVE or policy.current_version is None:
        return True
    guards = standing(policy)
    fires = verdict_on(guards.guardrail(), Subject(text), guards.panel).fires
    return fires is not (expected == MustPassCase.Expected.VIOLATES)


def after_label(event: LabelEvent) -> None:
    """A label on an incident's text confirms it, or says that there was nothing wrong."""
    if not event.asked_first or event.verdict not in DECISIVE:
        return
    actor = task_actor(event.policy.workspace, "label")
    waiting = Incident.objects.filter(
        policy=event.policy, policy_example=event.policy_example, status__in=_WAITING
    )
    for incident in waiting:
        with transaction.atomic():
            agrees = incident.expected == event.verdict
            _move(actor, incident, Status.LABELLED if agrees else Status.DISMISSED)


def make_case(actor: Actor, *, incident: Incident, why: str) -> MustPassCase:
    """Turn a confirmed incident into a case that every candidate has to pass.

    Raises:
        Problem: 409 before a person has labelled its text.
    """
    policy, example = incident.policy, incident.policy_example
    audit = example is not None and example.side == Side.AUDIT  # no queue can ask for it first
    if incident.status != Status.LABELLED and not (audit and incident.status in _WAITING):
        raise Problem(
            "Label its text first (it is on top of the policy's queue); a case needs a verdict.",
            code="not_labelled",
            status=409,
        )
    assert policy is not None
    with transaction.atomic():
        case = add_case(
            actor, policy=policy, text=incident.text, expected=incident.expected, why=why
        )
        incident.case = case
        _move(actor, incident, Status.CASE)
    after_change(policy, "what guards already")
    return case


def after_change(policy: Policy, what: str) -> None:
    """Something new guards a policy: whatever incident's case it passes, it has fixed."""
    waiting = {
        incident.case_id: incident
        for incident in Incident.objects.filter(policy=policy, status=Status.CASE)
    }
    if not waiting:
        return
    actor = task_actor(policy.workspace, "incidents")
    for result in run_cases(Policy.objects.get(pk=policy.pk)):
        if result.case.pk in waiting and result.passes:
            incident = waiting[result.case.pk]
            incident.fixed_by = what
            with transaction.atomic():
                _move(actor, incident, Status.FIXED)


def verify(actor: Actor, *, incident: Incident) -> None:
    """Close a fixed incident by judging its text once more as it is served.

    Raises:
        Problem: 409 when it is not fixed, or still judged wrongly.
    """
    if incident.status != Status.FIXED:
        raise Problem("Only a fixed incident can be verified.", code="not_fixed", status=409)
    assert incident.policy is not None
    if is_wrong(incident.policy, incident.text, incident.expected):
        with transaction.atomic():
            _move(actor, incident, Status.CASE)
        raise Problem("It is still judged wrongly; it waits again.", code="not_fixed", status=409)
    with transaction.atomic():
        _move(actor, incident, Status.VERIFIED)


@transaction.atomic
def dismiss(actor: Actor, *, incident: Incident, why: str) -> None:
    """Close an incident that is none, with a reason."""
    if not why.strip() or len(why) > 2000:
        raise Problem("Say why.", errors=[FieldError("/why", "1 to 2,000 characters.")])
    if incident.status in (Status.VERIFIED, Status.DISMISSED):
        raise Problem("It is closed already.", code="closed", status=409)
    if incident.case_id is not None:
        raise Problem(
            "Its case counts already; an incident with a case is closed by what passes it.",
            code="has_case",
            status=409,
        )
    incident.note = f"{incident.note}\nDismissed: {why}".strip()[:2000]
    _move(actor, incident, Status.DISMISSED)


def move(actor: Actor, *, incident: Incident, act: str, why: str = "") -> None:
    """One of the acts by its name: make_case, verify, dismiss."""
    if act == "make_case":
        make_case(actor, incident=incident, why=why or incident.note)
    elif act == "verify":
        verify(actor, incident=incident)
    else:
        dismiss(actor, incident=incident, why=why)


def _move(actor: Actor, incident: Incident, status: Incident.Status) -> None:
    incident.status = status
    incident.save()
    record(actor, f"incident.{status}", incident, fixed_by=incident.fixed_by)


def _text_of(actor: Actor, decision: Decision, content: Mapping[str, Any] | None) -> str:
    """The text that was judged: the one turn that tripped, or all of it."""
    subjects = judged_subjects(actor.workspace, decision, content)
    if subjects is None:
        raise Problem(
            "The text of this decision was not kept; send it again as it was judged.",
            code="text_needed",
            errors=[FieldError("/text", "Send the text.")],
        )
    texts = [subject.text for subject in subjects]
    turns = [reason["turn"] for reason in decision.reasons if reason["turn"] is not None]
    return texts[turns[0]] if turns else "\n".join(texts)


def _policies(actor: Actor, decision: Decision, verdict: str, policy: str) -> list[Policy]:
    judged = {entry["policy"] for entry in decision.receipt}
    if policy:
        slugs = {policy} & judged
    elif verdict == Feedback.Kind.WRONGLY_BLOCKED:
        slugs = {reason["policy"] for reason in decision.reasons if not reason["lifted_by"]}
    else:
        slugs = judged if len(judged) == 1 else set()
    found = list(Policy.objects.filter(workspace=actor.workspace, slug__in=slugs).order_by("slug"))
    if not found:
        raise Problem(
            "Name the policy whose verdict was wrong.",
            code="policy_needed",
            errors=[FieldError("/policy", "One that took part in the decision.")],
        )
    for row in found:
        row.workspace = actor.workspace
    return found
