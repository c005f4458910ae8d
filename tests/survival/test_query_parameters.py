"""Parameters that reach for the database: refused, or as if they were not there."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.hashers import make_password
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

from tests.survival.conftest import World
from tests.survival.world import routes

pytestmark = pytest.mark.django_db
HOSTILE = {
    "user__password__startswith": "pbkdf2",
    "membership__user__password__regex": "^p",
    "workspace__memberships__user__password__startswith": "p",
    "annotator__user__password__contains": "p",
    "created_by__user__email__regex": ".",
    "owner__auth_token": "x",
    "policy__workspace__split_key__gt": "0",
    "digest__startswith": "a",
    "_connector": "OR 1=1) --",
    "_negated": "true",
    "ordering": "user__password",
    "order_by": "-membership__user__password",
    "sort": "owner__auth_token",
    "slug__regex": "(a+)+$",
    "name__iregex": "((a+)+)+$",
    "id__in": "1,2,3",
    "pk": "abc",
    "workspace": "other",
    "workspace_id": "018f0000-0000-7000-8000-000000000000",
    "fields": "user.password",
    "expand": "membership.user",
    "include": "password",
    "limit": "999999999",
    "offset": "-1",
    "where": "1=1",
    "extra": "select pg_sleep(9)",
    "distinct": "password",
    "values": "password",
    "annotate": "x",
    "__class__": "x",
    "filter": '{"user__password__startswith": "p"}',
}
API_LISTS = [
    "api:policies", "api:versions", "api:models", "api:runs", "api:evaluations", "api:examples",
    "api:sources", "api:imports", "api:import_errors", "api:labels", "api:evaluation_items",
    "api:members", "api:tokens", "api:audit", "api:decisions",
    "api:incidents", "api:canaries", "api:cases", "api:exceptions", "api:guardrail_versions",
]  # fmt: skip
PAGE_LISTS = [
    "home", "policies:list", "labeling:choose", "labeling:labels", "corpus:data",
    "accounts:people", "accounts:audit", "training:list", "evidence:evidence",
    "evidence:evaluation", "guardrails:guardrail", "guardrails:exceptions", "evidence:cases",
    "runtime:decisions", "runtime:incidents",
]  # fmt: skip


def test_every_list_of_the_api_is_tried_here() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    lists = {
        path
        for path, methods in schema["paths"].items()
        if any(p["name"] == "cursor" for p in methods.get("get", {}).get("parameters", []))
    }
    tried = set()
    for route in API_LISTS:
        names = {name: f"{{{name}}}" for name in routes()[route]}
        zeros = {"number": 0}.get
        sample = {n: zeros(n, "x" if n == "slug" else UUID(int=0)) for n in names}
        url = reverse(route, kwargs=sample)
        for name, mark in names.items():
            url = url.replace(f"/{sample[name]}", f"/{mark}", 1)
        tried.add(url)
    assert tried == lists


def same(one: Any, two: Any) -> bool:
    def plain(answer: Any) -> bytes:
        body = re.sub(rb"[A-Za-z0-9]{64}", b"", answer.content)
        return re.sub(rb'"request_id":"\w+"|\d+(\.\d+)? (s|seconds?) ago|seen=\w+', b"", body)

    return one.status_code == two.status_code and plain(one) == plain(two)


@pytest.mark.parametrize("actor", ["annotator", "owner", "admin"])
@pytest.mark.parametrize("route", API_LISTS)
def test_a_list_of_the_api_refuses_what_it_does_not_know(
    world: World, route: str, actor: str
) -> None:
    url = reverse(route, kwargs=world.own.arguments(route))
    query = {"policy": world.own.policy.slug} if route in ("api:examples", "api:labels") else {}
    client = world.callers[actor].client
    without = client.get(url, query)
    for name, value in HOSTILE.items():
        answer = client.get(url, {**query, name: value})
        assert answer.status_code == 400 or same(answer, without), (name, answer.status_code)


@pytest.mark.parametrize("route", PAGE_LISTS)
def test_a_page_with_a_list_is_the_same_with_what_it_does_not_know(
    world: World, route: str
) -> None:
    url = reverse(route, kwargs=world.own.arguments(route))
    client = world.callers["admin"].client
    without = client.get(url)
    assert without.status_code == 200
    for name, value in HOSTILE.items():
        answer = client.get(url, {name: value})
        assert answer.status_code == 400 or same_rows(answer, without), name


def same_rows(one: Any, two: Any) -> bool:
    """Whether two pages show the same; links may repeat what was asked."""

    def plain(answer: Any) -> str:
        body = re.sub(r"[A-Za-z0-9]{64}", "", answer.content.decode())
        return re.sub(r'(href|value|action|next)="[^"]*"', "", body)

    return one.status_code == two.status_code and plain(one) == plain(two)


@pytest.mark.parametrize("route", API_LISTS)
def test_a_planted_password_cannot_be_read_letter_by_letter(world: World, route: str) -> None:
    user = world.own.people["admin"].user
    type(user).objects.filter(pk=user.pk).update(password=make_password("canary"))
    url = reverse(route, kwargs=world.own.arguments(route))
    query = {"policy": world.own.policy.slug} if route in ("api:examples", "api:labels") else {}
    client = world.callers["annotator"].client
    paths = ("user__password", "membership__user__password", "annotator__user__password")
    for path in paths:
        for operator in ("startswith", "regex", "contains", "gte"):
            answers = {
                client.get(url, {**query, f"{path}__{operator}": letter}).status_code
                for letter in ("p", "z")
            }
            assert len(answers) == 1
