"""Hostile text made visible: characters that hide or reorder are shown as codes. No Django."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHOWN = 20_000

# controls but tab and line feed, bidirectional marks, zero-width, line separators, tags
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class Piece:
    """A run of text, or one hidden character as its code ("U+202E"); marked: it was found."""

    text: str
    is_code: bool = False
    is_marked: bool = False


def pieces(text: str) -> list[Piece]:
    """Cut a text at its hidden characters; joined and decoded it is the same text."""
    found: list[Piece] = []
    end = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > end:
            found.append(Piece(text[end : match.start()]))
        found.append(Piece(f"U+{ord(match.group()):04X}", is_code=True))
        end = match.end()
    if end < len(text):
        found.append(Piece(text[end:]))
    return found


def marked(text: str, spans: Sequence[Sequence[int]]) -> list[Piece]:
    """The same, with what lies in the spans (in order, not overlapping) marked."""
    found: list[Piece] = []
    at = 0
    for start, end in spans:
        found += pieces(text[at:start])
        found += [replace(piece, is_marked=True) for piece in pieces(text[start:end])]
        at = max(at, end)
    return found + pieces(text[at:])
