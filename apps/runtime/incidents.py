"""Wrong decisions on their way back: feedback, examples to label, incidents, cases."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from apps.accounts import audit
from apps.accounts.actor import Actor, task_actor
from apps.accounts.audit import AuditEntry, record
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.corpus.adding import add_example
from apps.corpus.models import Side
from apps.evidence.cases import add_case, run_cases
from apps.evidence.models import MustPassCase
from apps.guardrails.assembling import standing
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuring import current_guardrail
from apps.guardrails.guarding import verdict_on
from apps.guardrails.services import live_model
from apps.labeling.labels import LabelEvent, current_verdicts
from apps.labeling.models import DECISIVE, Verdict
from apps.labeling.queue import put_first
from apps.policies.models import Policy
from apps.policies.services import hold_policy
from apps.runtime.checking import judged_subjects
from apps.runtime.judgement import stands
from apps.runtime.models import Decision, Feedback, Incident
from apps.runtime.permissions import may_read

SOURCE = "feedback"
Status = Incident.Status
ACTS = ("make_case", "verify", "dismiss")
_WAITING = (Status.OPEN, Status.REPRODUCED)
_BY_LABEL = "a label: nothing was wrong"
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
    turn: int | None = None,
    content: Mapping[str, Any] | None = None,
) -> tuple[Feedback, list[Incident]]:
    """Keep what somebody says of a decision; where it was wrong, ask people and open incidents.

    Args:
        policy: slug of the policy that should have found something, for wrongly_allowed; what
            wrongly blocked is known from the decision's reasons.
        turn: the place of the text that was judged wrongly, where there are several; what
            wrongly blocked is known from the decision's reasons.
        content: what was judged, where the workspace keeps no texts; it must be the same.

    Raises:
        Problem: when the text is not known, is another one, or no policy or turn can be told.
    """
    check_text(note)
    if len(note) > 2000:
        raise Problem("At most 2,000 characters.", errors=[FieldError("/note", "Shorten it.")])
    wrong: list[tuple[Policy, Subject]] = []
    if verdict in _EXPECTED:
        subjects = _judged(actor, decision, content)
        blocked = verdict == Feedback.Kind.WRONGLY_BLOCKED
        for one in _policies(actor, decision, verdict, policy):
            stopped = _stopped(decision, one.slug) if blocked else []
            if stopped and turn is not None and turn not in stopped:
                continue  # another policy stopped that one
            place = _turn(len(subjects), stopped[0] if stopped and turn is None else turn)
            if not blocked:
                _refuse_what_was_found(decision, one.slug, place)
            wrong.append((one, subjects[place]))
        if not wrong:
            raise Problem("No policy stopped that text.", code="nothing_stopped")
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
            subject=subject,
            expected=_EXPECTED[Feedback.Kind(verdict)],
            note=note,
            decision=decision,
        )
        for one, subject in wrong
    ]
    return feedback, opened


def open_incident(
    actor: Actor,
    *,
    policy: Policy,
    subject: Subject,
    expected: str,
    note: str = "",
    decision: Decision | None = None,
) -> Incident:
    """Begin an incident, put its text on top of the policy's queue, and try to reproduce it.

    The same text with the same expectation is the same incident while that one is not closed.
    """
    check_text(subject.text)
    # judged before the transaction: a slow judge must not hold the audit trail
    wrong = is_wrong(policy, subject, expected)
    with transaction.atomic():
        return _open(actor, policy, subject, expected, note, decision, wrong)


def _open(
    actor: Actor,
    policy: Policy,
    subject: Subject,
    expected: str,
    note: str,
    decision: Decision | None,
    wrong: bool | None,
) -> Incident:
    hold_policy(policy)  # the same report twice at once is one incident
    there = _open_ones(policy, expected, subject.text, subject.facts).first()
    if there is not None:
        return there
    example = add_example(actor, policy, source=SOURCE, output=subject.text)
    put_first(example.pk)
    incident = Incident.objects.create(
        workspace=actor.workspace,
        policy=policy,
        expected=expected,
        text=subject.text,
        facts=subject.facts,
        note=note,
        decision=decision.pk if decision else None,
        policy_example=example,
        opened_by=actor.label,
    )
    record(actor, "incident.open", incident, policy=policy.slug, expected=expected)
    if wrong:
        _move(actor, incident, Status.REPRODUCED)
    return incident


def is_wrong(
    policy: Policy, subject: Subject, expected: str, *, excepting: bool = True
) -> bool | None:
    """Whether what is served now judges a text wrongly; None where it could not be judged.

    Args:
        excepting: whether exceptions count.
    """
    if policy.status != Policy.Status.ACTIVE or policy.current_version is None:
        return True
    guards = standing(policy)
    guardrail = guards.guardrail()
    if not excepting:
        guardrail = guardrail.unexcepted
    fires = verdict_on(guardrail, subject, guards.panel).fires
    return None if fires is None else fires is not (expected == MustPassCase.Expected.VIOLATES)


def after_label(event: LabelEvent) -> None:
    """A label on an incident's text confirms it, or says that nothing was wrong.

    What a label did is undone with it, as long as there is no case yet.
    """
    # an answer beside the one that counts changes nothing
    said = current_verdicts([event.policy_example]).get(event.policy_example, "")
    if not event.asked_first or (said not in DECISIVE and event.verdict != Verdict.RETRACTED):
        return
    actor = Actor(event.policy.workspace, event.annotator)
    labelled = Q(status__in=[*_WAITING, Status.LABELLED])
    rows = Incident.objects.filter(
        labelled | Q(status=Status.DISMISSED, fixed_by=_BY_LABEL),
        policy=event.policy,
        policy_example=event.policy_example,
    )
    for incident in rows:
        incident.fixed_by = ""
        status = Status.LABELLED
        if said not in DECISIVE:
            if _another_open(incident):
                continue
            subject = Subject.known(incident.text, incident.facts)
            wrong = is_wrong(event.policy, subject, incident.expected)
            status = Status.REPRODUCED if wrong else Status.OPEN
        elif said != incident.expected:
            status, incident.fixed_by = Status.DISMISSED, _BY_LABEL
        if status == incident.status:
            continue
        with suppress(Moved):
            _move(actor, incident, status)


def _another_open(incident: Incident) -> bool:
    return (
        _open_ones(incident.policy, incident.expected, incident.text, incident.facts)
        .exclude(pk=incident.pk)
        .exists()
    )


def _open_ones(
    policy: Policy | None, expected: str, text: str, facts: Mapping[str, Any]
) -> QuerySet[Incident]:
    rows = Incident.objects.filter(policy=policy, expected=expected, text=text, facts=facts)
    return rows.exclude(status__in=Incident.CLOSED)


def make_case(actor: Actor, *, incident: Incident, why: str) -> MustPassCase:
    """Turn a confirmed incident into a case that every candidate has to pass.

    Raises:
        Problem: 409 before a person has labelled its text so.
    """
    policy = incident.policy
    if incident.status != Status.LABELLED:
        _hold_unlabelled(incident)
    assert policy is not None
    with transaction.atomic():
        case = add_case(
            actor,
            policy=policy,
            text=incident.text,
            facts=incident.facts,
            expected=incident.expected,
            why=why,
        )
        incident.case = case
        _move(actor, incident, Status.CASE)
    after_change(policy, f"{_guards_now(policy)}, in service already")
    return case


def _guards_now(policy: Policy) -> str:
    model, guardrail = live_model(policy), current_guardrail(policy)
    named = [f"model {model.number}"] if model else []
    named += [f"guardrail {guardrail.number}"] if guardrail else []
    return " and ".join(named) or "the policy's rules"


def _hold_unlabelled(incident: Incident) -> None:
    """Let pass what has its label already, or can be asked of nobody first."""
    example = incident.policy_example
    label = current_verdicts([example.pk]).get(example.pk, "") if example else ""
    audit = example is not None and example.side == Side.AUDIT
    if incident.status in _WAITING and (label == incident.expected or (audit and not label)):
        return
    told = "Label its text first (it is on top of the policy's queue); a case needs a verdict."
    if label and label != incident.expected:
        told = f"A person has labelled its text otherwise ({label}): revise that, or dismiss this."
    raise Problem(told, code="not_labelled", status=409)


def after_change(policy: Policy, what: str) -> None:
    """Something new guards a policy: whatever incident's case it passes, it has fixed."""
    rows = Incident.objects.filter(policy=policy, status=Status.CASE, case__withdrawn_at=None)
    waiting = {row.case: row for row in rows.select_related("case") if row.case is not None}
    if not waiting:
        return
    actor = task_actor(policy.workspace, "incidents")
    served = Policy.objects.get(pk=policy.pk)
    for result in run_cases(served, cases=list(waiting), excepting=False):
        if result.passes:
            incident = waiting[result.case]
            incident.fixed_by = what
            with suppress(Moved):
                _move(actor, incident, Status.FIXED)


