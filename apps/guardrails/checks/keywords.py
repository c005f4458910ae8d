"""Lists of words and phrases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import re2

from apps.guardrails.checks.candidates import counted
from apps.guardrails.checks.interface import Evaluate, Field, Found, Kind, Subject, found, wrong
from apps.guardrails.checks.matching import PatternRefused, Patterns
from apps.guardrails.checks.normalising import fold

# RE2's \b knows ASCII alone
_BEFORE, _AFTER = r"(?:^|[^\pL\pN\pM_])", r"(?:$|[^\pL\pN\pM_])"
_TOGETHER = 20
_MOST_CHARACTERS = 900


def build(settings: Mapping[str, Any]) -> Evaluate:
    compiled = listed(
        "words",
        settings["words"],
        whole_words=settings["whole_words"],
        ignore_case=settings["ignore_case"],
    )
    if compiled is None:
        raise wrong("words", "Give at least one word or phrase.")

    def evaluate(subject: Subject) -> Found:
        spans = [span for _, span in compiled.spans(subject)]
        return found(
            spans, counted(len(set(spans)), "listed word or phrase", "listed words or phrases")
        )

    return evaluate


def listed(
    field: str, lines: list[str], *, whole_words: bool, ignore_case: bool
) -> Patterns | None:
    """The lines of a setting as phrases; None where nothing of them can be seen.

    Raises:
        Problem: for a line that is too long to be looked for.
    """
    words = [line.strip() for line in lines if fold(line).split()]
    if not words:
        return None
    try:
        return phrases(words, whole_words=whole_words, ignore_case=ignore_case)
    except PatternRefused as refused:
        raise wrong(field, f"A line of this list is too long: {refused}") from None


def phrases(words: list[str], *, whole_words: bool, ignore_case: bool) -> Patterns:
    """Words as patterns, several in one; white space in a phrase is any white space."""
    patterns: list[str] = []
    held: list[str] = []
    for word in sorted({fold(word) if ignore_case else word for word in words}):
        escaped = r"\s+".join(re2.escape(part) for part in word.split())
        if held and (len(held) == _TOGETHER or len("|".join([*held, escaped])) > _MOST_CHARACTERS):
            patterns.append(_either(held, whole_words))
            held = []
        held.append(escaped)
    patterns.append(_either(held, whole_words))
    return Patterns(patterns, ignore_case=ignore_case, group=1)


def _either(escaped: list[str], whole_words: bool) -> str:
    # the longest first: RE2 takes the first alternative that matches
    either = f"({'|'.join(sorted(escaped, key=len, reverse=True))})"
    return f"{_BEFORE}{either}{_AFTER}" if whole_words else either


KIND = Kind(
    name="keywords",
    title="Keywords",
    about="Finds listed words and phrases, also in look-alike forms of Unicode.",
    fields=(
        Field("words", "lines", "Words and phrases", "One a line."),
        Field("whole_words", "yes_no", "Whole words only", default=True),
        Field("ignore_case", "yes_no", "Ignore case", default=True),
    ),
    build=build,
)
