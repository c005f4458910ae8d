"""The append-only audit trail: one hash chain a workspace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.models import AuditEntry, AuditHead, Workspace
from apps.base.prepared import prepared


def record(actor: Actor, action: str, target: object, /, **data: Any) -> None:
    """Append one entry, in the caller's transaction.

    Call it last: the head row stays locked until the transaction ends.

    Args:
        target: what was changed; its class name and id are recorded.
        data: JSON-able facts about the change. No texts of examples.
    """
    at = timezone.now()
    name = _name(target)
    values: dict[str, Any] = {
        "workspace": actor.workspace.pk,
        "at": at,
        "actor": actor.label,
        "action": action,
        "target": name,
        "data": json.dumps(data, default=str),
        "facts": _facts(at, actor.label, action, name, data),
    }
    with prepared(), connection.cursor() as cursor:
        cursor.execute(_APPEND, values)


# hashes as entry_hash does; the head is locked before it is read, so entries follow each other
_APPEND = """
WITH head AS (
    SELECT workspace_id, sequence + 1 AS sequence, hash AS previous, sha256(
        hash || convert_to('[' || sequence + 1 || ',' || %(facts)s::text || ']', 'UTF8')) AS hash
    FROM accounts_audithead WHERE workspace_id = %(workspace)s FOR UPDATE
), entry AS (
    INSERT INTO accounts_auditentry
        (workspace_id, sequence, at, actor, action, target, data, previous_hash, hash)
    SELECT workspace_id, sequence, %(at)s, %(actor)s, %(action)s, %(target)s, %(data)s, previous,
        hash
    FROM head
)
UPDATE accounts_audithead there SET sequence = head.sequence, hash = head.hash
FROM head WHERE there.workspace_id = head.workspace_id
"""


def history(workspace: Workspace, target: object, actions: Collection[str]) -> QuerySet[AuditEntry]:
    """What was done to one thing, the first first; only these actions are looked at.

    The index is by action, so name ones that are rare.
    """
    rows = workspace.audit_entries.filter(action__in=actions, target=_name(target))
    return rows.order_by("sequence")


def actions_in(workspace: Workspace) -> list[str]:
    """Every action that stands in the trail, by name: one step of the index each."""
    with connection.cursor() as cursor:
        cursor.execute(_ACTIONS, {"workspace": workspace.pk})
        return [action for (action,) in cursor.fetchall()]


_ACTIONS = """
WITH RECURSIVE seen (action) AS (
    SELECT min(action) FROM accounts_auditentry WHERE workspace_id = %(workspace)s
    UNION ALL
    SELECT (SELECT min(action) FROM accounts_auditentry
            WHERE workspace_id = %(workspace)s AND action > seen.action)
    FROM seen WHERE action IS NOT NULL
)
SELECT action FROM seen WHERE action IS NOT NULL
"""


def _name(target: object) -> str:
    return f"{type(target).__name__.lower()} {getattr(target, 'pk', target)}"


def entry_hash(
    previous: bytes,
    sequence: int,
    at: datetime,
    actor: str,
    action: str,
    target: str,
    data: dict[str, Any],
) -> bytes:
    """SHA-256 over the previous hash and the entry as canonical JSON."""
    text = f"[{sequence},{_facts(at, actor, action, target, data)}]"
    return hashlib.sha256(previous + text.encode()).digest()


def _facts(at: datetime, actor: str, action: str, target: str, data: dict[str, Any]) -> str:
    row = [at.astimezone(UTC).isoformat(), actor, action, target, data]
    return json.dumps(row, sort_keys=True, separators=(",", ":"), default=str)[1:-1]


@dataclass(frozen=True)
class Break:
    """Where a chain stops being true."""

    workspace: str
    sequence: int
    reason: str


def verify(workspace: Workspace) -> Iterator[Break]:
    """Walk a workspace's chain and yield every place where it does not hold."""
    expected = 1
    previous = bytes(32)
    for entry in workspace.audit_entries.order_by("sequence").iterator(chunk_size=2000):
        if entry.sequence != expected:
            yield Break(workspace.slug, expected, f"missing; the next one is {entry.sequence}")
            expected = entry.sequence
        if bytes(entry.previous_hash) != previous:
            yield Break(workspace.slug, entry.sequence, "does not follow the entry before it")
        digest = entry_hash(
            bytes(entry.previous_hash),
            entry.sequence,
            entry.at,
            entry.actor,
            entry.action,
            entry.target,
            entry.data,
        )
        if digest != bytes(entry.hash):
            yield Break(workspace.slug, entry.sequence, "was changed after it was written")
        previous = bytes(entry.hash)
        expected += 1
    head = AuditHead.objects.get(workspace=workspace)
    if head.sequence != expected - 1 or bytes(head.hash) != previous:
        yield Break(workspace.slug, expected, f"the trail is cut; its head is {head.sequence}")


def open_chain(workspace: Workspace) -> None:
    """Give a new workspace the head of its chain."""
    AuditHead.objects.create(workspace=workspace)


__all__ = ["AuditEntry", "Break", "entry_hash", "history", "open_chain", "record", "verify"]
