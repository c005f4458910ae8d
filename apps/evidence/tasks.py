"""Celery tasks of evidence."""

from __future__ import annotations

from functools import partial

from celery import shared_task

from apps.base import jobs
from apps.evidence import services
from apps.policies.models import Policy


@shared_task
def refresh_evaluation(policy_id: str) -> None:
    """Evaluate the live model of a policy on its audit labels of now."""
    policy = Policy.objects.select_related("current_version").filter(pk=policy_id).first()
    if policy is not None:
        services.refresh(policy)


services.enqueue.append(partial(jobs.send, refresh_evaluation))
