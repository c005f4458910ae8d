"""Drafts, versions, settings and roles."""

from __future__ import annotations

import copy
import random
import time
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from apps.base.problems import Problem
from apps.policies import services
from apps.policies.forms import PercentField, draft_from
from apps.policies.models import Policy, PolicyVersion
from apps.policies.permissions import load_policy
from apps.policies.specification import compare, parse
from tests import factories
from tests.accounts.test_audit import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> Any:
    return factories.make_member(factories.make_workspace(), "owner")


@pytest.fixture
def policy(owner: Any) -> Policy:
    return factories.make_policy(owner)


def changed(definition: str) -> dict[str, Any]:
    return {**copy.deepcopy(factories.SPECIFICATION), "definition": definition}


def test_a_draft_that_somebody_else_saved_is_not_overwritten(owner: Any, policy: Policy) -> None:
    seen = policy.draft.revision
    services.save_draft(owner, policy=policy, specification=changed("theirs"), revision=seen)
    with pytest.raises(Problem) as caught:
        services.save_draft(owner, policy=policy, specification=changed("mine"), revision=seen)
    assert caught.value.status == 412
    assert load_policy(owner, policy.slug).draft.specification.definition == "theirs"


def test_over_the_api_a_lost_edit_is_412_and_a_missing_if_match_428(
    owner: Any, policy: Policy
) -> None:
    api = factories.api(owner)
    etag = api.get("policies/doses/draft")["ETag"]
    first = api.put("policies/doses/draft", changed("a"), **{"If-Match": etag})
    assert first.status_code == 200
    assert api.put("policies/doses/draft", changed("b"), **{"If-Match": etag}).status_code == 412
    assert api.put("policies/doses/draft", changed("b")).status_code == 428
    again = api.put("policies/doses/draft", changed("b"), **{"If-Match": first["ETag"]})
    assert again.status_code == 200


@pytest.mark.parametrize("match", ["x", '"', "-1", "1.5", "9" * 10, "٣x", "W/1"])
def test_an_if_match_that_is_no_revision_is_refused(owner: Any, policy: Policy, match: str) -> None:
    answer = factories.api(owner).put("policies/doses/draft", changed("b"), **{"If-Match": match})
    assert answer.status_code == 428


def test_by_the_page_a_lost_edit_is_412_and_shows_what_was_typed(
    owner: Any, policy: Policy
) -> None:
    client = factories.page_client(owner)
    services.save_draft(owner, policy=policy, specification=changed("theirs"), revision=None)
    fields = {"definition": "what I typed", "stages": "output", "revision": "1"}
    answer = client.post("/policies/doses/edit/", fields)
    assert answer.status_code == 412
    assert "what I typed" in answer.content.decode()


def test_saving_the_same_draft_again_is_no_new_revision(owner: Any, policy: Policy) -> None:
    before = policy.draft.revision
    draft = services.save_draft(
        owner, policy=policy, specification=factories.SPECIFICATION, revision=before
    )
    assert draft.revision == before


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_save_at_once_one_is_first() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner)
    seen = policy.draft.revision

    def save(place: int) -> str:
        try:
            services.save_draft(
                owner, policy=policy, specification=changed(f"of {place}"), revision=seen
            )
        except Problem as problem:
            return problem.code
        return "saved"

    found = at_once(8, save)
    assert sorted(found) == ["precondition_failed"] * 7 + ["saved"]


@pytest.mark.django_db(transaction=True)
def test_publishing_the_same_draft_four_times_at_once_makes_one_version() -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    policy = factories.make_policy(owner, publish=False)

    def publish(place: int) -> str:
        try:
            services.publish_version(owner, policy=load_policy(owner, policy.slug))
        except Problem as problem:
            return problem.code
        return "published"

    assert sorted(at_once(4, publish)) == ["published"] + ["unchanged"] * 3
    assert PolicyVersion.objects.get().number == 1


def test_versions_count_from_one(owner: Any, policy: Policy) -> None:
    services.save_draft(owner, policy=policy, specification=changed("b"), revision=None)
    assert services.publish_version(owner, policy=policy).number == 2


def test_an_unchanged_draft_is_not_published_again(owner: Any, policy: Policy) -> None:
    with pytest.raises(Problem) as caught:
        services.publish_version(owner, policy=policy)
    assert caught.value.code == "unchanged"


