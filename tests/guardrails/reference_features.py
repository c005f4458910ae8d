"""The definition of the features in plain Python, slow: what the fast extractor is tested with.

Shares no code and no constant with it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

MASK = 2**64 - 1


UNSEEN = [
    *range(0x09),
    *range(0x0E, 0x1C),
    *range(0x7F, 0x85),
    *range(0x86, 0xA0),
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFFC),
    *range(0x13430, 0x13440),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE1000),
]


def fold(text: str) -> str:
    text = text.translate(dict.fromkeys(UNSEEN))
    return strip(strip(text).casefold())


def strip(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if unicodedata.combining(c) == 0)


def polynomial(text: str) -> int:
    return sum(ord(c) * pow(0x9E3779B97F4A7C15, j, 2**64) for j, c in enumerate(text)) & MASK


def murmur(h: int) -> int:
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def ngrams(text: str) -> list[tuple[str, int]]:
    """Every n-gram of one text with its column, repeated as often as it occurs."""
    text = fold(text)
    words = re.findall(r"\w+", text)
    mixed = [murmur(polynomial(word)) for word in words]
    found = [(word, h >> 48) for word, h in zip(words, mixed, strict=True)]
    for i in range(len(words) - 1):
        pair = murmur((mixed[i] * 0x9E3779B97F4A7C15 + mixed[i + 1]) & MASK)
        found.append((f"{words[i]} {words[i + 1]}", pair >> 48))
    for token in text.split():
        padded = f" {token} "
        for n in (2, 3, 4, 5):
            for i in range(len(padded) - n + 1):
                run = padded[i : i + n]
                found.append((run, 65536 + (murmur(polynomial(run)) >> 48)))
    return found


def row(text: str) -> dict[int, int]:
    """Column to count, ascending by column."""
    return dict(sorted(Counter(column for _, column in ngrams(text)).items()))
