"""Decisions on their way to the database, and where they lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from apps.accounts.erase import erase_workspace
from apps.accounts.models import Workspace
from apps.base.ids import uuid7
from apps.corpus.models import Example, PolicyExample
from apps.guardrails.checks.interface import Subject
from apps.labeling import queue
from apps.labeling.models import Label, Lease, Slot
from apps.policies.permissions import load_policy
from apps.runtime import partitions, recording
from apps.runtime.models import Decision
from apps.runtime.traffic import summary
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def decision(workspace: Any, **values: Any) -> Decision:
    given = {
        "id": uuid7(),
        "workspace_id": workspace.pk,
        "at": timezone.now(),
        "caller": "somebody",
        "stage": "output",
        "action": "allow",
        "finished": True,
        "degraded": [],
        "bundle": "b" * 32,
        "text_hash": b"h" * 32,
        "length": 3,
        "latency_ms": 1.0,
        "reasons": [],
        "receipt": [],
    }
    return Decision(**{**given, **values})


def test_what_is_put_is_written_soon() -> None:
    workspace = factories.make_workspace()
    recorder = recording.Recorder()
    decisions = [decision(workspace) for _ in range(3)]
    assert all(recorder.put(one) for one in decisions)
    recorder.flush()
    assert set(Decision.objects.values_list("pk", flat=True)) == {one.pk for one in decisions}


def test_what_does_not_fit_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = factories.make_workspace()
    monkeypatch.setattr(recording, "MOST_WAITING", 2)
    recorder = recording.Recorder()
    monkeypatch.setattr(recorder, "_start", lambda: None)
    put = [recorder.put(decision(workspace)) for _ in range(5)]
    assert put == [True, True, False, False, False]
    recorder._write([(decision(workspace), None)])
    assert summary(workspace).dropped == 3


def test_a_decision_lies_in_the_partition_of_its_month() -> None:
    workspace = factories.make_workspace()
    Decision.objects.bulk_create([decision(workspace)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM runtime_decision")
        assert cursor.fetchall() == [(f"runtime_decision_{datetime.now(UTC):%Y_%m}",)]


def test_partitions_that_are_there_are_not_made_again() -> None:
    assert partitions.ensure() == []


def test_a_month_that_lies_in_the_rest_stays_there() -> None:
    workspace = factories.make_workspace()
    later = datetime.now(UTC) + timedelta(days=31 * partitions.MONTHS_AHEAD + 31)
    first = UUID(int=partitions.first_id(later).int + 1)
    Decision.objects.bulk_create([decision(workspace, id=first)])
    made = partitions.ensure(partitions.MONTHS_AHEAD + 3)
    try:
        assert f"runtime_decision_{later:%Y_%m}" not in made
        assert len(made) == 2
    finally:
        with connection.cursor() as cursor:
            for name in made:
                cursor.execute(f"DROP TABLE {name}")


def test_nobody_can_change_a_decision() -> None:
    workspace = factories.make_workspace()
    Decision.objects.bulk_create([decision(workspace)])
    with pytest.raises(DatabaseError):
        Decision.objects.update(action="block")


def test_a_workspace_is_erased_with_its_decisions() -> None:
    workspace, other = factories.make_workspace(), factories.make_workspace()
    Decision.objects.bulk_create([decision(workspace), decision(other)])
    erase_workspace(workspace)
    assert list(Decision.objects.values_list("workspace_id", flat=True)) == [other.pk]


def test_a_workspace_is_erased_with_its_texts_and_labels() -> None:
    kept, counts = {}, []
    for _ in range(2):
        actor = factories.make_member(factories.make_workspace())
        policy = factories.make_policy(actor)
        factories.import_rows(actor, policy, factories.rows(30))
        factories.give_labels(actor, policy, 5)
        queue.next_item(actor, policy=load_policy(actor, policy.slug))
        kept[actor.workspace] = policy
        counts.append({m: m.objects.count() for m in (Example, PolicyExample, Slot, Label, Lease)})
    erase_workspace(next(iter(kept)))
    assert {m: m.objects.count() for m in counts[0]} == counts[0]
    assert set(PolicyExample.objects.values_list("policy", flat=True)) == {
        policy.pk for policy in list(kept.values())[1:]
    }


def test_the_hash_of_a_text_is_the_workspaces_own() -> None:
    one, other = factories.make_workspace(), factories.make_workspace(split_seed=8)

    def of(workspace: Workspace, *texts: str, **facts: str) -> bytes:
        return recording.text_hash(workspace, [Subject(text, **facts) for text in texts])

    assert of(one, "a", "b") == of(one, "a", "b")
    assert of(one, "a", "b") != of(one, "ab")
    assert of(one, "a") != of(other, "a")
    assert len({of(one, "a"), of(one, "a", role="user"), of(one, "a", source="user")}) == 3


def test_a_write_that_breaks_off_does_not_end_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = factories.make_workspace()
    recorder = recording.Recorder()
    first, keep = [], recording.keep

    def breaking(batch: Any, **options: Any) -> None:
        if not first:
            first.append(1)
            raise RuntimeError("something nobody thought of")
        keep(batch, **options)

    monkeypatch.setattr(recording, "keep", breaking)
    recorder.put(decision(workspace))
    recorder.flush()
    recorder.put(decision(workspace))
    recorder.flush()
    assert (Decision.objects.count(), summary(workspace).dropped) == (1, 1)


def test_a_decision_that_is_written_already_is_not_counted_again() -> None:
    workspace = factories.make_workspace()
    both = [decision(workspace), decision(workspace)]
    rows: list[Any] = [(one, None) for one in both]
    recording.keep(rows)
    recording.Recorder()._write(rows)
    assert (Decision.objects.count(), summary(workspace).total) == (2, 2)


def test_what_is_dropped_while_others_are_written_is_told_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, other = factories.make_workspace(), factories.make_workspace(split_seed=8)
    recorder, keep = recording.Recorder(), recording.keep

    def slow(batch: Any, **options: Any) -> None:
        keep(batch, **options)
        recorder._drop(decision(mine))

    monkeypatch.setattr(recording, "keep", slow)
    for _ in range(3):
        recorder._write([(decision(other), None)])
    assert (summary(mine).dropped, summary(other).dropped) == (2, 0)
    assert recorder._untold == {mine.pk: 1}


def test_what_a_workspace_lost_that_is_gone_keeps_nobody_from_writing() -> None:
    workspace = factories.make_workspace()
    recording.keep([(decision(workspace), None)], dropped={uuid7(): 3})
    assert summary(workspace).total == 1


def test_what_the_database_never_takes_is_dropped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = factories.make_workspace()
    rows: list[Any] = [(decision(workspace), None) for _ in range(3)]
    refused, keep = rows[1][0].pk, recording.keep

    def timing_out(batch: Any, **more: Any) -> None:
        if any(row.pk == refused for row, _ in batch):
            with connection.cursor() as cursor, transaction.atomic():
                cursor.execute("SET LOCAL statement_timeout = 1")
                cursor.execute("SELECT pg_sleep(1)")
        keep(batch, **more)

    monkeypatch.setattr(recording, "keep", timing_out)
    monkeypatch.setattr(recording, "EVERY", 0.001)
    monkeypatch.setattr(recording, "TRIES", 1)
    monkeypatch.setattr(recording, "MOST_TRIES", 2)
    monkeypatch.setattr(connection, "close", lambda: None)
    recorder = recording.Recorder()
    recorder._write(rows)
    assert {row.pk for row in Decision.objects.all()} == {rows[0][0].pk, rows[2][0].pk}
    recorder._write([(decision(workspace), None)])
    assert summary(workspace).dropped == 1