def verify(actor: Actor, *, incident: Incident) -> None:
    """Close a fixed incident by judging its text once more as it is served.

    Raises:
        Problem: 409 when it is not fixed, still judged wrongly, or judged by nobody; 503 when it
            could not be judged now.
    """
    if incident.status != Status.FIXED:
        raise Problem("Only a fixed incident can be verified.", code="not_fixed", status=409)
    policy = incident.policy
    assert policy is not None
    if policy.mode == Policy.Mode.OFF:
        raise Problem(
            "The policy is off, so nothing judges the text; set it to shadow or enforce first.",
            code="off",
            status=409,
        )
    subject = Subject.known(incident.text, incident.facts)
    wrong = is_wrong(policy, subject, incident.expected, excepting=False)
    if wrong is None:
        raise Problem(
            "It could not be judged now, as a check failed; nothing changed. Try again.",
            code="not_judged",
            status=503,
        )
    if wrong:
        incident.fixed_by = ""
        _move(actor, incident, Status.CASE)
        raise Problem("It is still judged wrongly; it waits again.", code="not_fixed", status=409)
    _move(actor, incident, Status.VERIFIED)


def dismiss(actor: Actor, *, incident: Incident, why: str) -> None:
    """Close an incident that is none, with a reason."""
    if not why.strip() or len(why) > 2000:
        raise Problem("Say why.", errors=[FieldError("/why", "1 to 2,000 characters.")])
    if incident.status in Incident.CLOSED:
        raise Problem("It is closed already.", code="closed", status=409)
    if incident.canary_id is not None:
        raise Problem(
            "A canary's incident closes when the canary passes again, or is removed.",
            code="canary",
            status=409,
        )
    if incident.status == Status.LABELLED:
        raise Problem(
            "A person's label confirms it: make its case, or revise the label.",
            code="labelled",
            status=409,
        )
    if incident.case is not None and incident.case.withdrawn_at is None:
        raise Problem(
            "Its case counts already; an incident with a case is closed by what passes it.",
            code="has_case",
            status=409,
        )
    incident.note = f"{incident.note}\nDismissed: {why}".strip()[:2000]
    _move(actor, incident, Status.DISMISSED, why=why)


