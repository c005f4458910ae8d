"""Imports: what counts as new, which side a text lies on for ever, and dying half-way."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import AuditEntry, Role
from apps.base import jobs
from apps.base.jobs import Status
from apps.base.problems import Problem
from apps.corpus import importing
from apps.corpus.models import (
    Batch,
    CorpusCounter,
    Example,
    Facet,
    Import,
    PolicyExample,
    RejectedRow,
)
from apps.guardrails.models import DocumentCounts
from apps.labeling.models import Slot
from apps.policies import services
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from tests import factories
from tests.accounts.test_audit import at_once

pytestmark = pytest.mark.django_db

# Sides are drawn by chance: so many groups that all on one side happens once in 10^9 runs.
MANY_GROUPS = [f"{first}{second}" for first in "bcdfghjklmn" for second in "aeioupqrst"]


@pytest.fixture
def owner() -> Any:
    return factories.make_member(factories.make_workspace(), "owner")


@pytest.fixture
def policy(owner: Any) -> Policy:
    return factories.make_policy(owner)


def counts(job: Import) -> tuple[int, int, int]:
    return job.new, job.duplicates, job.rejected


@pytest.mark.parametrize("output", ["", "  \n", "\u200b", " \ufeff\u2060 "])
def test_an_output_of_which_nothing_is_seen_is_rejected(
    owner: Any, policy: Policy, output: str
) -> None:
    job = factories.import_rows(owner, policy, [{"output": output}, {"output": "a"}])
    assert counts(job) == (1, 0, 1)


def test_the_same_text_twice_in_a_file_is_one_example_seen_twice(
    owner: Any, policy: Policy
) -> None:
    job = factories.import_rows(owner, policy, [{"output": "a"}, {"output": "a"}, {"output": "b"}])
    assert counts(job) == (2, 1, 0)
    seen = PolicyExample.objects.order_by("id").values_list("example__output", "occurrences")
    assert list(seen) == [("a", 2), ("b", 1)]


def test_the_same_file_again_is_all_duplicates(owner: Any, policy: Policy) -> None:
    factories.import_rows(owner, policy, factories.rows(20))
    job = factories.import_rows(owner, policy, factories.rows(20))
    assert counts(job) == (0, 20, 0)
    assert set(PolicyExample.objects.values_list("occurrences", flat=True)) == {2}
    assert Slot.objects.count() == 20


@pytest.mark.parametrize("field", ["prompt", "context"])
def test_the_same_output_to_another_prompt_is_another_example(
    owner: Any, policy: Policy, field: str
) -> None:
    job = factories.import_rows(owner, policy, [{"output": "a"}, {"output": "a", field: "x"}])
    assert counts(job) == (2, 0, 0)


def test_the_parts_of_a_text_do_not_run_into_each_other(owner: Any, policy: Policy) -> None:
    rows = [{"prompt": "ab", "output": "c"}, {"prompt": "a", "output": "bc"}]
    assert counts(factories.import_rows(owner, policy, rows)) == (2, 0, 0)


def test_texts_that_differ_in_form_only_are_two_texts(owner: Any, policy: Policy) -> None:
    rows = [{"output": "e\u0301"}, {"output": "\u00e9"}, {"output": "\u00e9 "}]
    assert counts(factories.import_rows(owner, policy, rows)) == (3, 0, 0)


def test_an_id_that_names_another_text_is_a_rejected_row(owner: Any, policy: Policy) -> None:
    rows = [{"id": "1", "output": "a"}, {"id": "1", "output": "b"}, {"id": "2", "output": "c"}]
    job = factories.import_rows(owner, policy, rows)
    assert counts(job) == (2, 0, 1)
    assert RejectedRow.objects.get().row == 2
    later = factories.import_rows(owner, policy, [{"id": "2", "output": "d"}])
    assert counts(later) == (0, 0, 1)
    assert not Example.objects.filter(output="d").exists()


def test_the_same_id_for_the_same_text_is_a_duplicate(owner: Any, policy: Policy) -> None:
    rows = [{"id": "1", "output": "a"}, {"id": "1", "output": "a"}]
    assert counts(factories.import_rows(owner, policy, rows)) == (1, 1, 0)


def test_the_same_text_in_two_policies_is_one_example(owner: Any, policy: Policy) -> None:
    other = factories.make_policy(owner, "other")
    factories.import_rows(owner, policy, factories.rows(10))
    job = factories.import_rows(owner, other, factories.rows(10))
    assert counts(job) == (10, 0, 0)
    assert (Example.objects.count(), PolicyExample.objects.count()) == (10, 20)


def test_two_workspaces_share_no_example(owner: Any, policy: Policy) -> None:
    factories.import_rows(owner, policy, [{"output": "a"}])
    stranger = factories.make_member(factories.make_workspace(), "owner")
    factories.import_rows(stranger, factories.make_policy(stranger), [{"output": "a"}])
    assert Example.objects.count() == 2


# --- sides ----------------------------------------------------------------------------------


def sides(policy: Policy) -> dict[str, str]:
    rows = PolicyExample.objects.filter(policy=policy)
    return dict(rows.values_list("example__output", "side"))


def test_near_twins_lie_on_one_side(owner: Any, policy: Policy) -> None:
    rows = [
        {"output": f"Text of {word}{tail}"}
        for word in MANY_GROUPS
        for tail in ("", "!", " 17", "  42 ...")
    ]
    factories.import_rows(owner, policy, rows)
    found = sides(policy)
    for word in MANY_GROUPS:
        of_group = {side for text, side in found.items() if f" {word}" in text}
        assert len(of_group) == 1, word
    assert len(set(found.values())) == 2


def test_a_given_group_lies_on_one_side(owner: Any, policy: Policy) -> None:
    rows = [{"output": f"{g} text {n}x", "group": g} for g in MANY_GROUPS for n in ("p", "q", "r")]
    factories.import_rows(owner, policy, rows)
    found = sides(policy)
    for g in MANY_GROUPS:
        assert len({side for text, side in found.items() if text.startswith(g)}) == 1
    assert len(set(found.values())) == 2


def test_the_same_split_key_splits_the_same_texts_the_same_way_in_another_workspace() -> None:
    found = []
    for _ in range(2):
        member = factories.make_member(factories.make_workspace(split_seed=11), "owner")
        own = factories.make_policy(member)
        factories.import_rows(member, own, [{"output": f"Text of {word}"} for word in MANY_GROUPS])
        found.append(sides(own))
    assert found[0] == found[1]


@pytest.mark.parametrize("fraction", [0.05, 0.95])
def test_whoever_joins_a_group_later_joins_its_side_whatever_the_fraction_is_now(
    owner: Any, policy: Policy, fraction: float
) -> None:
    first = [{"output": f"{g} one", "group": g} for g in "abcdefghijklmnop"]
    factories.import_rows(owner, policy, first)
    before = sides(policy)
    services.change_settings(
        owner, policy=policy, targets={}, settings={"audit_fraction": fraction}
    )
    policy = load_policy(owner, policy.slug)
    later = [{"output": f"{g} two", "group": g} for g in "abcdefghijklmnop"]
    factories.import_rows(owner, policy, later)
    after = sides(policy)
    for g in "abcdefghijklmnop":
        assert after[f"{g} two"] == after[f"{g} one"] == before[f"{g} one"]


# --- dying half-way -------------------------------------------------------------------------


def state(policy: Policy) -> Any:
    """Everything an import leaves behind, without ids and times."""
    counter = CorpusCounter.objects.get(policy=policy)
    documents = DocumentCounts.objects.get(policy=policy)
    return (
        sorted(
            PolicyExample.objects.filter(policy=policy).values_list(
                "example__output", "external_id", "side", "occurrences"
            )
        ),
        (counter.train, counter.audit),
        sorted(Facet.objects.filter(policy=policy).values_list("name", "value", "count")),
        sorted(Slot.objects.filter(policy=policy).values_list("side", "state")),
        (documents.documents, bytes(documents.frequency)),
        sorted(RejectedRow.objects.values_list("row", flat=True)),
    )


FILE = [*factories.rows(25), {"output": ""}, *factories.rows(5), {"output": "x", "model": "m"}]


class Killed(BaseException):
    """Ends the process, which says nothing of it."""


def die_once_at(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import fail like a killed worker, right after a batch or inside of one."""
    real, calls = importing._commit, [0]

    def dying(*given: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == place:
            raise Killed
        real(*given, **options)
        if calls[0] == -place:
            raise Killed

    monkeypatch.setattr(importing, "_commit", dying)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", [1, 2, 4, 7])
def test_an_import_that_dies_half_way_ends_as_if_it_had_not(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 5)
    owner = factories.make_member(factories.make_workspace(split_seed=3), "owner")
    policy = factories.make_policy(owner)
    data = "\n".join(map(json.dumps, FILE)).encode()
    job = factories.upload(owner, policy, data)
    with monkeypatch.context() as patched:
        die_once_at(place, patched)
        with pytest.raises(Killed):
            importing.run_import(str(job.pk))
    importing.run_import(str(job.pk))  # its lease still stands: nothing happens
    job.refresh_from_db()
    assert job.status == Status.RUNNING
    Import.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    importing.run_import(str(job.pk))
    job.refresh_from_db()
    assert (job.status, job.attempts) == (Status.SUCCEEDED, 2)
    assert counts(job) == (26, 5, 1)
    assert job.rows == job.total_rows == len(FILE)
    died = state(policy)
    assert len(died[0]) == 26
    assert sum(row[3] for row in died[0]) == 31
    assert Batch.objects.filter(policy=policy).count() == CorpusCounter.objects.get().batches


@pytest.mark.django_db(transaction=True)
def test_an_import_run_four_times_at_once_and_once_more_ends_as_if_run_once() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner)
    data = "\n".join(map(json.dumps, FILE)).encode()
    job = factories.upload(owner, policy, data)
    assert at_once(4, lambda place: importing.run_import(str(job.pk))) == [None] * 4
    importing.run_import(str(job.pk))
    job.refresh_from_db()
    assert (job.status, job.attempts) == (Status.SUCCEEDED, 1)
    assert counts(job) == (26, 5, 1)
    assert PolicyExample.objects.count() == 26


