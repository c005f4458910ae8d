"""Every answer of every route carries the security headers, refused ones as well."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from guardrails_site.middleware import CONTENT_SECURITY_POLICY
from tests.survival.conftest import World
from tests.survival.world import METHODS, routes

pytestmark = pytest.mark.django_db
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def check(answer: Any) -> None:
    found = {name: answer.get(name) for name in HEADERS}
    assert found == HEADERS
    assert len(answer["X-Request-Id"]) == 32


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert set(rules.values()) == {"'none'", "'self'"}


@pytest.mark.parametrize("actor", ["anonymous", "annotator", "admin"])
@pytest.mark.parametrize("route", sorted(routes()))
def test_every_answer_of_a_route_carries_them(world: World, route: str, actor: str) -> None:
    for method in METHODS if actor == "admin" else ("GET", "POST"):
        check(world.send(actor, route, method, world.own.arguments(route)))


@pytest.mark.parametrize(
    ("method", "url", "options"),
    [
        ("GET", "/nowhere/", {}),
        ("GET", "/api/v1/nowhere", {}),
        ("GET", "/sign-in/?a=%00", {}),
        ("GET", "/sign-in/?a=%ff", {}),
        ("POST", "/sign-in/", {"content_type": "application/json"}),
        ("POST", "/api/v1/policies", {"content_type": "text/xml", "data": "<a/>"}),
        ("POST", "/api/v1/policies", {"headers": {"Transfer-Encoding": "chunked"}}),
        ("GET", "/sign-in/", {"headers": {"Host": "evil.example"}}),
        ("OPTIONS", "/api/v1/policies", {}),
        ("HEAD", "/sign-in/", {}),
        ("TRACE", "/sign-in/", {}),
        ("GET", "/policies", {}),
    ],
)
def test_a_refusal_before_any_view_carries_them(
    method: str, url: str, options: dict[str, Any]
) -> None:
    check(Client(raise_request_exception=False).generic(method, url, **options))


def test_a_failure_of_ours_carries_them_and_says_nothing_of_the_data(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.policies import services

    def fail(*given: Any, **options: Any) -> None:
        raise RuntimeError("canary4711")

    monkeypatch.setattr(services, "create_policy", fail)
    client = world.callers["admin"].client
    with transaction.atomic():
        api = client.post("/api/v1/policies", '{"slug": "a", "name": "a"}', "application/json")
        page = client.post("/policies/new/", {"slug": "a", "name": "a"})
        transaction.set_rollback(True)
    for answer in (api, page):
        assert answer.status_code == 500
        check(answer)
        assert b"canary4711" not in answer.content


def test_private_answers_vary_by_cookie(world: World) -> None:
    answer = world.callers["admin"].client.get("/policies/")
    assert "Cookie" in answer["Vary"]


def test_a_downloaded_file_is_an_attachment(world: World) -> None:
    url = reverse("corpus:rejected_rows", kwargs=world.own.arguments("corpus:rejected_rows"))
    answer = world.callers["admin"].client.get(url)
    assert answer["Content-Disposition"].startswith("attachment;")
    assert answer.getvalue().decode().splitlines()[0] == "row,reason"
