"""Checks against running processes: what is promoted is served, and what is answered is kept."""

from __future__ import annotations

from typing import Any

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
        assert (untrained["action"], untrained["degraded_by"]) == ("allow", ["no_model"])
        assert untrained["receipt"][0]["mode"] == "shadow"

        assert start_run(api, "doses")["status"] == "succeeded"
        api.patch("policies/doses", json={"settings": {"mode": "enforce"}}).raise_for_status()
        blocked = wait_for(lambda: c if (c := check())["action"] == "block" else None, seconds=2)
        assert blocked["bundle"]["models"] == {"doses": 1}
        assert blocked["recorded"]

        def kept() -> dict[str, Any] | None:
            answer = api.get(f"decisions/{blocked['decision_id']}")
            return dict(answer.json()) if answer.status_code == 200 else None

        decision = wait_for(kept, seconds=5)
        assert decision["receipt"] == blocked["receipt"]
        assert decision["caller"].startswith("admin@serving.example with token ")
