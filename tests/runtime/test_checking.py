"""The check API: from policies and models in the database to a decision."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError

from apps.guardrails import artifacts
from apps.guardrails.services import live_model
from apps.policies import services as policies
from apps.runtime import bundles, checking, replaying
from apps.runtime.models import ServedBundle
from tests import factories
from tests.runtime.conftest import written

pytestmark = pytest.mark.django_db

DOSE, TALK = "Take two tablets of it each morning.", "Ask a pharmacist about it."


@pytest.fixture
def trained() -> Any:
    """(admin, policy) with a live model, enforced."""
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin, audit_fraction=0.2, audit_share=0.2)
    factories.import_rows(admin, policy, factories.rows(200))
    factories.give_labels(admin, policy, 100)
    factories.train(admin, policy)
    setting(admin, policy, mode="enforce")
    return admin, policy


def setting(admin: Any, policy: Any, **settings: Any) -> None:
    policies.change_settings(admin, policy=policy, targets={}, settings=settings)
    bundles.forget()


def bad_and_good() -> tuple[str, str]:
    data = factories.rows(40, seed=99)
    bad = next(row["output"] for row in data if row["id"].startswith("bad"))
    good = next(row["output"] for row in data if row["id"].startswith("good"))
    return bad, good


def check(admin: Any, **body: Any) -> Any:
    return factories.api(admin).post("check", {"stage": "output", **body})


def test_a_violating_text_is_blocked_and_a_complying_one_allowed(trained: Any) -> None:
    admin, policy = trained
    bad, good = bad_and_good()
    blocked, let_through = check(admin, text=bad).json(), check(admin, text=good).json()
    assert (blocked["action"], let_through["action"]) == ("block", "allow")
    assert blocked["reasons"][0]["policy"] == policy.slug
    assert blocked["bundle"]["models"] == {policy.slug: 1}
    assert not blocked["degraded"]


def test_every_part_of_a_conversation_counts(trained: Any) -> None:
    admin, _ = trained
    bad, good = bad_and_good()
    turns = [{"role": "user", "content": bad}, {"role": "assistant", "content": good}]
    found = check(admin, messages=turns).json()
    assert (found["action"], found["reasons"][0]["turn"]) == ("block", 0)


def test_the_answer_is_what_was_recorded(trained: Any) -> None:
    admin, _ = trained
    checked = checking.check(admin, stage="output", content={"text": bad_and_good()[0]})
    checked.decision.save()
    found = factories.api(admin).get(f"decisions/{checked.decision.pk}").json()
    assert (found["action"], found["finished"]) == ("block", True)
    assert found["receipt"] == checked.decision.receipt
    (listed,) = factories.api(admin).get("decisions").json()["results"]
    assert listed == found


def test_no_text_is_recorded(trained: Any) -> None:
    admin, _ = trained
    checked = checking.check(admin, stage="output", content={"text": "canary4711"})
    checked.decision.save()
    assert "canary4711" not in str(vars(checked.decision))


def test_an_enforced_policy_without_a_model_is_no_silent_allow() -> None:
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin)
    setting(admin, policy, mode="enforce", on_failure="closed")
    answer = check(admin, text=TALK)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_finished")
    assert (answer.json()["action"], answer.json()["degraded_by"]) == ("block", ["no_model"])
    setting(admin, policy, on_failure="open")
    assert check(admin, text=TALK).json()["action"] == "allow"


def test_a_change_is_served_within_a_second(trained: Any) -> None:
    admin, policy = trained
    bad, _ = bad_and_good()
    before = check(admin, text=bad).json()
    with patch.object(bundles, "LOOK_EVERY", 0.0):
        policies.change_settings(admin, policy=policy, targets={}, settings={"mode": "shadow"})
        after = check(admin, text=bad).json()
    assert (before["action"], after["action"]) == ("block", "allow")
    assert before["bundle"]["id"] != after["bundle"]["id"]


def test_the_same_policies_and_models_make_the_same_bundle(trained: Any) -> None:
    admin, _ = trained
    assert bundles.build(admin.workspace).id == bundles.build(admin.workspace).id


def test_without_the_database_the_last_bundle_judges_and_says_so(trained: Any) -> None:
    admin, _ = trained
    bad, _ = bad_and_good()
    checking.check(admin, stage="output", content={"text": bad})
    gone = patch.object(bundles, "_sequence", side_effect=OperationalError)
    with patch.object(bundles, "LOOK_EVERY", 0.0), gone:
        checked = checking.check(admin, stage="output", content={"text": bad})
    assert (checked.judgement.action, checked.judgement.degraded) == ("block", ("database",))


def test_a_model_file_that_is_not_the_recorded_one_leaves_the_last_bundle_serving(
    trained: Any,
) -> None:
    admin, policy = trained
    bad, _ = bad_and_good()
    assert check(admin, text=bad).json()["action"] == "block"
    factories.give_labels(admin, policy, 20)
    factories.train(admin, policy)
    version = live_model(policy)
    assert version is not None
    path = artifacts.path_of(version.sha256)
    data = path.read_bytes()
    artifacts._load.cache_clear()
    try:
        path.write_bytes(data[:-1] + b"x")
        with patch.object(bundles, "LOOK_EVERY", 0.0):
            found = check(admin, text=bad).json()
    finally:
        path.write_bytes(data)
    assert (found["action"], found["degraded_by"]) == ("block", ["refused"])
    assert found["bundle"]["models"] == {policy.slug: 1}
    # what is on record is what judged, so it can be judged again
    then = ServedBundle.objects.get(pk=found["bundle"]["id"]).manifest
    assert then["guards"][0]["model_version"] == 1
    row = next(row for row in written() if str(row.pk) == found["decision_id"])
    again = replaying.replay(admin.workspace, row, {"text": bad})
    assert (again.same, again.gone) == (True, ())


def test_a_decision_is_replayed_whatever_models_stand_beside_its_own(trained: Any) -> None:
    admin, policy = trained
    other = factories.make_policy(admin, "other")
    factories.import_rows(admin, other, factories.rows(200, seed=5))
    factories.give_labels(admin, other, 100)
    factories.train(admin, other)
    bundles.forget()
    bad, good = bad_and_good()
    for text in (bad, good):
        check(admin, text=text, policies=[policy.slug])
    for row in written()[:2]:
        text = bad if row.action == "block" else good
        assert replaying.replay(admin.workspace, row, {"text": text}).same


def test_a_promise_of_the_bundle_survives_a_caller_naming_policies(trained: Any) -> None:
    admin, policy = trained
    assert check(admin, text=TALK, policies=[policy.slug]).status_code == 200
    assert check(admin, text=TALK, policies=["nowhere"]).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"text": ""}, 400),
        ({"text": "  \n"}, 400),
        ({"text": "\u200b\u2060 "}, 400),
        ({"text": "a", "passages": ["b"]}, 400),
        ({"text": 5}, 400),
        ({"text": None}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "user"}]}, 400),
        ({"passages": []}, 400),
        ({"text": "x" * 65_537}, 413),
        ({"passages": ["x"] * 201}, 413),
        ({"passages": ["x"] * 2001}, 413),
        ({"messages": [{"role": "user", "tool_calls": [{"name": "a"}] * 150}] * 2}, 413),
        ({"messages": [{"role": "user", "tool_calls": [{"name": "a"}] * 2001}]}, 413),
        ({"text": "a", "stage": "nowhere"}, 400),
        ({"text": "a", "unknown": 1}, 400),
    ],
)
def test_what_cannot_be_judged_is_refused_and_never_allowed(
    trained: Any, body: dict[str, Any], status: int
) -> None:
    answer = check(trained[0], **body)
    assert answer.status_code == status
    assert "action" not in answer.json()
