"""What the runtime does by itself: canaries, and texts whose days are over."""

from __future__ import annotations

from celery import shared_task

from apps.runtime import canaries, streams, texts


@shared_task
def send_canaries() -> None:
    """Send every canary through the real path."""
    canaries.send_all()


@shared_task
def delete_expired_texts() -> None:
    """Delete the texts of decisions that were to be kept no longer, and streams left behind."""
    texts.delete_expired()
    streams.delete_expired()
