"""Everything at once, and processes killed in the middle: what must hold afterwards.

Four labellers, an import, label-triggered retrains, and `kill -9` of a worker and of a web process
again and again. The labellers keep a ledger of what the server acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from tests.running import Running, wait_for
from tests.test_loop import import_rows, make_policy, recomputed, rows

RETRAIN_AFTER = 60


@dataclass
class Ledger:
    """What the server acknowledged, and what the labellers lived through."""

    labels: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    interruptions: int = 0
    kills: list[str] = field(default_factory=list)


def storm(site: Running, *, seconds: float, kill_every: float, arriving: int) -> dict[str, Any]:
    """Let it blow, then wait for calm; returns the ledger and what the server says."""
    site.workspace("storm")
    admin = site.client("admin@storm.example", "storm")
    make_policy(admin, "storm", retrain_after=RETRAIN_AFTER, audit_fraction=0.4, audit_share=0.3)
    import_rows(admin, "storm", rows(2_000))
    ledger, lock = Ledger(), threading.Lock()
    people = [_annotator(site, admin, number) for number in range(4)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_label, args=(person, ledger, lock, until)) for person in people
    ]
    threads.append(threading.Thread(target=_import, args=(site, arriving)))
    for thread in threads:
        thread.start()
    _kill(site, ledger, until, kill_every)
    for thread in threads:
        thread.join()
    calm = _calm(admin)
    labels = _all(admin, "labels", policy="storm")
    return {"ledger": ledger, "labels": labels, **calm}


def check(found: dict[str, Any]) -> None:
    """Every acknowledged label exists once; nothing is lost, stuck or untrue."""
    ledger: Ledger = found["ledger"]
    kept = Counter(label["id"] for label in found["labels"])
    assert all(kept[label] == 1 for label in ledger.labels), "an acknowledged label is missing"
    per_example = Counter(label["example"] for label in found["labels"])
    assert max(per_example.values()) == 1, "an example was labelled twice"
    assert found["import"]["status"] == "done"
    assert found["import"]["new"] + found["import"]["duplicates"] == found["import"]["rows"]
    states = {run["status"] for run in found["runs"]}
    assert states <= {"succeeded", "failed"}, f"a run is stuck: {states}"
    assert found["metrics"]["labels_since_training"] < RETRAIN_AFTER, "a trigger was lost"
    versions = [model["version"] for model in found["models"]]
    assert len(versions) == len(set(versions))
    for name in ("precision", "recall"):
        assert abs(found["metrics"][name]["value"] - found["recomputed"][name]) < 1e-9


def _annotator(site: Running, admin: httpx.Client, number: int) -> httpx.Client:
    email = f"labeller{number}@storm.example"
    added = admin.post("members", json={"email": email, "role": "annotator"}).json()
    role = {"member": added["id"], "role": "annotator"}
    admin.put("policies/storm/roles", json=role).raise_for_status()
    return site.client(email, "storm", "label", "read")


def _label(api: httpx.Client, ledger: Ledger, lock: threading.Lock, until: float) -> None:
    """Label without hurry; whatever is not acknowledged is sent again, as the page does."""
    draw = random.Random(id(api))
    item: dict[str, Any] | None = None
    while time.monotonic() < until:
        try:
            if item is None:
                answer = api.post("policies/storm/queue/next", timeout=5)
                item = answer.json() if answer.status_code == 200 else None
                if item is None:
                    time.sleep(0.5)
                    continue
            violates = item["example"]["external_id"].startswith("bad")
            verdict = "violates" if violates else "complies"
            sent = api.post(
                "labels",
                json={"lease": item["lease"], "verdict": verdict, "next": True},
                timeout=5,
            )
        except httpx.HTTPError:
            with lock:
                ledger.interruptions += 1
            time.sleep(0.2)
            continue
        if sent.status_code == 201:
            with lock:
                ledger.labels.append(sent.json()["id"])
                ledger.examples.append(item["example"]["id"])
            item = sent.json()["next"]
        elif sent.status_code in (404, 409):
            item = None
        time.sleep(draw.uniform(0.05, 0.15))


def _import(site: Running, arriving: int) -> None:
    with site.client("admin@storm.example", "storm") as api:
        data = [
            # the verdict is the beginning of the id
            {**row, "id": f"{row['id']}-late", "output": f"{row['output']} late"}
            for row in rows(arriving)
        ]
        while True:
            try:
                import_rows(api, "storm", data)
                return
            except (httpx.HTTPError, KeyError):
                time.sleep(1)


def _kill(site: Running, ledger: Ledger, until: float, every: float) -> None:
    """kill -9: a worker (main or child, training or not) and a web process, in turn."""
    draw = random.Random(1)
    kinds = ["train@", "granian", "default@"]
    turn = 0
    while time.monotonic() + every < until:
        time.sleep(every)
        kind = kinds[turn % len(kinds)]
        turn += 1
        victims = [
            process
            for process in psutil.Process(site.process.pid).children(recursive=True)
            if kind in " ".join(_command(process))
        ]
        if kind == "granian":
            victims = victims[1:] or victims  # one that serves, not the parent
        if victims:
            victim = draw.choice(victims)
            ledger.kills.append(f"{kind} {victim.pid}")
            os.kill(victim.pid, signal.SIGKILL)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _calm(api: httpx.Client) -> dict[str, Any]:
    """Wait until nothing is on its way any more, then look."""
    restless: dict[str, Any] = {}

    def over() -> dict[str, Any] | None:
        try:
            jobs = api.get("imports", params={"policy": "storm"}).json()["results"]
            runs = _all(api, "policies/storm/runs")
            metrics = api.get("policies/storm/metrics").json()
        except (httpx.HTTPError, KeyError):
            return None
        busy = [job for job in [*jobs, *runs] if job["status"] in ("queued", "running")]
        since = metrics["labels_since_training"]
        if busy or since >= RETRAIN_AFTER:
            restless.update(busy=busy, labels_since_training=since)
            return None
        return {"import": jobs[0], "runs": runs, "metrics": metrics}

    try:
        wait_for(over, seconds=150, every=0.5)
    except AssertionError:
        raise AssertionError(f"No calm after the storm: {restless}") from None
    time.sleep(6)  # a refresh that was lost is asked for again by the sweeper
    found: dict[str, Any] = wait_for(over, seconds=60, every=0.5)
    evaluation = found["metrics"]["evaluation"]
    return {
        **found,
        "recomputed": recomputed(api, evaluation),
        "models": _all(api, "policies/storm/models"),
    }


def _all(api: httpx.Client, url: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = api.get(url, params={**params, "page_size": 200}).json()
    while True:
        found += page["results"]
        if not page["next"]:
            return found
        page = api.get(page["next"]).json()
