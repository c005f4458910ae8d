"""The audit chain: linear under load, append-only, and every tampering is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.utils import DatabaseError

from apps.accounts.actor import task_actor
from apps.accounts.audit import actions_in, record, verify
from apps.accounts.models import AuditEntry, AuditHead
from apps.corpus import importing
from tests import factories

WRITERS, EACH = 8, 25


def tamper(sql: str, *values: Any) -> None:
    """What a superuser does who switches the triggers off."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql, values)
        cursor.execute("SET session_replication_role = DEFAULT")


@pytest.fixture
def chain(db: None) -> Any:
    """A workspace with 30 entries of different shapes."""
    workspace = factories.make_workspace()
    actor = task_actor(workspace, "tests")
    for number in range(29):
        data = {"n": number, "share": number / 7, "text": "é\u2028<b>", "none": None, "list": [1]}
        record(actor, f"test.{number % 3}", workspace, **data)
    return workspace


def test_its_page_knows_every_action_once(chain: Any) -> None:
    record(task_actor(factories.make_workspace(), "tests"), "other.workspace", chain)
    assert actions_in(chain) == ["test.0", "test.1", "test.2", "workspace.create"]


def test_a_true_chain_has_no_break(chain: Any) -> None:
    assert list(verify(chain)) == []
    assert AuditHead.objects.get(workspace=chain).sequence == 30


COLUMNS: dict[str, Callable[[Any], Any]] = {
    "sequence": lambda value: value + 1000,
    "at": lambda value: value.replace(year=2001),
    "actor": lambda value: value + " ",
    "action": lambda value: value + "x",
    "target": lambda value: value[:-1],
    "data": lambda value: '{"n": "changed"}',
    "previous_hash": lambda value: bytes(32)[:-1] + b"\x01",
    "hash": lambda value: bytes(32),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edit_of_any_column_of_any_row_is_found(chain: Any, column: str) -> None:
    for entry in AuditEntry.objects.filter(workspace=chain).order_by("sequence"):
        with transaction.atomic():
            value = COLUMNS[column](getattr(entry, column))
            tamper(f"UPDATE accounts_auditentry SET {column} = %s WHERE id = %s", value, entry.pk)
            assert list(verify(chain)), entry.sequence
            transaction.set_rollback(True)


def test_a_row_moved_to_another_workspace_is_found(chain: Any) -> None:
    other = factories.make_workspace()
    entry = AuditEntry.objects.filter(workspace=chain).order_by("sequence")[10]
    tamper("UPDATE accounts_auditentry SET workspace_id = %s WHERE id = %s", other.pk, entry.pk)
    assert list(verify(chain))
    assert list(verify(other))


def test_an_edit_with_a_recomputed_hash_is_found(chain: Any) -> None:
    from apps.accounts.audit import entry_hash

    for e in AuditEntry.objects.filter(workspace=chain).order_by("sequence"):
        digest = entry_hash(
            bytes(e.previous_hash), e.sequence, e.at, "somebody else", e.action, e.target, e.data
        )
        with transaction.atomic():
            tamper(
                "UPDATE accounts_auditentry SET actor = 'somebody else', hash = %s WHERE id = %s",
                digest,
                e.pk,
            )
            assert list(verify(chain)), e.sequence
            transaction.set_rollback(True)


def test_the_deletion_of_any_row_is_found_and_located(chain: Any) -> None:
    for entry in AuditEntry.objects.filter(workspace=chain).order_by("sequence"):
        with transaction.atomic():
            tamper("DELETE FROM accounts_auditentry WHERE id = %s", entry.pk)
            places = list(verify(chain))
            assert places, entry.sequence
            assert places[0].sequence == entry.sequence
            transaction.set_rollback(True)


def test_every_swap_of_neighbours_is_found(chain: Any) -> None:
    for number in range(1, 30):
        with transaction.atomic():
            for old, new in ((number, -1), (number + 1, number), (-1, number + 1)):
                tamper(
                    "UPDATE accounts_auditentry SET sequence = %s"
                    " WHERE workspace_id = %s AND sequence = %s",
                    new,
                    chain.pk,
                    old,
                )
            assert list(verify(chain)), number
            transaction.set_rollback(True)


@pytest.mark.parametrize("place", [-5, 0, 31, 32, 500])
def test_an_inserted_row_is_found(chain: Any, place: int) -> None:
    tamper(
        "INSERT INTO accounts_auditentry"
        " (workspace_id, sequence, at, actor, action, target, data, previous_hash, hash)"
        " SELECT workspace_id, %s, at, actor, action, target, data, previous_hash, hash"
        " FROM accounts_auditentry WHERE workspace_id = %s AND sequence = 30",
        place,
        chain.pk,
    )
    assert list(verify(chain))


def test_an_emptied_trail_is_found(chain: Any) -> None:
    tamper("DELETE FROM accounts_auditentry WHERE workspace_id = %s", chain.pk)
    assert list(verify(chain))


def test_the_command_names_the_place_and_fails(chain: Any) -> None:
    tamper(
        "UPDATE accounts_auditentry SET actor = 'x' WHERE workspace_id = %s AND sequence = 7",
        chain.pk,
    )
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("verify_audit", stdout=out)
    assert f"{chain.slug} entry 7:" in out.getvalue()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE accounts_auditentry SET actor = 'x'",
        "DELETE FROM accounts_auditentry",
        "UPDATE labeling_label SET verdict = 'unsure'",
        "DELETE FROM labeling_label",
        "UPDATE policies_policyversion SET definition = 'x'",
        "DELETE FROM policies_policyversion",
        "UPDATE policies_rule SET text = 'x'",
        "DELETE FROM policies_rule",
    ],
)
def test_append_only_tables_refuse_update_and_delete(db: None, sql: str) -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner)
    factories.import_rows(owner, policy, factories.rows(3))
    factories.give_labels(owner, policy, 1)
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_a_setting_of_minus_zero_does_not_break_the_chain(db: None) -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    factories.make_policy(owner)
    body = '{"settings": {"audit_share": -0.0}, "targets": {"cost_ratio": 1e-3}}'
    assert factories.api(owner).call("PATCH", "policies/doses", body).status_code == 200
    assert list(verify(owner.workspace)) == []


