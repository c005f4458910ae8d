"""The API's page tells all that its calls take, and its examples work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.accounts.actor import SCOPES
from guardrails_site.api_docs import operations
from tests import factories
from tests.runtime.conftest import Space


def of(path: str, method: str = "POST") -> dict[str, Any]:
    every = [one for group in operations().values() for one in group]
    return next(one for one in every if (one["path"], one["method"]) == (path, method))


def names(fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {field["name"]: names(field["fields"]) for field in fields}


def test_fields_inside_others_are_told() -> None:
    body = names(of("/api/v1/check")["body"])
    assert body["context"] == {"key": {}}
    assert {"role", "content", "tool_calls"} <= set(body["messages"])
    assert {"check", "why"} <= set(names(of("/api/v1/check")["answers"][0]["fields"])["receipt"])


def test_every_operation_tells_the_scope_it_needs() -> None:
    told = {
        (one["method"], one["path"]): one["scope"]
        for group in operations().values()
        for one in group
        if one["path"] != "/api/v1/schema"
    }
    assert set(told.values()) == set(SCOPES)
    assert told["POST", "/api/v1/check"] == "check"


def test_an_operation_is_summed_up_in_a_line() -> None:
    assert of("/api/v1/runs/{run}/cancel")["summary"] == ""
    assert of("/api/v1/decisions/{decision}/replay")["summary"] == (
        "Judge a decision again by the versions it was judged by; gone says what is missing."
    )


def test_a_choice_lists_what_can_be_chosen() -> None:
    stage = next(one for one in of("/api/v1/check")["body"] if one["name"] == "stage")
    assert stage["type"] == "one of input, output, tool_call, retrieval"


@pytest.mark.parametrize("path", ["check", "check/batch", "check/stream"])
def test_its_examples_are_answered(space: Space, path: str) -> None:
    examples = of(f"/api/v1/{path}")["examples"]
    answers = [space.api.post(path, json.loads(one["body"])) for one in examples]
    assert {answer.status_code for answer in answers} == {200}


def test_the_page_shows_an_example_as_it_is_sent(space: Space) -> None:
    shown = factories.page_client(space.admin).get("/api/docs/").content.decode()
    assert "http://testserver/api/v1/check -d" in shown
