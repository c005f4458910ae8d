"""Evaluations from real rows: what is counted, frozen, derived again, and asked for once."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from django.db import DatabaseError
from django.utils import timezone

from apps.corpus.models import PolicyExample, Side
from apps.evidence import services
from apps.evidence.estimators import figures
from apps.evidence.models import Evaluation, Refresh
from apps.guardrails import artifacts
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.services import live_model
from apps.labeling import labels, queue
from apps.labeling.permissions import load_own_lease
from apps.policies import services as policies
from apps.policies.permissions import load_policy
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def again(evaluation: Evaluation) -> dict:
    items = services.items_of(evaluation)
    return figures(
        np.array([item.label == "violates" for item in items], bool),
        np.array([item.flagged for item in items], bool),
        np.array([item.weight for item in items], float),
    ).as_dict()


def test_its_items_give_its_figures(live) -> None:
    _, policy = live
    evaluation = services.newest(policy)
    assert again(evaluation) == evaluation.figures


def test_it_stays_what_it_was_while_labels_and_imports_come(live) -> None:
    actor, policy = live
    evaluation = services.newest(policy)
    items = services.items_of(evaluation)
    factories.give_labels(actor, policy, 40)
    factories.import_rows(actor, policy, factories.rows(200, seed=8))
    labels.undo_label(actor, policy=policy)
    assert services.items_of(evaluation) == items


def test_train_labels_are_never_counted(live) -> None:
    _, policy = live
    evaluation = services.newest(policy)
    examples = [item.example for item in services.items_of(evaluation)]
    sides = PolicyExample.objects.filter(policy=policy, example__in=examples)
    assert set(sides.values_list("side", flat=True)) == {Side.AUDIT}


def test_an_audit_label_makes_a_new_one_and_a_train_label_does_not(live) -> None:
    actor, policy = live
    before = services.newest(policy)
    policy.audit_share = 0.0
    policy.save()
    factories.give_labels(actor, policy, 5)
    assert services.refresh(policy) == before
    policy.audit_share = 1.0
    policy.save()
    factories.give_labels(actor, policy, 5)
    assert services.refresh(policy).counted == before.counted + 5


def test_a_late_import_leaves_the_population_as_it_was_until_it_is_drawn(live) -> None:
    actor, policy = live
    before = services.newest(policy)
    factories.import_rows(actor, policy, factories.rows(400, seed=9))
    policy.audit_share = 1.0
    policy.save()
    factories.give_labels(actor, policy, 1)
    after = services.refresh(policy)
    assert (after.batch, after.counted) == (before.batch, before.counted)


def test_a_skipped_audit_item_is_unresolved_and_its_bounds_are_shown(live) -> None:
    actor, policy = live
    policy.audit_share = 1.0
    policy.save()
    item = queue.next_item(actor, policy=policy)
    queue.skip(actor, lease=load_own_lease(actor, item.lease), reason="cannot judge")
    factories.give_labels(actor, policy, 3)
    evaluation = services.refresh(policy)
    assert evaluation.unresolved >= 1
    low, high = evaluation.bounds["recall"]
    assert low <= high


def test_unsure_is_counted_apart(live) -> None:
    actor, policy = live
    policy.audit_share = 1.0
    policy.save()
    before = services.newest(policy)
    factories.give_labels(actor, policy, 2, verdict=lambda item: "unsure")
    after = services.refresh(policy)
    assert (after.counted, after.unsure) == (before.counted, before.unsure + 2)


def test_labels_under_an_older_policy_version_are_told(live) -> None:
    from apps.policies import services as policies
    from apps.policies.permissions import load_policy

    actor, policy = live
    text = {**factories.SPECIFICATION, "scope": "Answers to adults."}
    policies.save_draft(actor, policy=policy, specification=text, revision=None)
    policies.publish_version(actor, policy=policy)
    policy = load_policy(actor, policy.slug)
    evaluation = services.evaluate(policy, live_model(policy))
    assert evaluation.under_older_versions == evaluation.counted > 0


def test_was_is_the_model_before_on_the_same_items(live) -> None:
    actor, policy = live
    factories.give_labels(actor, policy, 60)
    factories.train(actor, policy)
    evaluation = services.newest(policy)
    assert evaluation.previous["model_version"] == 1
    assert evaluation.previous["recall"]["n"] == evaluation.figures["recall"]["n"]


def test_a_burst_of_requests_is_asked_once(live, monkeypatch) -> None:
    _, policy = live
    Refresh.objects.all().delete()
    sent = []
    monkeypatch.setattr(services, "enqueue", [lambda *given: sent.append(given)])
    for _ in range(10):
        services.request_refresh(policy.pk)
    assert sent == [(str(policy.pk), 0.0)]


def test_a_request_soon_after_figures_were_worked_out_waits_a_moment(live, monkeypatch) -> None:
    _, policy = live
    sent = []
    monkeypatch.setattr(services, "enqueue", [lambda _, seconds: sent.append(seconds)])
    monkeypatch.setattr(services, "PAUSE", timedelta(minutes=1))
    services.refresh(policy)
    services.request_refresh(policy.pk)
    Refresh.objects.update(requested_at=None, begun_at=timezone.now() - services.PAUSE)
    services.request_refresh(policy.pk)
    soon, later = sent
    assert 0 < soon <= services.PAUSE.total_seconds()
    assert later == 0


def test_nobody_can_change_an_evaluation(live) -> None:
    _, policy = live
    with pytest.raises(DatabaseError):
        Evaluation.objects.filter(policy=policy).update(counted=1)


def test_a_refresh_whose_worker_died_is_asked_for_again(live) -> None:
    _, policy = live
    services.refresh(policy)
    assert services.overdue_refreshes() == []
    begun = timezone.now() - 2 * services.DIED_AFTER
    Refresh.objects.update(requested_at=None, begun_at=begun, ended_at=None)
    assert services.overdue_refreshes() == [policy.pk]


def test_a_model_whose_file_is_damaged_has_no_scores_and_breaks_no_list(live, monkeypatch) -> None:
    actor, policy = live
    api = factories.api(actor)
    evaluation = Evaluation.objects.latest("pk").pk

    def refuse(*_: object) -> None:
        raise ArtifactRefused("damaged")

    monkeypatch.setattr(artifacts, "load", refuse)
    rows = api.get(f"examples?policy={policy.slug}").json()["results"]
    assert {row["score"] for row in rows} == {None}
    answer = api.get(f"evaluations/{evaluation}/items")
    assert (answer.status_code, answer.json()["code"]) == (409, "model_refused")


def test_publishing_rules_makes_a_new_one_that_says_how_many_labels_are_older(live) -> None:
    actor, policy = live
    before = services.newest(policy)
    said = policy.current_version.specification.as_dict() | {"definition": "Something else."}
    policies.save_draft(actor, policy=policy, specification=said, revision=None)
    policies.publish_version(actor, policy=policy)
    assert Refresh.objects.get(policy=policy).requested_at is not None
    after = services.refresh(load_policy(actor, policy.slug))
    assert after != before
    assert after.figures == before.figures
