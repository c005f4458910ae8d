"""Drawing the next item: leases on slots, taken by SKIP LOCKED.

Drawing never counts or sorts the pool: every stream is a partial index over free slots.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.base.ids import uuid7
from apps.base.prepared import prepared
from apps.base.problems import FieldError, Problem
from apps.corpus.importing import Arrival
from apps.corpus.models import Side
from apps.labeling.models import Lease, Slot, State, Stream
from apps.policies.models import Policy

LEASE = timedelta(minutes=15)
MOST_LEASES = 2
EXPLORATION_SHARE = 0.3
# above every entropy and every random number
FIRST = 2.0


@dataclass(frozen=True)
class Item:
    """A leased example as its annotator sees it: never its side, stream or score."""

    lease: UUID
    expires_at: datetime
    example: UUID
    external_id: str
    prompt: str
    output: str
    context: str
    model: str
    language: str
    version: UUID

    @property
    def lease_text(self) -> str:
        """The lease for an address in a template."""
        return str(self.lease)


def open_slots(arrival: Arrival) -> None:
    """Make a batch's slots, in its transaction.

    On the audit side one text a group is asked for: the one with the lowest u. Where a newcomer
    is lower than the one that waited so far, they change places; what is answered stays so.
    """
    audit = [pk for pk, side in zip(arrival.ids, arrival.sides, strict=True) if side == Side.AUDIT]
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_SLOTS, {"ids": arrival.ids})
        cursor.execute(_HOLD_BACK, {"audit": audit})


_OPEN_SLOTS = """
INSERT INTO labeling_slot (policy_id, policy_example_id, side, position, priority, state, drawn,
    skips)
SELECT here.policy_id, here.id, here.side,
    CASE here.side WHEN 'audit' THEN here.group_u ELSE here.u END, 0,
    CASE WHEN here.side = 'audit' AND EXISTS (
        SELECT 1 FROM corpus_policyexample lower
        WHERE lower.policy_id = here.policy_id AND lower.group_hash = here.group_hash
            AND (lower.u, lower.id) < (here.u, here.id)
    ) THEN 'held' ELSE 'free' END,
    false, 0
