"""What is counted of decisions, on the dashboard and for Prometheus."""

from __future__ import annotations

import pytest

from apps.policies.permissions import load_policy
from apps.runtime.traffic import quantile, summary
from tests import factories
from tests.runtime.conftest import WORDS, Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."


def test_decisions_are_counted_by_action_policy_and_rule(space: Space) -> None:
    for text in (BAD, BAD, GOOD):
        space.check(text)
    written()
    found = summary(space.admin.workspace)
    assert (found.total, found.actions) == (3, {"allow": 1, "block": 2})
    assert found.policies == [
        {"policy": "doses", "mode": "enforce", "seen": 3, "found": 2, "changed": 0}
    ]
    (rule,) = found.rules
    assert (rule["policy"], rule["rule"], rule["found"]) == ("doses", "names-a-dose", 2)


def test_what_shadow_would_have_changed_is_counted(space: Space) -> None:
    space.set(mode="shadow")
    space.check(BAD)
    written()
    (policy,) = summary(space.admin.workspace).policies
    assert (policy["mode"], policy["seen"], policy["changed"]) == ("shadow", 1, 1)


def test_a_gate_that_did_not_fire_would_have_changed_nothing(space: Space) -> None:
    mail = {"key": "mail", "kind": "regex", "settings": {"patterns": ["@"]}}
    space.guard(WORDS, mail, gate={"kind": "all"})
    space.set(mode="shadow")
    for text in (BAD, f"{BAD} a@b"):
        space.check(text)
    written()
    (policy,) = summary(space.admin.workspace).policies
    assert (policy["seen"], policy["found"], policy["changed"]) == (2, 1, 1)


def test_what_a_higher_level_lifts_would_have_changed_nothing(space: Space) -> None:
    top = factories.make_policy(space.admin, "top")
    allowing = Space(space.admin, load_policy(space.admin, top.slug))
    never = {**WORDS, "key": "never", "settings": {"words": ["never"]}}
    allowing.guard({**WORDS, "rule": "general-facts"}, never)
    allowing.set(mode="enforce", level="platform")
    space.set(mode="shadow")
    space.check(BAD)
    written()
    by_policy = {row["policy"]: row for row in summary(space.admin.workspace).policies}
    assert (by_policy["doses"]["found"], by_policy["doses"]["changed"]) == (0, 0)
    assert by_policy["top"]["found"] == 0


def test_two_rules_of_one_decision_are_one_decision_of_their_policy(space: Space) -> None:
    space.publish(rules=[*factories.RULES, {**factories.RULES[0], "key": "another"}])
    space.guard(WORDS, {**WORDS, "key": "again", "rule": "another"})
    space.check(BAD)
    written()
    found = summary(space.admin.workspace)
    assert (found.policies[0]["found"], len(found.rules)) == (1, 2)


def test_counts_of_two_batches_add_up(space: Space) -> None:
    for _ in range(2):
        space.check(BAD)
        written()
    assert summary(space.admin.workspace).total == 2


@pytest.mark.parametrize(
    ("buckets", "share", "bound"),
    [
        ([0] * 10, 0.5, None),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], 0.5, 1.0),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], 0.99, 2.0),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 0.5, float("inf")),
    ],
)
def test_a_quantile_is_the_bound_it_lies_below(
    buckets: list[int], share: float, bound: float | None
) -> None:
    assert quantile(buckets, share) == bound


def test_prometheus_reads_the_counters(space: Space) -> None:
    space.check(BAD)
    written()
    key = factories.make_token(space.admin, "read")
    answer = factories.page_client(None).get("/metrics", headers={"Authorization": f"Bearer {key}"})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert 'parapet_decisions_total{action="block"} 1.0' in text
    assert 'parapet_findings_total{action="block",mode="enforce",policy="doses"} 1.0' in text
    assert "parapet_latency_seconds_count 1.0" in text
