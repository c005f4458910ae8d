"""Checks against running processes: what is promoted is served, and what is answered is kept."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, NotFoundError, OpenAI

from tests.running import Running, wait_for
from tests.test_loop import import_rows, label, make_policy, rows, start_run


def test_a_trained_and_enforced_policy_blocks_within_two_seconds_and_keeps_its_decisions(
    site: Running,
) -> None:
    site.workspace("serving")
    with site.client("admin@serving.example", "serving") as api:
        make_policy(api, "doses", retrain_after=100_000, audit_fraction=0.2, audit_share=0.2)
        data = rows(300)
        import_rows(api, "doses", data)
        label(api, "doses", 120)
        bad = next(row["output"] for row in data if row["id"].startswith("bad"))

        def check() -> dict[str, Any]:
            return dict(api.post("check", json={"stage": "output", "text": bad}).json())

        untrained = check()
        assert (untrained["action"], untrained["degraded_by"]) == ("allow", [])
        (entry,) = untrained["receipt"]
        assert (entry["mode"], entry["why"]) == ("shadow", "no_model")

        assert start_run(api, "doses")["status"] == "succeeded"
        api.patch("policies/doses", json={"settings": {"mode": "enforce"}}).raise_for_status()
        blocked = wait_for(lambda: c if (c := check())["action"] == "block" else None, seconds=10)
        assert blocked["bundle"]["models"] == {"doses": 1}
        assert blocked["recorded"]

        def kept() -> dict[str, Any] | None:
            answer = api.get(f"decisions/{blocked['decision_id']}")
            return dict(answer.json()) if answer.status_code == 200 else None

        decision = wait_for(kept, seconds=5)
        assert decision["receipt"] == blocked["receipt"]
        assert decision["caller"].startswith("admin@serving.example with token ")


WORDS = {
    "key": "words",
    "kind": "keywords",
    "rule": "names-a-dose",
    "settings": {"words": ["two tablets"]},
}


def guard(api: Any, slug: str, *checks: dict[str, Any]) -> None:
    place = f"policies/{slug}/guardrail"
    saved = api.put(place, json={"checks": list(checks)}, headers={"If-Match": "*"})
    assert saved.status_code == 200, saved.text
    assert api.post(f"{place}/publish", json={}).status_code == 201


def test_openais_client_runs_unchanged(site: Running) -> None:
    site.workspace("openai")
    with site.client("admin@openai.example", "openai") as api:
        make_policy(api, "doses")
        guard(api, "doses", WORDS)
        body = {"settings": {"mode": "enforce"}, "categories": ["openai/self-harm"]}
        assert api.patch("policies/doses", json=body).status_code == 200
        key = api.headers["Authorization"].removeprefix("Bearer ")

    with OpenAI(base_url=f"{site.address}/v1", api_key=key, max_retries=0) as client:
        wait_for(lambda: client.moderations.create(input="two tablets").results[0].flagged)
        bad, good = client.moderations.create(input=["Take two tablets.", "Ask a nurse."]).results
        assert (bad.flagged, bad.categories.self_harm, bad.categories.hate) == (True, True, False)
        assert bad.category_scores.self_harm == 1.0
        assert not good.flagged
        with pytest.raises(NotFoundError):
            client.moderations.create(input="x", model="no-such-set")
    with (
        OpenAI(base_url=f"{site.address}/v1", api_key="gk_wrong", max_retries=0) as client,
        pytest.raises(AuthenticationError),
    ):
        client.moderations.create(input="x")


def test_promotions_under_load_answer_every_call_from_one_bundle(site: Running) -> None:
    site.workspace("hammered")
    with site.client("admin@hammered.example", "hammered") as api:
        for slug in ("one", "two"):
            make_policy(api, slug)
            guard(api, slug, {**WORDS, "settings": {"words": ["version0"]}})
            api.patch(f"policies/{slug}", json={"settings": {"mode": "enforce"}})
        text = " ".join(f"version{n}" for n in range(6))
        answers: list[dict[str, Any]] = []
        failures: list[str] = []
        late: list[str] = []
        done = threading.Event()

        def call() -> None:
            with httpx.Client(base_url=api.base_url, headers=api.headers, timeout=30) as caller:
                while not done.is_set():
                    answer = caller.post("check", json={"stage": "output", "text": text})
                    if answer.status_code == 200:
                        answers.append(answer.json())
                    elif answer.json().get("degraded_by") == ["deadline"]:
                        late.append(answer.text)  # the machine was too busy, and it says so
                    else:
                        failures.append(answer.text)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(1, 6):
            for slug in ("one", "two"):
                guard(api, slug, {**WORDS, "settings": {"words": [f"version{number}"]}})
            time.sleep(1.2)
        done.set()
        for thread in threads:
            thread.join()

    assert not failures
    assert len(late) <= len(answers) / 5
    # each bundle has one word a policy, so one bundle's answers all mark the same places; an
    # answer that ran out of time under this load says so, and may have fewer
    whole = [answer for answer in answers if not answer["degraded"]]
    assert {code for a in answers for code in a["degraded_by"]} <= {"deadline"}
    marked: dict[str, set[str]] = {}
    for answer in whole:
        places = [(r["policy"], r["spans"]) for r in answer["reasons"]]
        marked.setdefault(answer["bundle"]["id"], set()).add(json.dumps(sorted(places)))
    assert len(marked) >= 5
    assert not {name: seen for name, seen in marked.items() if len(seen) > 1}
