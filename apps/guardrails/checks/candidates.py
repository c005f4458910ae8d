"""What a check looks at when it validates what a pattern found: the text and its normal form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import re2

from apps.guardrails.checks.interface import Span, Subject
from apps.guardrails.checks.matching import MAXIMUM_MEMORY
from apps.guardrails.checks.normalising import Form

MOST = 200
"""So many hits are told one by one; what follows them counts as found altogether."""


@dataclass(frozen=True)
class View:
    """The text as received, or its normal form with the way back."""

    text: str
    form: Form | None = None

    def back(self, start: int, end: int) -> Span:
        """The span of the text as received."""
        return (start, end) if self.form is None else self.form.back(start, end)


def views(subject: Subject) -> Iterator[View]:
    """The normal form, then the text itself: resolving disguises can also join what was apart."""
    if subject.plain is not None:
        yield View(subject.plain.text, subject.plain)
    yield View(subject.text)


def compiled(pattern: str, *, ignore_case: bool = False) -> re2._Regexp:
    """A pattern for texts rather than bytes, so that its places are code points."""
    options = re2.Options()
    options.max_mem = MAXIMUM_MEMORY
    options.log_errors = False
    options.case_sensitive = not ignore_case
    return re2.compile(pattern, options)


def counted(number: int, one: str, several: str) -> str:
    """E.g. "1 card number" or "2 card numbers"."""
    if number >= MOST:
        return f"{MOST} or more {several}"
    return f"{number} {one if number == 1 else several}"
