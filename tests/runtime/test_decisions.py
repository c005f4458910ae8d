"""Decisions are found by what they were, however many others there are."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.tokens import actor_of, issue_token
from apps.base.ids import uuid7
from apps.runtime import bundles, checking, replaying, texts
from apps.runtime.models import Decision, Retention
from apps.runtime.traffic import summary
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


@pytest.fixture
def canary(space: Space) -> Decision:
    """What a canary's check left, in a workspace that keeps every text."""
    Retention.objects.create(workspace=space.admin.workspace, share=1, days=1)
    bundles.forget()
    member = space.admin.person
    _, key = issue_token(
        space.admin, membership=member, name="canaries", scopes=["check"], of_canaries=True
    )
    actor = actor_of(key)
    assert actor is not None
    checked = checking.check(actor, stage="output", content={"text": BAD})
    return next(row for row in written() if row.pk == checked.decision.pk)


def test_a_canarys_decision_is_no_traffic(space: Space, canary: Decision) -> None:
    told = summary(space.admin.workspace)
    assert (told.total, told.actions, told.policies, told.canaries) == (0, {}, [], 1)


def test_what_checks_came_to_is_counted_of_canaries_too(space: Space, canary: Decision) -> None:
    assert [one.ran for one in summary(space.admin.workspace).checks] == [1]


def test_a_canarys_decision_is_found_where_it_is_asked_for(space: Space, canary: Decision) -> None:
    space.check(GOOD)
    written()
    assert [found(space, query) for query in ("", "canary=true", "canary=false")] == [2, 1, 1]
    pages = factories.page_client(space.admin)
    shown = [
        str(canary.pk) in pages.get(f"/decisions/?canaries={which}").content.decode()
        for which in ("", "too", "only")
    ]
    assert shown == [False, True, True]


def test_a_change_is_not_tried_on_canaries(space: Space, canary: Decision) -> None:
    tried = replaying.preview(space.policy)
    assert (tried.replayed, tried.lost) == (0, 0)


def test_a_canarys_text_is_not_kept_twice(space: Space, canary: Decision) -> None:
    assert texts.kept_content(space.admin.workspace, canary.pk) is None


@pytest.mark.parametrize(
    "query",
    [
        "action=block",
        "stage=retrieval",
        "degraded=true",
        "shadow=true",
        "policy=other",
        "canary=true",
    ],
)
def test_rare_decisions_are_found_without_reading_the_others(space: Space, query: str) -> None:
    space.check(GOOD)
    [like] = written()
    common = {field.attname: getattr(like, field.attname) for field in Decision._meta.fields}
    shadow = {"mode": "shadow", "action": "block", "advisory": False, "policy": "other"}
    rare = {"action": "block", "stage": "retrieval", "degraded": ["no_model"]}
    rare["receipt"] = [{**like.receipt[0], **shadow}]
    rare["canary"] = True
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
