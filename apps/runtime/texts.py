"""The texts of decisions, where a workspace keeps them: encrypted, and only for so long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken
from django.db import transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.accounts.models import Workspace
from apps.accounts.sealing import seal, unseal
from apps.base.problems import FieldError, Problem
from apps.runtime.models import DecisionText, Retention, StreamBuffer

LONGEST_DAYS = 400
_PURPOSE = "decision texts"


def encrypt(workspace: Workspace, content: Mapping[str, Any]) -> bytes:
    """What a check was asked, as nobody reads it from the database alone."""
    return seal(workspace, _PURPOSE, content)


def kept_content(workspace: Workspace, decision: UUID) -> dict[str, Any] | None:
    """What a decision judged; None when it was not kept, not for so long, or by another key."""
    row = DecisionText.objects.filter(
        workspace=workspace, decision=decision, expires_at__gt=timezone.now()
    ).first()
    return decrypt(workspace, row) if row else None


def decrypt(workspace: Workspace, row: DecisionText | StreamBuffer) -> dict[str, Any] | None:
    """What `encrypt` was given; None where this host's key is another."""
    try:
        content: dict[str, Any] = unseal(workspace, _PURPOSE, bytes(row.content))
    except InvalidToken:
        return None
    return content


@transaction.atomic
def keep_texts(actor: Actor, *, share: float, days: int, for_owners: bool = False) -> None:
    """From now on keep the texts of this share of decisions for so many days; 0 keeps none.

    What is kept already goes on its own day.

    Args:
        for_owners: whether owners see what their changes would do to kept texts, with samples.
    """
    share += 0.0  # of -0.0, which PostgreSQL keeps as 0.0 and the audit trail would miss
    errors = []
    if not 0 <= share <= 1:
        errors.append(FieldError("/share", "From 0 (none) to 1 (all)."))
    if not 1 <= days <= LONGEST_DAYS:
        errors.append(FieldError("/days", f"1 to {LONGEST_DAYS} days."))
    if errors:
        raise Problem("The setting was not changed.", errors=errors)
    if share == 0:
        Retention.objects.filter(workspace=actor.workspace).delete()
    else:
        Retention.objects.update_or_create(
            workspace=actor.workspace,
            defaults={"share": share, "days": days, "for_owners": for_owners},
        )
    facts = {"share": share, "days": days, "for_owners": for_owners}
    record(actor, "decisions.keep_texts", actor.workspace, **facts)


def delete_expired() -> int:
    """Delete the texts whose days are over; returns how many."""
    deleted, _ = DecisionText.objects.filter(expires_at__lte=timezone.now()).delete()
    return deleted
