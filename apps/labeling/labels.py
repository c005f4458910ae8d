"""Giving and undoing labels: append-only revisions, one line of them a slot."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.accounts.models import Membership
from apps.base.gate import check_text
from apps.base.prepared import first_row
from apps.base.problems import FieldError, Problem
from apps.labeling.models import (
    DECISIVE,
    Label,
    LabelCounter,
    Lease,
    Slot,
    State,
    Verdict,
)
from apps.labeling.queue import FIRST, LEASE, Item, _items, release_beyond
from apps.policies.models import Policy, PolicyVersion

logger = logging.getLogger(__name__)

MAXIMUM_RATIONALE = 10_000


@dataclass(frozen=True)
class LabelEvent:
    """What the apps to the right are told after a label is committed.

    Args:
        asked_first: whether somebody wanted this text labelled, e.g. for an incident.
    """

    policy: Policy
    side: str
    policy_example: int
    verdict: str
    asked_first: bool
    decisive: bool
    since_frozen: int
    annotator: Membership


# Called after commit; guardrails_site/wiring.py fills it.
on_label: list[Callable[[LabelEvent], None]] = []


def submit_label(
    actor: Actor,
    *,
    lease: Lease,
    verdict: str,
    rules: Sequence[str] = (),
    severity: int | None = None,
    rationale: str = "",
    seconds: float | None = None,
) -> Label:
    """Answer a leased item. Submitting the same answer again returns the first one.

    An answer after the lease ran out still counts while the slot is free; if somebody else has
    it by then, the answer is kept as an extra one and nothing is thrown away.

    Raises:
        Problem: 409 for another verdict than the one that was given to this lease.
    """
    _check(lease.policy_version_id, verdict, rules, severity, rationale, seconds)
    label = Label(
        policy_id=lease.policy_id,
        annotator=actor.person,
        policy_version_id=lease.policy_version_id,
        lease_id=lease.pk,
        stream=lease.stream,
        verdict=verdict,
        rules=sorted(set(rules)),
        severity=severity,
        rationale=rationale,
        seconds=seconds,
        created_at=timezone.now(),
    )
    with transaction.atomic():
        # a lease that holds its slot has not been answered
        event = _answer(label, lease.slot, lease.policy) if _holds(lease, lease.slot) else None
        if event is None:  # it did not, or not any more
            given = Label.objects.filter(lease_id=lease.pk).exclude(verdict=Verdict.RETRACTED)
            slot = Slot.objects.select_for_update(no_key=True).get(pk=lease.slot_id)
            if (first := given.first()) is not None:
                return _same(first, label)
            taken = slot.state != State.FREE and not _holds(lease, slot)
            event = _answer(label, slot, lease.policy, beside=taken)
            assert event is not None  # the slot is locked
        record(actor, "label.submit", label, verdict=verdict, sequence=label.sequence)
    _tell(event)
    return label


def _same(first: Label, label: Label) -> Label:
    """The first answer, where the second one says the same."""
    if first.verdict != label.verdict:
        raise Problem(
            f"You answered this one already, in another tab perhaps: {first.verdict}. "
            "This answer was not taken.",
            code="answered_already",
            status=409,
        )
    return first


def _holds(lease: Lease, slot: Slot) -> bool:
    return slot.lease_id == lease.pk


def _answer(label: Label, slot: Slot, policy: Policy, *, beside: bool = False) -> LabelEvent | None:
    """Answer the slot, or beside it: an extra answer to what somebody else has by now.

    None, and nothing is done, where the slot is not any more as it was read.
    """
    label.policy_example_id = slot.policy_example_id
    label.slot_id = None if beside else slot.pk
    label.supersedes_id = None if beside else slot.label_id
    return _append(label, slot, policy)


def undo_label(actor: Actor, *, policy: Policy) -> tuple[Item, Label]:
    """Take back the person's last answer here and give them the item again.

    Returns the item and the answer that was taken back, to be shown as it was.
    """
    with transaction.atomic():
        last = (
            Label.objects.filter(policy=policy, annotator=actor.membership_id, slot__isnull=False)
            .exclude(verdict=Verdict.RETRACTED)
            .filter(superseded_by=None)
            .order_by("-sequence")
            .first()
        )
        if last is None:
            raise Problem("There is nothing to undo.", code="nothing_to_undo", status=409)
        assert last.slot_id is not None
        slot = Slot.objects.select_for_update(no_key=True).get(pk=last.slot_id)
        if slot.label_id != last.pk:
            raise Problem("This answer was revised since.", code="revised", status=409)
        release_beyond(actor, policy=policy, keep=1)
        lease = Lease.objects.create(
            policy=policy,
            slot=slot,
            membership=actor.person,
            policy_version_id=last.policy_version_id,
            stream=last.stream,
            expires_at=timezone.now() + LEASE,
        )
        retraction = Label(
            policy=policy,
            slot=slot,
            policy_example_id=slot.policy_example_id,
            annotator=actor.person,
            policy_version_id=last.policy_version_id,
            lease_id=last.lease_id,
            stream=last.stream,
            verdict=Verdict.RETRACTED,
            supersedes=last,
            created_at=timezone.now(),
        )
        event = _append(retraction, slot, policy, lease=lease.pk, undone=last)
        assert event is not None  # the slot is locked
        record(actor, "label.undo", last, sequence=retraction.sequence)
    _tell(event)
    return _items("lease.id = %s", [lease.pk])[0], last


def counts(policy: Policy) -> LabelCounter:
    """The policy's label counts (all zero before its first label)."""
    return LabelCounter.objects.filter(policy=policy).first() or LabelCounter(policy=policy)


