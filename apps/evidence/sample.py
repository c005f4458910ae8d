"""Which audit labels may be counted: the completed prefix of the random order. No Django.

Audit items are asked for in the order of their group's permanent random number. What counts is
a stated population (all texts that came with the first T batches) and its prefix: every group
below the cut whose asked-for text was drawn. A later import puts texts in front; until they are
drawn, the population stays the one before it. What was drawn and has no answer yet (out, or
skipped) is unresolved: it never makes the figures better or worse in silence, it is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_LOOKS = 200


@dataclass(frozen=True)
class Members:
    """Audit-side texts of a policy, in any order; arrays of shape (m,).

    Args:
        group: an integer that names the group.
        group_u, u: permanent random numbers in [0, 1) of the group and of the text.
        batch: the number of the batch that brought the text.
        drawn: whether the text was ever given to somebody.
        answered: whether it has a decisive or unsure answer.
    """

    group: NDArray[np.int64]
    group_u: NDArray[np.float64]
    u: NDArray[np.float64]
    batch: NDArray[np.int64]
    drawn: NDArray[np.bool_]
    answered: NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One text a group: the sample of the population of the first `batch` batches.

    Args:
        cut: groups with group_u <= cut are in (-1.0: none).
        rows: positions in Members, in the audit order, answered or not.
        weights: the size of each one's group in this population.
    """

    batch: int
    cut: float
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]


def choose_sample(members: Members, *, last_batch: int) -> Sample:
    """The sample with the most answers; among equals that of the latest population."""
    best = _prefix(members, last_batch)
    found, most = best, _answers(members, best)
    batch = last_batch
    for _ in range(_MOST_LOOKS):
        blocking = _first_undrawn(members, batch)
        if blocking is None:
            break
        batch = int(members.batch[blocking]) - 1
        if batch < 1:
            break
        found = _prefix(members, batch)
        if (count := _answers(members, found)) > most:
            best, most = found, count
    return best


def sample_below(members: Members, *, batch: int, cut: float) -> Sample:
    """The sample of a population up to a known cut, as an earlier `choose_sample` found it."""
    rows = _asked(members, batch)
    rows = rows[members.group_u[rows] <= cut]
    return Sample(batch, cut, rows, _weights(members, batch, rows))


def _prefix(members: Members, batch: int) -> Sample:
    rows = _asked(members, batch)
    undrawn = np.flatnonzero(~members.drawn[rows])
    if len(undrawn):
        # a group that shares its number with the undrawn one stays out as well
        rows = rows[members.group_u[rows] < members.group_u[rows[undrawn[0]]]]
    cut = float(members.group_u[rows[-1]]) if len(rows) else -1.0
    return Sample(batch, cut, rows, _weights(members, batch, rows))


def _asked(members: Members, batch: int) -> NDArray[np.int64]:
    """The text with the lowest u of every group of the population, in the audit order."""
    inside = np.flatnonzero(members.batch <= batch)
    order = inside[
        np.lexsort((inside, members.u[inside], members.group[inside], members.group_u[inside]))
    ]
    groups = members.group[order]
    first = np.ones(len(order), bool)
    first[1:] = groups[1:] != groups[:-1]
    return order[first]


def _first_undrawn(members: Members, batch: int) -> int | None:
    rows = _asked(members, batch)
    undrawn = np.flatnonzero(~members.drawn[rows])
    return int(rows[undrawn[0]]) if len(undrawn) else None


def _weights(members: Members, batch: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    inside = members.batch <= batch
    names, sizes = np.unique(members.group[inside], return_counts=True)
    return sizes[np.searchsorted(names, members.group[rows])].astype(np.float64)


def _answers(members: Members, sample: Sample) -> int:
    return int(np.sum(members.answered[sample.rows]))
