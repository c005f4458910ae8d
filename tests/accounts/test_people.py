"""Signing in, sessions, passwords, and who stays admin."""

from __future__ import annotations

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.accounts import people
from apps.accounts.actor import task_actor
from apps.accounts.models import Membership, SignInAttempts
from apps.base.problems import Problem
from tests import factories

PASSWORD = "correct horse battery staple"


@pytest.fixture
def person(db: None) -> Any:
    """An admin with a password."""
    member = factories.make_member(factories.make_workspace(), email="ada@x.example")
    member.user.set_password(PASSWORD)
    member.user.save()
    return member


def sign_in(client: Client, password: str = PASSWORD, email: str = "ada@x.example") -> Any:
    return client.post("/sign-in/", {"email": email, "password": password})


def is_in(client: Client) -> bool:
    return client.get("/password/").status_code == 200


def test_the_right_password_lets_in(person: Any) -> None:
    client = Client()
    assert sign_in(client).status_code == 302
    assert is_in(client)


def test_the_address_is_the_same_in_any_case(person: Any) -> None:
    client = Client()
    sign_in(client, email="ADA@X.example")
    assert is_in(client)


def test_an_unknown_person_and_a_wrong_password_are_answered_alike(person: Any) -> None:
    wrong = sign_in(Client(), "wrong")
    unknown = sign_in(Client(), "wrong", "nobody@x.example")
    assert wrong.status_code == unknown.status_code == 403
    message = "E-mail and password do not match an active person."
    assert message in wrong.content.decode()
    assert message in unknown.content.decode()


def test_the_session_id_changes_at_sign_in(person: Any) -> None:
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = planted
    sign_in(client)
    assert client.cookies["sessionid"].value != planted
    stranger = Client()
    stranger.cookies["sessionid"] = planted
    assert not is_in(stranger)


def test_signing_out_ends_the_session_on_the_server(person: Any) -> None:
    client = Client()
    sign_in(client)
    kept = client.cookies["sessionid"].value
    client.post("/sign-out/")
    thief = Client()
    thief.cookies["sessionid"] = kept
    assert not is_in(thief)


def test_a_changed_password_ends_the_other_sessions_only(person: Any) -> None:
    here, there = Client(), Client()
    sign_in(here)
    sign_in(there)
    new = "another long password 17"
    here.post("/password/", {"current": PASSWORD, "new": new})
    assert is_in(here)
    assert not is_in(there)
    assert sign_in(Client()).status_code == 403
    assert sign_in(Client(), new).status_code == 302


def test_a_password_is_not_changed_without_the_current_one(person: Any) -> None:
    client = Client()
    sign_in(client)
    client.post("/password/", {"current": "wrong", "new": "another long password 17"})
    assert sign_in(Client()).status_code == 302


@pytest.mark.parametrize("new", ["short", "password1234", "12345678901", "ada@x.example", ""])
def test_a_weak_password_is_refused(person: Any, new: str) -> None:
    client = Client()
    sign_in(client)
    client.post("/password/", {"current": PASSWORD, "new": new})
    assert sign_in(Client()).status_code == 302


def test_deactivating_a_member_ends_their_session(person: Any) -> None:
    factories.make_member(person.workspace)
    client = Client()
    sign_in(client)
    people.deactivate_member(task_actor(person.workspace, "tests"), membership=person.membership)
    assert not is_in(client)
    assert sign_in(Client()).status_code == 403


# wrong ones that somebody may make for one person from one place, for one person, from one place
@pytest.mark.parametrize(("wrong", "emails", "callers"), [(10, 1, 1), (50, 1, 50), (100, 100, 1)])
def test_many_wrong_passwords_close_the_door_even_to_the_right_one(
    person: Any, wrong: int, emails: int, callers: int
) -> None:
    for number in range(wrong):
        email = "ada@x.example" if emails == 1 else f"n{number}@x.example"
        caller = f"10.0.0.{number if callers > 1 else 1}"
        Client(REMOTE_ADDR=caller).post("/sign-in/", {"email": email, "password": "wrong"})
    caller = "10.0.1.1" if callers > 1 else "10.0.0.1"
    answer = sign_in(Client(REMOTE_ADDR=caller))
    assert answer.status_code == 429
    SignInAttempts.objects.update(window=timezone.now() - timedelta(minutes=16))
    assert sign_in(Client(REMOTE_ADDR=caller)).status_code == 302