def at_once(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work(0), work(1)... in threads of their own, started together; their results."""
    barrier = threading.Barrier(number)
    results: list[Any] = [None] * number

    def one(place: int) -> None:
        barrier.wait()
        try:
            results[place] = work(place)
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=[place]) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_eight_writers_at_once_give_one_linear_chain() -> None:
    workspace = factories.make_workspace()
    actor = task_actor(workspace, "tests")

    def write(place: int) -> None:
        for number in range(EACH):
            with transaction.atomic():
                record(actor, "test.at_once", workspace, writer=place, number=number)

    assert at_once(WRITERS, write) == [None] * WRITERS
    assert list(verify(workspace)) == []
    assert AuditHead.objects.get(workspace=workspace).sequence == 1 + WRITERS * EACH


@pytest.mark.django_db(transaction=True)
def test_eight_writers_outside_of_transactions_give_one_linear_chain() -> None:
    workspace = factories.make_workspace()
    actor = task_actor(workspace, "tests")

    def write(place: int) -> None:
        for number in range(EACH):
            record(actor, "test.at_once", workspace, writer=place, number=number)

    assert at_once(WRITERS, write) == [None] * WRITERS
    assert list(verify(workspace)) == []


@pytest.mark.django_db(transaction=True)
def test_eight_new_sources_at_once_give_one_linear_chain() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    found = at_once(8, lambda place: importing.get_source(owner, name=f"s{place}"))
    assert not [error for error in found if isinstance(error, Exception)]
    assert list(verify(owner.workspace)) == []
    assert AuditEntry.objects.filter(action="source.create").count() == 8
