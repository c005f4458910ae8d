"""Several models on the same texts at once, and long texts looked at piece by piece.

A violation in one paragraph of a long text hardly moves the score of the whole. So a long text is
scored whole, in its paragraphs and lines, as whoever wrote it has cut it, and in overlapping
windows, wherever these end. It has more chances to be stopped than a short one: if it violates as
often, then each of the n texts that are looked at violates 1/n as often, so by Bayes' rule the odds
of each are those of its c divided by n. How high the pieces of good texts lie together depends on
how alike they are and how their scores fall off, so each model divides by n to a power of its own
(long_texts.py), at which good texts of 10 kB are meant to be stopped as often as short ones
(bench/long_texts.py prints what becomes of 30 kB). A text that is broken into more pieces than
labelled ones of its length pays for as many as these have: else short paragraphs around a violation
would hide it. Most texts are easier than those that people label: the median of a text's pieces and
their spread tell how high those of a good text like it would lie together, and what is not above
the top of single good texts then is not paid for. The whole pays in full: a classifier that has
learnt from short texts may take any long one for a violation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray

from apps.guardrails.learning import calibration, features
from apps.guardrails.learning.artifact import Model

LONG = 4_000
"""Code points from which a text is looked at piece by piece as well."""
WINDOW = 800
STEP = 400
PARAGRAPH, LINE = 32, 64
"""Code points below which a paragraph or a line is looked at together with the next: good texts
would be stopped for the short lines of their lists."""
NEAR = 10_000
"""Code points of a text that a model knows the number of pieces of."""
HIGH = 0.9
"""The share of a long text's pieces that tells, with the median, how far they spread."""
OF_ONE = 2
"""Windows that a short violation is in at least: of few pieces it must not tell the spread."""

Span = tuple[int, int]


class Panel:
    """Models side by side: one extraction and one pass over its columns for all of them.

    Scores of short texts are those of `artifact.score`, to within the rounding of single precision.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = dict(models)
        self.names = tuple(models)
        each = list(models.values())
        # a column's numbers of all models lie side by side: one place in memory to wait for
        self._table = np.empty((features.COLUMNS, 2, len(each)), np.float32)
        for place, model in enumerate(each):
            self._table[:, 0, place] = model.idf * model.idf
            self._table[:, 1, place] = model.idf * model.weights
        self._intercepts = np.array([model.intercept for model in each])
        self._slopes = np.array([model.slope for model in each])
        self._offsets = np.array([model.offset for model in each])
        self._exponents = np.array([model.length_exponent for model in each])
        self._pieces = np.array([model.length_pieces for model in each])
        self._reaches = np.array([model.length_reach for model in each])
        self._tops = np.array([model.length_top for model in each])

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """c of each text by each model, strictly between 0 and 1; (texts, models)."""
        each = [whole_and_pieces(text) for text in texts]
        margins = self._margins(features.extract(list(chain.from_iterable(each))))
        if len(margins) > len(texts):
            ends = list(accumulate(map(len, each)))
            margins = np.array(
                [
                    self._long(margins[start:end], len(looked_at[0]))
                    for looked_at, (start, end) in zip(each, pairwise([0, *ends]), strict=True)
                ]
            )
        return calibration.apply_sigmoid(margins, 1.0, 0.0)

    def _long(self, margins: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """The log odds of a text of this size by each model, from those of the whole and pieces."""
        whole, parts = margins[0], margins[1:]
        if not len(parts):
            return whole
        paid_for = np.minimum(len(margins), np.maximum(self._pieces * (size / NEAR), 1))
        price = self._exponents * np.log(paid_for)
        # the highest of n normal ones grows with the root of log n
        reach = self._reaches * np.sqrt(np.log(paid_for) / np.log(self._pieces))
        median, spread = median_and_spread(parts)
        above = np.maximum(median + reach * spread - self._tops, 0)
        combined: NDArray[np.float64] = np.maximum(
            whole - price, together(parts) - np.minimum(price, above)
        )
        return combined

    def _margins(self, counts: features.Counts) -> NDArray[np.float64]:
        """The calibrated log odds of each row by each model."""
        margins = np.empty((counts.rows, len(self.names)))
        for row, (first, last) in enumerate(pairwise(counts.offsets.tolist())):
            columns = counts.columns[first:last]
            damped = features.damp(counts.counts[first:last])
            words = int(columns.searchsorted(features.BLOCK))
            raw = self._block(columns[:words], damped[:words])
            raw += self._block(columns[words:], damped[words:])
            margins[row] = self._slopes * (raw + self._intercepts) + self._offsets
        return margins

    def _block(
        self, columns: NDArray[np.int32], damped: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """One block's share of the raw scores: its entries scaled to length 1, times weights."""
        rows = self._table.take(columns, axis=0)
        length = (damped * damped) @ rows[:, 0]
        dot = (damped @ rows[:, 1]).astype(np.float64)
        return np.divide(dot, np.sqrt(length), out=np.zeros_like(dot), where=length > 0)


def together(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """One log odds of many (first axis): the root of the sum of the squares of the odds.

    That of one violation among many good pieces is its own, that of n alike half of log n more.
    """
    highest = margins.max(axis=0)
    squares = np.exp(2 * (margins - highest)).sum(axis=0)
    combined: NDArray[np.float64] = highest + np.log(squares) / 2
    return combined


def median_and_spread(
    margins: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The median of the pieces (first axis), and how far above it most of them do not lie."""
    last = len(margins) - 1
    middle = last // 2
    places = [middle, max(middle, min(int(HIGH * last), last - OF_ONE))]
    median, high = np.partition(margins, places, axis=0)[places]
    return median, high - median


def whole_and_pieces(text: str) -> list[str]:
    """What a text is scored through: itself and, of a long one, its pieces in order.

    Windows cover all of it, and each paragraph and line of at most two windows is seen by itself.
    White space and what no reader sees have no length: nothing is hidden by being drawn out.
    """
    if len(text) < LONG or len(text := features.plain(text)) < LONG:
        return [text]
    starts = range(0, len(text) - WINDOW + STEP, STEP)
    spans = {(start, start + WINDOW) for start in starts}
    spans.update(span for span in _parts(text) if span[1] - span[0] <= 2 * WINDOW)
    return [text, *(piece for start, end in sorted(spans) if (piece := text[start:end]).strip())]


def _parts(text: str) -> Iterator[Span]:
    """Its paragraphs, which end with a blank line, and the lines of each."""
    lines = text.splitlines(keepends=True)
    ends = list(accumulate(map(len, lines)))
    blank = [end for line, end in zip(lines, ends, strict=True) if line.isspace()]
    for start, end in _joined(0, [*blank, len(text)], PARAGRAPH):
        yield start, end
        yield from _joined(start, ends[bisect_right(ends, start) : bisect_right(ends, end)], LINE)


def _joined(start: int, ends: Sequence[int], least: int) -> list[Span]:
    """Spans from end to end, a shorter one with what follows it, the last with what precedes it."""
    spans = []
    for end in ends:
        if end - start >= least:
            spans.append((start, end))
            start = end
    if start < ends[-1]:
        first = spans.pop()[0] if spans else start
        spans.append((first, ends[-1]))
    return spans
