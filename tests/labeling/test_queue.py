"""The queue: nobody gets what somebody else has, nothing is lost, nothing leaves by being hard."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.accounts.models import Role
from apps.base.problems import Problem
from apps.corpus.models import PolicyExample, Side
from apps.labeling import labels, progress, queue
from apps.labeling.datasets import freeze
from apps.labeling.models import Label, Lease, Slot, Verdict
from apps.labeling.permissions import load_own_lease
from apps.policies.permissions import load_policy
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def space():
    """(admin, policy) with 60 texts to label."""
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin, audit_fraction=0.4, audit_share=0.4)
    factories.import_rows(admin, policy, factories.rows(60))
    return admin, policy


def annotator(admin, policy):
    person = factories.make_member(admin.workspace, Role.ANNOTATOR)
    factories.give_role(admin, policy, person, Role.ANNOTATOR)
    return person, load_policy(person, policy.slug)


def answer(person, item, verdict="complies"):
    return labels.submit_label(person, lease=load_own_lease(person, item.lease), verdict=verdict)


def trained_on(person, policy):
    """An item whose label a retrain learns from."""
    while True:
        item = queue.next_item(person, policy=policy)
        if Slot.objects.get(policy_example__example=item.example).side == Side.TRAIN:
            return item
        answer(person, item)


def test_eight_people_at_once_never_get_the_same_item(space) -> None:
    admin, policy = space
    people = [annotator(admin, policy) for _ in range(8)]

    def work(pair):
        person, own = pair
        got = []
        try:
            while item := queue.next_item(person, policy=own):
                got.append(item.example)
                answer(person, item)
        finally:
            connection.close()
        return got

    with ThreadPoolExecutor(8) as pool:
        got = Counter(example for each in pool.map(work, people) for example in each)
    assert max(got.values()) == 1
    assert sum(got.values()) == Slot.objects.filter(policy=policy).exclude(state="held").count()


def test_a_person_holds_two_items_at_most_and_then_the_older_one_again(space) -> None:
    admin, policy = space
    first, second = (queue.next_item(admin, policy=policy) for _ in range(2))
    assert queue.next_item(admin, policy=policy) == first
    assert {first.lease, second.lease} == set(
        Lease.objects.filter(closed=False).values_list("pk", flat=True)
    )


def test_what_breaks_a_rule_does_not_comply(space) -> None:
    admin, policy = space
    lease = load_own_lease(admin, queue.next_item(admin, policy=policy).lease)
    rule, allowed = (row["key"] for row in factories.RULES)
    with pytest.raises(Problem) as refused:
        labels.submit_label(admin, lease=lease, verdict="complies", rules=[allowed, rule])
    assert [error.pointer for error in refused.value.errors] == ["/rules/1"]
    labels.submit_label(admin, lease=lease, verdict="complies", rules=[allowed])


def test_what_one_holds_is_found_again(space) -> None:
    admin, policy = space
    held = [queue.next_item(admin, policy=policy) for _ in range(2)]
    assert queue.held_items(admin, policy=policy) == held


def test_a_lease_that_ran_out_goes_back_to_the_queue(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert queue.expire_leases() == 1
    slot = Slot.objects.get(policy_example__example=item.example)
    assert (slot.state, slot.lease_id) == ("free", None)


def test_free_items_are_never_hidden_behind_leases_that_ran_out(space) -> None:
    admin, policy = space
    Slot.objects.exclude(pk=Slot.objects.filter(state="free").first().pk).update(state="held")
    assert queue.next_item(admin, policy=policy) is not None
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    other, own = annotator(admin, policy)
    assert queue.next_item(other, policy=own) is not None


def test_a_skipped_item_goes_to_another_person_and_then_waits_for_an_owner(space) -> None:
    admin, policy = space
    Slot.objects.exclude(pk=Slot.objects.filter(state="free").first().pk).update(state="held")
    for _ in range(2):
        person, own = annotator(admin, policy)
        item = queue.next_item(person, policy=own)
        queue.skip(person, lease=load_own_lease(person, item.lease), reason="cannot judge")
        assert queue.next_item(person, policy=own) is None  # not offered again
    third, own = annotator(admin, policy)
    assert queue.next_item(third, policy=own) is None
    assert queue.next_item(admin, policy=policy) is not None


def test_a_skip_needs_a_reason(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    with pytest.raises(Problem):
        queue.skip(admin, lease=load_own_lease(admin, item.lease), reason="  ")


def test_undo_gives_the_item_back_to_the_same_person_and_keeps_every_revision(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    first = answer(admin, item, "violates")
    again, taken_back = labels.undo_label(admin, policy=policy)
    assert (again.example, taken_back.pk) == (item.example, first.pk)
    second = answer(admin, again, "complies")
    revisions = Label.objects.filter(slot=first.slot).order_by("sequence")
    assert [r.verdict for r in revisions] == ["violates", "retracted", "complies"]
    assert second.supersedes == revisions[1]
    assert Slot.objects.get(pk=first.slot_id).label_id == second.pk


def test_undo_takes_the_counts_back(space) -> None:
    admin, policy = space
    answer(admin, queue.next_item(admin, policy=policy), "violates")
    labels.undo_label(admin, policy=policy)
    found = labels.counts(policy)
    assert (found.train, found.audit, found.sequence) == (0, 0, 2)


def test_pairs_of_answer_and_undo_do_not_add_up_to_a_retrain(space) -> None:
    admin, policy = space
    item = trained_on(admin, policy)
    for _ in range(3):
        answer(admin, item)
        item, _ = labels.undo_label(admin, policy=policy)
        assert labels.counts(policy).since_frozen == 0
    answer(admin, item)
    assert labels.counts(policy).since_frozen == 1


def test_an_answer_of_the_last_dataset_that_is_changed_counts_once(space) -> None:
    admin, policy = space
    answer(admin, trained_on(admin, policy))
    freeze(policy)
    item, _ = labels.undo_label(admin, policy=policy)
    assert labels.counts(policy).since_frozen == 0
    answer(admin, item, "violates")
    assert labels.counts(policy).since_frozen == 1


def test_an_answer_that_was_undone_counts_for_nobody(space) -> None:
    admin, policy = space
    answer(admin, queue.next_item(admin, policy=policy), "violates")
    again, _ = labels.undo_label(admin, policy=policy)
    answer(admin, again, "complies")
    (told,) = progress.people(policy)
    assert (told["violates"], told["complies"]) == (0, 1)
    assert progress.pace(policy, admin).labels == 1
    assert progress.of_policies([policy], admin)[policy.pk].own_today == 1


def test_undo_without_an_answer_says_so(space) -> None:
    admin, policy = space
    with pytest.raises(Problem, match="nothing to undo"):
        labels.undo_label(admin, policy=policy)


def test_the_same_lease_submitted_twice_is_one_label(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    assert answer(admin, item).pk == answer(admin, item).pk
    assert Label.objects.count() == 1


def test_the_same_lease_again_is_the_first_answer_though_it_was_taken_back(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    first = answer(admin, item, "violates")
    again, _ = labels.undo_label(admin, policy=policy)
    Lease.objects.filter(pk=again.lease).update(expires_at=timezone.now())
    queue.expire_leases(policy)  # the item is free once more
    assert answer(admin, item, "violates").pk == first.pk
    assert labels.counts(policy).sequence == 2


def test_an_answer_to_an_item_that_changed_since_it_was_loaded_is_kept_beside_it(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    lease = load_own_lease(admin, item.lease)
    Lease.objects.filter(pk=item.lease).update(expires_at=timezone.now())
    queue.expire_leases(policy)
    Slot.objects.filter(pk=lease.slot_id).update(state="held")
    label = labels.submit_label(admin, lease=lease, verdict="complies")
    assert label.slot_id is None
    assert labels.counts(policy).sequence == 1


def test_eight_submits_of_one_lease_at_once_are_one_label(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)

    def submit(_):
        try:
            return answer(admin, item).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit, range(8)))) == 1
    assert Label.objects.count() == 1


def test_an_answer_after_the_lease_ran_out_counts_while_the_item_is_free(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    queue.expire_leases()
    label = answer(admin, item)
    assert label.slot is not None
    assert label.slot.state == "answered" or Slot.objects.get(pk=label.slot_id).label == label


def test_an_answer_that_came_too_late_is_kept_as_an_extra_one(space) -> None:
    admin, policy = space
    Slot.objects.exclude(pk=Slot.objects.filter(state="free").first().pk).update(state="held")
    late, own = annotator(admin, policy)
    item = queue.next_item(late, policy=own)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer(admin, queue.next_item(admin, policy=policy), "violates")
    extra = answer(late, item, "complies")
    assert extra.slot is None
    assert labels.counts(policy).sequence == 2
    assert labels.counts(policy).train + labels.counts(policy).audit == 1


def test_the_database_refuses_a_second_first_answer_of_a_slot(space) -> None:
    admin, policy = space
    label = answer(admin, queue.next_item(admin, policy=policy))
    copy = Label(
        **{
            field.attname: getattr(label, field.attname)
            for field in Label._meta.concrete_fields
            if field.name not in ("id", "sequence", "lease_id")
        },
        sequence=99,
        lease_id=label.pk,
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save(force_insert=True)


def test_nobody_can_change_a_label(space) -> None:
    admin, policy = space
    label = answer(admin, queue.next_item(admin, policy=policy))
    with pytest.raises(Exception, match="Cannot update or delete"):
        Label.objects.filter(pk=label.pk).update(verdict=Verdict.VIOLATES)


def test_the_owner_sets_how_much_is_drawn_for_audit(space) -> None:
    admin, policy = space
    for share, side in ((1.0, Side.AUDIT), (0.0, Side.TRAIN)):
        policy.audit_share = share
        policy.save()
        for _ in range(5):
            item = queue.next_item(admin, policy=policy)
            found = PolicyExample.objects.get(policy=policy, example=item.example)
            assert found.side == side
            answer(admin, item)


@pytest.mark.parametrize("audit_share", [0.0, 1.0])
def test_what_somebody_wants_labelled_comes_before_whatever_is_drawn(space, audit_share) -> None:
    admin, policy = space
    policy.audit_share = audit_share
    policy.save()
    wanted = PolicyExample.objects.filter(policy=policy, side=Side.TRAIN).order_by("-u").first()
    assert queue.put_first(wanted.pk)
    person, seen = annotator(admin, policy)
    item = queue.draw(person, policy=seen)
    assert item.example == wanted.example_id
    assert Lease.objects.get(pk=item.lease).stream == "learning"


def test_what_is_wanted_while_somebody_looks_at_it_comes_first_once_they_skip_it(space) -> None:
    admin, policy = space
    policy.audit_share = 0.0
    policy.save()
    person, seen = annotator(admin, policy)
    item = queue.draw(person, policy=seen)
    wanted = PolicyExample.objects.get(policy=policy, example=item.example)
    assert queue.put_first(wanted.pk)
    queue.skip(person, lease=load_own_lease(person, item.lease), reason="unreadable")
    assert queue.draw(admin, policy=policy).example == item.example


def test_audit_items_come_in_the_order_of_their_permanent_numbers(space) -> None:
    admin, policy = space
    policy.audit_share = 1.0
    policy.save()
    drawn = []
    for _ in range(12):
        item = queue.next_item(admin, policy=policy)
        drawn.append(PolicyExample.objects.get(policy=policy, example=item.example).group_u)
        answer(admin, item)
    assert drawn == sorted(drawn)


def test_one_text_of_an_audit_group_is_asked_for() -> None:
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin, audit_fraction=0.9, audit_share=1.0)
    data = [{"output": f"Answer {n} of many.", "group": "one"} for n in range(10)]
    factories.import_rows(admin, policy, data)
    sides = set(PolicyExample.objects.values_list("side", flat=True))
    assert len(sides) == 1
    free = Slot.objects.filter(policy=policy, state="free").count()
    assert free == (1 if sides == {Side.AUDIT} else 10)


def test_a_newcomer_with_a_lower_number_takes_the_waiting_ones_place() -> None:
    admin = factories.make_member(factories.make_workspace(split_seed=5))
    policy = factories.make_policy(admin, audit_fraction=0.95, audit_share=1.0)
    for n in range(12):
        factories.import_rows(admin, policy, [{"output": f"Text {n} here.", "group": "same"}])
    lowest = PolicyExample.objects.filter(policy=policy).order_by("u", "id").first()
    free = Slot.objects.get(policy=policy, state="free")
    assert free.policy_example == lowest


def test_a_policy_that_is_retired_or_not_published_gives_no_work(space) -> None:
    from apps.policies import services

    admin, policy = space
    services.retire_policy(admin, policy=policy, retired=True)
    assert queue.next_item(admin, policy=load_policy(admin, policy.slug)) is None


def test_ranking_puts_the_most_uncertain_first_and_leaves_the_random_share_alone(space) -> None:
    from apps.guardrails.services import rank_learning_stream

    admin, policy = space
    factories.give_labels(admin, policy, 40)
    factories.train(admin, policy)
    assert rank_learning_stream(policy) > 0
    ranked = Slot.objects.filter(policy=policy, priority__gt=0)
    assert ranked.exists()
    assert min(ranked.values_list("position", flat=True)) >= queue.EXPLORATION_SHARE
    assert set(ranked.values_list("side", flat=True)) == {"train"}


def test_another_answer_to_the_same_item_is_not_passed_over(space) -> None:
    admin, policy = space
    item = queue.next_item(admin, policy=policy)
    answer(admin, item, "complies")
    with pytest.raises(Problem, match="You answered this one already") as refused:
        answer(admin, item, "violates")
    assert refused.value.code == "answered_already"
    assert Label.objects.get().verdict == "complies"
