"""Decisions are found by what they were, however many others there are."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.base.ids import uuid7
from apps.runtime.models import Decision
from tests import factories
from tests.runtime.conftest import Space, written

BAD, GOOD = "Take two tablets tonight.", "Ask a pharmacist."


def found(space: Space, query: str) -> int:
    return len(space.api.get(f"decisions?{query}").json()["results"])


def test_decisions_are_found_by_action_stage_and_policy(space: Space) -> None:
    for text in (BAD, GOOD):
        space.check(text)
    written()
    slug = space.policy.slug
    queries = ("", "action=block", "stage=input", f"policy={slug}", "policy=other")
    assert [found(space, query) for query in queries] == [2, 1, 0, 1, 0]
    assert space.api.get("decisions?action=stop").status_code == 400


def test_decisions_are_found_by_time(space: Space) -> None:
    for text in (BAD, GOOD):
        space.check(text)
    later, earlier = [row.at.isoformat().replace("+00:00", "Z") for row in written()]
    queries = (f"since={earlier}", f"since={later}", f"until={later}", f"until={earlier}")
    assert [found(space, query) for query in queries] == [2, 1, 1, 0]
    queries = ("since=0001-01-01T00:00:00Z", "since=9999-12-31T23:59:59Z")
    assert [found(space, query) for query in queries] == [2, 0]


def test_a_time_on_the_page_is_utc_and_one_that_is_none_is_told(space: Space) -> None:
    space.check(BAD)
    [decision] = written()
    client = factories.page_client(space.admin)
    for query, shown in (
        (f"since={decision.at:%Y-%m-%dT%H:%M}", True),
        ("since=2999-01-01", False),
    ):
        page = client.get(f"/decisions/?{query}").content.decode()
        assert (str(decision.pk) in page) is shown
    refused = client.get("/decisions/?until=yesterday")
    assert refused.status_code == 400
    assert "Write a time as year-month-day hour:minute, in UTC." in refused.content.decode()


@pytest.mark.parametrize(
    "query", ["action=block", "stage=retrieval", "degraded=true", "shadow=true", "policy=other"]
)
def test_rare_decisions_are_found_without_reading_the_others(space: Space, query: str) -> None:
    space.check(GOOD)
    [like] = written()
    common = {field.attname: getattr(like, field.attname) for field in Decision._meta.fields}
    shadow = {"mode": "shadow", "action": "block", "advisory": False, "policy": "other"}
    rare = {"action": "block", "stage": "retrieval", "degraded": ["no_model"]}
    rare["receipt"] = [{**like.receipt[0], **shadow}]
    rows = [common | (rare if place % 1000 == 0 else {}) for place in range(4000)]
    Decision.objects.bulk_create(Decision(**{**row, "id": uuid7()}) for row in rows)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runtime_decision")
    with CaptureQueriesContext(connection) as asked:
        assert found(space, query) == 4
    [select] = [one["sql"] for one in asked if 'FROM "runtime_decision"' in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ANALYZE {select}")
        plan = "\n".join(row for (row,) in cursor)
    assert "Rows Removed by Filter" not in plan
    assert f"runtime_decision_{like.at:%Y_%m}" in plan
