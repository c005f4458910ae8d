"""Runs: who starts them, how they end, and what a second attempt leaves behind."""

from __future__ import annotations

from datetime import timedelta

import pgtrigger
import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.accounts.models import AuditEntry
from apps.base import jobs
from apps.base.jobs import Status
from apps.base.problems import Problem
from apps.guardrails import artifacts
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.models import ModelVersion
from apps.labeling.labels import counts
from apps.training import pipeline, runs
from apps.training.models import TrainingRun
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def labelled():
    """(owner, policy) with 120 labels in it."""
    actor = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(actor, audit_fraction=0.3, audit_share=0.3)
    factories.import_rows(actor, policy, factories.rows(200))
    factories.give_labels(actor, policy, 120)
    return actor, policy


def test_too_few_labels_fail_with_a_reason_that_says_how_many_more() -> None:
    actor = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(actor)
    run = factories.train(actor, policy)
    assert run.status == Status.FAILED
    assert "Label 5 more violating and 5 more complying" in run.reason
    assert factories.train(actor, policy).status == Status.FAILED  # it can be tried again


def test_a_second_run_of_a_policy_is_refused_and_named(labelled) -> None:
    actor, policy = labelled
    first = runs.request_run(actor, policy=policy)
    with pytest.raises(Problem) as refusal:
        runs.request_run(actor, policy=policy)
    assert refusal.value.status == 409
    assert refusal.value.extra["run"]["id"] == str(first.pk)


def test_the_same_labels_give_the_same_bytes_and_no_second_version(labelled) -> None:
    actor, policy = labelled
    first = factories.train(actor, policy).model_version
    again = factories.train(actor, policy).model_version
    assert again == first
    path = artifacts.path_of(first.sha256)
    kept = path.read_bytes()
    path.unlink()
    with pgtrigger.ignore():
        ModelVersion.objects.filter(pk=first.pk).delete()
    anew = factories.train(actor, policy).model_version
    assert anew.sha256 == first.sha256
    assert artifacts.path_of(anew.sha256).read_bytes() == kept


