"""The one error that domain functions raise for a request they must refuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """One wrong field: a JSON pointer into what was sent, and what to do about it."""

    pointer: str
    message: str


def by_field(errors: Iterable[FieldError], at: str = "/") -> dict[str, list[str]]:
    """What is wrong with each field whose pointer begins with `at`, by the field's name.

    Of a list, each message says which line it is about.
    """
    found: dict[str, list[str]] = {}
    for error in errors:
        if error.pointer.startswith(at):
            name, *within = error.pointer.removeprefix(at).split("/")
            line = within[0] if within and within[0].isdecimal() and len(within[0]) < 7 else ""
            told = f"Line {int(line) + 1}: {error.message}" if line else error.message
            found.setdefault(name, []).append(told)
    return found


@dataclass
class Problem(Exception):
    """A request that cannot be done, in words its sender can act on (RFC 9457).

    Args:
        detail: a sentence that says what to do. Never the sender's own text.
        code: a stable word for programs, e.g. "run_exists".
        status: the HTTP status pages and API answer with.
        errors: wrong fields, if any.
        extra: further members of the problem document, e.g. the running run.
    """

    detail: str
    code: str = "invalid"
    status: int = 400
    errors: list[FieldError] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.detail


class NotFound(Problem):
    """Missing, or not for this person: nobody can tell which."""

    def __init__(self) -> None:
        super().__init__("There is nothing here for you.", code="not_found", status=404)


class Forbidden(Problem):
    """Seen, but not allowed to do this."""

    def __init__(self, detail: str = "Your role does not allow this.") -> None:
        super().__init__(detail, code="forbidden", status=403)


class UnknownHost(Problem):
    """Asked for by a name that is none of this host's."""

    def __init__(self) -> None:
        super().__init__(
            "This host does not answer to the name in the request's Host header; whoever runs it "
            "adds the name to ALLOWED_HOSTS.",
            code="unknown_host",
        )


class Malformed(Problem):
    """What Django itself could not read."""

    def __init__(self) -> None:
        super().__init__(
            "The request cannot be read: a part of it is too long or not well-formed. "
            "If you sent a file, give it a short, plain name.",
            code="bad_request",
        )