def test_a_person_is_not_locked_out_by_whoever_guesses_elsewhere(person: Any) -> None:
    for _ in range(12):
        Client(REMOTE_ADDR="10.0.0.9").post(
            "/sign-in/", {"email": "ada@x.example", "password": "wrong"}
        )
    assert sign_in(Client(REMOTE_ADDR="10.0.0.1")).status_code == 302


def test_right_passwords_are_not_held_against_anybody(person: Any) -> None:
    assert {sign_in(Client()).status_code for _ in range(12)} == {302}


@pytest.mark.parametrize(("proxies", "shut"), [(0, True), (1, False), (2, True)])
def test_a_proxy_of_our_own_says_who_calls(
    person: Any, settings: Any, proxies: int, shut: bool
) -> None:
    settings.PROXIES = proxies
    for number in range(10):
        passed = f"10.9.9.{number}, 10.7.7.7, 10.8.8.{number}"
        Client(headers={"X-Forwarded-For": passed}).post(
            "/sign-in/", {"email": "ada@x.example", "password": "wrong"}
        )
    passed = "10.9.9.99, 10.7.7.7, 10.8.8.99"
    answer = sign_in(Client(headers={"X-Forwarded-For": passed}))
    assert (answer.status_code == 429) is shut


def test_many_wrong_passwords_end_the_changing_of_it(person: Any) -> None:
    client = Client()
    sign_in(client)
    fields = {"current": "wrong", "new": "another-Password-77", "again": "another-Password-77"}
    for _ in range(11):
        said = client.post("/password/", fields).content.decode()
    assert "Too many wrong passwords" in said


def test_failures_of_others_do_not_close_the_door(person: Any) -> None:
    for _ in range(10):
        Client(REMOTE_ADDR="10.0.0.9").post(
            "/sign-in/", {"email": "eve@x.example", "password": "wrong"}
        )
    assert sign_in(Client(REMOTE_ADDR="10.0.0.1")).status_code == 302


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "x"],
)
def test_signing_in_leads_nowhere_else(person: Any, target: str) -> None:
    answer = Client().post(
        "/sign-in/", {"email": "ada@x.example", "password": PASSWORD, "next": target}
    )
    assert answer["Location"] == "/"


