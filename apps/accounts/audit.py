"""The append-only audit trail: one hash chain a workspace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.models import AuditEntry, AuditHead, Workspace


def record(actor: Actor, action: str, target: object, /, **data: Any) -> None:
    """Append one entry, in the caller's transaction.

    Call it last: the head row stays locked until the transaction ends.

    Args:
        target: what was changed; its class name and id are recorded.
        data: JSON-able facts about the change. No texts of examples.
    """
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(
            "SELECT sequence, hash FROM accounts_audithead WHERE workspace_id = %s FOR UPDATE",
            [actor.workspace.pk],
        )
        sequence, previous = cursor.fetchone()
        sequence += 1
        previous = bytes(previous)
        at = timezone.now()
        name = f"{type(target).__name__.lower()} {getattr(target, 'pk', target)}"
        digest = entry_hash(previous, sequence, at, actor.label, action, name, data)
        cursor.execute(
            """
            WITH entry AS (
                INSERT INTO accounts_auditentry
                    (workspace_id, sequence, at, actor, action, target, data, previous_hash, hash)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING workspace_id, sequence, hash
            )
            UPDATE accounts_audithead head SET sequence = entry.sequence, hash = entry.hash
            FROM entry WHERE head.workspace_id = entry.workspace_id
            """,
            [
                actor.workspace.pk,
                sequence,
                at,
                actor.label,
                action,
                name,
                json.dumps(data, default=str),
                previous,
                digest,
            ],
        )


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
    row = [sequence, at.astimezone(UTC).isoformat(), actor, action, target, data]
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(previous + text.encode()).digest()


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


__all__ = ["AuditEntry", "Break", "entry_hash", "open_chain", "record", "verify"]
