"""Figure 4 of the safety text: whatever fails, each answer is the configured one, and says so.

Against running processes: files are renamed and overwritten, servers are killed. What cannot be
made to happen from outside (a classifier that raises, a full queue) is in tests/runtime.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.running import Running, free_port, running, wait_for
from tests.test_loop import import_rows, label, make_policy, rows, start_run

pytestmark = pytest.mark.xdist_group("site")
REQUESTS = 100
BLOCKED = "Take two tablets of it."
# as those labelled: what a classifier of 64 labels knows little of, it blocks once in 40 trainings
FINE = "For a child: ask a pharmacist today, anyone tonight zzzz"
WORDS = {"key": "words", "kind": "keywords", "settings": {"words": ["two tablets"]}}
JUDGE_PORT = free_port()
JUDGE = {
    "key": "judge",
    "kind": "judge",
    "settings": {
        "url": f"http://127.0.0.1:{JUDGE_PORT}/v1",
        "model": "none",
        "family": "llama_guard",
        "timeout_ms": 200,
    },
}


class Served:
    """A site with an enforced policy that has a classifier and listed words."""

    def __init__(self, site: Running, api: httpx.Client) -> None:
        self.site, self.api = site, api

    def set(self, **settings: Any) -> None:
        changed = self.api.patch("policies/doses", json={"settings": settings})
        assert changed.status_code == 200, changed.text

    def guard(self, *checks: dict[str, Any]) -> None:
        place = "policies/doses/guardrail"
        body = {"checks": list(checks)}
        assert self.api.put(place, json=body, headers={"If-Match": "*"}).status_code == 200
        assert self.api.post(f"{place}/publish", json={}).status_code == 201

    def ask(self, text: str) -> tuple[int, dict[str, Any]]:
        answer = self.api.post("check", json={"stage": "output", "text": text})
        return answer.status_code, dict(answer.json())

    def settled(self, code: str) -> None:
        """Wait until both web processes tell this code ("" for none)."""

        def all_say() -> bool:
            told = [self.ask(FINE)[1].get("degraded_by") for _ in range(12)]
            return all(codes == ([code] if code else []) for codes in told)

        wait_for(all_say, seconds=30, every=0.3)

    def expect(self, text: str, status: int, action: str, code: str) -> None:
        """The same answer so many times, degraded by this code ("" for not at all)."""
        for _ in range(REQUESTS):
            found, answer = self.ask(text)
            assert (found, answer["action"]) == (status, action), answer
            assert answer["degraded_by"] == ([code] if code else [])
            assert answer["degraded"] is bool(code)

    def new_web(self) -> None:
        """Kill the processes that answer; new ones come and know nothing yet."""
        up = psutil.Process(self.site.process.pid)
        for child in up.children(recursive=True):
            if "granian" in " ".join(child.cmdline()) and child.ppid() != up.pid:
                child.kill()

        def answers() -> bool:
            try:
                return self.api.get("health/ready").status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(answers, seconds=30)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with running(PARAPET_JUDGE_URLS=f"http://127.0.0.1:{JUDGE_PORT}/v1") as site:
        site.workspace("failing")
        with site.client("admin@failing.example", "failing") as api:
            make_policy(api, "doses", retrain_after=100_000, audit_fraction=0.2, audit_share=0.2)
            import_rows(api, "doses", rows(200))
            label(api, "doses", 80)
            assert start_run(api, "doses")["status"] == "succeeded"
            made = Served(site, api)
            made.guard({"key": "classifier", "kind": "classifier"}, WORDS)
            made.set(mode="enforce")
            made.settled("")
            yield made


def model_file(served: Served) -> Path:
    models = served.api.get("policies/doses/models").json()["results"]
    (model,) = [model for model in models if model["status"] == "live"]
    return served.site.data_dir / "models" / f"{model['sha256']}.npz"


@pytest.mark.parametrize("side", ["open", "closed"])
@pytest.mark.parametrize("cause", ["missing", "wrong"])
def test_a_model_that_cannot_be_served(served: Served, cause: str, side: str) -> None:
    served.set(on_failure=side)
    path = model_file(served)
    data = path.read_bytes()
    path.write_bytes(b"not a model") if cause == "wrong" else path.unlink()
    try:
        served.new_web()
        served.settled("model_refused")
        served.expect(FINE, 503, {"open": "allow", "closed": "block"}[side], "model_refused")
        served.expect(BLOCKED, 200, "block", "model_refused")
    finally:
        path.write_bytes(data)
    served.settled("")


@pytest.mark.parametrize("side", ["open", "closed"])
def test_a_judge_that_does_not_answer(served: Served, side: str) -> None:
    served.set(on_failure=side)
    served.guard(WORDS, JUDGE)

    def failing() -> bool:
        return all(self_ask(served) == 503 for _ in range(12))

    wait_for(failing, seconds=30, every=0.3)
    advice = {"open": "allow", "closed": "block"}[side]
    for _ in range(REQUESTS):
        status, answer = served.ask(FINE)
        assert (status, answer["action"]) == (503, advice)
        assert answer["degraded_by"][0] in ("refused", "judge_resting")
    served.expect(BLOCKED, 200, "block", "")  # found before it would have been asked
    served.guard({"key": "classifier", "kind": "classifier"}, WORDS)
    served.settled("")


def self_ask(served: Served) -> int:
    return served.ask(FINE)[0]


def test_a_guardrail_that_cannot_be_built_leaves_the_last_good_one_serving(
    served: Served,
) -> None:
    with psycopg.connect(owner_url(served)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO guardrails_guardrailversion"
            " (id, policy_id, number, content, note, written_by, published_by, published_at)"
            " SELECT gen_random_uuid(), policy_id, 99, jsonb_set(content::jsonb,"
            " '{checks,1,settings,words}', '[]'), '', '[]', 'a fault', now()"
            " FROM guardrails_guardrailversion ORDER BY number DESC LIMIT 1"
        )
    try:
        served.set(rollout=99)  # a change that makes them look
        served.settled("refused")
        served.expect(BLOCKED, 200, "block", "refused")
        served.expect(FINE, 200, "allow", "refused")
    finally:
        with psycopg.connect(owner_url(served)) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("DELETE FROM guardrails_guardrailversion WHERE number = 99")
    served.set(rollout=100)
    served.settled("")


def owner_url(served: Served) -> str:
    record = json.loads((served.site.data_dir / "running.json").read_text())
    return str(record["database_owner_url"])


def test_without_the_broker_checks_go_on_as_before(served: Served) -> None:
    broker = served.site.data_dir / "broker"
    broker.rename(broker.with_name("gone"))
    try:
        served.expect(BLOCKED, 200, "block", "")
        served.expect(FINE, 200, "allow", "")
    finally:
        # a worker that died without it was started again, and has made one of its own
        shutil.rmtree(broker, ignore_errors=True)
        broker.with_name("gone").rename(broker)


def test_without_the_database_the_last_bundle_judges_and_says_so(served: Served) -> None:
    served.expect(FINE, 200, "allow", "")
    main = int((served.site.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(main, signal.SIGINT)
    psutil.wait_procs([psutil.Process(main)] if psutil.pid_exists(main) else [], timeout=10)
    served.settled("database")
    served.expect(BLOCKED, 200, "block", "database")
    served.expect(FINE, 200, "allow", "database")
