"""Celery tasks of corpus."""

from __future__ import annotations

from functools import partial

from celery import shared_task

from apps.base import jobs
from apps.corpus import importing


@shared_task
def run_import(import_id: str) -> None:
    """Do an import, or what is left of it."""
    importing.run_import(import_id)


importing.enqueue.append(partial(jobs.send, run_import))