def test_cookies_are_for_the_server_only(person: Any) -> None:
    client = Client()
    sign_in(client)
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/sign-in/"), ("POST", "/sign-out/"), ("POST", "/people/"),
        ("POST", "/policies/new/"), ("POST", "/preferences/"), ("POST", "/api/v1/policies"),
        ("PATCH", "/api/v1/policies/x"), ("PUT", "/api/v1/policies/x/draft"),
        ("DELETE", "/api/v1/tokens/018f0000-0000-7000-8000-000000000000"),
    ],
)  # fmt: skip
def test_a_session_without_its_csrf_token_changes_nothing(
    person: Any, method: str, url: str
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(person.user, backend="django.contrib.auth.backends.ModelBackend")
    kind = "application/json" if "api" in url else "application/x-www-form-urlencoded"
    body = "{}" if "api" in url else "a=b"
    assert client.generic(method, url, body, content_type=kind).status_code == 403


# --- roles ----------------------------------------------------------------------------------


def test_the_last_admin_cannot_be_deactivated(person: Any) -> None:
    with pytest.raises(Problem) as caught:
        people.deactivate_member(person, membership=person.membership)
    assert caught.value.code == "last_admin"


@pytest.mark.parametrize("role", ["owner", "annotator"])
def test_the_last_admin_cannot_step_down(person: Any, role: str) -> None:
    with pytest.raises(Problem) as caught:
        people.change_role(person, membership=person.membership, role=role)
    assert caught.value.code == "last_admin"


def test_a_deactivated_admin_does_not_count(person: Any) -> None:
    other = factories.make_member(person.workspace)
    people.deactivate_member(person, membership=other.membership)
    with pytest.raises(Problem):
        people.deactivate_member(person, membership=person.membership)


def test_an_admin_elsewhere_does_not_count(person: Any) -> None:
    factories.make_member(factories.make_workspace())
    with pytest.raises(Problem):
        people.deactivate_member(person, membership=person.membership)


@pytest.mark.django_db(transaction=True)
def test_two_admins_who_demote_each_other_at_once_leave_one() -> None:
    workspace = factories.make_workspace()
    one, two = factories.make_member(workspace), factories.make_member(workspace)
    barrier = threading.Barrier(2)

    def demote(actor: Any, other: Any) -> None:
        barrier.wait()
        try:
            people.change_role(actor, membership=other.membership, role="annotator")
        except Problem:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=demote, args=pair) for pair in ((one, two), (two, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Membership.objects.filter(workspace=workspace, role="admin").count() == 1


def test_a_person_who_is_there_already_is_not_added_twice(person: Any) -> None:
    with pytest.raises(Problem) as caught:
        people.add_member(person, email="ada@x.example", role="annotator")
    assert caught.value.status == 409
    assert Membership.objects.get().role == "admin"


def test_an_account_of_another_workspace_is_not_joined_by_an_admin(person: Any) -> None:
    other = factories.make_member(factories.make_workspace())
    with pytest.raises(Problem) as caught:
        people.add_member(other, email="ada@x.example", role="annotator")
    assert caught.value.code == "account_exists"
    assert Membership.objects.filter(user=person.user).count() == 1


def test_a_command_joins_it_and_its_password_stays(person: Any) -> None:
    other = factories.make_workspace("other")
    call_command("add_member", "ada@x.example", "--workspace", "other", "--role", "owner")
    assert Membership.objects.get(workspace=other).role == "owner"
    assert sign_in(Client()).status_code == 302


@pytest.fixture
def newcomer(person: Any) -> tuple[Client, str]:
    """Somebody who signed in with the one-time password that an admin has seen."""
    _, one_time = people.add_member(person, email="eve@x.example", role="owner")
    client = Client()
    sign_in(client, one_time, "eve@x.example")
    return client, one_time


def choose(client: Client, current: str, new: str) -> str:
    return client.post("/password/", {"current": current, "new": new}).content.decode()


def test_a_one_time_password_opens_only_the_page_to_change_it(newcomer: Any) -> None:
    client, _ = newcomer
    assert client.get("/policies/").headers["Location"] == "/password/"
    assert client.get("/", headers={"HX-Request": "true"}).headers["HX-Redirect"] == "/password/"
    assert client.get("/api/v1/policies").status_code == 403
    assert is_in(client)


def test_with_a_password_of_their_own_everything_is_open(newcomer: Any) -> None:
    client, one_time = newcomer
    choose(client, one_time, "a password of my own")
    assert client.get("/policies/").status_code == 200
    assert client.get("/api/v1/policies").status_code == 200


def test_the_one_time_password_is_no_password_of_their_own(newcomer: Any) -> None:
    client, one_time = newcomer
    assert "Choose another password" in choose(client, one_time, one_time)
    assert client.get("/policies/").status_code == 302


def test_a_password_that_a_command_made_is_for_one_time(person: Any) -> None:
    said = StringIO()
    call_command("new_password", "ada@x.example", stdout=said)
    client = Client()
    sign_in(client, said.getvalue().strip())
    assert client.get("/policies/").headers["Location"] == "/password/"


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_a_token_makes_nobody_more_than_an_annotator(person: Any, role: str) -> None:
    api = factories.api(person, "admin")
    added = api.post("members", {"email": "eve@x.example", "role": "annotator"})
    assert added.status_code == 201
    raised = api.patch(f"members/{added.json()['id']}", {"role": role})
    other = api.post("members", {"email": "mallory@x.example", "role": role})
    assert (raised.status_code, other.status_code) == (403, 403)


def test_whoever_is_signed_out_while_writing_keeps_the_page() -> None:
    answer = Client().post("/policies/doses/edit/", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert "HX-Redirect" not in answer
    assert "Sign in in another tab" in answer.content.decode()
