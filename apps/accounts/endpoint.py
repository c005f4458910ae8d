"""What every API view shares: actor, permission, idempotency, problem documents."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, ClassVar

from cryptography.fernet import InvalidToken
from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError
from django.db.models import QuerySet
from django.http import Http404 as DjangoNotFound
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from rest_framework import exceptions, serializers
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.actor import Actor
from apps.accounts.idempotency import expired
from apps.accounts.models import IdempotencyKey
from apps.accounts.permissions import needed_scope, require
from apps.accounts.sealing import seal, unseal
from apps.base.gate import check_text
from apps.base.keyset import paginate
from apps.base.lists import ListQuery, cursor_of, list_answer
from apps.base.parsers import StrictJSONParser
from apps.base.problems import FieldError, Malformed, NotFound, Problem, UnknownHost

logger = logging.getLogger(__name__)

# longer than any request takes
_DEAD_AFTER = timedelta(minutes=2)
_PURPOSE = "idempotency"
SHOWN_ONCE = frozenset({"token", "one_time_password"})


class _Allowed(BasePermission):
    """Loads the view's target and asks its permission; a method without one answers 405."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.user, Actor):
            raise exceptions.NotAuthenticated("Send Authorization: Bearer gk_..., or sign in.")
        name = view.requires.get(request.method)
        if name is None:
            raise exceptions.MethodNotAllowed(request.method or "")
        view.actor = request.user
        view.target = view.load(request.user, **view.kwargs) if view.load else None
        require(request.user, name, view.target)
        return True


class _Replay(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


class Endpoint(APIView):
    """One API route.

    A subclass says in `requires` which permission each method needs, and in `load` how the
    route's object is found among what the actor can see (raises NotFound). Its handlers find
    `self.actor` and `self.target` checked.
    """

    requires: ClassVar[dict[str, str]] = {}
    load: ClassVar[Callable[..., Any] | None] = None
    accepts: ClassVar[frozenset[str]] = frozenset({"application/json"})
    permission_classes = [_Allowed]
    parser_classes = [StrictJSONParser]
    actor: Actor
    target: Any

    @classmethod
    def scope_of(cls, method: str) -> str:
        """The scope that a token needs for it."""
        return needed_scope(cls.requires[method])

    def page_of(
        self,
        request: Request,
        rows: QuerySet[Any],
        show: Callable[[Any], dict[str, Any]],
        *,
        query: Mapping[str, Any] | None = None,
        order: Sequence[str] = ("-id",),
    ) -> Response:
        """The page of a list that a request asks for; query: what it asked, where that is more."""
        if query is None:
            query = validated(ListQuery, request.query_params.dict())
        cursor = cursor_of(query["cursor"])
        page = paginate(rows, cursor=cursor, size=query["page_size"], order=order)
        return Response(list_answer(request, page, show))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._idempotency: IdempotencyKey | None = None
        key = request.headers.get("Idempotency-Key", "")
        if key and request.method in ("POST", "PUT", "PATCH"):
            self._idempotency = self._claim(request, key)

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, _Replay):
            return exc.response
        return super().handle_exception(exc)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        entry = getattr(self, "_idempotency", None)
        if entry is not None:
            if response.status_code < 500:
                answer = _without_secrets(response.data)
                held(entry).update(
                    status=response.status_code,
                    answer=seal(self.actor.workspace, _PURPOSE, answer),
                )
            else:
                held(entry).delete()
        return super().finalize_response(request, response, *args, **kwargs)

    def _claim(self, request: Request, key: str) -> IdempotencyKey:
        """Take the key for this request, or replay what it answered before."""
        if len(key) > 200:
            raise Problem("An Idempotency-Key has at most 200 characters.", code="idempotency_key")
        check_text(key)
        if request._request.content_type not in ("application/json", ""):
            raise Problem(
                "A file takes no Idempotency-Key: its texts are known by what they say, so send it "
                "again where the answer was lost.",
                code="idempotency_key",
            )
        # another precondition is another request
        precondition = request.headers.get("If-Match", "")
        place = f"{request.method} {request.get_full_path()}\n{precondition}\n".encode()
        digest = hashlib.sha256(place + request.body).digest()
        membership = self.actor.membership
        assert membership is not None
        expired().filter(membership=membership, key=key).delete()
        entry, created = IdempotencyKey.objects.get_or_create(
            membership=membership, key=key, defaults={"request_digest": digest}
        )
        if created:
            return entry
        if bytes(entry.request_digest) != digest:
            raise Problem(
                "This Idempotency-Key was used for another request.",
                code="idempotency_key_reused",
                status=409,
            )
        if entry.status is None:
            now = timezone.now()
            if now - entry.created_at > _DEAD_AFTER and held(entry).update(created_at=now):
                entry.created_at = now
                return entry  # the first one died half-way, and this one alone takes its place
            raise Problem(
                "The first request with this Idempotency-Key is still running.",
                code="idempotency_key_busy",
                status=409,
            )
        try:
            answer = unseal(self.actor.workspace, _PURPOSE, bytes(entry.answer or b""))
        except InvalidToken:
            raise Problem(
                "The answer to this Idempotency-Key cannot be read any more; send a new key.",
                code="idempotency_key_lost",
                status=409,
            ) from None
        kind = "application/problem+json" if entry.status >= 400 else None
        raise _Replay(Response(answer, status=entry.status, content_type=kind))