FROM corpus_policyexample here WHERE here.id = ANY(%(ids)s) ORDER BY here.id
"""
_HOLD_BACK = """
UPDATE labeling_slot slot SET state = 'held'
FROM (
    SELECT DISTINCT ON (policy_id, group_hash) policy_id, group_hash, u, id
    FROM corpus_policyexample WHERE id = ANY(%(audit)s)
    ORDER BY policy_id, group_hash, u, id
) newer CROSS JOIN LATERAL (
    SELECT id FROM corpus_policyexample
    WHERE policy_id = newer.policy_id AND group_hash = newer.group_hash
        AND (u, id) > (newer.u, newer.id)
    OFFSET 0  -- looked up by index: of a new policy, PostgreSQL does not know yet how large it is
) older
WHERE slot.policy_example_id = older.id AND slot.state = 'free'
"""


def next_item(actor: Actor, *, policy: Policy) -> Item | None:
    """The item this person works on next, or None when there is nothing to do.

    A person holds at most two: whoever holds two already gets the older one again.
    """
    drawn = draw(actor, policy=policy)  # nothing for whoever holds two
    if drawn is not None:
        return drawn
    held = held_items(actor, policy=policy)
    return held[0] if len(held) >= MOST_LEASES else None


def held_items(actor: Actor, *, policy: Policy) -> list[Item]:
    """What the person holds, oldest first: closing the tab loses nothing."""
    return _items(
        "lease.membership_id = %s AND lease.policy_id = %s AND NOT lease.closed"
        " AND lease.expires_at > %s ORDER BY lease.id",
        [actor.membership_id, policy.pk, timezone.now()],
    )


def draw(actor: Actor, *, policy: Policy) -> Item | None:
    """Lease one more free slot to the person, from the audit or the learning stream."""
    if policy.current_version_id is None or policy.status != Policy.Status.ACTIVE:
        return None
    item = _draw(actor, policy)
    if item is None and expire_leases(policy):
        item = _draw(actor, policy)
    return item


@transaction.atomic
def skip(actor: Actor, *, lease: Lease, reason: str) -> None:
    """Pass an item on: to another person, and after two of them to an owner."""
    if not reason.strip() or len(reason) > 300:
        raise Problem(
            "Say in a few words why you skip it.",
            errors=[FieldError("/reason", "1 to 300 characters.")],
        )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE labeling_slot SET state = 'free', lease_id = NULL, skips = skips + 1"
            " WHERE id = %s AND lease_id = %s AND state = 'leased'",
            [lease.slot_id, lease.pk],
        )
        if not cursor.rowcount:
            raise Problem(
                "You do not hold this item any more; nothing was changed.",
                code="lease_over",
                status=409,
            )
        cursor.execute("UPDATE labeling_lease SET closed = true WHERE id = %s", [lease.pk])
        cursor.execute(
            "INSERT INTO labeling_skip (slot_id, membership_id, reason, created_at)"
            " VALUES (%s, %s, %s, now()) ON CONFLICT DO NOTHING",
            [lease.slot_id, actor.membership_id, reason],
        )
    record(actor, "label.skip", lease, reason=reason)


def release_beyond(actor: Actor, *, policy: Policy, keep: int) -> None:
    """Give back all but the `keep` oldest items of a person."""
    for item in held_items(actor, policy=policy)[keep:]:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE labeling_slot SET state = 'free', lease_id = NULL"
                " WHERE lease_id = %s AND state = 'leased'",
                [item.lease],
            )
            cursor.execute("UPDATE labeling_lease SET closed = true WHERE id = %s", [item.lease])


def expire_leases(policy: Policy | None = None) -> int:
    """Free the slots of leases that ran out (of one policy, or of all); returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH over AS (
                SELECT lease.id, lease.slot_id FROM labeling_lease lease
                JOIN labeling_slot slot ON slot.id = lease.slot_id
                WHERE NOT lease.closed AND lease.expires_at < %s
                    AND (%s::uuid IS NULL OR lease.policy_id = %s)
                FOR NO KEY UPDATE OF slot SKIP LOCKED  -- the slot first, as whoever answers does
            ), closed AS (
                UPDATE labeling_lease SET closed = true WHERE id IN (SELECT id FROM over)
            )
            UPDATE labeling_slot slot SET state = 'free', lease_id = NULL
            FROM over WHERE slot.id = over.slot_id AND slot.lease_id = over.id
                AND slot.state = 'leased'
            """,
            [timezone.now(), *[policy.pk if policy else None] * 2],
        )
        return int(cursor.rowcount)


def set_priorities(policy: Policy, slots: Sequence[int], priorities: Sequence[float]) -> None:
    """Rank free train-side slots for the learning stream; the others keep their priority."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH free AS MATERIALIZED (
                SELECT id FROM labeling_slot
                WHERE id = ANY(%(slots)s) AND policy_id = %(policy)s AND state = 'free'
                ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE labeling_slot slot SET priority = given.priority
            FROM unnest(%(slots)s::bigint[], %(priorities)s::float8[]) AS given(id, priority)
            JOIN free ON free.id = given.id WHERE slot.id = free.id
            """,
            {"slots": list(slots), "priorities": list(priorities), "policy": policy.pk},
        )


def put_first(policy_example: int) -> bool:
    """Ask for a train-side text before all others; False where it is answered.

    Also where somebody looks at it now: they may skip it.

    It was not drawn at random: its place behind every random number keeps it out of the
    exploration stream, which calibrates the scores.
    """
    asked = (State.FREE, State.LEASED)
    rows = Slot.objects.filter(policy_example=policy_example, side="train", state__in=asked)
    return bool(rows.update(priority=FIRST, position=FIRST))


# each stream's free slots in its order; a person is not offered again what they skipped
_STREAMS = {
    Stream.AUDIT: "side = 'audit' AND skips < 2 ORDER BY position",
    Stream.EXPLORATION: "side = 'train' AND position < 1 AND skips < 2 ORDER BY position",
    Stream.LEARNING: "side = 'train' AND skips < 2 ORDER BY priority DESC, position",
}
# what somebody wants labelled goes before whatever is drawn: of the audit sample it takes nothing
_ASKED_FIRST = (
    f"side = 'train' AND skips < 2 AND priority >= {FIRST} ORDER BY priority DESC, position"
)
_CLAIM = """
WITH found AS (
    SELECT id, side, priority FROM labeling_slot
    WHERE policy_id = %(policy)s AND state = 'free'
        AND (
            SELECT count(*) FROM labeling_lease
            WHERE membership_id = %(person)s AND policy_id = %(policy)s AND NOT closed
                AND expires_at > %(now)s) < %(most)s
        AND NOT EXISTS (
            SELECT 1 FROM labeling_skip
            WHERE slot_id = labeling_slot.id AND membership_id = %(person)s)
        AND {order} LIMIT 1 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE labeling_slot slot SET state = 'leased', lease_id = %(lease)s, drawn = true
    FROM found WHERE slot.id = found.id AND slot.state = 'free'
    RETURNING slot.id, slot.side, slot.priority, slot.policy_example_id
), lease AS (
    INSERT INTO labeling_lease (id, policy_id, slot_id, membership_id, policy_version_id, stream,
        expires_at, closed)
    SELECT %(lease)s, %(policy)s, taken.id, %(person)s, %(version)s,
        CASE WHEN taken.side = 'audit' THEN 'audit'
             WHEN %(ranked)s AND taken.priority > 0 THEN 'learning' ELSE 'exploration' END,
        %(until)s, false
    FROM taken RETURNING id, expires_at, policy_version_id
)
SELECT {item} FROM lease, taken
JOIN corpus_policyexample there ON there.id = taken.policy_example_id
JOIN corpus_example example ON example.id = there.example_id
"""
_ITEM = """lease.id, lease.expires_at, example.id, there.external_id, example.prompt,
    example.output, example.context, example.model, example.language, lease.policy_version_id"""


def _draw(actor: Actor, policy: Policy) -> Item | None:
    now = timezone.now()
    values: dict[str, Any] = {
        "policy": policy.pk,
        "person": actor.membership_id,
        "version": policy.current_version_id,
        "lease": uuid7(),
        "now": now,
        "until": now + LEASE,
        "most": MOST_LEASES,
    }
    owner = policy.own_role != "annotator"
    with transaction.atomic(), prepared(), connection.cursor() as cursor:
        # a lease lost in a power cut is drawn again; only answers must reach the disk.
        # The tabs of one person draw one after the other, so that they hold two items at most.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'off', true),"
            " pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"draw {actor.membership_id} {policy.pk}"],
        )
        streams = _order_of_streams(policy)
        orders = [(stream, _STREAMS[stream]) for stream in streams]
        if streams[0] != Stream.LEARNING:  # which begins with them anyway
            orders.insert(0, (Stream.LEARNING, _ASKED_FIRST))
        for stream, order in orders:
            values["ranked"] = stream == Stream.LEARNING
            cursor.execute(_CLAIM.format(order=order, item=_ITEM), values)
            if row := cursor.fetchone():
                return Item(*row)
        if owner:
            values["ranked"] = False
            cursor.execute(_CLAIM.format(order="skips >= 2 ORDER BY id", item=_ITEM), values)
            if row := cursor.fetchone():
                return Item(*row)
    return None


def _order_of_streams(policy: Policy) -> list[Stream]:
    """The stream that is drawn from, then those to fall back on when it is empty."""
    learning = Stream.EXPLORATION if random.random() < EXPLORATION_SHARE else Stream.LEARNING
    if random.random() < policy.audit_share:
        streams = [Stream.AUDIT, learning]
    else:
        streams = [learning, Stream.AUDIT]
    # exploration leaves out what somebody asked for; whoever finds nothing else gets that
    return streams if learning == Stream.LEARNING else [*streams, Stream.LEARNING]


def _items(condition: str, values: list[Any]) -> list[Item]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_ITEM} FROM labeling_lease lease"
            " JOIN labeling_slot slot ON slot.id = lease.slot_id"
            " JOIN corpus_policyexample there ON there.id = slot.policy_example_id"
            " JOIN corpus_example example ON example.id = there.example_id"
            f" WHERE {condition}",
            values,
        )
        return [Item(*row) for row in cursor.fetchall()]
