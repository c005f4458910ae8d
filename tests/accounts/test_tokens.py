"""API keys: what lets nobody in, and what no key can do."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from apps.accounts import idempotency, people, tokens
from apps.accounts.actor import SCOPES, role_scopes, task_actor
from apps.accounts.endpoint import held
from apps.accounts.models import ApiToken, IdempotencyKey
from apps.accounts.sealing import unseal
from apps.base.problems import Problem
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Any:
    return factories.make_member(factories.make_workspace())


def status(key: str) -> int:
    answer = Client().get("/api/v1/policies", headers={"Authorization": f"Bearer {key}"})
    return int(answer.status_code)


def with_check(body: str) -> str:
    return f"{body}_{zlib.crc32(body.encode('utf-8', 'surrogatepass')):08x}"[: len(body) + 7]


def test_a_key_has_the_documented_form(admin: Any) -> None:
    kind, prefix, secret, check = factories.make_token(admin).split("_")
    assert (kind, len(prefix), len(secret), len(check)) == ("gk", 8, 43, 6)


def test_the_key_itself_is_not_stored(admin: Any) -> None:
    secret = factories.make_token(admin).split("_")[2]
    row = ApiToken.objects.values().get()
    assert secret not in str(row)
    assert secret.encode() not in bytes(row["digest"])


@pytest.mark.parametrize("change", ["", "x", "gk_", "gk_a_b", "gk_a_b_c", "gk__" + "_" * 40, "é"])
def test_a_malformed_key_lets_nobody_in(admin: Any, change: str) -> None:
    assert status(change) == 401


def test_a_key_with_another_check_lets_nobody_in(admin: Any) -> None:
    assert status(factories.make_token(admin)[:-1] + "g") == 401


def test_a_key_with_another_secret_lets_nobody_in(admin: Any) -> None:
    prefix = factories.make_token(admin).split("_")[1]
    assert status(with_check(f"gk_{prefix}_{'a' * 43}")) == 401


def test_an_unknown_prefix_lets_nobody_in(admin: Any) -> None:
    assert status(with_check(f"gk_{'z' * 8}_{'a' * 43}")) == 401


def test_a_key_with_nul_and_the_right_check_lets_nobody_in(admin: Any) -> None:
    assert tokens.actor_of(with_check(f"gk_a\x00_{'a' * 43}")) is None


def test_an_expired_key_lets_nobody_in(admin: Any) -> None:
    key = factories.make_token(admin)
    ApiToken.objects.update(expires_at=timezone.now())
    assert status(key) == 401


def test_a_revoked_key_lets_nobody_in(admin: Any) -> None:
    key = factories.make_token(admin)
    tokens.revoke_token(admin, token=ApiToken.objects.get())
    assert status(key) == 401


def test_revoking_twice_keeps_the_first_moment(admin: Any) -> None:
    factories.make_token(admin)
    token = ApiToken.objects.get()
    tokens.revoke_token(admin, token=token)
    first = token.revoked_at
    tokens.revoke_token(admin, token=token)
    assert ApiToken.objects.get().revoked_at == first


def test_the_keys_of_a_deactivated_member_end_at_once(admin: Any) -> None:
    member = factories.make_member(admin.workspace)
    key = factories.make_token(member)
    people.deactivate_member(admin, membership=member.membership)
    assert status(key) == 401
    assert ApiToken.objects.get().revoked_at is not None


def test_the_keys_of_a_deactivated_user_end_at_once(admin: Any) -> None:
    key = factories.make_token(admin)
    admin.user.is_active = False
    admin.user.save()
    assert status(key) == 401


def test_bringing_a_member_back_does_not_bring_their_keys_back(admin: Any) -> None:
    member = factories.make_member(admin.workspace)
    key = factories.make_token(member)
    people.deactivate_member(admin, membership=member.membership)
    people.add_member(admin, email=member.user.email, role="admin")
    assert status(key) == 401


def test_a_key_never_counts_in_the_address(admin: Any) -> None:
    key = factories.make_token(admin)
    for name in ("token", "access_token", "key", "Authorization"):
        assert Client().get("/api/v1/policies", {name: key}).status_code == 401


@pytest.mark.parametrize("kind", ["Basic", "Token", "", "bearer:"])
def test_only_a_bearer_is_let_in(admin: Any, kind: str) -> None:
    key = factories.make_token(admin)
    answer = Client().get("/api/v1/policies", headers={"Authorization": f"{kind} {key}"})
    assert answer.status_code == 401


def test_a_bad_key_is_not_made_up_for_by_a_session(admin: Any) -> None:
    client = factories.page_client(admin)
    answer = client.get("/api/v1/policies", headers={"Authorization": "Bearer gk_x"})
    assert answer.status_code == 401


def test_a_401_names_the_scheme_and_repeats_nothing(admin: Any) -> None:
    answer = Client().get("/api/v1/policies", headers={"Authorization": "Bearer canary4711"})
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert b"canary4711" not in answer.content


@pytest.mark.parametrize("role", ["annotator", "owner", "admin"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_capped_by_the_role(admin: Any, role: str, scope: str) -> None:
    member = factories.make_member(admin.workspace, role)
    if scope in role_scopes(role):
        factories.make_token(member, scope)
        assert ApiToken.objects.get().scopes == [scope]
    else:
        with pytest.raises(Problem):
            factories.make_token(member, scope)


def test_all_means_what_the_role_may_hold(admin: Any) -> None:
    factories.make_token(factories.make_member(admin.workspace, "annotator"), "all")
    assert ApiToken.objects.get().scopes == ["label", "read"]


def test_a_key_loses_what_its_person_loses(admin: Any) -> None:
    member = factories.make_member(admin.workspace)
    key = factories.make_token(member, "admin", "read")
    people.change_role(admin, membership=member.membership, role="annotator")
    client = factories.Api(key, Client())
    assert client.get("members").status_code == 403
    assert client.get("policies").status_code == 200


@pytest.mark.parametrize("scopes", [[], ["root"], ["all", "admin", "x"], ["check", "everything"]])
def test_a_scope_that_there_is_not_is_refused(admin: Any, scopes: list[str]) -> None:
    actor = task_actor(admin.workspace, "t")
    with pytest.raises(Problem):
        tokens.issue_token(actor, membership=admin.membership, name="x", scopes=scopes)


@pytest.mark.parametrize("days", [0, -1, 366, 10**9])
def test_a_key_lives_1_to_365_days(admin: Any, days: int) -> None:
    body = {"member": str(admin.membership_id), "name": "x", "scopes": ["read"], "days": days}
    answer = factories.Api("", factories.page_client(admin)).post("tokens", body)
    assert answer.status_code == 400


def test_a_key_lives_90_days_by_default(admin: Any) -> None:
    factories.make_token(admin)
    left = ApiToken.objects.get().expires_at - timezone.now()
    assert timedelta(days=89) < left <= timedelta(days=90)


def test_no_key_makes_keys(admin: Any) -> None:
    client = factories.api(admin)
    body = {"member": str(admin.membership_id), "name": "x", "scopes": ["read"]}
    assert client.post("tokens", body).status_code == 403
    assert ApiToken.objects.count() == 1


def test_a_key_to_send_rows_needs_no_other_scope(admin: Any) -> None:
    owner = factories.make_member(admin.workspace, "owner")
    factories.make_policy(owner)
    client = factories.api(owner, "ingest")
    kind = {"Content-Type": "application/x-ndjson"}
    path = "imports?policy=doses&source=x"
    assert client.call("POST", path, '{"output": "x"}', **kind).status_code == 202
    assert client.get("policies").status_code == 403


def test_a_key_to_label_needs_no_other_scope(admin: Any) -> None:
    owner = factories.make_member(admin.workspace, "owner")
    policy = factories.make_policy(owner)
    factories.import_rows(owner, policy, factories.rows(3))
    client = factories.api(owner, "label")
    lease = client.post("policies/doses/queue/next").json()["lease"]
    assert client.post("labels", {"lease": lease, "verdict": "unsure"}).status_code == 201
    assert client.get("labels?policy=doses").status_code == 403


def test_all_that_a_check_asks_of_a_token_is_read_with_it(
    admin: Any, django_assert_num_queries: Any
) -> None:
    actor = tokens.actor_of(factories.make_token(admin))
    assert actor is not None
    with django_assert_num_queries(0):
        assert not actor.is_canary
        assert actor.label


def test_use_is_noted_at_most_once_in_five_minutes(
    admin: Any, django_assert_num_queries: Any
) -> None:
    key = factories.make_token(admin)
    assert tokens.actor_of(key) is not None
    first = ApiToken.objects.get().last_used_at
    with django_assert_num_queries(1):
        tokens.actor_of(key)
    assert ApiToken.objects.get().last_used_at == first


# --- repeated writes ------------------------------------------------------------------------


def test_the_same_write_with_the_same_key_is_answered_the_same(admin: Any) -> None:
    client = factories.api(admin)
    body = {"slug": "a", "name": "A"}
    one = client.post("policies", body, **{"Idempotency-Key": "k"})
    two = client.post("policies", body, **{"Idempotency-Key": "k"})
    assert one.status_code == two.status_code == 201
    assert one.json() == two.json()


def test_another_write_with_the_same_key_is_refused(admin: Any) -> None:
    client = factories.api(admin)
    client.post("policies", {"slug": "a", "name": "A"}, **{"Idempotency-Key": "k"})
    answer = client.post("policies", {"slug": "b", "name": "B"}, **{"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_a_write_that_is_still_running_is_not_done_twice(admin: Any) -> None:
    client = factories.api(admin)
    body = {"slug": "a", "name": "A"}
    client.post("policies", body, **{"Idempotency-Key": "k"})
    IdempotencyKey.objects.update(status=None, answer=None)
    answer = client.post("policies", body, **{"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_busy")


def test_a_write_that_died_is_done_again(admin: Any) -> None:
    client = factories.api(admin)
    body = {"slug": "a", "name": "A"}
    client.post("policies", body, **{"Idempotency-Key": "k"})
    long_ago = timezone.now() - timedelta(minutes=5)
    IdempotencyKey.objects.update(status=None, answer=None, created_at=long_ago)
    again = client.post("policies", body, **{"Idempotency-Key": "k"})
    assert again.json()["code"] == "slug_taken"  # so it ran
    assert client.post("policies", body, **{"Idempotency-Key": "k"}).json() == again.json()


def test_of_two_retries_one_takes_the_place_of_a_write_that_died(admin: Any) -> None:
    IdempotencyKey.objects.create(membership=admin.membership, key="k", request_digest=b"1")
    one, two = IdempotencyKey.objects.get(), IdempotencyKey.objects.get()
    later = timezone.now() + timedelta(minutes=3)
    assert [held(entry).update(created_at=later) for entry in (one, two)] == [1, 0]


def test_a_key_is_forgotten_after_a_day(admin: Any) -> None:
    client = factories.api(admin)
    client.post("policies", {"slug": "a", "name": "A"}, **{"Idempotency-Key": "k"})
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    answer = client.post("policies", {"slug": "b", "name": "B"}, **{"Idempotency-Key": "k"})
    assert answer.status_code == 201


def test_answers_kept_for_repeated_writes_are_deleted_after_a_day(admin: Any) -> None:
    client = factories.api(admin)
    for slug in ("a", "b"):
        client.post("policies", {"slug": slug, "name": slug}, **{"Idempotency-Key": slug})
    IdempotencyKey.objects.filter(key="a").update(created_at=timezone.now() - timedelta(hours=25))
    assert idempotency.delete_expired() == 1
    assert IdempotencyKey.objects.get().key == "b"


def test_two_people_may_use_the_same_key(admin: Any) -> None:
    other = factories.make_member(admin.workspace)
    for number, person in enumerate((admin, other)):
        body = {"slug": f"p{number}", "name": "P"}
        answer = factories.api(person).post("policies", body, **{"Idempotency-Key": "k"})
        assert answer.status_code == 201


def test_a_refusal_is_replayed_too(admin: Any) -> None:
    client = factories.api(admin)
    one = client.post("policies", {"slug": "A B", "name": "A"}, **{"Idempotency-Key": "k"})
    two = client.post("policies", {"slug": "A B", "name": "A"}, **{"Idempotency-Key": "k"})
    assert one.status_code == two.status_code == 400


@pytest.mark.parametrize("key", ["x" * 201, "a\x00b"])
def test_a_key_that_cannot_be_kept_is_refused(admin: Any, key: str) -> None:
    answer = factories.api(admin).post("policies", {}, **{"Idempotency-Key": key})
    assert answer.status_code == 400


def test_what_is_shown_once_is_not_kept_for_the_replay(admin: Any) -> None:
    client = factories.Api("", factories.page_client(admin))
    person = {"email": "new@x.example", "role": "annotator"}
    password = client.post("members", person, **{"Idempotency-Key": "m"}).json()[
        "one_time_password"
    ]
    token = {"member": str(admin.membership_id), "name": "x", "scopes": ["read"]}
    assert "token" in client.post("tokens", token, **{"Idempotency-Key": "t"}).json()
    sealed = IdempotencyKey.objects.values_list("answer", flat=True)
    kept = [unseal(admin.workspace, "idempotency", bytes(answer)) for answer in sealed]
    assert "one_time_password" not in kept[0]
    assert "token" not in kept[1]
    assert not any(password.encode() in bytes(answer) for answer in sealed)
    again = client.post("tokens", token, **{"Idempotency-Key": "t"})
    assert again.status_code == 201
    assert "token" not in again.json()
    assert ApiToken.objects.count() == 1


def test_a_refused_form_keeps_what_was_typed(admin: Any) -> None:
    answer = factories.page_client(admin).post(
        f"/people/{admin.membership_id}/tokens/",
        {"name": "the bot", "scopes": ["check"], "days": "400", "checks_per_second": "250"},
    )
    page = " ".join(answer.content.decode().split())
    assert answer.status_code == 400
    for kept in ('value="the bot"', 'value="check" checked', 'value="400"', 'value="250"'):
        assert kept in page


def test_a_database_that_is_away_is_not_asked_for_every_request(
    admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = factories.make_token(admin)
    asked = []

    def away(prefix: str) -> None:
        asked.append(prefix)
        raise OperationalError

    monkeypatch.setattr(tokens, "KNOWN_FOR", 0.0)
    assert tokens.known_actor_of(key)
    monkeypatch.setattr(tokens, "_find", away)
    assert all(tokens.known_actor_of(key) for _ in range(5))
    assert len(asked) == 1


def test_a_database_that_stays_away_leaves_no_token_known(
    admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = factories.make_token(admin)
    assert tokens.known_actor_of(key)
    for name in ("KNOWN_FOR", "KNOWN_WITHOUT_DATABASE", "ASKED_AGAIN"):
        monkeypatch.setattr(tokens, name, -100.0)
    tokens._known.update({name: replace(one, again=0.0) for name, one in tokens._known.items()})

    def away(prefix: str) -> None:
        raise OperationalError

    monkeypatch.setattr(tokens, "_find", away)
    with pytest.raises(OperationalError):
        tokens.known_actor_of(key)


def test_who_has_left_gets_no_token(admin: Any) -> None:
    gone = factories.make_member(admin.workspace, "annotator")
    people.deactivate_member(admin, membership=gone.membership)
    gone.membership.refresh_from_db()
    with pytest.raises(Problem, match="has left"):
        tokens.issue_token(admin, membership=gone.membership, name="x", scopes=["label"])
