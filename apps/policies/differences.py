"""Differences between two versions of anything that is written, as they are shown. No Django."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

# a comparison looks at so many pairs of words one by one; more of the same word takes seconds
_CLOSE_PAIRS = 200_000
# of fewer words than this, so little alike, both texts are shown whole
_SHORT, _ALIKE = 60, 0.6


@dataclass(frozen=True)
class Piece:
    """A run of words of a changed text: kind is same, added or removed."""

    kind: str
    text: str


@dataclass(frozen=True)
class Change:
    """One difference between two versions, ready to be shown."""

    kind: str  # added, removed, changed
    where: str
    before: str
    after: str
    pieces: tuple[Piece, ...] = ()


def difference(where: str, before: str, after: str) -> list[Change]:
    """The change of one field; none where it is the same. Nothing at all is the empty text."""
    if before == after:
        return []
    kind = "added" if not before else "removed" if not after else "changed"
    return [Change(kind, where, before, after)]


def word_by_word(changes: Sequence[Change]) -> list[Change]:
    """The same changes with their texts cut into runs of kept, added and removed words."""
    shown, close = [], _CLOSE_PAIRS
    for change in changes:
        old, new = _words(change.before), _words(change.after)
        close -= len(old) * len(new)
        shown.append(replace(change, pieces=_pieces(old, new, closely=close > 0)))
    return shown


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def _pieces(old: list[str], new: list[str], *, closely: bool) -> tuple[Piece, ...]:
    """Runs of words; not closely means that words which are everywhere align nothing."""
    pieces = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=not closely)
    if len(old) + len(new) < _SHORT and matcher.ratio() < _ALIKE:
        # the few words that stayed would only tear both sentences apart
        return tuple(
            Piece(kind, "".join(words))
            for kind, words in (("removed", old), ("added", new))
            if words
        )
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(old[a:b])))
            continue
        if b > a:
            pieces.append(Piece("removed", "".join(old[a:b])))
        if d > c:
            pieces.append(Piece("added", "".join(new[c:d])))
    return tuple(pieces)
