"""Regular expressions in RE2's syntax: linear time, whatever the pattern and the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.guardrails.checks.interface import Evaluate, Field, Found, Kind, Subject, found, wrong
from apps.guardrails.checks.matching import PatternRefused, Patterns

MAXIMUM_PATTERNS = 100


def build(settings: Mapping[str, Any]) -> Evaluate:
    patterns = [pattern for pattern in settings["patterns"] if pattern]
    if not patterns:
        raise wrong("patterns", "Give at least one pattern.")
    if len(patterns) > MAXIMUM_PATTERNS:
        raise wrong("patterns", f"At most {MAXIMUM_PATTERNS} patterns a check.")
    for number, pattern in enumerate(patterns, 1):
        _try(pattern, number)
    try:
        compiled = Patterns(patterns, ignore_case=settings["ignore_case"])
    except PatternRefused as refused:
        raise wrong("patterns", str(refused)) from None

    def evaluate(subject: Subject) -> Found:
        hits = compiled.spans(subject)
        numbers = sorted({number + 1 for number, _ in hits})
        which = ", ".join(map(str, numbers[:10]))
        return found([span for _, span in hits], f"pattern {which} matches")

    return evaluate


def _try(pattern: str, number: int) -> None:
    """A pattern by itself, to tell its number; one that matches the empty text is a mistake."""
    try:
        alone = Patterns([pattern], ignore_case=False)
    except PatternRefused as refused:
        raise wrong("patterns", f"Pattern {number}: {refused}") from None
    if alone.spans(Subject("")):
        raise wrong(
            "patterns", f"Pattern {number} matches the empty text, so it matches all texts."
        )


KIND = Kind(
    name="regex",
    title="Regular expressions",
    about="Finds what one of its patterns matches. RE2 syntax: no look-around, no back-references.",
    fields=(
        Field("patterns", "lines", "Patterns", "One a line, at most 1,000 characters each."),
        Field("ignore_case", "yes_no", "Ignore case", default=True),
    ),
    build=build,
    patterns=lambda settings: [*filter(None, settings["patterns"])],
)
