"""What an admin sees of the workers: who is there, what waits."""

from __future__ import annotations

from dataclasses import dataclass

from celery import current_app

from apps.accounts.models import Workspace
from apps.base.jobs import Status
from apps.corpus.models import Import
from apps.training.models import TrainingRun

ANSWER_WITHIN_SECONDS = 0.7


@dataclass(frozen=True)
class Worker:
    """A Celery worker process that answered."""

    name: str
    active: list[str]
    slots: int


@dataclass(frozen=True)
class System:
    """Workers, and how many jobs wait or run."""

    workers: list[Worker]
    queued_runs: int
    running_runs: int
    queued_imports: int
    running_imports: int


def look(workspace: Workspace) -> System:
    """Ask the workers; none answering is an answer, too. Jobs are the workspace's."""
    runs = TrainingRun.objects.filter(policy__workspace=workspace)
    imports = Import.objects.filter(workspace=workspace)
    return System(
        workers=_workers(),
        queued_runs=runs.filter(status=Status.QUEUED).count(),
        running_runs=runs.filter(status=Status.RUNNING).count(),
        queued_imports=imports.filter(status=Status.QUEUED).count(),
        running_imports=imports.filter(status=Status.RUNNING).count(),
    )


def _workers() -> list[Worker]:
    inspect = current_app.control.inspect(timeout=ANSWER_WITHIN_SECONDS)
    try:
        stats = inspect.stats() or {}
        active = inspect.active() or {} if stats else {}
    except Exception:  # each broker has its own errors; the page says that nobody answered
        return []
    return [
        Worker(
            name=name,
            active=[task["name"].rpartition(".")[2] for task in active.get(name, [])],
            slots=facts.get("pool", {}).get("max-concurrency", 0),
        )
        for name, facts in sorted(stats.items())
    ]