def test_an_unfinished_draft_is_not_published(owner: Any) -> None:
    policy = factories.make_policy(owner, "empty", publish=False, specification={"stages": []})
    with pytest.raises(Problem) as caught:
        services.publish_version(owner, policy=policy)
    assert {e.pointer for e in caught.value.errors} == {"/definition", "/stages", "/rules"}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE policies_policyversion SET number = 9",
        "DELETE FROM policies_policyversion",
        "UPDATE policies_rule SET severity = 1",
        "DELETE FROM policies_rule",
    ],
)
def test_a_published_version_never_changes(policy: Policy, sql: str) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_the_difference_of_a_version_is_against_the_one_before_it(
    owner: Any, policy: Policy
) -> None:
    services.save_draft(owner, policy=policy, specification=changed("two"), revision=None)
    services.publish_version(owner, policy=policy)
    api = factories.api(owner)
    (change,) = api.get("policies/doses/versions/2/diff").json()
    assert (change["where"], change["before"], change["after"]) == (
        "definition",
        factories.SPECIFICATION["definition"],
        "two",
    )
    assert api.get("policies/doses/versions/2/diff?against=2").json() == []
    assert len(api.get("policies/doses/versions/1/diff").json()) > 2
    assert api.get("policies/doses/versions/2/diff?against=7").status_code == 404


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "é", "a/b", "x" * 61, "a\n"])
def test_a_slug_is_lower_case_letters_digits_and_signs(owner: Any, slug: str) -> None:
    with pytest.raises(Problem):
        services.create_policy(owner, slug=slug, name="A", specification={})


def test_the_page_of_a_new_policy_hides_no_policy(owner: Any) -> None:
    with pytest.raises(Problem):
        services.create_policy(owner, slug="new", name="A", specification={})


def test_two_policies_of_a_workspace_cannot_share_a_slug(owner: Any, policy: Policy) -> None:
    with pytest.raises(Problem) as caught:
        factories.make_policy(owner, policy.slug)
    assert caught.value.status == 409


def test_two_workspaces_can_use_the_same_slug(policy: Policy) -> None:
    other = factories.make_member(factories.make_workspace(), "owner")
    assert factories.make_policy(other, policy.slug).pk != policy.pk


def test_a_target_can_be_taken_away(owner: Any, policy: Policy) -> None:
    body = {"targets": {"false_positive_rate": None, "recall": 0.9}}
    answer = factories.api(owner).patch("policies/doses", body)
    assert answer.status_code == 200
    assert answer.json()["targets"] == {
        "false_positive_rate": None,
        "recall": 0.9,
        "cost_ratio": None,
    }


def test_the_settings_page_saves_with_empty_targets(owner: Any, policy: Policy) -> None:
    fields = {
        "name": "Doses, all of them",
        "target_false_positive_rate": "2",
        "target_recall": "",
        "target_cost_ratio": "",
        "retrain_after": "30",
        "retrain_every_hours": "",
        "audit_fraction": "20",
        "audit_share": "50",
        "mode": "enforce",
        "rollout": "50",
        "on_failure": "open",
        "safe_completion": "No.",
        "level": "application",
    }
    assert factories.page_client(owner).post("/policies/doses/settings/", fields).status_code == 302
    saved = Policy.objects.get()
    assert (saved.target_false_positive_rate, saved.target_recall) == (0.02, None)
    assert (saved.audit_fraction, saved.audit_share) == (0.2, 0.5)
    assert saved.name == "Doses, all of them"
    assert (saved.mode, saved.on_failure, saved.level) == ("enforce", "open", "application")


def test_an_allowed_rule_of_the_editor_stops_nothing() -> None:
    fields = QueryDict("rules-0-text=Cite&rules-0-polarity=allowed&rules-0-action=block")
    assert draft_from(fields)["rules"][0]["action"] == "allow"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("target_false_positive_rate", "120", "At most 90 percent."),
        ("target_false_positive_rate", "0", "At least 0.01 percent."),
        ("audit_fraction", "0.3", "At least 5 percent."),
        ("audit_share", "-1", "At least 0 percent."),
        ("target_recall", "80", "At most 0.9999: a share, not a percentage."),
    ],
)
def test_the_settings_page_says_what_a_number_may_be(
    owner: Any, policy: Policy, name: str, value: str, says: str
) -> None:
    page = factories.page_client(owner).post("/policies/doses/settings/", {name: value})
    assert page.context["form"].errors[name] == [says]


