"""Keyset pagination: a page costs the same at the millionth row as at the first."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet

from apps.base.gate import parse_json
from apps.base.problems import Problem

M = TypeVar("M")
R = TypeVar("R", bound=Model)
PAGE_SIZE = 50
MAXIMUM_PAGE_SIZE = 200


@dataclass(frozen=True)
class Page(Generic[M]):
    """Rows of one page and the cursors around it ("" where there is no further page)."""

    rows: list[M]
    next: str
    previous: str


def paginate(
    rows: QuerySet[R], *, cursor: str, size: int = PAGE_SIZE, order: Sequence[str] = ("-id",)
) -> Page[R]:
    """One page of `rows` in the given order.

    Args:
        cursor: "" for the first page, else a cursor of an earlier page.
        order: field names, "-" in front for descending, all in one direction; the last one unique.
    """
    names = [name.lstrip("-") for name in order]
    descending = order[0].startswith("-")
    backwards, values = _decode(cursor, len(names))
    rows = rows.order_by(*(map(_flip, order) if backwards else order))
    if values:
        try:
            rows = rows.filter(_after(names, values, "lt" if descending != backwards else "gt"))
            found = list(rows[: size + 1])
        except (ValueError, TypeError, ValidationError):
            raise _bad_cursor() from None
    else:
        found = list(rows[: size + 1])
    more = len(found) > size
    found = found[:size]
    if backwards:
        found.reverse()
    has_next = bool(found) and (backwards or more)
    has_previous = bool(found) and (more if backwards else bool(values))
    return Page(
        rows=found,
        next=_encode(False, found[-1], names) if has_next else "",
        previous=_encode(True, found[0], names) if has_previous else "",
    )


def _flip(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _after(names: list[str], values: list[Any], operator: str) -> Q:
    """(a, b) > (x, y), written so that PostgreSQL can use an index on a."""
    condition = Q()
    for position in range(len(names)):
        equal = dict(zip(names[:position], values[:position], strict=True))
        condition |= Q(**equal, **{f"{names[position]}__{operator}": values[position]})
    return condition


def _encode(backwards: bool, row: Model, names: list[str]) -> str:
    values = [str(getattr(row, name)) for name in names]
    text = json.dumps([int(backwards), *values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, length: int) -> tuple[bool, list[Any]]:
    if not cursor:
        return False, []
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        backwards, *values = parse_json(text)
    except (binascii.Error, ValueError, TypeError, Problem):
        raise _bad_cursor() from None
    if len(values) != length or not all(isinstance(value, str) for value in values):
        raise _bad_cursor()
    return bool(backwards), values


def _bad_cursor() -> Problem:
    return Problem("This cursor is not one that was given out; start without it.", code="cursor")


def paginate_sequence(rows: Sequence[Any], *, cursor: str, size: int = PAGE_SIZE) -> Page[Any]:
    """One page of a list that is derived, not stored; its cursor is a position in it."""
    _, values = _decode(cursor, 1)
    try:
        start = int(values[0]) if values else 0
    except ValueError:
        raise _bad_cursor() from None
    if not 0 <= start <= len(rows):
        raise _bad_cursor()
    end = start + size
    return Page(
        rows=list(rows[start:end]),
        next=_position(end) if end < len(rows) else "",
        previous=_position(max(start - size, 0)) if start else "",
    )


def _position(start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([0, str(start)]).encode()).decode().rstrip("=")
