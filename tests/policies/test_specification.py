"""A policy's text: what a draft may be, what it lacks, and what changed between two."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from apps.base.problems import Problem
from apps.policies.specification import (
    ACTIONS,
    POLARITIES,
    STAGES,
    Specification,
    compare,
    missing,
    parse,
)
from tests.factories import SPECIFICATION

plain = some.text(
    some.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60
)
examples = some.fixed_dictionaries({"text": plain, "violates": some.booleans(), "why": plain})
rules = some.fixed_dictionaries(
    {
        "key": some.from_regex(r"\A[a-z0-9][a-z0-9-]{0,20}\Z"),
        "polarity": some.sampled_from(POLARITIES),
        "text": plain,
        "severity": some.integers(1, 4),
        "action": some.sampled_from(ACTIONS),
        "examples": some.lists(examples, max_size=3),
    }
)
specifications = some.fixed_dictionaries(
    {
        "stages": some.lists(some.sampled_from(STAGES), unique=True, max_size=4),
        "definition": plain,
        "scope": plain,
        "rationale": plain,
        "rules": some.lists(rules, max_size=5, unique_by=lambda rule: rule["key"]),
    }
)


@given(specifications)
def test_parsing_what_was_parsed_changes_nothing(data: dict[str, Any]) -> None:
    parsed = parse(data)
    assert parsed.as_dict() == data
    assert parse(parsed.as_dict()) == parsed


@given(specifications)
def test_nothing_differs_from_itself(data: dict[str, Any]) -> None:
    assert compare(parse(data), parse(copy.deepcopy(data))) == []


@given(specifications, specifications)
def test_two_that_differ_have_a_difference(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert bool(compare(parse(one), parse(two))) == (one != two)


@given(specifications, specifications)
def test_the_pieces_of_a_change_join_to_before_and_after(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    for change in compare(parse(one), parse(two)):
        before = "".join(p.text for p in change.pieces if p.kind in ("same", "removed"))
        after = "".join(p.text for p in change.pieces if p.kind in ("same", "added"))
        assert (before, after) == (change.before, change.after)


@given(specifications, specifications)
def test_the_way_back_takes_away_what_the_way_there_added(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(c.where, c.kind) for c in compare(parse(one), parse(two))}
    back = {(c.where, opposite[c.kind]) for c in compare(parse(two), parse(one))}
    assert there == back


def pointers(data: Any) -> list[str]:
    with pytest.raises(Problem) as caught:
        parse(data)
    return [error.pointer for error in caught.value.errors]


def changed(**values: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SPECIFICATION), **values}


def with_rule(**values: Any) -> dict[str, Any]:
    data = copy.deepcopy(SPECIFICATION)
    data["rules"][0].update(values)
    return data


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (changed(definition=5), "/definition"),
        (changed(definition=None), "/definition"),
        (changed(definition="a\x00"), "/definition"),
        (changed(scope="\ud800"), "/scope"),
        (changed(rationale="x" * 10_001), "/rationale"),
        (changed(stages="output"), "/stages"),
        (changed(stages=["nowhere"]), "/stages/0"),
        (changed(stages=[["output"]]), "/stages/0"),
        (changed(stages=["output"] * 5), "/stages"),
        (changed(rules={}), "/rules"),
        (changed(rules=["x"]), "/rules/0"),
        (changed(rules=[SPECIFICATION["rules"][0]] * 2), "/rules/1/key"),
        (changed(owner="me"), "/owner"),
        (with_rule(key=""), "/rules/0/key"),
        (with_rule(key="Big"), "/rules/0/key"),
        (with_rule(key="x" * 61), "/rules/0/key"),
        (with_rule(key="a\n"), "/rules/0/key"),
        (with_rule(polarity="maybe"), "/rules/0/polarity"),
        (with_rule(polarity=[]), "/rules/0/polarity"),
        (with_rule(severity=0), "/rules/0/severity"),
        (with_rule(severity=5), "/rules/0/severity"),
        (with_rule(severity=True), "/rules/0/severity"),
        (with_rule(severity="3"), "/rules/0/severity"),
        (with_rule(action="explode"), "/rules/0/action"),
        (with_rule(id=1), "/rules/0/id"),
        (with_rule(examples=[{}] * 21), "/rules/0/examples"),
        (with_rule(examples=["x"]), "/rules/0/examples/0"),
        (with_rule(examples=[{"text": "x", "violates": "yes"}]), "/rules/0/examples/0/violates"),
        (with_rule(examples=[{"text": 1, "violates": True}]), "/rules/0/examples/0/text"),
        (
            with_rule(examples=[{"text": "x", "violates": True, "score": 1}]),
            "/rules/0/examples/0/score",
        ),
    ],
)
def test_a_wrong_field_is_refused_at_its_place(data: dict[str, Any], pointer: str) -> None:
    assert pointer in pointers(data)


def test_every_wrong_field_is_named_at_once() -> None:
    found = pointers({"definition": 1, "stages": ["x"], "rules": [{"key": "K", "severity": 9}]})
    assert set(found) >= {"/definition", "/stages/0", "/rules/0/key", "/rules/0/severity"}


def test_a_hundred_rules_are_taken_and_one_more_is_not() -> None:
    many = [{"key": f"r{n}", "text": "x"} for n in range(101)]
    assert len(parse({"rules": many[:100]}).rules) == 100
    assert pointers({"rules": many}) == ["/rules"]


def test_an_empty_draft_is_a_draft() -> None:
    assert parse({}) == Specification()


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (changed(definition=" \n"), "/definition"),
        (changed(stages=[]), "/stages"),
        (changed(rules=[]), "/rules"),
        (changed(rules=[SPECIFICATION["rules"][1]]), "/rules"),
        (with_rule(text=" "), "/rules/0/text"),
    ],
)
def test_what_is_missing_is_named(data: dict[str, Any], pointer: str) -> None:
    assert [error.pointer for error in missing(parse(data))] == [pointer]


def test_nothing_is_missing_from_a_whole_one() -> None:
    assert missing(parse(SPECIFICATION)) == []


def test_a_rule_that_is_added_is_told_as_a_whole() -> None:
    rule = {
        "key": "no-doses",
        "text": "No doses.",
        "polarity": "disallowed",
        "severity": 3,
        "action": "block",
        "examples": [{"text": "Take two.", "violates": True, "why": "a dose"}],
    }
    before = parse({"stages": ["output"], "definition": "Doses.", "rules": []})
    after = parse({"stages": ["output"], "definition": "Doses.", "rules": [rule]})
    (change,) = compare(before, after)
    assert change.after == ("No doses.\ndisallowed, severity 3, block\nbreaks: Take two. (a dose)")