@given(percent=st.decimals(min_value=5, max_value=95, places=2))
def test_a_percentage_comes_back_as_it_was_written(percent: Decimal) -> None:
    field = PercentField()
    assert Decimal(field.prepare_value(field.clean(str(percent)))) == percent


def test_a_page_opened_long_ago_undoes_nothing_it_did_not_change(
    owner: Any, policy: Policy
) -> None:
    client = factories.page_client(owner)
    page = client.get("/policies/doses/settings/")
    form = page.context["form"]
    fields = {one.html_name: one.value() if one.value() is not None else "" for one in form}
    fields |= {one.html_initial_name: fields[one.html_name] for one in form}
    services.change_settings(owner, policy=policy, targets={}, settings={"mode": "off"})
    client.post("/policies/doses/settings/", fields | {"name": "Another name"})
    saved = Policy.objects.get()
    assert (saved.name, saved.mode) == ("Another name", "off")


@pytest.mark.parametrize("name", [" ", "x" * 201])
def test_a_policy_is_not_renamed_to_nothing_or_to_a_book(owner: Any, name: str) -> None:
    policy = factories.make_policy(owner, "named")
    answer = factories.Api("", factories.page_client(owner)).patch(
        "policies/named", {"name": name, "settings": {"retrain_after": 77}}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/name")
    assert Policy.objects.get(slug="named").retrain_after == policy.retrain_after


@pytest.mark.parametrize("settings", [{"audit_fraction": 0.01}, {"audit_share": 1.1}, {"x": 1}])
def test_a_setting_outside_its_range_changes_nothing(
    owner: Any, policy: Policy, settings: dict[str, Any]
) -> None:
    with pytest.raises(Problem):
        services.change_settings(
            owner, policy=policy, targets={}, settings={"retrain_after": 77, **settings}
        )
    assert Policy.objects.get().retrain_after != 77


def test_an_annotator_of_the_workspace_cannot_own_a_policy(owner: Any, policy: Policy) -> None:
    annotator = factories.make_member(owner.workspace, "annotator")
    with pytest.raises(Problem) as caught:
        factories.give_role(owner, policy, annotator, "owner")
    assert caught.value.code == "role_too_low"


def test_the_last_owner_cannot_leave(policy: Policy, owner: Any) -> None:
    one = factories.make_member(owner.workspace, "owner")
    factories.give_role(owner, policy, one, "owner")
    policy.roles.exclude(membership=one.membership).delete()
    with pytest.raises(Problem) as caught:
        factories.give_role(one, policy, one, "")
    assert caught.value.code == "last_owner"


def test_an_owner_who_leaves_sees_their_other_policies(policy: Policy, owner: Any) -> None:
    one, other = (factories.make_member(owner.workspace, "owner") for _ in range(2))
    for member in (one, other):
        factories.give_role(owner, policy, member, "owner")
    answer = factories.page_client(one).post(
        "/policies/doses/roles/", {"member": str(one.membership.pk), "role": ""}
    )
    assert answer["Location"] == "/policies/"


def test_a_role_that_is_taken_hides_the_policy_at_once(owner: Any, policy: Policy) -> None:
    annotator = factories.make_member(owner.workspace, "annotator")
    factories.give_role(owner, policy, annotator, "annotator")
    client = factories.page_client(annotator)
    assert client.get("/policies/doses/").status_code == 200
    factories.give_role(owner, policy, annotator, "")
    assert client.get("/policies/doses/").status_code == 404


@pytest.mark.parametrize(("length", "number"), [(900, 100), (9_000, 30)])
def test_two_large_specifications_are_compared_in_time(length: int, number: int) -> None:
    draw = random.Random(7)

    def large() -> Any:
        texts = [" ".join(draw.choices("ab", k=length // 2)) for _ in range(number)]
        rule = {"polarity": "disallowed", "severity": 1, "action": "block"}
        rules = [
            {**rule, "key": f"r{n}", "text": text, "examples": [{"text": text, "violates": True}]}
            for n, text in enumerate(texts)
        ]
        return parse({"definition": texts[0], "rules": rules})

    one, two = large(), large()
    start = time.process_time()
    compare(one, two)
    assert time.process_time() - start < 2
