"""Celery tasks of training, and the sweeper that makes up for lost messages and dead workers."""

from __future__ import annotations

from functools import partial

from celery import shared_task

from apps.base import jobs
from apps.corpus import importing
from apps.corpus.models import Import
from apps.corpus.tasks import run_import
from apps.evidence.services import overdue_refreshes
from apps.evidence.tasks import refresh_evaluation
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import rank_learning_stream
from apps.labeling.queue import expire_leases
from apps.training import runs
from apps.training.models import TrainingRun


@shared_task
def train(run_id: str) -> None:
    """Do a training run, or what is left of it."""
    from apps.training.pipeline import run_training  # brings scikit-learn: workers only

    run_training(run_id)


@shared_task
def rank(model_version_id: str) -> None:
    """Rank a policy's learning stream by this model, unless a newer one is live already."""
    live = ModelVersion.objects.filter(pk=model_version_id, status=ModelVersion.Status.LIVE)
    version = live.select_related("policy").first()
    if version is not None:
        rank_learning_stream(version.policy)


def rank_anew(version: ModelVersion) -> None:
    """Let the learning stream be ranked by a model that went live."""
    jobs.send(rank, str(version.pk))


@shared_task
def sweep() -> None:
    """Bring every job and lease on that nobody else will; beat calls it every few seconds."""
    expire_leases()
    runs.end_without_worker()
    importing.end_without_worker()
    for pk in jobs.to_enqueue_again(TrainingRun):
        jobs.send(train, str(pk))
    for pk in jobs.to_enqueue_again(Import):
        jobs.send(run_import, str(pk))
    for policy_id in overdue_refreshes():
        jobs.send(refresh_evaluation, str(policy_id))
    runs.look_at_all_triggers()
    importing.remove_old_drafts()


runs.enqueue.append(partial(jobs.send, train))
