"""Characters that a reader does not see, with which words are hidden from filters. No Django."""

from __future__ import annotations

import re

# soft hyphen, Mongolian vowel separator, zero-width and bidi marks, fillers, variation selectors,
# byte order mark, tag characters
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)

_BLANK = re.compile(rf"(?:\s|{INVISIBLE.pattern})*")
_TAGS = re.compile("[\U000e0020-\U000e007e]")


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of it."""
    return _BLANK.fullmatch(text) is not None


def says_nothing(text: str) -> bool:
    """Whether a model reads nothing in it either: tag characters are letters to it."""
    return is_blank(text) and _TAGS.search(text) is None


def is_invisible(character: str) -> bool:
    return bool(INVISIBLE.match(character))
