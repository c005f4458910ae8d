"""The input gate: what no text and no JSON may contain, for pages, API and imports alike.

Django-free. Everything refused here is a Problem with a code; nothing is repaired in silence.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.base.problems import Problem

MAXIMUM_JSON_BYTES = 2 * 2**20
MAXIMUM_DEPTH = 32
MAXIMUM_DIGITS = 18
MAXIMUM_TEXT_BYTES = 2**20


def check_text(text: str) -> str:
    """Return the text unchanged, or refuse NUL, lone surrogates and more than 1 MiB."""
    if "\x00" in text:
        raise Problem("Text must not contain NUL (U+0000); remove it.", code="nul")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Problem(
            f"Text must be valid Unicode; there is a lone surrogate at position {error.start}.",
            code="surrogate",
        ) from None
    if size > MAXIMUM_TEXT_BYTES:
        raise Problem(
            f"Text may have at most 1 MiB; this one has {size:,} bytes.",
            code="too_large",
            status=413,
        )
    return text


def check_form(form: Any) -> None:
    """Apply check_text to every name and text of a form or a query (a QueryDict)."""
    for name, values in form.lists():
        for text in (name, *values):
            if isinstance(text, str):  # files are read elsewhere
                check_text(text)


def check_value(value: Any) -> Any:
    """Apply check_text to every string of a parsed JSON value, keys too."""
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            check_value(item)
    elif isinstance(value, list):
        for item in value:
            check_value(item)
    return value


def whole_number(text: str) -> int | None:
    """A number as addresses and forms have it, of at most nine digits; None for anything else."""
    return int(text) if text.isdecimal() and len(text) < 10 else None


def uuid_in(text: str) -> UUID | None:
    """An id as forms and addresses have it; None for anything else."""
    try:
        return UUID(text)
    except ValueError:
        return None


def moment_in(text: str) -> datetime | None:
    """A moment as forms have it, in UTC where it says no zone; None for nothing.

    Raises Problem for anything else.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Problem("Write a time as year-month-day hour:minute, in UTC.") from None


def parse_json(data: bytes, *, maximum_bytes: int = MAXIMUM_JSON_BYTES) -> Any:
    """Parse strict JSON: UTF-8, unique keys, finite numbers, bounded depth and size."""
    if len(data) > maximum_bytes:
        raise Problem(
            f"The JSON may have at most {maximum_bytes:,} bytes.", code="too_large", status=413
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(f"Not UTF-8: byte {error.start} is wrong.", code="encoding") from None
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        raise Problem(
            f"Not JSON: {what} at line {error.lineno}, column {error.colno}.", code="not_json"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    return check_value(value)


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser recurses (brackets inside strings do not count)."""
    if text.count("[") + text.count("{") <= MAXIMUM_DEPTH:
        return
    depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            if depth > MAXIMUM_DEPTH:
                raise _too_deep()
        elif character in "]}":
            depth -= 1


def _too_deep() -> Problem:
    return Problem(f"JSON may be nested at most {MAXIMUM_DEPTH} deep.", code="too_deep")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Problem("A JSON object has the same key twice.", code="duplicate_key")
    return value


def _refuse_constant(name: str) -> Any:
    raise Problem(f"{name} is not a JSON number.", code="not_finite")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Problem("A number is too large for a float.", code="not_finite")
    return value


def _bounded_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAXIMUM_DIGITS:
        raise Problem(f"Integers may have at most {MAXIMUM_DIGITS} digits.", code="too_many_digits")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_bounded_integer,
)
