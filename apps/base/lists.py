"""Lists over the API: cursors as links, typed query parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.request import Request

from apps.base.keyset import MAXIMUM_PAGE_SIZE, PAGE_SIZE, Page
from apps.base.problems import Problem


def precondition(*, required: bool) -> OpenApiParameter:
    """How the schema describes If-Match."""
    return OpenApiParameter(
        "If-Match",
        str,
        OpenApiParameter.HEADER,
        required=required,
        description="The draft's revision as you saw it (its ETag), or *.",
    )


class ListQuery(serializers.Serializer):
    """The query parameters every list takes."""

    cursor = serializers.CharField(required=False, allow_blank=True, default="", max_length=2000)
    page_size = serializers.IntegerField(
        required=False, min_value=1, max_value=MAXIMUM_PAGE_SIZE, default=PAGE_SIZE
    )


def cursor_of(text: str) -> str:
    """A cursor as it was given out, whether its bearer cut it out of the link or not."""
    if "cursor=" in text:
        return parse_qs(urlsplit(text).query).get("cursor", [""])[0]
    return text


def list_answer(
    request: Request, page: Page[Any], show: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """{results, next, previous}: the links to walk the list with, null at its ends."""
    return {
        "results": [show(row) for row in page.rows],
        "next": _link(request, page.next),
        "previous": _link(request, page.previous),
    }


def _link(request: Request, cursor: str) -> str | None:
    if not cursor:
        return None
    query = {**request.query_params.dict(), "cursor": cursor}
    return request.build_absolute_uri(f"{request.path}?{urlencode(query)}")


def if_match_given(request: Request, *, needed: bool = False) -> int | None:
    """The revision that somebody saw, where they say so, or where it is needed."""
    return if_match(request) if needed or "If-Match" in request.headers else None


def if_match(request: Request) -> int | None:
    """The revision that an edit starts from; None (If-Match: *) writes over whatever is there.

    Raises:
        Problem: 428 without one.
    """
    text = request.headers.get("If-Match", "").strip().strip('"')
    if text == "*":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise Problem(
            "Send If-Match with the draft's revision (its ETag), or If-Match: * to overwrite.",
            code="precondition_required",
            status=428,
        )
    return int(text)