@pytest.mark.django_db(transaction=True)
def test_four_imports_of_one_file_at_once_keep_each_text_once() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner)
    data = "\n".join(map(json.dumps, factories.rows(30))).encode()
    made = [factories.upload(owner, policy, data) for _ in range(4)]
    at_once(4, lambda place: importing.run_import(str(made[place].pk)))
    for job in made:
        job.refresh_from_db()
    assert {job.status for job in made} == {Status.SUCCEEDED}
    assert sum(job.new for job in made) == 30
    assert sum(job.duplicates for job in made) == 90
    assert set(PolicyExample.objects.values_list("occurrences", flat=True)) == {4}


@pytest.mark.django_db(transaction=True)
def test_one_file_into_four_policies_at_once_makes_each_example_once() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    data = "\n".join(map(json.dumps, factories.rows(30))).encode()
    made = [factories.upload(owner, factories.make_policy(owner, f"p{n}"), data) for n in range(4)]
    at_once(4, lambda place: importing.run_import(str(made[place].pk)))
    for job in made:
        job.refresh_from_db()
    assert [(job.status, job.new) for job in made] == [(Status.SUCCEEDED, 30)] * 4
    assert Example.objects.count() == 30


def test_a_worker_that_lost_its_lease_writes_nothing_more(owner: Any, policy: Policy) -> None:
    job = factories.upload(owner, policy, b'{"output": "a"}\n')
    taken = jobs.claim(Import, job.pk)
    assert taken is not None
    Import.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    importing.run_import(str(job.pk))
    importing.file_of(job).write_bytes(b'{"output": "a"}\n')  # as the old worker has it open
    with pytest.raises(jobs.LostLease):
        importing._commit_batches(taken)
    assert PolicyExample.objects.get().occurrences == 1