def held(entry: IdempotencyKey) -> QuerySet[IdempotencyKey]:
    """The key as this request holds it: none where another one has taken its place."""
    return IdempotencyKey.objects.filter(pk=entry.pk, status=None, created_at=entry.created_at)


def _without_secrets(answer: Any) -> Any:
    """An answer as it may be kept: keys and passwords are shown once and never stored."""
    if not isinstance(answer, dict):
        return answer
    return {name: value for name, value in answer.items() if name not in SHOWN_ONCE}


MOST_ERRORS = 20
MOST_ITEMS = 1_000
"""Of a list in a body that has no narrower limit."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def validated(serializer_class: type[serializers.Serializer], data: Any) -> dict[str, Any]:
    """Validate a body or a query against a serializer; unknown names are refused."""
    if not isinstance(data, Mapping):
        raise Problem("Send a JSON object.", code="not_an_object")
    serializer = _made.of(serializer_class)
    if hold := getattr(serializer, "hold", None):
        hold(data)
    known_only(serializer, data)
    return dict(serializer.run_validation(data))


def known_only(serializer: serializers.Serializer, data: Any, pointer: str = "") -> None:
    """Refuse names, at any depth, that nothing reads: a slip must not pass for what was meant."""
    errors = list(islice(_unknown(serializer, data, pointer), MOST_ERRORS))
    if errors:
        raise Problem(
            f"Unknown names were sent. {errors[0].message}", code="unknown_field", errors=errors
        )


def _unknown(field: serializers.Field, data: Any, pointer: str) -> Iterator[FieldError]:
    child = getattr(field, "child", None)
    if isinstance(data, list) and child is not None:
        hold_length(data, getattr(field, "max_length", None) or MOST_ITEMS, pointer)
        for place, item in enumerate(data):
            yield from _unknown(child, item, f"{pointer}/{place}")
    elif isinstance(data, Mapping) and isinstance(field, serializers.Serializer):
        names = field.fields
        for name in sorted(data.keys() - names.keys()):
            if data[name] or not getattr(field, "empty_ignored", False):
                # a name is told back, a text in the place of one is not
                told = name if _NAME.fullmatch(name) else "?"
                yield FieldError(f"{pointer}/{told}", f"Known names: {', '.join(sorted(names))}.")
        for name, inner in names.items():
            if name in data:
                yield from _unknown(inner, data[name], f"{pointer}/{name}")


def hold_length(data: list[Any], most: int, pointer: str) -> None:
    """Refuse a long list at once: serializers look at every item before they count them."""
    if len(data) > most:
        errors = [FieldError(pointer or "/", f"At most {most:,}.")]
        raise Problem(f"At most {most:,} at once.", "too_many", 413, errors=errors)


class _Made(threading.local):
    """Serializers without data, made once a thread: to make one copies all its fields.

    Not one for all threads: a validator works its message out when it is first broken, and two
    threads that break it together would trip over each other.
    """

    def __init__(self) -> None:
        self._made: dict[type[serializers.Serializer], serializers.Serializer] = {}

    def of(self, serializer_class: type[serializers.Serializer]) -> serializers.Serializer:
        if serializer_class not in self._made:
            self._made[serializer_class] = made = serializer_class()
            _tell_choices(made)
        return self._made[serializer_class]


_made = _Made()


def _tell_choices(field: serializers.Field) -> None:
    """Let an error say what may be sent."""
    if isinstance(field, serializers.ChoiceField):
        field.error_messages["invalid_choice"] = f"One of: {', '.join(map(str, field.choices))}."
    for inner in getattr(field, "fields", {}).values():
        _tell_choices(inner)
    if (child := getattr(field, "child", None)) is not None:
        _tell_choices(child)


def problem(exc: Exception, context: dict[str, Any]) -> HttpResponse | Response | None:
    """DRF's exception handler: every failure is a problem document without the caller's text."""
    document = document_of(context["request"]._request, exc)
    # whatever the caller would have liked: a problem is JSON
    context["request"].accepted_renderer = JSONRenderer()
    context["request"].accepted_media_type = JSONRenderer.media_type
    response = Response(
        document, status=document["status"], content_type="application/problem+json"
    )
    if isinstance(exc, (exceptions.NotAuthenticated, exceptions.AuthenticationFailed)):
        response["WWW-Authenticate"] = 'Bearer realm="parapet"'
    return response


def document_of(request: HttpRequest, exc: Exception) -> dict[str, Any]:
    """The problem document of what was raised."""
    return problem_document(request, told(request, exc))


def told(request: HttpRequest, exc: Exception) -> Problem:
    """What was raised as a problem; its reason stands in the log where it is ours."""
    found = as_problem(exc)
    if found.status >= 500:
        # the message of a database error quotes the data, so only its class is logged
        request_id = request.request_id  # type: ignore[attr-defined]
        extra = {"error": type(exc).__name__, "code": found.code, "id": request_id}
        logger.error("request_failed", extra=extra)
    if found.code == "internal":
        logger.exception("request_traceback")
    return found


def as_problem(exc: Exception) -> Problem:
    """What went wrong, as a problem that says so to whoever asked."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, exceptions.ValidationError):
        return Problem("Some fields are wrong.", errors=list(_pointers(exc.detail, "")))
    if isinstance(exc, (DjangoNotFound, exceptions.NotFound)):
        return NotFound()
    if isinstance(exc, (exceptions.NotAuthenticated, exceptions.AuthenticationFailed)):
        return Problem(str(exc.detail), code="not_authenticated", status=401)
    if isinstance(exc, exceptions.APIException):
        code = str(exc.default_code)
        return Problem(str(exc.detail), code=code, status=exc.status_code)
    if isinstance(exc, (DataError, UnicodeError, RecursionError)):
        return Problem("A value in the request cannot be stored.", code="unstorable")
    if isinstance(exc, RequestDataTooBig):
        return Problem("The body is too large.", code="too_large", status=413)
    if isinstance(exc, DisallowedHost):
        return UnknownHost()
    if isinstance(exc, SuspiciousOperation):
        return Malformed()
    if isinstance(exc, IntegrityError):
        return Problem("Somebody changed this at the same moment; try again.", "conflict", 409)
    if isinstance(exc, OperationalError):
        return Problem("The database is busy; try again.", code="busy", status=503)
    return Problem("Parapet failed; the log has the reason.", code="internal", status=500)


