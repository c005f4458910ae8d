"""What people must not miss stands on the pages before it hurts."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest
from django.utils import timezone

from apps.accounts import people, tokens
from apps.base.problems import Problem
from apps.runtime import canaries, switches
from apps.runtime.models import Canary, Incident
from tests import factories
from tests.runtime.conftest import WORDS, Space, written

NO_MODEL = "there is no model yet"
STOPPED = "The kill switch is on"
CLASSIFIER = {"key": "classifier", "kind": "classifier"}


def page(space: Space, place: str) -> str:
    answer = factories.page_client(space.admin).get(place)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_vote_without_a_model_is_said_where_a_policy_is_set_to_enforce(space: Space) -> None:
    settings = f"/policies/{space.policy.slug}/settings/"
    assert NO_MODEL not in page(space, settings)
    space.guard(WORDS, CLASSIFIER)
    assert NO_MODEL in page(space, settings)
    space.guard(WORDS, {**CLASSIFIER, "advisory": True})
    assert NO_MODEL not in page(space, settings)


def test_the_kill_switch_is_said_on_the_pages_of_the_policies_it_stops(space: Space) -> None:
    places = ["/", f"/policies/{space.policy.slug}/"]
    assert not any(STOPPED in page(space, place) for place in places)
    switches.turn_kill_switch(space.admin, on=True, reason="a trial")
    assert all(STOPPED in page(space, place) for place in places)


def test_a_policy_says_what_it_does_with_traffic(space: Space) -> None:
    space.set(mode="enforce", rollout=10)
    assert "enforce 10 %" in page(space, f"/policies/{space.policy.slug}/")


def test_a_removed_canary_closes_what_it_opened(space: Space) -> None:
    canary = canaries.add_canary(space.admin, stage="output", text="a text", expected="block")
    canaries.send_all()
    assert Incident.objects.get().status == "open"
    canaries.remove_canary(space.admin, canary=canary)
    incident = Incident.objects.get()
    assert (incident.status, incident.fixed_by) == ("dismissed", "the canary was removed")
    assert not Canary.objects.exists()


# --- what a canary takes for an answer ------------------------------------------------------


RAN = {"status": "ran", "mode": "enforce", "why": ""}
TOLD = {"advisory": True, "why": "deadline"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "an answer that is none"),
        ({}, "an answer that is none"),
        (0, "an answer that is none"),
        ({"action": "allow"}, "an answer that is none"),
        ({"action": "let go", "receipt": [RAN]}, "an answer that is none"),
        ({"action": "allow", "receipt": []}, "nothing was looked at"),
        ({"action": "allow", "receipt": [RAN, {**RAN, **TOLD, "status": "failed"}]}, ""),
        ({"action": "allow", "receipt": [{**RAN, "status": "skipped"}]}, "nothing was looked at"),
        (
            {"action": "allow", "receipt": [RAN, {**RAN, "status": "failed", "why": "no_model"}]},
            "degraded: no_model",
        ),
        (
            {"action": "allow", "receipt": [RAN], "degraded": True, "degraded_by": ["database"]},
            "degraded: database",
        ),
        ({"action": "allow", "receipt": [RAN], "degraded": False, "degraded_by": []}, ""),
        # what fails in shadow acts on nobody
        (
            {"action": "allow", "receipt": [RAN, {"status": "failed", "mode": "shadow"}]},
            "",
        ),
    ],
)
def test_a_canary_believes_only_a_whole_judgement(
    space: Space, monkeypatch: pytest.MonkeyPatch, settings: Any, body: Any, problem: str
) -> None:
    settings.SITE_URL = "http://localhost:1"
    monkeypatch.setattr(canaries.httpx, "post", lambda *_, **__: httpx.Response(200, json=body))
    canary = canaries.add_canary(space.admin, stage="output", text="a text", expected="allow")
    other = canaries.add_canary(space.admin, stage="output", text="another", expected="allow")
    assert canaries.send_all() == 2 * bool(problem)
    for one in (canary, other):
        one.refresh_from_db()
        assert (one.last_problem, one.failing_since is None) == (problem, not problem)


def test_a_canary_says_what_kept_a_policy_from_acting(
    space: Space, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SITE_URL = "http://localhost:1"
    found = {"status": "ran", "policy": "p", "mode": "shadow", "action": "block", "why": "rollout"}
    # an advisory check keeps nothing back: it has no vote
    advised = {**found, "policy": "q", "advisory": True}
    body = {"action": "allow", "receipt": [found, advised]}
    monkeypatch.setattr(canaries.httpx, "post", lambda *_, **__: httpx.Response(200, json=body))
    canary = canaries.add_canary(space.admin, stage="output", text="a text", expected="block")
    canaries.send_all()
    canary.refresh_from_db()
    assert canary.last_problem == "answered allow; p found it (outside the rollout)"


def test_a_refused_canary_keeps_what_was_written(space: Space) -> None:
    written = {"text": '{"name": "search"', "stage": "tool_call", "expected": "allow"}
    page = factories.page_client(space.admin).post("/serving/canaries/", written)
    assert page.status_code == 400
    assert page.context["canary"]["text"] == written["text"]
    assert page.content.decode().count(" selected>") == 2
    assert (page.context["canary"]["stage"], page.context["canary"]["expected"]) == (
        "tool_call",
        "allow",
    )


def test_a_canary_of_a_tool_call_sends_the_call(
    space: Space, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SITE_URL = "http://localhost:1"
    sent = []

    def answer(*_: Any, json: Any, **__: Any) -> httpx.Response:
        sent.append(json)
        return httpx.Response(200, json={"action": "allow", "receipt": [RAN]})

    monkeypatch.setattr(canaries.httpx, "post", answer)
    with pytest.raises(Problem) as refused:
        canaries.add_canary(space.admin, stage="tool_call", text="a text", expected="allow")
    assert refused.value.errors[0].message.startswith("At this stage a call, as JSON")
    call = {"name": "search", "arguments": {"query": "tides"}}
    canaries.add_canary(space.admin, stage="tool_call", text=json.dumps(call), expected="allow")
    assert canaries.send_all() == 0
    assert sent == [{"stage": "tool_call", "tool_call": call}]
    Canary.objects.update(text="of before calls were written so")
    assert canaries.send_all() == 0
    assert sent[1] == {"stage": "tool_call", "text": "of before calls were written so"}


def test_canaries_are_sent_beside_each_other(
    space: Space, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SITE_URL = "http://localhost:1"
    together = threading.Barrier(canaries.AT_ONCE, timeout=5)

    def answer(*_: Any, **__: Any) -> httpx.Response:
        together.wait()
        return httpx.Response(200, json={"action": "allow", "receipt": [RAN]})

    monkeypatch.setattr(canaries.httpx, "post", answer)
    for number in range(canaries.AT_ONCE):
        canaries.add_canary(space.admin, stage="output", text=f"text {number}", expected="allow")
    assert canaries.send_all() == 0


def test_a_canary_goes_on_when_its_maker_has_left(
    space: Space, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SITE_URL = "http://localhost:1"
    maker = factories.make_member(space.admin.workspace)
    canary = canaries.add_canary(maker, stage="output", text="a text", expected="allow")
    people.deactivate_member(space.admin, membership=maker.membership)
    keys = []

    def answer(*given: Any, headers: dict[str, str], **more: Any) -> httpx.Response:
        keys.append(headers["Authorization"].removeprefix("Bearer "))
        return httpx.Response(200, json={"action": "allow", "receipt": [RAN]})

    monkeypatch.setattr(canaries.httpx, "post", answer)
    assert canaries.send_all() == 0
    actor = tokens.actor_of(keys[0])
    assert actor is not None
    assert actor.membership == space.admin.membership
    canary.refresh_from_db()
    assert canary.last_problem == ""


def test_a_canary_that_is_not_sent_any_more_is_failing(space: Space) -> None:
    canary = canaries.add_canary(space.admin, stage="output", text="a text", expected="block")
    Canary.objects.update(last_at=timezone.now(), last_action="block")
    assert "parapet_canaries_failing 0.0" in metrics(space)
    Canary.objects.update(last_at=timezone.now() - 2 * canary.LATE)
    assert "parapet_canaries_failing 1.0" in metrics(space)
    assert "not sent any more" in page(space, "/serving/")


def metrics(space: Space) -> str:
    key = factories.make_token(space.admin, "read")
    answer = factories.page_client(None).get("/metrics", headers={"Authorization": f"Bearer {key}"})
    return answer.content.decode()


def test_an_owner_sees_what_shadow_would_have_changed_before_enforcing(space: Space) -> None:
    places = [f"/policies/{space.policy.slug}/{tab}/" for tab in ("settings", "guardrail")]
    assert all("No decision in the last 24 hours" in page(space, place) for place in places)
    space.set(mode="shadow")
    for text in ("Take two tablets.", "Ask a pharmacist."):
        space.check(text)
    written()
    for place in places:
        shown = " ".join(page(space, place).split())
        assert "shadow: it was a part of 2 decisions and asked for something in 1" in shown
        assert "enforced, it would have made 1 stricter" in shown
