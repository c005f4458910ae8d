"""Headers on every answer, and the input gate in front of every request."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from threading import Lock
from typing import Any
from urllib.parse import unquote_to_bytes

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import RawPostDataException, UnreadablePostError
from django_htmx.middleware import HtmxMiddleware

from apps.accounts.actor import Actor
from apps.accounts.endpoint import problem_response
from apps.accounts.middleware import CurrentWorkspace
from apps.base.gate import check_form, check_text
from apps.base.problems import Problem
from apps.corpus.reading import MAXIMUM_PACKED

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    ]
)
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
JSON = frozenset({"application/json"})
DRAINED = 2**20
LARGEST_FORM = MAXIMUM_PACKED + 2**20
LARGEST_UNKNOWN = 2**14
READER_SECONDS = 0.25
_reader = Lock()
BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})

Answer = Callable[[HttpRequest], HttpResponseBase]


class SecurityHeaders:
    """Content-Security-Policy without inline code, and a request id on every answer.

    As the outermost it also reads what no view did of a request's body.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]
        response = self.get_response(request)
        _drain(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault(
            "Permissions-Policy", "camera=(), geolocation=(), microphone=()"
        )
        response.headers["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        return response


class Pages:
    """What pages need: a session, its person and workspace, messages, htmx.

    A request that brings a token needs none of them, and production waits for its answer.
    """

    def __init__(self, get_response: Answer) -> None:
        self.by_token = get_response
        self.of_page: Answer = reduce(lambda inner, outer: outer(inner), _OF_PAGES, get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "Authorization" in request.headers and request.path_info.startswith(("/api/", "/v1/")):
            request.actor = None  # type: ignore[attr-defined]
            return self.by_token(request)
        return self.of_page(request)


# the innermost first
_OF_PAGES: tuple[Callable[[Any], Any], ...] = (
    CurrentWorkspace,
    HtmxMiddleware,
    MessageMiddleware,
    AuthenticationMiddleware,
    SessionMiddleware,
)


def _drain(request: HttpRequest) -> None:
    """Read a body that was not wanted, where it is small.

    The server closes a connection on which one stays, under a caller that means to use it again.
    Nobody waits for the body of somebody unknown: a few who never end would hold every thread.
    """
    if not isinstance(getattr(request, "actor", None) or getattr(request, "user", None), Actor):
        return
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and 0 < int(length) <= DRAINED:
        with suppress(RawPostDataException, UnreadablePostError, RequestDataTooBig):
            request.body  # noqa: B018


class InputGate:
    """Refuse what no view should have to think about, before any view runs (safety.md 3.2)."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            self._check_head(request)
        except Problem as problem:
            return problem_response(request, problem)
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        try:
            if request.method not in BODILESS:
                _check_media_type(request, view)
            if request.content_type in FORMS and request.method == "POST":
                _check_size(request)
                if _is_unknown(request):
                    if not getattr(view, "reads_unknown", False):
                        # its view sends them away; nor may the CSRF check read what they send
                        request.csrf_processing_done = True  # type: ignore[attr-defined]
                        return None
                    _read_alone(request)
                if request.content_type == "application/x-www-form-urlencoded":
                    _check_utf8(request.body.replace(b"+", b" "))
                check_form(request.POST)
        except Problem as problem:
            return problem_response(request, problem)
        return None

    def _check_head(self, request: HttpRequest) -> None:
        if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
            raise Problem(
                "Send Content-Length; chunked bodies are not taken.", code="length", status=411
            )
        try:
            check_text(request.path)
            _check_utf8(request.META.get("QUERY_STRING", "").encode("latin-1", "replace"))
            check_form(request.GET)
        except Problem as problem:
            problem.status = 400
            raise


def _is_unknown(request: HttpRequest) -> bool:
    """Whether nobody is signed in: who brings a token is asked for it by the route itself."""
    return not isinstance(getattr(request, "actor", None), Actor)


def _read_alone(request: HttpRequest) -> None:
    """Read what somebody unknown sends, one at a time.

    The server waits for a body however slowly it comes, and a few who never end would hold every
    thread: so they hold one.
    """
    if not _reader.acquire(timeout=READER_SECONDS):
        raise Problem("Many are signing in; try again in a moment.", code="busy", status=503)
    try:
        request.body  # noqa: B018
    finally:
        _reader.release()


def _check_size(request: HttpRequest) -> None:
    """Refuse a form that is too large before anything of it is read, or written to a disk."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    named = "Authorization" in request.headers or not _is_unknown(request)
    if length.isdecimal() and int(length) > (LARGEST_FORM if named else LARGEST_UNKNOWN):
        raise Problem("This is too large to be sent as a form.", code="too_large", status=413)


def _check_media_type(request: HttpRequest, view: Any) -> None:
    charset = (request.content_params or {}).get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        raise Problem("Send UTF-8.", code="charset", status=415)
    if request.META.get("CONTENT_LENGTH") in (None, "", "0"):
        return
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("Send the body as it is, uncompressed.", code="encoding", status=415)
    accepted = _accepted(request, view)
    if request.content_type and request.content_type not in accepted:
        raise Problem(f"Send one of: {', '.join(sorted(accepted))}.", code="media_type", status=415)


def _check_utf8(quoted: bytes) -> None:
    """Refuse what Django would turn into replacement characters in silence."""
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError as error:
        raise Problem(f"Not UTF-8: byte {error.start} is wrong.", code="encoding") from None


def _accepted(request: HttpRequest, view: Any) -> frozenset[str]:
    named = getattr(getattr(view, "view_class", view), "accepts", None)
    if named is not None:
        return frozenset(named)
    return JSON if request.path_info.startswith(("/api/", "/v1/")) else FORMS
