"""What is counted of decisions, on the dashboard and for Prometheus."""

from __future__ import annotations

import pytest

from apps.runtime.traffic import quantile, summary
from tests import factories
from tests.runtime.conftest import Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."


def test_decisions_are_counted_by_action_policy_and_rule(space: Space) -> None:
    for text in (BAD, BAD, GOOD):
        space.check(text)
    written()
    found = summary(space.admin.workspace)
    assert (found.total, found.actions) == (3, {"allow": 1, "block": 2})
    assert found.policies == [{"policy": "doses", "mode": "enforce", "found": 2, "changed": 0}]
    assert found.rules == [{"policy": "doses", "rule": "names-a-dose", "found": 2, "changed": 0}]


def test_what_shadow_would_have_changed_is_counted(space: Space) -> None:
    space.set(mode="shadow")
    space.check(BAD)
    written()
    (policy,) = summary(space.admin.workspace).policies
    assert (policy["mode"], policy["changed"]) == ("shadow", 1)


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
