"""What the publish page says of a guardrail's draft."""

from __future__ import annotations

from typing import Any

from apps.guardrails.comparing import compare
from apps.guardrails.configuration import Configuration, parse

WORDS = {"key": "words", "kind": "keywords", "settings": {"words": ["one", "two"]}}
MAIL = {"key": "mail", "kind": "regex", "settings": {"patterns": [r"\w+@\w+"]}}


def guardrail(*checks: dict[str, Any], **gate: Any) -> Configuration:
    return parse({"checks": list(checks), "gate": gate}, rules={"a-rule": "disallowed"})


def said(before: Configuration, after: Configuration) -> dict[str, tuple[str, str, str]]:
    return {c.where: (c.kind, c.before, c.after) for c in compare(before, after)}


def test_the_same_guardrail_differs_in_nothing() -> None:
    assert compare(guardrail(WORDS, MAIL), guardrail(MAIL, WORDS)) == []


def test_a_check_that_is_new_or_gone_is_told_with_all_its_settings() -> None:
    assert said(guardrail(WORDS), guardrail(MAIL)) == {
        "check mail": ("added", "", said(guardrail(MAIL), guardrail())["check mail"][1]),
        "check words": ("removed", said(guardrail(WORDS), guardrail())["check words"][1], ""),
    }
    (added,) = said(guardrail(), guardrail(MAIL)).values()
    assert r"\w+@\w+" in added[2]


def test_a_changed_setting_is_told_by_the_name_its_form_shows() -> None:
    after = {**WORDS, "settings": {"words": ["one", "three"]}}
    (change,) = compare(guardrail(WORDS), guardrail(after))
    assert (change.where, change.before, change.after) == (
        "check words: Words and phrases",
        "one\ntwo",
        "one\nthree",
    )
    assert [(p.kind, p.text) for p in change.pieces if p.kind != "same"] == [
        ("removed", "two"),
        ("added", "three"),
    ]


def test_losing_its_vote_its_rule_or_weight_is_a_change() -> None:
    after = {**WORDS, "advisory": True, "rule": "a-rule", "weight": 2}
    assert said(guardrail(WORDS), guardrail(after)) == {
        "check words: rule": ("added", "", "a-rule"),
        "check words: vote": ("changed", "has a vote", "advisory"),
        "check words: weight": ("changed", "1", "2"),
    }


def test_another_kind_under_the_same_key_is_told_setting_by_setting() -> None:
    told = said(guardrail(WORDS), guardrail({**MAIL, "key": "words"}))
    assert told["check words: kind"][0] == "changed"
    assert told["check words: Words and phrases"][0] == "removed"


def test_every_gate_is_said_in_words() -> None:
    plain = guardrail(WORDS)
    gates = [
        guardrail(WORDS, kind="all"),
        guardrail(WORDS, kind="at_least", least=2),
        guardrail(WORDS, kind="weighted", threshold=0.4),
        guardrail(WORDS, kind="weighted", threshold=0.4, slope=2.0, offset=-1.0),
    ]
    assert [said(plain, gate)["gate"][2] for gate in gates] == [
        "all checks find something",
        "at least 2 checks find something",
        "the weighted mean of its checks reaches 0.4",
        "the weighted mean of its checks reaches 0.4, calibrated by 2 and -1",
    ]
