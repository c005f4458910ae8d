"""Nothing of one workspace is visible from another, and nobody raises themselves."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import reverse

from apps.accounts.models import ApiToken, Membership, User
from apps.policies.models import PolicyRole
from tests import factories
from tests.survival.conftest import World
from tests.survival.test_permission_matrix import stated
from tests.survival.world import (
    ACTORS,
    METHODS,
    OWNERS_WORDS,
    Space,
    make_space,
    missing_arguments,
    request_of,
    routes,
    status_of,
)

pytestmark = pytest.mark.django_db
ADDRESSED = sorted(route for route, arguments in routes().items() if arguments)
SIGNED_IN = [a for a in ACTORS if a not in ("anonymous", "deactivated")]
INSIDE = ("annotator", "stranger", "owner", "other_owner", "admin")


def plain(answer: Any) -> bytes:
    """An answer without what differs from one request to the next."""
    body = re.sub(rb'"request_id": ?"[0-9a-f]{32}"', b"", answer.whole)
    return re.sub(rb"[A-Za-z0-9]{64}", b"csrf", body)


@pytest.mark.parametrize("route", ADDRESSED)
def test_a_foreign_object_answers_like_a_missing_one(world: World, route: str) -> None:
    missing = missing_arguments(route)
    for method in METHODS:
        if stated()[route][method]["admin"] == "405":
            continue
        for actor in SIGNED_IN:
            foreign = (world.own if actor == "foreign_admin" else world.other).arguments(route)
            one = world.send(actor, route, method, foreign)
            two = world.send(actor, route, method, missing)
            assert status_of(one) == status_of(two), (actor, method)
            assert status_of(one) in ("401", "403", "404", "sign-in"), (actor, method)
            assert one.status_code == 302 or plain(one) == plain(two), (actor, method)


@pytest.fixture(scope="module")
def twin(world: World) -> Space:
    """A third workspace whose policies have the same slugs as the own ones."""
    return make_space("twin", policies="own")


@pytest.mark.parametrize("route", [r for r in ADDRESSED if set(routes()[r]) != {"slug"}])
def test_an_object_of_a_policy_of_the_same_name_elsewhere_is_not_found(
    world: World, twin: Space, route: str
) -> None:
    if "number" in routes()[route]:
        return  # a version is addressed by its policy's name, and found in the own one
    for method in METHODS:
        if stated()[route][method]["admin"] == "405":
            continue
        for actor in ("owner", "admin", "token_read"):
            answer = world.send(actor, route, method, twin.arguments(route))
            assert status_of(answer) in ("403", "404", "sign-in"), (actor, method)
            if actor == "admin":
                assert answer.status_code == 404, method


def call(world: World, actor: str, method: str, path: str, data: Any, **headers: str) -> Any:
    caller = world.callers[actor]
    with transaction.atomic():
        answer = factories.Api(caller.key, caller.client).call(method, path, data, **headers)
        transaction.set_rollback(True)
    return answer


@pytest.mark.parametrize("path", ["labels?policy=", "examples?policy=", "imports?policy="])
@pytest.mark.parametrize("actor", ["owner", "admin", "token_read"])
def test_a_foreign_policy_in_a_query_is_not_found(world: World, actor: str, path: str) -> None:
    foreign = call(world, actor, "GET", path + world.other.policy.slug, None)
    missing = call(world, actor, "GET", path + "no-such-policy", None)
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["detail"] == missing.json()["detail"]


def test_rows_cannot_be_sent_into_a_foreign_policy(world: World) -> None:
    path = f"imports?source=x&policy={world.other.policy.slug}"
    kind = {"Content-Type": "application/x-ndjson"}
    assert call(world, "admin", "POST", path, '{"output": "x"}', **kind).status_code == 404


def test_a_foreign_member_gets_no_role_over_the_api(world: World) -> None:
    body = {"member": str(world.other.people["spare"].membership_id), "role": "annotator"}
    path = f"policies/{world.own.policy.slug}/roles"
    assert call(world, "owner", "PUT", path, body).status_code == 404


def test_a_foreign_member_gets_no_role_by_the_page(world: World) -> None:
    body = {"member": str(world.other.people["spare"].membership_id), "role": "annotator"}
    client = world.callers["owner"].client
    answer = client.post(f"/policies/{world.own.policy.slug}/roles/", body)
    assert answer.status_code == 404


def test_a_foreign_member_gets_no_token(world: World) -> None:
    member = str(world.other.people["spare"].membership_id)
    body = {"member": member, "name": "x", "scopes": ["read"]}
    foreign = call(world, "admin", "POST", "tokens", body)
    missing = call(world, "admin", "POST", "tokens", {**body, "member": str(uuid4())})
    assert foreign.status_code == missing.status_code == 404


@pytest.mark.parametrize("actor", ["stranger", "owner", "admin", "foreign_admin"])
def test_anothers_lease_cannot_be_answered(world: World, actor: str) -> None:
    lease = str(world.own.objects["lease"])
    body = {"lease": lease, "verdict": "complies"}
    foreign = call(world, actor, "POST", "labels", body)
    missing = call(world, actor, "POST", "labels", {**body, "lease": str(uuid4())})
    assert foreign.status_code == missing.status_code == 404


@pytest.mark.parametrize("actor", ["owner", "admin"])
def test_anothers_lease_shows_no_text(world: World, actor: str) -> None:
    url = f"/label/{world.own.policy.slug}/text/"
    answer = world.callers[actor].client.get(url, {"lease": str(world.own.objects["lease"])})
    assert answer.status_code == 404


def test_nobody_enters_a_workspace_they_are_not_a_member_of(world: World) -> None:
    client = factories.page_client(world.own.people["owner"])
    client.post("/workspace/", {"workspace": str(world.other.policy.workspace_id)})
    assert world.other.policy.slug not in client.get("/policies/").content.decode()


def test_a_cursor_of_another_workspace_brings_only_own_rows(world: World) -> None:
    foreign = factories.Api("", world.callers["foreign_admin"].client)
    cursor = foreign.get("policies?page_size=1").json()["next"]
    own = factories.Api("", world.callers["admin"].client)
    answer = own.client.get("/api/v1/policies", {"cursor": cursor})
    assert answer.status_code == 200
    assert all(row["slug"] != world.other.policy.slug for row in answer.json()["results"])


# --- raising oneself ------------------------------------------------------------------------

EXTRA: dict[str, Any] = {
    "role": "admin",
    "own_role": "admin",
    "workspace": "other",
    "workspace_id": str(uuid4()),
    "scopes": ["admin"],
    "is_superuser": True,
    "is_staff": True,
    "is_active": True,
    "created_by": str(uuid4()),
    "annotator": str(uuid4()),
    "membership": str(uuid4()),
    "id": str(uuid4()),
    "status": "active",
    "current_version": str(uuid4()),
    "published_by": "nobody",
    "written_by": ["nobody"],
    "authors": [1],
    "user": str(uuid4()),
    "groups": [1],
    "user_permissions": [1],
    "password": "correct horse battery",
    "slot": 1,
    "supersedes": str(uuid4()),
    "sequence": 1,
    "expires_at": "2999-01-01T00:00:00Z",
}
# bodies that are read field by field, with the names they know among EXTRA
TAKES = {
    ("api:policies", "POST"): set(),
    ("api:policy", "PATCH"): set(),
    ("api:draft", "PUT"): set(),
    ("api:roles", "PUT"): {"role"},
    ("api:labels", "POST"): set(),
    ("api:skip", "POST"): set(),
    ("api:members", "POST"): {"role"},
    ("api:member", "PATCH"): {"role"},
    ("api:tokens", "POST"): {"scopes"},
}


def power(of: World) -> Any:
    """Everything that says who may do what."""
    return (
        list(User.objects.order_by("pk").values_list("pk", "is_active", "is_superuser", "email")),
        list(Membership.objects.order_by("pk").values_list("pk", "workspace", "role", "is_active")),
        list(ApiToken.objects.order_by("pk").values_list("pk", "scopes", "expires_at")),
        list(PolicyRole.objects.order_by("pk").values_list("policy", "membership", "role")),
    )


@pytest.mark.parametrize(("route", "method"), sorted(TAKES))
def test_an_extra_name_in_a_body_is_refused(world: World, route: str, method: str) -> None:
    body = json.loads(request_of(route, method, world.own)["data"])
    actor = "annotator" if route in ("api:labels", "api:skip") else "admin"
    caller = world.callers[actor]
    path = route_path(world, route)
    for name, value in EXTRA.items():
        if name in TAKES[(route, method)] or name in body:
            continue
        with transaction.atomic():
            answer = factories.Api(caller.key, caller.client).call(
                method, path, {**body, name: value}, **{"If-Match": "*"}
            )
            transaction.set_rollback(True)
        assert answer.status_code == 400, name
        assert answer.json()["code"] == "unknown_field", name


def route_path(world: World, route: str) -> str:
    return reverse(route, kwargs=world.own.arguments(route)).removeprefix("/api/v1/")


@pytest.mark.parametrize("actor", ["annotator", "stranger", "owner", "other_owner", "token_read"])
def test_no_role_can_raise_itself_by_any_field_of_any_route(world: World, actor: str) -> None:
    person = world.own.people.get(actor, world.own.people["admin"])
    caller = world.callers[actor]
    own = {"member": str(person.membership_id), "action": "", "days": "30", "name": "x"}
    before = power(world)
    for route in routes():
        if route in ("accounts:sign_in", "accounts:sign_out"):
            continue
        arguments = world.own.arguments(route)
        if "member" in arguments:
            arguments["member"] = person.membership_id
        for method in ("POST", "PUT", "PATCH"):
            with transaction.atomic():
                url = reverse(route, kwargs=arguments)
                headers = {"Authorization": f"Bearer {caller.key}"} if caller.key else {}
                given = {**EXTRA, **own}
                if route.startswith("api"):
                    getattr(caller.client, method.lower())(
                        url, json.dumps(given), content_type="application/json", headers=headers
                    )
                elif method == "POST":
                    caller.client.post(url, given, headers=headers)
                roles = power(world)
                transaction.set_rollback(True)
            assert roles[:3] == before[:3], (route, method)
            own_roles = [row for row in roles[3] if row[1] == person.membership_id]
            had = [row for row in before[3] if row[1] == person.membership_id]
            assert own_roles == had, (route, method)


@pytest.mark.parametrize("actor", INSIDE)
def test_a_form_ignores_names_it_does_not_know(world: World, actor: str) -> None:
    before = power(world)
    with transaction.atomic():
        world.callers[actor].client.post("/preferences/", {**EXTRA, "theme": "dark"})
        after = power(world)
        transaction.set_rollback(True)
    assert after == before


# --- what annotators never see --------------------------------------------------------------

HIDDEN = {
    "split", "side", "stream", "score", "label", "threshold", "precision", "recall", "figures",
    "false_positive_rate_value", "position", "priority", "group_hash", "u", "group_u", "curve",
}  # fmt: skip


def names(value: Any) -> set[str]:
    """Every key of a JSON value, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(names, value.values()))
    if isinstance(value, list):
        return set().union(*map(names, value))
    return set()


