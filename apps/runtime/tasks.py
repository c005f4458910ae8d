"""What the runtime does by itself: canaries, and deleting what is kept no longer."""

from __future__ import annotations

from celery import shared_task

from apps.accounts import idempotency, people
from apps.runtime import canaries, streams, texts, traffic


@shared_task
def send_canaries() -> None:
    """Send every canary through the real path."""
    canaries.send_all()


@shared_task
def delete_expired() -> None:
    """Delete what is kept no longer: texts of decisions, streams, replayed answers, sessions.

    Old hours of traffic become one.
    """
    texts.delete_expired()
    streams.delete_expired()
    idempotency.delete_expired()
    people.delete_expired()
    traffic.fold_old()
