"""Asking for retrains: by people, by labels, by the clock; and stopping them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.actor import Actor, task_actor
from apps.accounts.audit import record
from apps.base import jobs
from apps.base.problems import Problem
from apps.labeling.labels import LabelEvent
from apps.policies.models import Policy
from apps.training.models import TrainingRun

# Called after commit with the id of a run that waits for a worker; tasks.py fills it.
enqueue: list[Callable[[str], None]] = []


def request_run(actor: Actor, *, policy: Policy, trigger: str = "person") -> TrainingRun:
    """Queue a retrain.

    Raises:
        Problem: 409 with the running one when one is queued or running already; 400 when the
            policy has no published version.
    """
    if policy.current_version_id is None:
        raise Problem("Publish the policy first; there is nothing to learn yet.", code="no_version")
    if policy.status == Policy.Status.RETIRED:
        raise Problem("This policy is retired.", code="retired", status=409)
    try:
        with transaction.atomic():
            run = TrainingRun.objects.create(
                policy=policy, trigger=trigger, requested_by=actor.membership
            )
            record(actor, "run.request", run, policy=policy.slug, trigger=trigger)
    except IntegrityError:
        running = TrainingRun.objects.filter(policy=policy, status__in=jobs.ACTIVE).first()
        found = {"id": str(running.pk), "status": running.status} if running else {}
        raise Problem(
            "A retrain of this policy is on its way already.",
            code="run_exists",
            status=409,
            extra={"id": found.get("id"), "run": found or None},
        ) from None
    for send in enqueue:
        transaction.on_commit(lambda send=send: send(str(run.pk)))  # type: ignore[misc]
    return run


def request_cancel(actor: Actor, *, run: TrainingRun) -> None:
    """Ask a run to stop; one that waits stops at once, one that works at its next step."""
    with transaction.atomic():
        if jobs.request_cancel(run):
            record(actor, "run.cancel", run)
    end_without_worker()


def end_without_worker() -> None:
    """End runs that no worker will, and write it down."""
    for run in jobs.end_without_worker(TrainingRun):
        actor = task_actor(run.policy.workspace, "sweep")
        with transaction.atomic():
            record(actor, f"run.{run.status}", run, reason=run.reason)


def look_at_trigger(policy: Policy, since_frozen: int) -> TrainingRun | None:
    """Start a retrain if enough decisive train-side labels came since the last one."""
    if since_frozen < policy.retrain_after or policy.status != Policy.Status.ACTIVE:
        return None
    if TrainingRun.objects.filter(policy=policy, status__in=jobs.ACTIVE).exists():
        return None
    try:
        return request_run(
            task_actor(policy.workspace, "trigger"),
            policy=policy,
            trigger=TrainingRun.Trigger.LABELS,
        )
    except Problem:
        return None  # somebody was faster


def after_label(event: LabelEvent) -> None:
    """The label trigger."""
    if event.side == "train" and event.decisive:
        look_at_trigger(event.policy, event.since_frozen)


def look_at_all_triggers() -> None:
    """What the sweeper looks at: labels that came while a run ended, and schedules."""
    now = timezone.now()
    policies = Policy.objects.filter(
        status=Policy.Status.ACTIVE, current_version__isnull=False
    ).select_related("workspace", "label_counter")
    for policy in policies:
        given = getattr(policy, "label_counter", None)
        since = given.since_frozen if given else 0
        if look_at_trigger(policy, since) or policy.retrain_every_hours is None or since == 0:
            continue
        last = TrainingRun.objects.filter(policy=policy).order_by("-id").first()
        if last is None or last.created_at < now - timedelta(hours=policy.retrain_every_hours):
            try:
                actor = task_actor(policy.workspace, "schedule")
                request_run(actor, policy=policy, trigger=TrainingRun.Trigger.SCHEDULE)
            except Problem:
                continue
