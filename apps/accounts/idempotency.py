"""How long the answer to a write with an Idempotency-Key is kept."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from apps.accounts.models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)


def expired() -> QuerySet[IdempotencyKey]:
    """Keys whose answers are replayed no longer."""
    return IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)


def delete_expired() -> int:
    """Forget those answers, and what they quote; returns how many."""
    deleted, _ = expired().delete()
    return deleted