@pytest.mark.parametrize("route", sorted(routes()))
def test_an_annotator_sees_no_split_score_figure_or_answer_of_others(
    world: World, route: str
) -> None:
    for method in METHODS:
        answer = world.send("annotator", route, method, world.own.arguments(route))
        if answer.status_code not in (200, 201) or route in ("api:schema", "api_docs"):
            continue
        text = answer.whole.decode()
        assert OWNERS_WORDS not in text
        assert (
            str(world.own.people["owner"].user.email)
            not in text.replace(f"by {world.own.people['owner'].user.email}", "")
            or route in PUBLISHERS
        )
        if "json" in answer["Content-Type"]:
            found = names(json.loads(text))
            if route in SETTINGS:
                found -= {"recall"}  # of the targets, not of the model
            assert not found & HIDDEN, (method, found & HIDDEN)
        else:
            assert "data-figure" not in text
            assert "Live score" not in text
            assert ">audit<" not in text.replace("\n", "").replace(" ", "")


# who published a version is not a secret
PUBLISHERS = {"api:versions", "api:version", "policies:specification", "policies:version"}
SETTINGS = {"api:policies", "api:policy"}


def test_an_annotator_may_not_filter_by_what_they_may_not_see(world: World) -> None:
    slug = world.own.policy.slug
    for query in ("split=audit", "split=train", "label=violates", "label=none"):
        answer = call(world, "annotator", "GET", f"examples?policy={slug}&{query}", None)
        assert answer.status_code == 403, query


