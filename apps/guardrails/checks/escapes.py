"""Escapes within texts, undone layer by layer, as readers of JSON within JSON do. No Django."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_MEANS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
LAYERS = 8
"""Of escapes within escapes that are undone."""


def undone(text: str) -> Iterator[str]:
    """The text with its escapes undone, layer by layer, as long as there are any."""
    before = ""
    for _ in range(LAYERS):
        if text == before or "\\" not in text:
            return
        before, meant = text, _ESCAPE.sub(_meant, text)
        # two halves of a surrogate pair become one character; half of one is none
        meant = meant.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = meant.replace("\0", "\ufffd")
        yield text


def is_escaped(text: str) -> bool:
    return _ESCAPE.search(text) is not None


def _meant(escape: re.Match[str]) -> str:
    what = escape[1]
    return chr(int(what[1:], 16)) if len(what) == 5 else _MEANS.get(what, what)
