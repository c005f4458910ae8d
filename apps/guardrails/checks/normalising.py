"""Texts as rules should see them: without the disguises of Unicode, with the way back.

NFKC, without invisible characters and without marks that make no letter (a line through or under
Latin, Greek and Cyrillic ones), optionally case-folded (safety.md 3.5). Offsets lead back to code
points of the text as received. Django-free.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from apps.base.invisible import INVISIBLE, is_plain

MAXIMUM_EXPANSION = 4
"""One cluster of characters becomes at most so many times as many; a few would become 18."""


@dataclass(frozen=True, eq=False)
class Form:
    """A normal form; `origin[i]` is where its character i stands in the text as received."""

    text: str
    encoded: bytes
    origin: tuple[int, ...]
    length: int

    def back(self, start: int, end: int) -> tuple[int, int]:
        """The span of the text as received that became [start, end) of this form."""
        if start >= end:
            at = self.origin[start] if start < len(self.origin) else self.length
            return at, at
        last = self.origin[end - 1]
        while end < len(self.origin) and self.origin[end] == last:  # the rest of its character
            end += 1
        return self.origin[start], self.origin[end] if end < len(self.origin) else self.length


def plain(text: str) -> Form | None:
    """NFKC without invisible characters; None when the text is that already."""
    if is_plain(text):
        return None
    form = _form(text, fold=False)
    return None if form.text == text else form


def folded(text: str) -> Form | None:
    """The same, case-folded; None when the text is ASCII: engines fold that themselves."""
    if is_plain(text):
        return None
    form = _form(text, fold=True)
    return None if form.text == text else form


def fold(text: str) -> str:
    """The folded form alone, for words that are compared with folded texts."""
    return text.casefold() if is_plain(text) else _form(text, fold=True).text


def _form(text: str, *, fold: bool) -> Form:
    parts: list[str] = []
    origin: list[int] = []
    for start, cluster in _clusters(text):
        part = _normal(cluster, fold)
        parts.append(part)
        origin += [start] * len(part)
    normal = "".join(parts)
    return Form(normal, normal.encode(), tuple(origin), len(text))


def _clusters(text: str) -> list[tuple[int, str]]:
    """Each character with the marks that combine with it, which normalise together.

    What nobody sees is in none of them: it would keep a letter and its mark apart.
    """
    hidden = {match.start() for match in INVISIBLE.finditer(text)}
    clusters: list[tuple[int, str]] = []
    for at, character in enumerate(text):
        if at in hidden:
            continue
        if clusters and character >= "\u0300" and _joins(character):
            start, before = clusters[-1]
            if len(before) < 32:
                clusters[-1] = (start, before + character)
            elif not _is_mark(character):
                clusters.append((at, character))
            continue
        clusters.append((at, character))
    return clusters


def _joins(character: str) -> bool:
    """Whether it may become one with what stands before it: marks, Hangul's later parts, kana's."""
    return _is_mark(character) or "\u1161" <= character <= "\u11ff" or character in "\uff9e\uff9f"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) == "Me" or unicodedata.combining(character) > 0


@lru_cache(maxsize=20_000)
def _normal(cluster: str, fold: bool) -> str:
    normal = unicodedata.normalize("NFKC", cluster)
    if fold:
        normal = unicodedata.normalize("NFKC", normal.casefold())
    # in other scripts a mark that stands alone may be a vowel or a tone
    if normal[:1] < "\u0590" or "\u1e00" <= normal[:1] < "\u2000":
        normal = normal[:1] + "".join(one for one in normal[1:] if not _is_mark(one))
    return normal[: MAXIMUM_EXPANSION * len(cluster)]
