"""Texts that are nearly one of the known texts, or have one inside."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apps.guardrails.checks.interface import (
    NOTHING,
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    found,
    wrong,
)
from apps.guardrails.checks.normalising import folded

_SHINGLE = 4
_ROUNDING = 1e-9
# scripts that put no spaces between words: each of their characters counts as a word
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # Chinese, Japanese
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def build(settings: Mapping[str, Any]) -> Evaluate:
    known = _known(settings["texts"])
    share = settings["share"]
    holders: dict[int, list[int]] = defaultdict(list)
    for number, shingles in enumerate(known):
        for shingle in shingles:
            holders[shingle].append(number)

    def evaluate(subject: Subject) -> Found:
        form = subject.folded
        words = list(_words(_lower(subject.text) if form is None else form.text))
        shingles = list(_shingles([word for word, _ in words]))
        present = holders.keys() & set(shingles)
        counts: dict[int, int] = defaultdict(int)
        for shingle in present:
            for number in holders[shingle]:
                counts[number] += 1
        near = [n for n, count in counts.items() if count / len(known[n]) >= share - _ROUNDING]
        if not near:
            return NOTHING
        wanted = frozenset[int]().union(*(known[number] for number in near))
        spans = [
            (words[at][1][0], words[at + _SHINGLE - 1][1][1])
            for at, shingle in enumerate(shingles)
            if shingle in wanted
        ]
        if form is not None:
            spans = [form.back(*span) for span in _joined(spans)]
        return found(spans, f"nearly {len(near)} of {len(known)} known texts")

    return evaluate


def _known(texts: list[str]) -> list[frozenset[int]]:
    given = [text for text in texts if text.strip()]
    if not given:
        raise wrong("texts", "Give at least one text.")
    known = []
    for number, text in enumerate(given, 1):
        form = folded(text)
        words = _words(_lower(text) if form is None else form.text)
        shingles = frozenset(_shingles([word for word, _ in words]))
        if not shingles:
            raise wrong(
                "texts",
                f"Text {number} has fewer than {_SHINGLE} words, too few to tell copies from "
                "chance; use keywords for it.",
            )
        known.append(shingles)
    return known


def _lower(text: str) -> str:
    """A text that has no form of its own: it is folded already, but for ASCII."""
    return text.lower() if text.isascii() else text


def _words(text: str) -> Iterator[tuple[str, Span]]:
    """Words of letters and digits in order, with where they stand; marks on letters are left out.

    So an accent more or less hides nothing.
    """
    letters: list[str] = []
    start = end = 0
    for at, character in enumerate(text):
        if character.isalnum():
            if _unspaced(character):
                if letters:
                    yield "".join(letters), (start, end)
                letters = []
                yield character, (at, at + 1)
                continue
            if not letters:
                start = at
            letters.append(character)
            end = at + 1
        elif letters and not unicodedata.combining(character):
            yield "".join(letters), (start, end)
            letters = []
    if letters:
        yield "".join(letters), (start, end)


def _unspaced(character: str) -> bool:
    code = ord(character)
    return code >= _UNSPACED[0][0] and any(low <= code <= high for low, high in _UNSPACED)


def _shingles(words: list[str]) -> Iterator[int]:
    return map(hash, zip(*(words[shift:] for shift in range(_SHINGLE)), strict=False))


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans as one: the way back to the text as received is long."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


KIND = Kind(
    name="near_copy",
    title="Near copies",
    about="Finds texts that are nearly one of the known texts, also as a part of a longer text.",
    fields=(
        Field("texts", "lines", "Known texts", "One a line, each of at least 4 words."),
        Field(
            "share",
            "number",
            "Share",
            "How much of a known text must be there, counted in its runs of 4 words: one changed "
            "word changes up to 4 of them. From 0.5 to 1.",
            0.8,
            low=0.5,
            high=1,
        ),
    ),
    build=build,
)
