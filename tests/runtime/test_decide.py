"""Conflict resolution: total, deterministic, and monotone where it must be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.policies.specification import ACTIONS
from apps.runtime.decide import LEVELS, Finding, decide, restricts_more, table

ROOT = Path(__file__).resolve().parents[2]


def disallowed(action: str, level: str = "application", policy: str = "p") -> Finding:
    return Finding(policy, level, "disallowed", action, "classifier")


def allowed(level: str, policy: str = "q") -> Finding:
    return Finding(policy, level, "allowed", "allow", "phrases")


findings = st.lists(
    st.one_of(
        st.builds(
            disallowed, st.sampled_from(ACTIONS), st.sampled_from(LEVELS), st.sampled_from("abc")
        ),
        st.builds(allowed, st.sampled_from(LEVELS), st.sampled_from("abc")),
    ),
    max_size=8,
)


def test_nothing_found_is_allowed() -> None:
    assert decide([]).action == "allow"


def test_within_a_level_the_most_restrictive_action_wins() -> None:
    assert decide([disallowed("flag", policy="a"), disallowed("block", policy="b")]).action == (
        "block"
    )


def test_an_allowed_rule_of_a_higher_level_lifts_a_lower_block_and_says_so() -> None:
    outcome = decide([disallowed("block"), allowed("organisation", "medical")])
    assert outcome.action == "allow"
    assert [r.lifted_by for r in outcome.reasons if r.finding.action == "block"] == ["medical"]


def test_an_allowed_rule_of_the_same_or_a_lower_level_lifts_nothing() -> None:
    assert decide([disallowed("block"), allowed("application")]).action == "block"
    assert decide([disallowed("block", "platform"), allowed("application")]).action == "block"


def test_a_lower_level_may_be_stricter_than_a_higher_one() -> None:
    found = [disallowed("flag", "platform"), disallowed("block", "application")]
    assert decide(found).action == "block"


@given(findings, st.randoms())
def test_the_order_of_findings_does_not_matter(found: list[Finding], draw: random.Random) -> None:
    shuffled = list(found)
    draw.shuffle(shuffled)
    assert decide(shuffled) == decide(found)


@given(findings, st.sampled_from(ACTIONS), st.sampled_from(LEVELS))
def test_one_more_disallowing_finding_never_weakens(
    found: list[Finding], action: str, level: str
) -> None:
    more = decide([*found, disallowed(action, level, "z")]).action
    assert not restricts_more(decide(found).action, more)


@given(findings, st.sampled_from(LEVELS))
def test_one_more_allowing_finding_never_restricts(found: list[Finding], level: str) -> None:
    more = decide([*found, allowed(level, "z")]).action
    assert not restricts_more(more, decide(found).action)


@given(findings)
def test_no_allowed_rule_lifts_what_the_platform_forbids(found: list[Finding]) -> None:
    platform = [f for f in found if f.level == "platform" and f.polarity == "disallowed"]
    assert not restricts_more(decide(platform).action, decide(found).action)


@given(findings)
def test_every_finding_is_told_once(found: list[Finding]) -> None:
    told = [reason.finding for reason in decide(found).reasons]
    assert sorted(told) == sorted(set(found))


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "team"},
        {"polarity": "forbidden"},
        {"action": "deny"},
    ],
)
def test_a_finding_of_no_known_kind_is_refused(wrong: dict[str, str]) -> None:
    right = {"level": "platform", "polarity": "disallowed", "action": "block"}
    with pytest.raises(ValueError, match="No such"):
        Finding("p", check="c", **{**right, **wrong})


def test_the_table_in_the_docs_is_what_the_code_does() -> None:
    assert table() in (ROOT / "docs" / "decisions.md").read_text()