def _pointers(detail: Any, pointer: str) -> Any:
    if isinstance(detail, dict):
        for name, value in detail.items():
            here = "" if name == "non_field_errors" else f"/{name}"
            yield from _pointers(value, pointer + here)
    elif isinstance(detail, list) and any(isinstance(item, (dict, list)) for item in detail):
        for position, value in enumerate(detail):
            yield from _pointers(value, f"{pointer}/{position}")
    elif isinstance(detail, list):
        for item in detail:
            yield FieldError(pointer or "/", str(item))
    else:
        yield FieldError(pointer or "/", str(detail))


def problem_document(request: HttpRequest, found: Problem) -> dict[str, Any]:
    """The RFC 9457 members of a problem."""
    return {
        "type": f"about:blank#{found.code}",
        "title": found.code.replace("_", " ").capitalize(),
        "status": found.status,
        "detail": found.detail,
        "code": found.code,
        "errors": [{"pointer": e.pointer, "message": e.message} for e in found.errors],
        "request_id": getattr(request, "request_id", ""),
        **found.extra,
    }


def problem_response(request: HttpRequest, found: Problem) -> HttpResponse:
    """A problem as an answer outside DRF: JSON for the API, a page for people."""
    if request.path_info.startswith(("/api/", "/v1/")):
        return JsonResponse(
            problem_document(request, found),
            status=found.status,
            content_type="application/problem+json",
        )
    from django.shortcuts import render

    return render(request, "problem.html", {"problem": found}, status=found.status)
