"""The short way of a usual check says what the route says, and leaves the rest to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, override_settings

from apps.accounts import tokens
from apps.runtime import api, endpoint, express
from apps.runtime.limits import Taken
from tests import factories
from tests.factories import Api
from tests.runtime.conftest import WORDS, Space, written

GOOD = {"stage": "output", "text": "Ask a nurse."}
BAD = {"stage": "output", "text": "Take two tablets."}
ROUTE_ONLY = [m for m in settings.MIDDLEWARE if m != "apps.runtime.express.Express"]
OF_THE_MOMENT = ("decision_id", "latency_ms", "request_id")
OWN_HEADERS = {"X-Request-Id", "RateLimit-Remaining", "Allow"}

BODIES: dict[str, Any] = {
    "good": GOOD,
    "bad": BAD,
    "conversation": {"stage": "output", "messages": [{"role": "user", "content": "two tablets"}]},
    "policies named": {**GOOD, "policies": ["medical-dosage"]},
    "a policy that is not there": {**GOOD, "policies": ["nowhere"]},
    "no such stage": {**GOOD, "stage": "nowhere"},
    "a stage that is no text": {**GOOD, "stage": ["output"]},
    "an unknown name": {**GOOD, "more": 1},
    "no text": {"stage": "output"},
    "an empty text": {"stage": "output", "text": "  "},
    "a text that is none": {"stage": "output", "text": 5},
    "NUL": {"stage": "output", "text": "a\0b"},
    "a lone surrogate": {"stage": "output", "text": "a\ud800b"},
    "65 kB": {"stage": "output", "text": "x" * 66_000},
    "a list": [GOOD],
    "no JSON": b"{",
    "no UTF-8": b'{"stage": "output", "text": "\xff"}',
    "a long body": {**GOOD, "text": "\u00e9" * 30_000},
    "a name twice": b'{"stage": "output", "text": "a", "text": "b"}',
    "too deep": b"[" * 200,
    "nothing": b"",
}
REQUESTS: dict[str, dict[str, str]] = {
    "another media type": {"Content-Type": "text/plain"},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "another charset": {"Content-Type": "application/json; charset=latin-1"},
    "charset said": {"Content-Type": "application/json; charset=UTF-8"},
    "a page wanted": {"Accept": "text/html"},
    "JSON wanted": {"Accept": "application/json"},
    "JSON among others wanted": {"Accept": "application/json, text/plain, */*"},
    "indented JSON wanted": {"Accept": "application/json; indent=4"},
    "what only looks like JSON wanted": {"Accept": "application/json-seq"},
    "a long list wanted": {"Accept": "text/html, " * 900 + "*/*"},
    "a long media type": {"Content-Type": "application/json; x=" + "y" * 300},
    "a scheme without a key": {"Authorization": "Bearer"},
    "chunked": {"Transfer-Encoding": "chunked"},
    "another host": {"Host": "evil.example"},
    "no such token": {"Authorization": "Bearer gk_x_y_z"},
    "another scheme": {"Authorization": "Basic eDp5"},
    "a small bearer": {"Authorization": "bearer {key}"},
}


def told(response: HttpResponse) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers, without what is of the moment only."""
    body = response.content
    if "json" in response.headers["Content-Type"]:
        data = json.loads(body)
        body = {name: value for name, value in data.items() if name not in OF_THE_MOMENT}
    headers = {n: v for n, v in response.headers.items() if n not in OWN_HEADERS}
    said = headers.pop("Content-Length", "none")
    headers["Length"] = "right" if said == str(len(response.content)) else said
    return response.status_code, body, headers


def both(key: str, data: Any, **headers: str) -> tuple[Any, Any]:
    """What the short way and the route alone say."""
    here = told(Api(key, Client(raise_request_exception=False)).post("check", data, **headers))
    with override_settings(MIDDLEWARE=ROUTE_ONLY):
        there = told(Api(key, Client(raise_request_exception=False)).post("check", data, **headers))
    return here, there


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_answered_as_by_the_route(space: Space, body: str) -> None:
    here, there = both(space.api.key, BODIES[body])
    assert here == there


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_as_by_the_route(space: Space, name: str) -> None:
    key = space.api.key
    headers = {header: value.format(key=key) for header, value in REQUESTS[name].items()}
    here, there = both("" if "Authorization" in headers else key, GOOD, **headers)
    assert here == there


def test_a_token_without_the_scope_is_refused_as_by_the_route(space: Space) -> None:
    here, there = both(factories.api(space.admin, "read").key, GOOD)
    assert here == there
    assert here[0] == 403


def test_an_unfinished_decision_is_told_as_by_the_route(space: Space) -> None:
    space.guard({**WORDS, "kind": "classifier", "rule": "", "settings": {}})
    here, there = both(space.api.key, GOOD)
    assert here == there
    assert (here[0], here[1]["code"]) == (503, "not_finished")


def test_a_refused_check_tells_when_the_next_may_come(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (endpoint, express):
        monkeypatch.setattr(place, "take", lambda actor: Taken(False, 5, 0, 1.2))
    here, there = both(space.api.key, GOOD)
    assert here == there
    assert (here[0], here[2]["Retry-After"]) == (429, "2")


def test_a_failure_of_ours_is_told_as_by_the_route(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a secret text")

    monkeypatch.setattr(express, "check", fail)
    monkeypatch.setattr("apps.runtime.checking.check", fail)
    here, there = both(space.api.key, GOOD)
    assert here == there
    assert (here[0], "secret" in str(here[1])) == (500, False)


def test_a_database_that_is_away_is_told_as_by_the_route(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = space.api.key

    def fail(prefix: str) -> None:
        raise OperationalError("a secret address")

    tokens._known.clear()
    monkeypatch.setattr(tokens, "_find", fail)
    here, there = both(key, GOOD)
    assert here == there
    assert (here[0], "secret" in str(here[1])) == (503, False)


def test_a_usual_check_does_not_reach_the_route_and_is_on_record_once(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    written()
    monkeypatch.setattr(api.Check, "dispatch", None)
    answer = space.api.post("check", BAD)
    assert answer.json()["action"] == "block"
    assert [str(d.pk) for d in written()] == [answer.json()["decision_id"]]


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": "one"}, {"Accept": "text/html"}, {"Content-Type": "text/plain"}]
)
def test_an_unusual_check_reaches_the_route(
    space: Space, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(express, "check", None)
    assert space.api.post("check", GOOD, **headers).json().get("code") != "internal"


def test_a_compressed_body_is_refused_by_what_it_is(space: Space) -> None:
    answer = space.api.post("check", GOOD, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "encoding")


def test_a_wrong_choice_is_told_the_right_ones(space: Space) -> None:
    (error,) = space.api.post("check", {**GOOD, "stage": "outputs"}).json()["errors"]
    assert error == {"pointer": "/stage", "message": "One of: input, output, tool_call, retrieval."}