def test_an_import_that_dies_three_times_fails_with_a_reason(owner: Any, policy: Policy) -> None:
    job = factories.upload(owner, policy, b'{"output": "a"}\n')
    Import.objects.update(
        attempts=3, status=Status.RUNNING, lease_until=timezone.now() - timedelta(seconds=1)
    )
    importing.run_import(str(job.pk))
    importing.end_without_worker()
    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert "3 times" in job.reason
    assert AuditEntry.objects.get(action="import.failed").data["reason"] == job.reason


@pytest.mark.django_db(transaction=True)
def test_an_import_that_waits_is_cancelled_at_once_and_its_file_is_removed() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    job = factories.upload(owner, factories.make_policy(owner), b'{"output": "a"}\n')
    importing.request_cancel(owner, job=job)
    job.refresh_from_db()
    assert job.status == Status.CANCELLED
    assert AuditEntry.objects.filter(action="import.cancelled").exists()
    assert not importing.file_of(job).exists()
    importing.run_import(str(job.pk))
    assert not Example.objects.exists()


def test_long_texts_come_in_smaller_batches(
    owner: Any, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_CHARACTERS", 3000)
    job = factories.import_rows(owner, policy, [{"output": f"{n} " * 500} for n in range(7)])
    assert counts(job) == (7, 0, 0)
    assert CorpusCounter.objects.get().batches == 3


@pytest.mark.django_db(transaction=True)
def test_a_file_that_takes_long_to_read_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    job = factories.upload(owner, factories.make_policy(owner), b'{"output": "a"}\n')
    seen = []
    real = importing.reading.count_rows

    def slow(*given: Any) -> int:
        while len(seen) < 2:
            time.sleep(0.01)
        return real(*given)

    def beat(*given: Any, **options: Any) -> None:
        seen.append(options)

    monkeypatch.setattr(importing.reading, "count_rows", slow)
    monkeypatch.setattr(importing, "HEARTBEAT", 0.01)
    monkeypatch.setattr(importing.jobs, "heartbeat", beat)
    importing.run_import(str(job.pk))
    assert seen[:2] == [{"step": "reading the file"}, {}]


def test_an_import_is_started_once(owner: Any, policy: Policy) -> None:
    job = factories.upload(owner, policy, b'{"output": "a"}\n')
    source = importing.get_source(owner, name="again")
    with pytest.raises(Problem) as caught:
        importing.start_import(owner, job=job, mapping={"output": "output"}, source=source)
    assert caught.value.status == 409


def test_a_file_that_is_gone_fails_with_a_reason(owner: Any, policy: Policy) -> None:
    job = factories.upload(owner, policy, b'{"output": "a"}\n')
    importing.file_of(job).unlink()
    importing.run_import(str(job.pk))
    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert "gone" in job.reason


def test_an_upload_nobody_started_is_forgotten_after_a_day(owner: Any, policy: Policy) -> None:
    job = importing.upload(owner, policy=policy, file_name="a.csv", chunks=[b"output\n1\n"])
    importing.remove_old_drafts()
    assert importing.file_of(job).exists()
    Import.objects.update(created_at=timezone.now() - timedelta(hours=25))
    importing.remove_old_drafts()
    assert not importing.file_of(job).exists()
    assert not Import.objects.exists()


@pytest.mark.parametrize(
    "mapping", [{"prompt": "x"}, {"output": ""}, {"output": "x", "score": "y"}, {"id": "i"}]
)
def test_a_mapping_without_an_output_or_with_unknown_fields_is_refused(
    owner: Any, policy: Policy, mapping: dict[str, str]
) -> None:
    with pytest.raises(Problem):
        factories.upload(owner, policy, b'{"output": "a"}\n', mapping=mapping)


@pytest.mark.parametrize("other", [{"may_train": True}, {"licence": "MIT"}])
def test_another_consent_or_licence_than_the_sources_is_refused(
    owner: Any, other: dict[str, Any]
) -> None:
    importing.get_source(owner, name="s", may_train=False, licence="CC0")
    with pytest.raises(Problem) as raised:
        importing.get_source(owner, name="s", **other)
    assert raised.value.code == "source_differs"
    assert importing.get_source(owner, name="s").may_train is False


def test_what_came_with_a_text_elsewhere_is_not_told(owner: Any) -> None:
    admin = factories.make_member(owner.workspace)
    hidden = factories.make_policy(admin, "hidden")
    row = {"output": "I will resign tomorrow.", "metadata": {"employee": "Jane"}, "tags": ["case"]}
    factories.import_rows(admin, hidden, [row])
    own = factories.make_policy(owner, "own")
    factories.import_rows(owner, own, [{"output": row["output"]}])
    (shown,) = factories.api(owner).get("examples?policy=own").json()["results"]
    assert (shown["metadata"], shown["tags"]) == ({}, [])
    page = factories.page_client(owner).get(f"/policies/own/data/{shown['id']}/")
    assert page.status_code == 200
    assert "Jane" not in page.content.decode()
    (whole,) = factories.api(admin).get("examples?policy=own").json()["results"]
    assert whole["metadata"] == {"employee": "Jane"}


def test_annotators_are_not_told_where_a_text_comes_from(owner: Any) -> None:
    policy = factories.make_policy(owner, "own")
    factories.import_rows(owner, policy, [{"output": "Hello.", "metadata": {"gold": "violates"}}])
    person = factories.make_member(owner.workspace, Role.ANNOTATOR)
    factories.give_role(owner, policy, person, Role.ANNOTATOR)
    api = factories.api(person)
    (shown,) = api.get("examples?policy=own").json()["results"]
    assert not {"metadata", "tags", "source", "external_id", "model", "occurrences"} & set(shown)
    assert api.get("examples?policy=own&source=feedback").status_code == 403
