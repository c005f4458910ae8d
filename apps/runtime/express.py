"""The check that nearly every caller sends, answered before the rest of the framework runs.

Routing, content negotiation, sessions and serializers cost more than judging a text does. A check
of one text with a known token needs none of them; whatever is unusual about a request leaves it
to the route, which takes every request that this takes and gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from apps.accounts.actor import Actor
from apps.accounts.endpoint import document_of
from apps.accounts.permissions import allowed
from apps.accounts.tokens import known_actor_of
from apps.base.gate import MAXIMUM_JSON_BYTES, parse_json
from apps.base.problems import Problem
from apps.runtime import serializers as shapes
from apps.runtime.checking import check
from apps.runtime.endpoint import let_in, limit_headers, take

PATH = "/api/v1/check"
JSON = "application/json"
_UNUSUAL = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_IDEMPOTENCY_KEY"})


class Express:
    """Middleware that answers what is usual, and passes on what is not untouched."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info == PATH and _usual(request):
            actor = _caller(request)
            content = _content(request) if actor else None
            if actor and content:
                return _answer(request, actor, content)
        return self.get_response(request)


def _usual(request: HttpRequest) -> bool:
    """Whether nothing but the token and the body needs to be looked at."""
    sent = request.META
    length = sent.get("CONTENT_LENGTH") or ""
    accepted = sent.get("HTTP_ACCEPT", "*/*")
    charset = (request.content_params or {}).get("charset", "utf-8")
    return (
        request.method == "POST"
        and request.content_type == JSON
        and charset.lower() == "utf-8"
        and length.isdecimal()
        and 0 < int(length) <= MAXIMUM_JSON_BYTES
        and not sent.get("QUERY_STRING")
        and ("*/*" in accepted or JSON in accepted)
        and _UNUSUAL.isdisjoint(sent)
        and bool(request.get_host())  # raises where the host is none of ours
    )


def _caller(request: HttpRequest) -> Actor | None:
    """Who brings a token that may check."""
    kind, _, key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    try:
        actor = known_actor_of(key.strip()) if kind.lower() == "bearer" else None
    except DatabaseError:
        return None
    return actor if allowed(actor, "check.run") else None


def _content(request: HttpRequest) -> dict[str, Any] | None:
    """A body of one text and its stage."""
    try:
        data = parse_json(request.body)
    except Problem:
        return None
    return data if shapes.is_plain(data) else None


def _answer(request: HttpRequest, actor: Actor, content: dict[str, Any]) -> HttpResponse:
    taken = take(actor)
    try:
        let_in(taken)
        answer = shapes.finished(check(actor, stage=content["stage"], content=content))
        status, media_type = 200, JSON
    except Exception as error:  # what it is, the route would say in the same words
        answer = document_of(request, error)
        status, media_type = answer["status"], "application/problem+json"
    return HttpResponse(
        orjson.dumps(answer), media_type, status=status, headers=limit_headers(taken)
    )
