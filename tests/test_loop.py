"""The main job, end to end, through the API of a real running Parapet."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

from tests.running import Running, wait_for

RULES = [
    {
        "key": "names-a-dose",
        "polarity": "disallowed",
        "text": "Names a dose.",
        "severity": 3,
        "action": "block",
        "examples": [
            {"text": "Take two tablets.", "violates": True, "why": "a dose"},
            {"text": "Ask a pharmacist.", "violates": False, "why": "a referral"},
        ],
    },
    {
        "key": "general-facts",
        "polarity": "allowed",
        "text": "General facts.",
        "severity": 1,
        "action": "allow",
        "examples": [],
    },
]


def rows(count: int) -> list[dict[str, Any]]:
    """Texts of which about 40 % violate, written from parts by a fixed seed."""
    draw = random.Random(7)
    who = ["your mother", "an adult", "a child", "my neighbour", "anyone", "the patient"]
    doses = ["take two tablets", "swallow 400 mg", "double the dose", "use the whole strip"]
    fine = ["ask a pharmacist", "call the doctor", "read the leaflet", "rest and drink water"]
    days = ["today", "tonight", "on Monday", "after lunch", "before bed", "at noon"]
    made = []
    for number in range(count):
        violates = draw.random() < 0.4
        advice = draw.choice(doses if violates else fine)
        made.append(
            {
                "id": f"{'bad' if violates else 'good'}-{number}",
                "prompt": f"Question {number}?",
                "output": f"For {draw.choice(who)}: {advice} {draw.choice(days)}, "
                f"{draw.choice(who)} {draw.choice(days)} {spelled(number)}",
            }
        )
    return made


def spelled(number: int) -> str:
    """A number in letters, so that texts that differ by it are not near twins."""
    return "".join(chr(97 + number // 26**place % 26) for place in range(4))


def make_policy(api: httpx.Client, slug: str, **settings: Any) -> None:
    made = api.post(
        "policies",
        json={
            "slug": slug,
            "name": "Doses",
            "stages": ["output"],
            "definition": "Whether an answer names a dose.",
            "rules": RULES,
            "settings": settings,
        },
    )
    assert made.status_code == 201, made.text
    assert api.post(f"policies/{slug}/publish").json()["version"] == 1


def import_rows(api: httpx.Client, slug: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    sent = api.post(
        "imports",
        params={"policy": slug, "source": "written"},
        content="\n".join(map(json.dumps, data)),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert sent.status_code == 202, sent.text

    def over() -> dict[str, Any] | None:
        job: dict[str, Any] = api.get(f"imports/{sent.json()['id']}").json()
        return job if job["status"] in ("done", "failed") else None

    done: dict[str, Any] = wait_for(over)
    assert done["status"] == "done", done
    return done


def label(api: httpx.Client, slug: str, count: int) -> int:
    """Label through the queue, each answer bringing the next item; returns how many were given."""
    given = 0
    answer = api.post(f"policies/{slug}/queue/next")
    item = answer.json() if answer.status_code == 200 else None
    while item and given < count:
        violates = item["example"]["external_id"].startswith("bad")
        sent = api.post(
            "labels",
            json={
                "lease": item["lease"],
                "verdict": "violates" if violates else "complies",
                "rules": ["names-a-dose"] if violates else [],
                "next": True,
            },
        )
        assert sent.status_code == 201, sent.text
        given += 1
        item = sent.json()["next"]
    return given


def run_to_end(api: httpx.Client, run_id: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        run: dict[str, Any] = api.get(f"runs/{run_id}").json()
        return run if run["status"] not in ("queued", "running") else None

    ended: dict[str, Any] = wait_for(over, seconds=60)
    return ended


def start_run(api: httpx.Client, slug: str) -> dict[str, Any]:
    """Start a retrain, or take the one that labels have started; wait for its end."""
    started = api.post(f"policies/{slug}/runs")
    if started.status_code == 409:
        return run_to_end(api, started.json()["run"]["id"])
    assert started.status_code == 202, started.text
    return run_to_end(api, started.json()["id"])


def recomputed(api: httpx.Client, evaluation: str) -> dict[str, float]:
    """Precision and recall from the items the evaluation lists."""
    items: list[dict[str, Any]] = []
    url = f"evaluations/{evaluation}/items"
    while url:
        page = api.get(url).json()
        items += page["results"]
        url = page["next"]
    hits = sum(i["weight"] for i in items if i["flagged"] and i["label"] == "violates")
    flagged = sum(i["weight"] for i in items if i["flagged"])
    violating = sum(i["weight"] for i in items if i["label"] == "violates")
    return {"precision": hits / flagged, "recall": hits / violating, "n": len(items)}


def test_import_label_retrain_and_changed_figures(site: Running) -> None:
    site.workspace("loop")
    with site.client("admin@loop.example", "loop") as api:
        make_policy(api, "doses", retrain_after=100_000, audit_fraction=0.4, audit_share=0.4)
        before = api.get("policies/doses/metrics").json()
        assert before["model_version"] is None
        assert before["precision"]["value"] is None

        data = rows(400)
        done = import_rows(api, "doses", [*data, *data[:10], {"output": ""}])
        assert (done["new"], done["duplicates"], done["rejected"]) == (400, 10, 1)
        (error,) = api.get(f"imports/{done['id']}/errors").json()["results"]
        assert error["row"] == 411

        assert label(api, "doses", 150) == 150
        first = start_run(api, "doses")
        assert first["status"] == "succeeded", first
        metrics = api.get("policies/doses/metrics").json()
        assert metrics["model_version"] == 1
        assert metrics["labels"]["train"] + metrics["labels"]["audit"] == 150

        label(api, "doses", 100)
        second = start_run(api, "doses")
        assert second["status"] == "succeeded", second
        assert second["model_version"] == 2
        metrics = api.get("policies/doses/metrics").json()
        assert metrics["model_version"] == 2
        assert metrics["recall"]["n"] >= 10
        again = recomputed(api, metrics["evaluation"])
        assert abs(metrics["precision"]["value"] - again["precision"]) < 1e-9
        assert abs(metrics["recall"]["value"] - again["recall"]) < 1e-9
        assert metrics["previous"]["model_version"] == 1

        # the same labels again: the same model, no second version
        third = start_run(api, "doses")
        assert third["status"] == "succeeded"
        assert third["model_version"] == 2
    assert "entries, head" in site.manage("verify_audit")


def test_audit_labels_move_the_live_figures_without_a_retrain(site: Running) -> None:
    site.workspace("audit-moves")
    with site.client("admin@audit-moves.example", "audit-moves") as api:
        make_policy(api, "doses", retrain_after=100_000, audit_fraction=0.5, audit_share=0.5)
        import_rows(api, "doses", rows(300))
        label(api, "doses", 120)
        start_run(api, "doses")
        before = api.get("policies/doses/metrics").json()
        label(api, "doses", 20)

        def moved() -> dict[str, Any] | None:
            now: dict[str, Any] = api.get("policies/doses/metrics").json()
            counted = now["labels"]["audit"]
            return now if now["counted"] == counted > before["counted"] else None

        after = wait_for(moved, seconds=10)
        assert after["model_version"] == before["model_version"] == 1


def test_enough_labels_start_a_retrain_by_themselves(site: Running) -> None:
    site.workspace("trigger")
    with site.client("admin@trigger.example", "trigger") as api:
        make_policy(api, "doses", retrain_after=25, audit_fraction=0.3, audit_share=0.2)
        import_rows(api, "doses", rows(200))
        label(api, "doses", 100)
        wait_for(lambda: api.get("policies/doses/metrics").json()["model_version"], seconds=30)
        (run, *_) = api.get("policies/doses/runs").json()["results"]
        assert run["trigger"] == "labels"
