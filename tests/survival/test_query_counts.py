"""A list costs the same number of queries whatever its length."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.policies import services
from apps.runtime import checking
from tests import factories

pytestmark = pytest.mark.django_db

PATHS = [
    "/", "/policies/", "/label/", "/people/", "/audit/", "/training/",
    "/policies/doses/", "/policies/doses/edit/", "/policies/doses/data/",
    "/policies/doses/labels/", "/policies/doses/evidence/", "/policies/doses/settings/",
    "/policies/doses/guardrail/", "/imports/{job}/",
    "/api/v1/policies", "/api/v1/policies/doses/versions", "/api/v1/examples?policy=doses",
    "/api/v1/labels?policy=doses", "/api/v1/sources", "/api/v1/imports",
    "/api/v1/imports/{job}/errors", "/api/v1/members", "/api/v1/tokens", "/api/v1/audit",
    "/api/v1/policies/doses/roles", "/api/v1/policies/doses/runs",
    "/api/v1/policies/doses/models", "/api/v1/policies/doses/evaluations",
    "/api/v1/evaluations/{evaluation}/items", "/api/v1/decisions",
    "/api/v1/incidents", "/api/v1/canaries", "/api/v1/policies/doses/cases",
    "/api/v1/policies/doses/exceptions", "/api/v1/policies/doses/guardrail/versions",
    "/decisions/", "/incidents/", "/serving/", "/policies/doses/cases/",
    "/policies/doses/exceptions/", "/policies/doses/guardrail/checks/", "/taxonomies/",
]  # fmt: skip


@pytest.fixture(scope="module")
def spaces(django_db_setup: None, django_db_blocker: Any) -> Any:
    """A workspace with few of everything, and one with ten times as many."""
    from django.db import transaction

    with django_db_blocker.unblock(), transaction.atomic():
        yield make("few", 3), make("many", 30)
        transaction.set_rollback(True)


def make(slug: str, number: int) -> dict[str, Any]:
    workspace = factories.make_workspace(slug)
    admin = factories.make_member(workspace)
    policy = factories.make_policy(admin, audit_fraction=0.4, audit_share=0.4)
    first = factories.import_rows(
        admin, policy, [*factories.rows(80), *[{"output": ""}] * number], source="first"
    )
    factories.give_labels(admin, policy, 60 if number < 10 else 70)
    run = factories.train(admin, policy)
    assert run.status == "succeeded", run.reason
    for count in range(number):
        factories.make_policy(admin, f"p{count}")
        person = factories.make_member(workspace, "annotator")
        factories.give_role(admin, policy, person, "annotator")
        factories.make_token(person)
        rows = [{"output": f"text {count}", "model": f"m{count}"}]
        factories.import_rows(admin, policy, rows, source=f"source {count}")
        changed = {**factories.SPECIFICATION, "definition": f"Version {count}."}
        services.save_draft(admin, policy=policy, specification=changed, revision=None)
        services.publish_version(admin, policy=policy)
        checking.check(admin, stage="output", content={"text": f"text {count}"}).decision.save()
    api = factories.Api("", factories.page_client(admin))
    evaluation = api.get("policies/doses/evaluations").json()["results"][0]["id"]
    return {"client": api.client, "job": first.pk, "evaluation": evaluation}


def queries(space: dict[str, Any], path: str) -> list[str]:
    url = path.format(**space)
    assert space["client"].get(url).status_code == 200  # what is kept in memory is kept now
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = space["client"].get(url)
    assert answer.status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("path", PATHS)
def test_a_list_costs_the_same_for_three_rows_and_for_thirty(spaces: Any, path: str) -> None:
    few, many = (queries(space, path) for space in spaces)
    assert len(many) <= len(few), "\n".join(sql[:150] for sql in many)
    assert len(many) <= 30
