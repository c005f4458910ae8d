"""What is let through for one rule: phrases, and whole texts by their hash. No Django."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from apps.base.invisible import is_invisible
from apps.corpus.hashing import framed
from apps.guardrails.checks.interface import Span, Subject
from apps.guardrails.checks.keywords import phrases
from apps.guardrails.checks.matching import PatternRefused, Patterns
from apps.guardrails.checks.normalising import fold

LONGEST_PHRASE = 1000
_SIGNS = "+\uff0b()"
"""That a number may have before it: without them it is the same number."""


@dataclass(frozen=True, eq=False)
class Exemption:
    """An exception as it is served; exactly one of phrase and text_hash is given.

    Args:
        rule: whose findings it answers; "" for those that name no rule.
        expires: seconds since 1970.
    """

    id: str
    rule: str
    expires: float
    phrase: Patterns | None = None
    text_hash: bytes = b""


@lru_cache(maxsize=4096)
def phrase_of(words: str) -> Patterns:
    """The phrase as it is looked for; raises PatternRefused where nothing of it can be."""
    if not fold(words).split():
        raise PatternRefused("Nothing of it can be seen.")
    return phrases([words], whole_words=True, ignore_case=True)


def suggested(text: str, spans: Sequence[Sequence[int]]) -> str:
    """The phrase that would let through what was found in a text; "" where none could.

    Args:
        spans: (start, end) of each place.
    """
    start, end = spans[0] if len(spans) == 1 else (0, 0)
    phrase = text[start:end]
    if len(phrase) > LONGEST_PHRASE or "\n" in phrase:
        return ""
    try:
        found = phrase_of(phrase).spans(Subject(text), to_the_end=False)
    except PatternRefused:
        return ""
    return phrase if any(span == (start, end) for _, span in found) else ""


def text_hash(key: bytes, text: str) -> bytes:
    """HMAC-SHA256 of a whole text by the workspace's key.

    Its line breaks count as LF: a browser makes CRLF of them, and nobody can see which they were.
    """
    whole = text.replace("\r\n", "\n")
    return hmac.digest(key, b"exception" + framed([whole]), "sha256")


def lets_through(exemptions: Sequence[Exemption], key: bytes, text: str) -> bool:
    """Whether the whole text, exactly as it is, is let through."""
    hashes = [one.text_hash for one in exemptions if one.text_hash]
    return bool(hashes) and text_hash(key, text) in hashes


def cut(spans: Sequence[Span], blank: str, text: str) -> bool:
    """Whether blanking a text took a part of any of these spans, and not all that is seen of it."""
    for start, end in spans:
        kept = [
            after == before
            for after, before in zip(blank[start:end], text[start:end], strict=True)
            if not (before.isspace() or before in _SIGNS or is_invisible(before))
        ]
        if any(kept) and not all(kept):
            return True
    return False


def blanked(exemptions: Sequence[Exemption], text: str) -> str:
    """The text with every excepted phrase turned into spaces, so that all else keeps its place.

    What a check still finds in it, it finds round the phrases: a phrase lets itself through, and
    nothing that somebody writes beside it.
    """
    subject = Subject(text)  # one for all phrases: it is folded once
    spans = [
        span
        for one in exemptions
        if one.phrase is not None
        for _, span in one.phrase.spans(subject, to_the_end=False)
    ]
    characters = list(text)
    for start, end in spans:
        for place in range(start, end):
            # what cannot be seen is no part of the phrase: it may be a message of its own
            if not is_invisible(characters[place]):
                characters[place] = " "
    return "".join(characters)