def test_a_changed_artifact_is_refused(labelled) -> None:
    actor, policy = labelled
    version = factories.train(actor, policy).model_version
    path = artifacts.path_of(version.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    artifacts._load.cache_clear()
    with pytest.raises(ArtifactRefused):
        artifacts.load(version)


def test_a_retrain_mends_a_damaged_artifact(labelled) -> None:
    actor, policy = labelled
    version = factories.train(actor, policy).model_version
    path = artifacts.path_of(version.sha256)
    path.write_bytes(b"damaged")
    with pgtrigger.ignore():
        ModelVersion.objects.filter(pk=version.pk).delete()
    artifacts._load.cache_clear()
    anew = factories.train(actor, policy).model_version
    assert artifacts.load(anew).threshold == anew.threshold


def test_an_artifact_signed_elsewhere_is_refused(labelled) -> None:
    actor, policy = labelled
    version = factories.train(actor, policy).model_version
    version.signature = "0" * 64
    with pytest.raises(ArtifactRefused, match="signature"):
        artifacts.load(version)


def test_a_retrain_signs_a_model_of_another_installation_again(labelled, settings) -> None:
    actor, policy = labelled
    version = factories.train(actor, policy).model_version
    settings.ARTIFACT_KEY = "another"
    again = factories.train(actor, policy).model_version
    assert again == version
    assert artifacts.is_whole(again)


def test_a_fault_of_parapet_ends_a_run_at_once_and_names_itself(labelled, monkeypatch) -> None:
    actor, policy = labelled
    monkeypatch.setattr(pipeline, "_freeze", lambda run: 1 / 0)
    run = runs.request_run(actor, policy=policy)
    pipeline.run_training(str(run.pk))
    run.refresh_from_db()
    assert (run.status, run.attempts) == (Status.FAILED, 1)
    assert "ZeroDivisionError" in run.reason


def test_a_database_that_is_away_ends_no_run(labelled, monkeypatch) -> None:
    actor, policy = labelled

    def fail(run: object) -> None:
        raise OperationalError

    monkeypatch.setattr(pipeline, "_freeze", fail)
    run = runs.request_run(actor, policy=policy)
    with pytest.raises(OperationalError):
        pipeline.run_training(str(run.pk))
    run.refresh_from_db()
    assert run.status == Status.RUNNING


def test_a_waiting_run_is_cancelled_at_once(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    runs.request_cancel(actor, run=run)
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    pipeline.run_training(str(run.pk))  # its message still comes
    run.refresh_from_db()
    assert run.status == Status.CANCELLED


def test_a_run_asked_twice_to_stop_is_on_record_once_and_one_that_is_over_is_told(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    jobs.claim(TrainingRun, run.pk)
    for _ in range(2):
        runs.request_cancel(actor, run=run)
    assert AuditEntry.objects.filter(action="run.cancel", workspace=policy.workspace).count() == 1
    jobs.finish(TrainingRun.objects.get(pk=run.pk), Status.FAILED)
    with pytest.raises(Problem, match="This training run is over"):
        runs.request_cancel(actor, run=run)


def test_a_working_run_stops_at_its_next_step(labelled, monkeypatch) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    freeze = pipeline.freeze

    def cancelled_meanwhile(policy):
        runs.request_cancel(actor, run=run)
        return freeze(policy)

    monkeypatch.setattr(pipeline, "freeze", cancelled_meanwhile)
    pipeline.run_training(str(run.pk))
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    assert not ModelVersion.objects.filter(policy=policy).exists()


def test_a_run_whose_worker_died_is_done_by_the_next_one(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    assert jobs.claim(TrainingRun, run.pk) is not None  # ... and dies
    assert jobs.claim(TrainingRun, run.pk) is None  # its lease is not over
    TrainingRun.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert run.pk in jobs.to_enqueue_again(TrainingRun)
    pipeline.run_training(str(run.pk))
    run.refresh_from_db()
    assert (run.status, run.attempts) == (Status.SUCCEEDED, 2)
    assert ModelVersion.objects.filter(policy=policy).count() == 1


def test_a_run_that_kills_three_workers_fails_with_a_reason(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    for _ in range(jobs.ATTEMPTS):
        assert jobs.claim(TrainingRun, run.pk) is not None
        TrainingRun.objects.filter(pk=run.pk).update(
            lease_until=timezone.now() - timedelta(seconds=1)
        )
    assert jobs.claim(TrainingRun, run.pk) is None
    runs.end_without_worker()
    run.refresh_from_db()
    assert run.status == Status.FAILED
    assert "died 3 times" in run.reason


def test_a_worker_that_lost_its_lease_writes_nothing(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    stale = jobs.claim(TrainingRun, run.pk)
    assert stale is not None
    TrainingRun.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    pipeline.run_training(str(run.pk))
    with pytest.raises(jobs.LostLease):
        jobs.finish(stale, Status.FAILED, reason="late")
    run.refresh_from_db()
    assert run.status == Status.SUCCEEDED


def test_a_model_whose_scores_do_not_rise_with_violations_stays_out(labelled, monkeypatch) -> None:
    actor, policy = labelled
    live = factories.train(actor, policy).model_version
    # of five, all may be audit labels, which teach nothing
    factories.give_labels(actor, policy, 20)
    monkeypatch.setattr(pipeline.calibration, "fit_sigmoid", lambda scores, violates: (-1.0, 0.0))
    run = factories.train(actor, policy)
    assert run.status == Status.SUCCEEDED
    assert "The old model stays" in run.reason
    live.refresh_from_db()
    assert live.status == ModelVersion.Status.LIVE
    assert run.model_version.status == ModelVersion.Status.REJECTED


def test_enough_new_train_labels_start_a_run(labelled) -> None:
    _, policy = labelled
    assert runs.look_at_trigger(policy, policy.retrain_after - 1) is None
    run = runs.look_at_trigger(policy, policy.retrain_after)
    assert run is not None
    assert run.trigger == TrainingRun.Trigger.LABELS
    assert runs.look_at_trigger(policy, policy.retrain_after) is None  # one is on its way


def test_labels_given_during_a_run_are_not_forgotten(labelled) -> None:
    actor, policy = labelled
    run = runs.request_run(actor, policy=policy)
    type(policy).objects.filter(pk=policy.pk).update(retrain_after=1)
    freeze = pipeline.freeze

    def labelled_meanwhile(policy):
        watermark = freeze(policy)
        factories.give_labels(actor, policy, 20)
        return watermark

    pipeline.freeze = labelled_meanwhile
    try:
        pipeline.run_training(str(run.pk))
    finally:
        pipeline.freeze = freeze
    followed = TrainingRun.objects.filter(policy=policy).exclude(pk=run.pk).get()
    assert followed.trigger == TrainingRun.Trigger.LABELS
    assert counts(policy).since_frozen > 0


def test_a_schedule_starts_a_run_when_its_time_has_come_and_there_are_new_labels(labelled) -> None:
    actor, policy = labelled
    type(policy).objects.filter(pk=policy.pk).update(retrain_every_hours=6)
    runs.look_at_all_triggers()
    first = TrainingRun.objects.get(policy=policy)
    assert first.trigger == TrainingRun.Trigger.SCHEDULE
    pipeline.run_training(str(first.pk))
    factories.give_labels(actor, policy, 10)
    runs.look_at_all_triggers()
    assert TrainingRun.objects.filter(policy=policy).count() == 1  # six hours are not over
    TrainingRun.objects.update(created_at=timezone.now() - timedelta(hours=7))
    runs.look_at_all_triggers()
    assert TrainingRun.objects.filter(policy=policy).count() == 2


def test_labels_of_a_source_without_consent_are_not_learnt_from() -> None:
    actor = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(actor, audit_share=0.0)
    factories.import_rows(actor, policy, factories.rows(100), source="tests")
    factories.give_labels(actor, policy, 60)
    from apps.corpus.models import Source

    Source.objects.filter(workspace=actor.workspace).update(may_train=False)
    run = factories.train(actor, policy)
    assert run.status == Status.FAILED
    assert "0 violating and 0 complying" in run.reason
