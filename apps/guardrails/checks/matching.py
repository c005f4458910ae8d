"""Patterns on texts in linear time: google-re2, on the text as received and on its normal form.

Python's own `re` never sees a pattern that a person wrote. Django-free.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Sequence
from functools import lru_cache

import re2

from apps.guardrails.checks.interface import Span, Subject

MAXIMUM_MEMORY = 8 * 2**20
MAXIMUM_PATTERN = 1_000
_MOST_MATCHES = 200
_LONGEST_TOGETHER = 3_000
"""Characters of all patterns, above which one automaton of all of them outgrows its memory."""
_LARGEST_TOGETHER = 4_000
"""Its instructions, above which one pass, which nothing ends, could take a second of the worst."""
MOST_SECONDS = 0.5
"""Of the processor, for one text."""
_TRIAL = 32_768
_SIGNS = "\\^$.|?*+()[]{}"
_OTHERS = "qjxyzw~#%&@!0123456789" + "".join(map(chr, range(0x100, 0x100 + MAXIMUM_PATTERN)))
_ESCAPES = re.compile(r"\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\.|\{[0-9,]*\}|\(\?[a-zA-Z-]*[:)]?")


class TooMuchWork(Exception):
    """Something asks for more work than a text is worth."""


class PatternRefused(ValueError):
    """What is wrong with a pattern, in words for its writer."""


class Patterns:
    """Several patterns, looked for together.

    Args:
        patterns: in RE2's syntax.
        ignore_case: match on case-folded text as well, without regard to case.
        group: what of a match is told: 0 all of it, or the group of this number.

    Raises:
        PatternRefused: for the first one that RE2 does not take.
    """

    def __init__(self, patterns: Sequence[str], *, ignore_case: bool, group: int = 0) -> None:
        self._ignore_case = ignore_case
        self._group = group
        options = _options(ignore_case)
        self._each = [_compiled(pattern, options) for pattern in patterns]
        self._any = _any_of(patterns, options)

    def spans(self, subject: Subject, *, to_the_end: bool = True) -> list[tuple[int, Span]]:
        """(number of the pattern, where it matches in the text as received), in that order.

        Args:
            to_the_end: where a pattern matches more often than is looked at, all of the rest
                counts as matching: right for what is cut out, wrong for what is let through.

        Raises:
            TooMuchWork: when it takes half a second of the processor.
        """
        hits = self._look(subject.encoded, subject.text, to_the_end)
        form = subject.folded if self._ignore_case else subject.plain
        if form is not None:
            here = self._look(form.encoded, form.text, to_the_end)
            hits += [(number, form.back(*span)) for number, span in here]
        return sorted(set(hits))

    def _look(self, encoded: bytes, text: str, to_the_end: bool) -> list[tuple[int, Span]]:
        # one pass tells for nearly every text that there is nothing
        if self._any is not None and self._any.search(encoded) is None:
            return []
        hits = []
        until = time.thread_time() + MOST_SECONDS
        for number, pattern in enumerate(self._each):
            if time.thread_time() > until:
                raise TooMuchWork
            spans = self._matches(pattern, encoded, to_the_end)
            if spans and not text.isascii():
                spans = _code_points(encoded, spans)
            hits += [(number, span) for span in spans]
        return hits

    def _matches(self, pattern: re2._Regexp, encoded: bytes, to_the_end: bool) -> list[Span]:
        spans: list[Span] = []
        at = 0
        while at <= len(encoded) and len(spans) < _MOST_MATCHES:
            match = pattern.search(encoded, at)
            if match is None:
                break
            span: Span = match.span(self._group)
            spans.append(span)
            # a match of nothing must not stop the search; the next one may share its boundary
            at = span[1] if span[1] > at else at + 1
        if to_the_end and len(spans) == _MOST_MATCHES:
            spans.append((spans[-1][1], len(encoded)))
        return spans


def worst_seconds(patterns: Sequence[str], enough: float = math.inf) -> float:
    """What the processor spends on patterns, each on the worst of four long texts.

    In disorder an automaton finds no rest: `x.{20}z` takes 0.3 ms on 64 kB of "aaa..." and 80 on x
    and q. Others are slow on letters of two bytes. More than `enough` is not told exactly.
    """
    seconds = 0.0
    for pattern in patterns:
        seconds += max(_seconds(pattern, letters) for letters in _letters(pattern))
        if seconds > enough:
            break
    return seconds


def _letters(pattern: str) -> tuple[str, ...]:
    """The first letter of a pattern with one that is not in it, all with that one, and others."""
    bare = _ESCAPES.sub("", pattern)
    other = next(letter for letter in _OTHERS if letter not in bare)
    every = [letter for letter in dict.fromkeys(bare) if letter not in _SIGNS] or ["a"]
    return every[0] + other, "".join(every[:8]) + other, "a", "\u00e9"


def _seconds(pattern: str, letters: str) -> float:
    alone = Patterns([pattern], ignore_case=True)
    text = _disorder(letters)
    started = time.thread_time()
    alone._matches(alone._each[0], text, to_the_end=True)
    return time.thread_time() - started


@lru_cache(maxsize=100)
def _disorder(letters: str) -> bytes:
    return "".join(random.Random(letters).choices(letters, k=_TRIAL)).encode()


def _options(ignore_case: bool) -> re2.Options:
    options = re2.Options()
    options.max_mem = MAXIMUM_MEMORY
    options.log_errors = False
    options.case_sensitive = not ignore_case
    return options


def _compiled(pattern: str, options: re2.Options) -> re2._Regexp:
    if len(pattern) > MAXIMUM_PATTERN:
        raise PatternRefused(f"At most {MAXIMUM_PATTERN:,} characters.")
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        told = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise PatternRefused(
            f"RE2 does not take this pattern ({told.split(':')[0] or 'invalid'}). Look-around and "
            "back-references are not supported; neither are very large repetitions."
        ) from None


def _any_of(patterns: Sequence[str], options: re2.Options) -> re2._Regexp | None:
    r"""All patterns as alternatives of one; None where that would be another pattern, or too large.

    Not RE2's Set: it says "no match" when its automaton runs out of memory, and nobody would know.
    A plain pattern goes on with a slower engine then. An open \Q would swallow what follows it.
    """
    if len(patterns) < 2 or any(r"\Q" in pattern for pattern in patterns):
        return None
    if sum(map(len, patterns)) > _LONGEST_TOGETHER:
        return None
    try:
        together = re2.compile("|".join(f"(?:{one})" for one in patterns).encode(), options)
    except re2.error:
        return None
    return together if together.programsize <= _LARGEST_TOGETHER else None


def _code_points(encoded: bytes, spans: Sequence[Span]) -> list[Span]:
    """Spans in bytes as spans in code points, in one pass over the text."""
    places = {}
    at = count = 0
    for place in sorted({position for span in spans for position in span}):
        count += len(encoded[at:place].decode(errors="ignore"))
        at = place
        places[place] = count
    return [(places[start], places[end]) for start, end in spans]