def current_verdicts(policy_examples: Sequence[int]) -> dict[int, str]:
    """The current answer of each of these examples that has one."""
    rows = Slot.objects.filter(policy_example__in=policy_examples, state=State.ANSWERED)
    return dict(rows.values_list("policy_example", "label__verdict"))


@lru_cache(maxsize=256)
def rules_of(version: UUID) -> tuple[dict[str, Any], ...]:
    """The rules of a published version, which never changes."""
    rules = PolicyVersion.objects.get(pk=version).rules.order_by("position")
    fields = ("key", "polarity", "text", "severity", "action", "examples")
    return tuple({name: getattr(rule, name) for name in fields} for rule in rules)


@lru_cache(maxsize=256)
def number_of(version: UUID) -> int:
    """The number people say of a published version."""
    return int(PolicyVersion.objects.values_list("number", flat=True).get(pk=version))


def _check(
    version: UUID,
    verdict: str,
    rules: Sequence[str],
    severity: int | None,
    rationale: str,
    seconds: float | None,
) -> None:
    errors = []
    if verdict not in (*DECISIVE, Verdict.UNSURE):
        errors.append(FieldError("/verdict", "Verdicts are: violates, complies, unsure."))
    polarity = {rule["key"]: rule["polarity"] for rule in rules_of(version)}
    for position, key in enumerate(rules):
        if key not in polarity:
            message = f"This version's rules: {', '.join(sorted(polarity))}."
            errors.append(FieldError(f"/rules/{position}", message))
        elif verdict == Verdict.COMPLIES and polarity[key] == "disallowed":
            message = "What breaks this rule does not comply: leave it out, or say violates."
            errors.append(FieldError(f"/rules/{position}", message))
    if severity is not None and not 1 <= severity <= 4:
        errors.append(FieldError("/severity", "Severity is 1, 2, 3 or 4."))
    check_text(rationale)
    if len(rationale) > MAXIMUM_RATIONALE:
        errors.append(FieldError("/rationale", f"At most {MAXIMUM_RATIONALE:,} characters."))
    if seconds is not None and not 0 <= seconds <= 86_400:
        errors.append(FieldError("/seconds", "0 to 86,400 seconds."))
    if errors:
        raise Problem("The label was not saved.", errors=errors)