def move(actor: Actor, *, incident: Incident, act: str, why: str = "") -> None:
    """One of ACTS by its name."""
    if act == "make_case":
        make_case(actor, incident=incident, why=why or incident.note)
    elif act == "verify":
        verify(actor, incident=incident)
    else:
        dismiss(actor, incident=incident, why=why)


class Moved(Problem):
    """Somebody or something else has moved the incident meanwhile."""

    def __init__(self) -> None:
        super().__init__("It has moved meanwhile; look at it once more.", code="moved", status=409)


@transaction.atomic
def _move(actor: Actor, incident: Incident, status: Incident.Status, **facts: str) -> None:
    """Move an incident on from where it was when it was read."""
    now = Incident.objects.select_for_update().only("status").get(pk=incident.pk)
    if now.status != incident.status:
        raise Moved
    incident.status = status
    incident.save(update_fields=["status", "fixed_by", "note", "case"])
    record(actor, f"incident.{status}", incident, fixed_by=incident.fixed_by, **facts)


def history(incident: Incident) -> QuerySet[AuditEntry]:
    """Who or what moved an incident, and when."""
    actions = [f"incident.{status}" for status in Status]
    return audit.history(incident.workspace, incident, actions)


def _judged(actor: Actor, decision: Decision, content: Mapping[str, Any] | None) -> list[Subject]:
    """What was judged, each text with who wrote it.

    A kept text is for those who may read decisions, and for whoever asked for this one.
    """
    known = content or may_read(actor, decision)
    subjects = judged_subjects(actor.workspace, decision, content) if known else None
    if subjects is None:
        raise Problem(
            "The text of this decision was not kept, or not for you; send it as it was judged.",
            code="text_needed",
            errors=[FieldError("/text", "Send the text.")],
        )
    return [subject.at(decision.stage) for subject in subjects]


def _stopped(decision: Decision, policy: str) -> list[int]:
    """The places of the texts that a policy stopped, where it can say; what decided comes first."""
    places: list[int] = []
    for reason in decision.reasons:
        if reason["policy"] == policy and stands(reason) and reason["turn"] is not None:
            places += [reason["turn"], *(place["turn"] for place in reason["places"])]
    return places


def _turn(texts: int, turn: int | None) -> int:
    """The place of the text that was judged wrongly: the one that is named, or the only one."""
    if turn is None and texts == 1:
        return 0
    if turn is None or not 0 <= turn < texts:
        raise Problem(
            f"Of the texts that were judged ({texts}), say which one was judged wrongly.",
            code="turn_needed",
            errors=[FieldError("/turn", f"From 0, the first, to {texts - 1}.")],
            extra={"texts": texts},
        )
    return turn


def _refuse_what_was_found(decision: Decision, policy: str, turn: int) -> None:
    """A policy that let nothing pass did not allow it."""
    for reason in decision.reasons:
        passes = reason["action"] in ("flag", "redact")
        here = turn in {place["turn"] for place in reason["places"]} or not reason["places"]
        if reason["policy"] == policy and stands(reason) and not passes and here:
            message = f"{policy} did not allow it: it asked to {reason['action']}."
            raise Problem(message, code="found", errors=[FieldError("/policy", message)])


def _policies(actor: Actor, decision: Decision, verdict: str, policy: str) -> list[Policy]:
    judged = {entry["policy"] for entry in decision.receipt}
    if policy:
        slugs = {policy} & judged
    elif verdict == Feedback.Kind.WRONGLY_BLOCKED:
        slugs = {reason["policy"] for reason in decision.reasons if stands(reason)}
    else:
        slugs = judged if len(judged) == 1 else set()
    found = list(Policy.objects.filter(workspace=actor.workspace, slug__in=slugs).order_by("slug"))
    if not found and verdict == Feedback.Kind.WRONGLY_BLOCKED and not policy:
        raise Problem(
            "No policy stopped anything here. What should have been found is wrongly allowed.",
            code="nothing_stopped",
        )
    if not found:
        raise Problem(
            "Name the policy whose verdict was wrong.",
            code="policy_needed",
            errors=[FieldError("/policy", f"One of: {', '.join(sorted(judged))}.")],
        )
    for row in found:
        row.workspace = actor.workspace
    return found
