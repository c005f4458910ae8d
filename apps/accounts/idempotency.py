"""How long the answer to a write with an Idempotency-Key is kept."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from apps.accounts.models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)


def delete_expired() -> int:
    """Forget answers that are replayed no longer, and what they quote; returns how many."""
    deleted, _ = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    return deleted
