"""The sample that may be counted: known cases, invariants, and coverage while everything moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from apps.evidence.estimators import figures
from apps.evidence.sample import Members, choose_sample, sample_below

RUNS = 1000
LEAST_COVERAGE = 0.93


def members(
    rows: list[tuple[int, float, float, int, bool, bool]],
) -> Members:
    """Rows of (group, group_u, u, batch, drawn, answered)."""
    columns = list(zip(*rows, strict=True))
    return Members(
        group=np.array(columns[0], np.int64),
        group_u=np.array(columns[1], np.float64),
        u=np.array(columns[2], np.float64),
        batch=np.array(columns[3], np.int64),
        drawn=np.array(columns[4], bool),
        answered=np.array(columns[5], bool),
    )


def test_what_was_drawn_counts_up_to_the_first_that_was_not() -> None:
    found = choose_sample(
        members(
            [
                (1, 0.1, 0.5, 1, True, True),
                (2, 0.2, 0.5, 1, True, True),
                (3, 0.3, 0.5, 1, False, False),
                (4, 0.4, 0.5, 1, True, True),
            ]
        ),
        last_batch=1,
    )
    assert found.rows.tolist() == [0, 1]
    assert found.cut == 0.2


def test_a_drawn_item_without_an_answer_stays_in_the_sample() -> None:
    found = choose_sample(
        members([(1, 0.1, 0.5, 1, True, False), (2, 0.2, 0.5, 1, True, True)]), last_batch=1
    )
    assert found.rows.tolist() == [0, 1]


def test_a_later_import_in_front_leaves_the_population_before_it() -> None:
    rows = [(n, 0.1 * n, 0.5, 1, True, True) for n in range(1, 6)]
    rows += [(9, 0.05, 0.5, 2, False, False)]
    found = choose_sample(members(rows), last_batch=2)
    assert found.batch == 1
    assert len(found.rows) == 5


def test_once_the_newcomers_are_drawn_the_population_grows() -> None:
    rows = [(n, 0.1 * n, 0.5, 1, True, True) for n in range(1, 6)]
    rows += [(9, 0.05, 0.5, 2, True, True)]
    found = choose_sample(members(rows), last_batch=2)
    assert found.batch == 2
    assert len(found.rows) == 6


def test_one_text_a_group_is_asked_for_and_stands_for_all_of_it() -> None:
    found = choose_sample(
        members(
            [
                (1, 0.1, 0.9, 1, False, False),
                (1, 0.1, 0.2, 1, True, True),
                (1, 0.1, 0.7, 1, False, False),
                (2, 0.2, 0.5, 1, True, True),
            ]
        ),
        last_batch=1,
    )
    assert found.rows.tolist() == [1, 3]
    assert found.weights.tolist() == [3.0, 1.0]


def test_a_newcomer_with_a_lower_number_takes_its_groups_place_once_it_is_drawn() -> None:
    before = [(1, 0.1, 0.5, 1, True, True), (2, 0.2, 0.5, 1, True, True)]
    newcomer = (1, 0.1, 0.1, 2, False, False)
    found = choose_sample(members([*before, newcomer]), last_batch=2)
    assert (found.batch, found.rows.tolist()) == (1, [0, 1])
    drawn = (*newcomer[:4], True, True)
    found = choose_sample(members([*before, drawn]), last_batch=2)
    assert (found.batch, found.rows.tolist()) == (2, [2, 1])


def test_a_sample_is_found_again_from_its_population_and_cut() -> None:
    rng = np.random.default_rng(5)
    rows = []
    for group in range(200):
        group_u = rng.random()
        for _ in range(rng.integers(1, 4)):
            rows.append((group, group_u, rng.random(), 1, group_u < 0.4, group_u < 0.4))
    everyone = members(rows)
    found = choose_sample(everyone, last_batch=1)
    again = sample_below(everyone, batch=found.batch, cut=found.cut)
    assert again.rows.tolist() == found.rows.tolist()
    assert again.weights.tolist() == found.weights.tolist()


def test_nothing_drawn_is_an_empty_sample() -> None:
    found = choose_sample(members([(1, 0.1, 0.5, 1, False, False)]), last_batch=1)
    assert len(found.rows) == 0
    assert found.cut == -1.0


@dataclass
class World:
    """A policy's audit side while people label and imports come; the truth is known."""

    rng: np.random.Generator
    group: list[int] = field(default_factory=list)
    group_u: list[float] = field(default_factory=list)
    u: list[float] = field(default_factory=list)
    batch: list[int] = field(default_factory=list)
    drawn: list[bool] = field(default_factory=list)
    answered: list[bool] = field(default_factory=list)
    violates: list[bool] = field(default_factory=list)
    flagged: list[bool] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    batches: int = 0

    def arrive(self, groups: int, *, shift: float) -> None:
        """A batch: new groups of 1 to 5 texts alike, and texts that join groups that are there."""
        self.batches += 1
        first = len(set(self.group))
        for number in range(groups):
            joins = self.batches > 1 and self.rng.random() < 0.15
            name = int(self.rng.choice(self.group)) if joins else first + number
            there = [i for i, g in enumerate(self.group) if g == name]
            group_u = self.group_u[there[0]] if there else self.rng.random()
            risk = self.rng.beta(1 + shift, 3)
            for _ in range(1 if joins else self.rng.choice([1, 1, 1, 2, 5])):
                bad = bool(self.rng.random() < risk)
                self.group.append(name)
                self.group_u.append(group_u)
                self.u.append(self.rng.random())
                self.batch.append(self.batches)
                self.drawn.append(False)
                self.answered.append(False)
                self.violates.append(bad)
                self.flagged.append(bool(self.rng.random() < (0.7 if bad else 0.1)))

    def label(self, count: int) -> None:
        """Draw the asked-for text of each group in order; some are skipped and come back later,
        some answers are undone and given again."""
        for row in self._asked()[:count]:
            self.drawn[row] = True
            if self.rng.random() < 0.08:
                self.skipped.add(row)
                continue
            self.answered[row] = True
            if self.rng.random() < 0.05:
                self.answered[row] = False  # undone, and given again with what was skipped
                self.skipped.add(row)

    def resolve_skips(self) -> None:
        """Another person, or the owner, answers what was skipped."""
        for row in self.skipped:
            self.answered[row] = True
        self.skipped.clear()

    def members(self) -> Members:
        return Members(
            np.array(self.group, np.int64),
            np.array(self.group_u),
            np.array(self.u),
            np.array(self.batch, np.int64),
            np.array(self.drawn, bool),
            np.array(self.answered, bool),
        )

    def _asked(self) -> list[int]:
        first: dict[int, int] = {}
        for row, name in enumerate(self.group):
            if name not in first or self.u[row] < self.u[first[name]]:
                first[name] = row
        waiting = [row for row in first.values() if not self.drawn[row]]
        return sorted(waiting, key=lambda row: self.group_u[row])


