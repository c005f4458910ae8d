"""The check that nearly every caller sends, answered before the rest of the framework runs.

Routing, content negotiation, sessions and serializers cost more than judging a text does. A check
of one text with a known token needs none of them; whatever is unusual about a request leaves it
to the route, which takes every request that this takes and gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from apps.accounts.authentication import bearer_key
from apps.accounts.endpoint import document_of
from apps.accounts.permissions import allowed
from apps.accounts.tokens import known_actor_of
from apps.base.gate import parse_json
from apps.base.problems import Problem
from apps.runtime import serializers as shapes
from apps.runtime.checking import check
from apps.runtime.endpoint import let_in, limit_headers, take

PATH = "/api/v1/check"
JSON = "application/json"
MOST_BYTES = 2**17
"""Of a body; a larger one goes to the route, which asks its token's limit before it reads it."""
_JSON_IN_UTF8 = frozenset({JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=utf-8"})
_UNUSUAL = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING", "HTTP_IDEMPOTENCY_KEY"})


class Express:
    """Middleware that answers what is usual, and passes on what is not untouched."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = None
        if request.path_info == PATH and _usual(request):
            answer = _answer(request)
        return self.get_response(request) if answer is None else answer


def _usual(request: HttpRequest) -> bool:
    """Whether nothing but the token and the body needs to be looked at."""
    sent = request.META
    length = sent.get("CONTENT_LENGTH") or ""
    return (
        request.method == "POST"
        and sent.get("CONTENT_TYPE", "").lower() in _JSON_IN_UTF8
        and length.isdecimal()
        and len(length) <= len(str(MOST_BYTES))
        and 0 < int(length) <= MOST_BYTES
        and not sent.get("QUERY_STRING")
        and _takes_json(sent.get("HTTP_ACCEPT", "*/*"))
        and _UNUSUAL.isdisjoint(sent)
        and bool(request.get_host())  # raises where the host is none of ours
    )


def _takes_json(accept: str) -> bool:
    """Whether plain JSON is among what a caller takes; JSON may be asked for indented, too."""
    kinds = {kind.strip() for kind in accept[:1000].split(",")}
    return not kinds.isdisjoint(("*/*", JSON)) and "indent" not in accept


def _answer(request: HttpRequest) -> HttpResponse | None:
    """The answer; None where the route has to say what is missing."""
    taken = None
    try:
        actor = known_actor_of(bearer_key(request) or "")
        content = _content(request) if allowed(actor, "check.run") else None
        if actor is None or content is None:
            return None
        taken = take(actor)
        let_in(taken)
        key = content.get("context", {}).get("key", "")
        checked = check(actor, stage=content["stage"], content=content, key=key)
        status, media_type, body = 200, JSON, orjson.dumps(shapes.finished(checked))
    except Exception as error:  # what it is, the route would say in the same words
        document = document_of(request, error)
        status, media_type = document["status"], "application/problem+json"
        body = orjson.dumps(document)
    headers = {"Content-Length": str(len(body)), **limit_headers(taken)}
    return HttpResponse(body, media_type, status=status, headers=headers)


def _content(request: HttpRequest) -> dict[str, Any] | None:
    """A body of one text and its stage."""
    try:
        data = parse_json(request.body)
    except Problem:
        return None
    return data if shapes.is_plain(data) else None
