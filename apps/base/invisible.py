"""Characters that a reader does not see, with which words are hidden from filters. No Django."""

from __future__ import annotations

import re

# controls that are no space; then what Unicode calls default ignorable (soft hyphen, zero-width and
# bidi marks, fillers, variation selectors, byte order mark, tag characters and others), and the
# marks of interlinear notes and hieroglyphs' layout
_CONTROLS = "\x00-\x08\x0e-\x1b\x7f"
INVISIBLE = re.compile(
    f"[{_CONTROLS}\x80-\x84\x86-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_CONTROL_BYTES = bytes([*range(0x09), *range(0x0E, 0x1C), 0x7F])
_BLANK = re.compile(rf"(?:\s|{INVISIBLE.pattern})*")
_TAGS = re.compile("[\U000e0020-\U000e007e]")


def is_plain(text: str) -> bool:
    """Whether it is ASCII in which nothing is hidden."""
    return text.isascii() and len(text.encode().translate(None, _CONTROL_BYTES)) == len(text)


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of it."""
    return _BLANK.fullmatch(text) is not None


def says_nothing(text: str) -> bool:
    """Whether a model reads nothing in it either: tag characters are letters to it."""
    return is_blank(text) and _TAGS.search(text) is None


def is_invisible(character: str) -> bool:
    return bool(INVISIBLE.match(character))