@pytest.mark.parametrize("looks", ["after the import", "in the middle", "at the end"])
def test_figures_cover_the_truth_of_the_population_they_state(looks: str) -> None:
    """>= 1,000 histories with late imports, groups, skips and undo, whenever one looks."""
    inside = dict.fromkeys(("precision", "recall", "false_positive_rate"), 0)
    said = dict.fromkeys(inside, 0)
    for run in range(RUNS):
        world = World(np.random.default_rng(run))
        world.arrive(160, shift=0.0)
        world.label(90)
        world.resolve_skips()
        world.arrive(120, shift=2.0)
        if looks != "after the import":
            world.label(30 if looks == "in the middle" else 110)
            world.resolve_skips()
        everyone = world.members()
        sample = choose_sample(everyone, last_batch=world.batches)
        counted = sample.rows[everyone.answered[sample.rows]]
        weights = sample.weights[everyone.answered[sample.rows]]
        violates, flagged = np.array(world.violates), np.array(world.flagged)
        found = figures(violates[counted], flagged[counted], weights)
        population = everyone.batch <= sample.batch
        truth = {
            "precision": violates[population & flagged].mean(),
            "recall": flagged[population & violates].mean(),
            "false_positive_rate": flagged[population & ~violates].mean(),
        }
        for name, value in truth.items():
            figure = getattr(found, name)
            if figure.value is not None:
                said[name] += 1
                inside[name] += figure.low <= value <= figure.high
    for name in inside:
        assert said[name] > RUNS / 2
        assert inside[name] / said[name] >= LEAST_COVERAGE, name
