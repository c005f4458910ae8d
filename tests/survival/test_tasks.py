"""Every Celery task run twice in a row and twice at once ends as if run once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.utils import timezone

from apps.base.ids import uuid7
from apps.corpus.models import CorpusCounter, Import, PolicyExample
from apps.corpus.tasks import run_import
from apps.evidence.models import Evaluation
from apps.evidence.tasks import refresh_evaluation
from apps.guardrails.models import ModelVersion
from apps.labeling.models import Lease, Slot
from apps.runtime import canaries
from apps.runtime.models import Canary, DecisionText, Incident
from apps.runtime.tasks import delete_expired, send_canaries
from apps.training import runs
from apps.training.models import TrainingRun
from apps.training.tasks import rank, sweep, train
from tests import factories
from tests.accounts.test_audit import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def work() -> Any:
    """(owner, policy) with 70 labels, ready to be trained."""
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner, audit_fraction=0.4, audit_share=0.4)
    factories.import_rows(owner, policy, factories.rows(120))
    factories.give_labels(owner, policy, 70)
    return owner, policy


def prepare_import(owner: Any, policy: Any) -> list[str]:
    return [str(factories.upload(owner, policy, b'{"output": "a"}\n{"output": "b"}\n').pk)]


def prepare_train(owner: Any, policy: Any) -> list[str]:
    return [str(runs.request_run(owner, policy=policy).pk)]


def prepare_live(owner: Any, policy: Any) -> list[str]:
    assert factories.train(owner, policy).status == "succeeded"
    factories.give_labels(owner, policy, 3)
    return [str(policy.pk)]


def prepare_sweep(owner: Any, policy: Any) -> list[str]:
    factories.api(owner).post(f"policies/{policy.slug}/queue/next")
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    prepare_import(owner, policy)
    old = timezone.now() - timedelta(minutes=1)
    Import.objects.filter(status="queued").update(enqueued_at=old, cancel_requested=True)
    return []


def prepare_canary(owner: Any, policy: Any) -> list[str]:
    """One that nobody answers: it opens one incident, however often it is sent."""
    canaries.add_canary(owner, stage="output", text="a text", expected="block")
    return []


def prepare_texts(owner: Any, policy: Any) -> list[str]:
    past = timezone.now() - timedelta(days=1)
    for days in (0, 2):
        DecisionText.objects.create(
            decision=uuid7(),
            workspace=owner.workspace,
            content=b"x",
            expires_at=past + timedelta(days=days),
        )
    return []


TASKS: dict[str, tuple[Any, Callable[[Any, Any], list[str]]]] = {
    "apps.corpus.tasks.run_import": (run_import, prepare_import),
    "apps.training.tasks.train": (train, prepare_train),
    "apps.training.tasks.rank": (rank, prepare_live),
    "apps.training.tasks.sweep": (sweep, prepare_sweep),
    "apps.evidence.tasks.refresh_evaluation": (refresh_evaluation, prepare_live),
    "apps.runtime.tasks.send_canaries": (send_canaries, prepare_canary),
    "apps.runtime.tasks.delete_expired": (delete_expired, prepare_texts),
}


def test_every_task_is_tried_here() -> None:
    registered = {name for name in current_app.tasks if not name.startswith("celery.")}
    assert registered == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_acknowledged_only_once_it_is_done(name: str) -> None:
    """By a broker that keeps messages; the sweeper makes up for one that does not."""
    assert current_app.tasks[name].acks_late


def state() -> Any:
    """What tasks change, without ids and times."""
    return (
        sorted(Import.objects.values_list("status", "new", "duplicates", "rejected", "rows")),
        sorted(PolicyExample.objects.values_list("example__output", "side", "occurrences")),
        sorted(CorpusCounter.objects.values_list("batches", "train", "audit")),
        sorted(Canary.objects.values_list("last_action", "last_problem")),
        (Incident.objects.count(), DecisionText.objects.count()),
        sorted(TrainingRun.objects.values_list("status", "attempts", "model_version__number")),
        sorted(ModelVersion.objects.values_list("number", "status", "sha256")),
        sorted(Evaluation.objects.values_list("watermark", "counted", "threshold")),
        sorted(Slot.objects.values_list("policy_example__example__output", "state", "priority")),
        sorted(Lease.objects.filter(closed=False).values_list("slot")),
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_run_again_changes_nothing(work: Any, name: str) -> None:
    task, prepare = TASKS[name]
    arguments = prepare(*work)
    task(*arguments)
    once = state()
    task(*arguments)
    assert state() == once


@pytest.mark.parametrize("name", TASKS)
def test_a_task_run_twice_at_once_ends_as_if_run_once(work: Any, name: str) -> None:
    task, prepare = TASKS[name]
    arguments = prepare(*work)
    assert at_once(2, lambda place: task(*arguments)) == [None, None]
    both = state()
    task(*arguments)
    assert state() == both


OF_ALL = ("sweep", "send_canaries", "delete_expired")


@pytest.mark.parametrize("name", [n for n in TASKS if n.split(".")[-1] not in OF_ALL])
def test_a_task_for_something_that_is_gone_does_nothing(work: Any, name: str) -> None:
    before = state()
    TASKS[name][0]("018f0000-0000-7000-8000-000000000000")
    assert state() == before
