"""What happens to the queue when one person, or many, do two things at once."""

from __future__ import annotations

from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from apps.base.problems import Problem
from apps.labeling import labels, queue
from apps.labeling.models import Label, Lease, Slot
from apps.labeling.permissions import load_own_lease
from apps.policies.permissions import load_policy
from tests import factories
from tests.accounts.test_audit import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def space() -> Any:
    """(owner, annotator, policy) with 30 texts."""
    owner = factories.make_member(factories.make_workspace(), "owner")
    annotator = factories.make_member(owner.workspace, "annotator")
    policy = factories.make_policy(owner)
    factories.give_role(owner, policy, annotator, "annotator")
    factories.import_rows(owner, policy, factories.rows(30))
    return owner, annotator, policy


def test_eight_tabs_of_one_person_hold_two_items_at_most(space: Any) -> None:
    _, annotator, policy = space
    policy = load_policy(annotator, policy.slug)
    at_once(8, lambda place: queue.next_item(annotator, policy=policy))
    assert Lease.objects.filter(closed=False).count() <= queue.MOST_LEASES


def test_an_answer_and_a_skip_of_one_lease_at_once_are_one_of_them(space: Any) -> None:
    _, annotator, policy = space
    policy = load_policy(annotator, policy.slug)
    for _ in range(5):
        item = queue.draw(annotator, policy=policy)
        assert item is not None
        lease = load_own_lease(annotator, item.lease)

        def act(place: int, lease: Lease = lease) -> str:
            try:
                if place:
                    queue.skip(annotator, lease=lease, reason="cannot judge")
                else:
                    labels.submit_label(annotator, lease=lease, verdict="complies")
            except Problem as problem:
                return problem.code
            return "done"

        found = at_once(2, act)
        assert not [f for f in found if isinstance(f, Exception)], found
        slot = Slot.objects.get(pk=lease.slot_id)
        answers = Label.objects.filter(slot=slot).count()
        assert (slot.state == "answered") == (answers == 1)


def test_four_undos_at_once_take_back_one_answer_each_at_most(space: Any) -> None:
    _, annotator, policy = space
    factories.give_labels(annotator, policy, 3)
    policy = load_policy(annotator, policy.slug)

    def undo(place: int) -> str:
        try:
            labels.undo_label(annotator, policy=policy)
        except Problem as problem:
            return problem.code
        return "undone"

    found = at_once(4, undo)
    assert not [f for f in found if isinstance(f, Exception)], found
    retracted = Label.objects.filter(verdict="retracted")
    assert retracted.count() == found.count("undone")
    assert retracted.values("supersedes").distinct().count() == retracted.count()
    counter = labels.counts(policy)
    answered = Slot.objects.filter(state="answered").count()
    assert counter.train + counter.audit + counter.unsure == answered


def test_everybody_working_at_once_answers_everything_once(space: Any) -> None:
    owner, annotator, policy = space
    people = [owner, annotator]
    for _ in range(4):
        person = factories.make_member(owner.workspace, "annotator")
        factories.give_role(owner, policy, person, "annotator")
        people.append(person)
    given = at_once(6, lambda place: len(factories.give_labels(people[place], policy, 100)))
    assert sum(given) == 30
    assert Slot.objects.filter(state="answered").count() == 30
    assert sorted(Label.objects.values_list("sequence", flat=True)) == list(range(1, 31))
    assert Label.objects.values("policy_example", "annotator").distinct().count() == 30


def test_over_the_api_a_double_click_is_one_label(space: Any) -> None:
    _, annotator, policy = space
    client = factories.api(annotator)
    lease = client.post(f"policies/{policy.slug}/queue/next").json()["lease"]
    body = {"lease": lease, "verdict": "violates"}
    found = at_once(4, lambda place: factories.Api(client.key, client.client.__class__()).post(
        "labels", body
    ).json()["id"])  # fmt: skip
    assert len(set(found)) == 1
    assert Label.objects.count() == 1


def test_over_the_api_an_answer_after_the_lease_ran_out_is_taken(space: Any) -> None:
    _, annotator, policy = space
    client = factories.api(annotator)
    lease = client.post(f"policies/{policy.slug}/queue/next").json()["lease"]
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    queue.expire_leases()
    assert client.post("labels", {"lease": lease, "verdict": "violates"}).status_code == 201
    assert Slot.objects.filter(state="answered").count() == 1
    skipped = client.post(f"leases/{lease}/skip", {"reason": "too late"})
    assert skipped.status_code == 409


def test_a_person_whose_role_was_taken_can_answer_no_more(space: Any) -> None:
    owner, annotator, policy = space
    client = factories.api(annotator)
    lease = client.post(f"policies/{policy.slug}/queue/next").json()["lease"]
    factories.give_role(owner, policy, annotator, "")
    assert client.post("labels", {"lease": lease, "verdict": "violates"}).status_code == 404


def test_ranking_passes_over_an_item_that_somebody_is_given_just_now(space: Any) -> None:
    _, annotator, policy = space
    policy = load_policy(annotator, policy.slug)
    slots = list(Slot.objects.filter(policy=policy, side="train").values_list("pk", flat=True))
    taken = slots[0]

    held, ranked = Event(), Event()

    def act(place: int) -> None:
        if place:
            held.wait(5)
            queue.set_priorities(policy, slots, [0.5] * len(slots))
            ranked.set()
            return
        with transaction.atomic():
            Slot.objects.select_for_update().get(pk=taken)
            held.set()
            assert ranked.wait(5), "the ranking waited for the item"

    found = at_once(2, act)
    assert not [f for f in found if isinstance(f, Exception)], found
    given = set(Slot.objects.filter(priority=0.5).values_list("pk", flat=True))
    assert given == set(slots) - {taken}