def test_the_item_of_the_queue_has_only_what_is_judged(world: World) -> None:
    answer = call(world, "annotator", "POST", f"policies/{world.own.policy.slug}/queue/next", {})
    assert set(answer.json()) == {"lease", "expires_at", "example", "policy_version", "rules"}
    assert set(answer.json()["example"]) == {
        "id", "external_id", "prompt", "output", "context", "model", "language",
    }  # fmt: skip


# --- an owner elsewhere who only annotates here ---------------------------------------------


@pytest.fixture
def guest(world: World) -> Any:
    """The owner of another policy, as an annotator of this one."""
    with transaction.atomic():
        own = world.own
        person = own.people["other_owner"]
        factories.give_role(own.people["owner"], own.policy, person, "annotator")
        factories.give_role(own.people["owner"], own.waiting_policy, person, "annotator")
        yield factories.page_client(person)
        transaction.set_rollback(True)


def test_an_owner_elsewhere_sees_no_runs_of_a_policy_they_only_annotate(
    world: World, guest: Any
) -> None:
    assert world.own.waiting_policy.name not in guest.get("/training/").content.decode()


def test_an_owner_elsewhere_sees_no_imports_of_a_policy_they_only_annotate(
    world: World, guest: Any
) -> None:
    assert guest.get("/api/v1/imports").json()["results"] == []


def test_an_owner_elsewhere_may_not_list_a_policys_imports_that_they_only_annotate(
    world: World, guest: Any
) -> None:
    assert guest.get("/api/v1/imports", {"policy": world.own.policy.slug}).status_code == 403


def test_whoever_is_made_an_annotator_owns_no_policy_any_more(world: World) -> None:
    owner, admin = world.own.people["owner"], world.callers["admin"].client
    slug = world.own.policy.slug
    with transaction.atomic():
        admin.patch(
            f"/api/v1/members/{owner.membership_id}",
            json.dumps({"role": "annotator"}),
            content_type="application/json",
        )
        client = factories.page_client(owner)
        policy = client.get(f"/api/v1/policies/{slug}")
        draft = client.get(f"/api/v1/policies/{slug}/draft")
        transaction.set_rollback(True)
    assert policy.json()["role"] == "annotator"
    assert draft.status_code == 403