# an extra answer has no slot, and changes none
_APPEND = """
WITH slot AS (
    UPDATE labeling_slot SET state = %(state)s, label_id = %(id)s, lease_id = %(lease)s,
        drawn = true
    WHERE id = %(slot_id)s AND lease_id IS NOT DISTINCT FROM %(seen_lease)s
        AND label_id IS NOT DISTINCT FROM %(supersedes_id)s AND state = %(seen_state)s
    RETURNING id
), counter AS (
    INSERT INTO labeling_labelcounter AS counter (policy_id, sequence, frozen, since_frozen,
        train_violates, train_complies, audit_violates, audit_complies, unsure)
    SELECT %(policy_id)s, 1, 0, %(trains)s, %(train_violates)s, %(train_complies)s,
        %(audit_violates)s, %(audit_complies)s, %(unsure)s
    FROM (SELECT id FROM slot UNION ALL SELECT 0 WHERE %(slot_id)s::bigint IS NULL) answered
    ON CONFLICT (policy_id) DO UPDATE SET sequence = counter.sequence + 1,
        since_frozen = greatest(0, counter.since_frozen + CASE
            WHEN %(undone)s::bigint <= counter.frozen THEN 0 ELSE excluded.since_frozen END),
        train_violates = counter.train_violates + excluded.train_violates,
        train_complies = counter.train_complies + excluded.train_complies,
        audit_violates = counter.audit_violates + excluded.audit_violates,
        audit_complies = counter.audit_complies + excluded.audit_complies,
        unsure = counter.unsure + excluded.unsure
    RETURNING sequence, since_frozen
), label AS (
    INSERT INTO labeling_label (id, policy_id, sequence, slot_id, policy_example_id, annotator_id,
        policy_version_id, lease_id, stream, verdict, rules, severity, rationale, seconds,
        supersedes_id, created_at)
    SELECT %(id)s, %(policy_id)s, sequence, %(slot_id)s, %(policy_example_id)s, %(annotator_id)s,
        %(policy_version_id)s, %(lease_id)s, %(stream)s, %(verdict)s, %(rules)s, %(severity)s,
        %(rationale)s, %(seconds)s, %(supersedes_id)s, %(created_at)s
    FROM counter
), closed AS (
    UPDATE labeling_lease SET closed = true
    WHERE id = %(lease_id)s AND NOT closed AND EXISTS (SELECT FROM counter)
)
SELECT sequence, since_frozen FROM counter
"""


def _append(
    label: Label,
    slot: Slot,
    policy: Policy,
    *,
    lease: UUID | None = None,
    undone: Label | None = None,
) -> LabelEvent | None:
    """Number the revision, insert it, and make it the slot's current one.

    None, and nothing is done, where the slot is not any more as it was read.

    Args:
        lease: the lease the slot goes back to (undo); None when it is answered.
        undone: the answer that this revision takes back.
    """
    steps = dict.fromkeys(
        ("train_violates", "train_complies", "audit_violates", "audit_complies", "unsure"), 0
    )
    if label.slot_id is not None:
        for verdict, step in ((undone.verdict if undone else "", -1), (label.verdict, +1)):
            if verdict == Verdict.UNSURE:
                steps["unsure"] += step
            elif verdict in DECISIVE:
                steps[f"{slot.side}_{verdict}"] += step
    decisive = label.slot_id is not None and label.verdict in DECISIVE
    values = {
        **{field.attname: getattr(label, field.attname) for field in Label._meta.concrete_fields},
        "rules": json.dumps(label.rules),
        "trains": steps["train_violates"] + steps["train_complies"],
        "undone": undone.sequence if undone else None,
        "state": State.LEASED if lease else State.ANSWERED,
        "lease": lease,
        "seen_lease": slot.lease_id,
        "seen_state": slot.state,
        **steps,
    }
    row = first_row(_APPEND, values)
    if row is None:
        return None
    label.sequence, since_frozen = row
    return LabelEvent(
        policy=policy,
        side=slot.side,
        policy_example=slot.policy_example_id,
        verdict=label.verdict,
        asked_first=slot.position >= FIRST,
        decisive=decisive,
        since_frozen=since_frozen,
        annotator=label.annotator,
    )


def _tell(event: LabelEvent) -> None:
    """The label is kept whatever becomes of what follows from it."""
    for listener in on_label:
        try:
            listener(event)
        except Exception:
            logger.exception("label_not_told", extra={"policy": event.policy.slug})
