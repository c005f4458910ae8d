"""The digits of a text, and which of them can be one number.

Whole arrays at a time: a text of 64 kB that is all digits has as many places to begin a number.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np

# white space within a line, full stop, brackets, slash, hyphens and dashes
_SEPARATORS = np.array([ord(one) for one in " \t\u00a0.()/-\u2010\u2011\u2012\u2013\u2014\u2212"])
_FARTHEST = 3


class Digits:
    """All digits of a text, of whatever script, in order.

    Args:
        text: whose digits it is about.

    Attributes (all by the number of the digit, but for `source`):
        source: the text with these digits as ASCII, so every place is the same.
        text: the digits alone.
        values: the same as numbers.
        at: where each stands in the text.
        begins: the digit before it does not touch this one.
        longest: how many digits at most can be one number.
    """

    def __init__(self, text: str) -> None:
        if not text.isascii():
            text = text.translate(_ascii_digits())
        self.source = text
        self._codes = codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        self.at = np.flatnonzero((codes >= 48) & (codes <= 57))
        self.values = (codes[self.at] - 48).astype(np.int64)
        self.text = (self.values + 48).astype(np.uint8).tobytes().decode("ascii")
        between = np.diff(self.at) - 1
        separators = np.concatenate(([0], np.cumsum(np.isin(codes, _SEPARATORS))))
        separated = separators[self.at[1:]] - separators[self.at[:-1] + 1]
        apart = (between != separated) | (between > _FARTHEST)
        edge = np.ones(min(len(self.at), 1), bool)
        self.begins = np.concatenate((edge, between > 0))
        self._ends = np.concatenate((between > 0, edge))
        self._run = np.concatenate((edge, np.cumsum(apart) + 1))
        self._group = np.cumsum(self.begins)
        self.longest = int(np.bincount(self._run).max(initial=0))
        self._lone = np.concatenate(([0], np.cumsum(self.begins & self._ends)))

    def windows(self, length: int, *, most_groups: int, singly: bool = False) -> np.ndarray:
        """Where numbers of this length can begin: whole groups of digits, with little between.

        Args:
            singly: also when every digit is a group of its own.
        """
        last = length - 1
        until = max(len(self.at) - last, 0)
        groups = self._group[last:] - self._group[:until] + 1
        few = groups <= most_groups
        if singly:
            few |= groups == length
        same = self._run[last:] == self._run[:until]
        return np.flatnonzero(self.begins[:until] & self._ends[last:] & same & few)

    def grouped(self, starts: np.ndarray, length: int, cuts: Sequence[int]) -> np.ndarray:
        """Those of the windows that are apart at these places at most."""
        if not len(starts):
            return starts
        groups = self._group[starts + length - 1] - self._group[starts]
        return starts[groups == sum(self.begins[starts + cut].astype(int) for cut in cuts)]

    def continue_with(self, starts: np.ndarray, prefix: str) -> np.ndarray:
        """Which of the windows begin with this prefix."""
        same = np.ones(len(starts), bool)
        for at, digit in enumerate(prefix):
            same &= self.values[starts + at] == int(digit)
        return same

    def without_lone(self, starts: np.ndarray, length: int, first: int) -> np.ndarray:
        """Those of the windows without a digit by itself from their digit number `first` on."""
        lone = self._lone[starts + length] - self._lone[starts + first]
        return starts[lone == 0]

    def after(self, character: str) -> np.ndarray:
        """Which digits follow this character, be it with a bracket or a blank between."""
        padded = np.concatenate((np.zeros(2, np.uint32), self._codes))
        before, second = padded[self.at + 1], padded[self.at]
        between = (before == ord("(")) | (before == ord(" "))
        return (before == ord(character)) | (between & (second == ord(character)))

    def span(self, start: int, length: int) -> tuple[int, int]:
        """Where these digits stand in the text."""
        return int(self.at[start]), int(self.at[start + length - 1]) + 1


@cache
def _ascii_digits() -> dict[int, str]:
    """Of every decimal digit of Unicode its ASCII one; NFKC knows only the full-width ones."""
    return {
        code: str(unicodedata.decimal(chr(code)))
        for code in range(128, sys.maxunicode + 1)
        if unicodedata.category(chr(code)) == "Nd"
    }
