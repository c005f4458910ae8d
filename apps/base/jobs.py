"""Long work as database rows: leased, fenced, heart-beating, cancellable.

The row is the truth. A Celery message only says "look at this row"; a message too many does
nothing, a message too few is made up for by the sweeper.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, models
from django.db.models import F, Q
from django.utils import timezone

from apps.base.problems import Problem

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=20)
ENQUEUE_AGAIN_AFTER = timedelta(seconds=15)
ATTEMPTS = 3


class Status(models.TextChoices):
    """A draft waits for a person; queued and running jobs are active; the rest is over."""

    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (Status.QUEUED, Status.RUNNING)


class Job(models.Model):
    """The fields a leased job has. `progress` is a share in [0, 1]."""

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    progress = models.FloatField(default=0.0)
    step = models.CharField(max_length=200, blank=True)
    reason = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField(auto_now_add=True)
    cancel_requested = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def took(self) -> float | None:
        """Seconds from its (last) start to its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


J = TypeVar("J", bound=Job)


class LostLease(Exception):
    """Another worker has this job now; stop without writing."""


class Cancelled(Exception):
    """Somebody asked for this job to stop."""


class Failed(Exception):
    """The job cannot be done, for this reason, in words that say what to do."""


def run(
    model: type[J], pk: Any, work: Callable[[J], None], end: Callable[[J, Status, str], None]
) -> J | None:
    """Do a job, or what is left of it; the job, or None where another worker has it or it is over.

    Safe to call twice, and twice at once. Where the database is away nothing is said of the job:
    its lease runs out, and it is begun again.

    Args:
        work: does it, and says its end itself when it succeeded.
        end: writes down (the job, how it ended, why).
    """
    job = claim(model, pk)
    if job is None:
        return None
    try:
        try:
            work(job)
        except Failed as error:
            end(job, Status.FAILED, str(error))
        except Cancelled:
            end(job, Status.CANCELLED, "Cancelled by a person.")
        except (LostLease, OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("job_failed", extra={"job": str(pk)})
            name = type(error).__name__
            end(job, Status.FAILED, f"Parapet failed ({name}); the worker's log tells more.")
    except LostLease:
        return None
    return job


def claim(model: type[J], pk: Any) -> J | None:
    """Take the job if it is free; None when another worker has it or it is over."""
    now = timezone.now()
    taken = (
        model._default_manager.filter(pk=pk, status__in=ACTIVE, attempts__lt=ATTEMPTS)
        .filter(Q(lease_until=None) | Q(lease_until__lt=now))
        .update(
            status=Status.RUNNING,
            attempts=F("attempts") + 1,
            fence=F("fence") + 1,
            lease_until=now + LEASE,
            started_at=now,
        )
    )
    return model._default_manager.get(pk=pk) if taken else None


def heartbeat(job: Job, *, progress: float | None = None, step: str | None = None) -> None:
    """Renew the lease and say how far the work is.

    Raises:
        LostLease: the lease ran out and somebody else has the job.
        Cancelled: a person asked to stop.
    """
    values: dict[str, Any] = {"lease_until": timezone.now() + LEASE}
    if progress is not None:
        values["progress"] = progress
    if step is not None:
        values["step"] = step
    rows = type(job)._default_manager.filter(pk=job.pk, fence=job.fence, status=Status.RUNNING)
    if not rows.update(**values):
        raise LostLease
    for name, value in values.items():
        setattr(job, name, value)
    if rows.filter(cancel_requested=True).exists():
        raise Cancelled


def request_cancel(job: Job) -> bool:
    """Ask an active job to stop at its next heartbeat; whether nobody had. Problem: it is over."""
    active = type(job)._default_manager.filter(pk=job.pk, status__in=ACTIVE)
    asked = active.filter(cancel_requested=False).update(cancel_requested=True)
    if not asked and not active.exists():
        raise Problem(f"This {type(job)._meta.verbose_name} is over.", code="over", status=409)
    return bool(asked)


def finish(job: Job, status: Status, *, reason: str = "", **values: Any) -> None:
    """Write the job's end, if it is still ours; raises LostLease otherwise."""
    values |= {
        "status": status,
        "reason": reason,
        "finished_at": timezone.now(),
        "lease_until": None,
    }
    if status == Status.SUCCEEDED:
        values["progress"] = 1.0
    rows = type(job)._default_manager.filter(pk=job.pk, fence=job.fence, status=Status.RUNNING)
    if not rows.update(**values):
        raise LostLease
    for name, value in values.items():
        setattr(job, name, value)


def end_without_worker(model: type[J]) -> list[J]:
    """End jobs that no worker will: cancelled in the queue or at rest, or dead three times."""
    now = timezone.now()
    resting = Q(lease_until=None) | Q(lease_until__lt=now)
    active = model._default_manager.filter(resting, status__in=ACTIVE)
    ended = []
    for job in active.filter(Q(cancel_requested=True) | Q(attempts__gte=ATTEMPTS)):
        status, reason = (
            (Status.CANCELLED, "")
            if job.cancel_requested
            else (Status.FAILED, f"The worker died {ATTEMPTS} times while it did this.")
        )
        changed = model._default_manager.filter(
            pk=job.pk, fence=job.fence, status=job.status
        ).update(status=status, reason=reason, finished_at=now, lease_until=None)
        if changed:
            job.status, job.reason = status, reason
            ended.append(job)
    return ended


def to_enqueue_again(model: type[J]) -> list[Any]:
    """Ids of jobs whose message may be lost; marks them as enqueued now."""
    now = timezone.now()
    rows = model._default_manager.filter(status__in=ACTIVE, attempts__lt=ATTEMPTS).filter(
        Q(lease_until__lt=now) | Q(lease_until=None, enqueued_at__lt=now - ENQUEUE_AGAIN_AFTER)
    )
    found = list(rows.values_list("pk", flat=True))
    model._default_manager.filter(pk__in=found).update(enqueued_at=now)
    return found


def send(task: Any, pk: str, seconds: float = 0.0) -> None:
    """Publish a job's message, to be worked on in so many seconds.

    When the broker is down the sweeper makes up for it.
    """
    try:
        task.apply_async((pk,), countdown=seconds or None)
    except Exception as error:  # each transport has its own errors
        logger.warning("message_not_sent", extra={"task": task.name, "error": type(error).__name__})
