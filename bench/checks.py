"""How fast the check API answers: sequential, under 8 callers, and beside a retrain.

Starts Parapet as `make run` does, with 10 policies of one classifier and 10 regular expressions
each, and sends texts of 1 kB. The load generator shares the machine's cores.

    python bench/checks.py [--checks 2000] [--beside 10000]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.speed import (
    Connection,
    import_lines,
    lines,
    make_policy,
    next_item,
    spread,
    submit,
    texts,
)
from tests.running import running, wait_for

POLICIES = 10
PATTERNS = 10


def guard(api: httpx.Client, slug: str, number: int) -> None:
    """A policy with a trained classifier and its patterns, enforced."""
    make_policy(api, slug, audit_fraction=0.2, audit_share=0.2)
    import_lines(api, slug, lines(texts(300, 400, seed=number)))
    line = Connection(api)
    for _ in range(160):  # of half as many, one model in twenty learns nothing and is refused
        item = next_item(line, slug)
        assert item is not None
        submit(line, item, bring_next=False)
    run = api.post(f"policies/{slug}/runs").json()
    done = wait_for(lambda: _ended(api, run["id"]), seconds=120, every=0.3)
    assert done == "succeeded", done
    assert api.get(f"policies/{slug}/metrics").json()["model_version"], slug
    patterns = [rf"\b{slug}-secret-{n}-\d{{4,}}\b" for n in range(PATTERNS)]
    enforce(
        api,
        slug,
        {"key": "classifier", "kind": "classifier"},
        {"key": "patterns", "kind": "regex", "settings": {"patterns": patterns}},
    )


def enforce(api: httpx.Client, slug: str, *checks: dict[str, Any]) -> None:
    """Publish a guardrail of these checks, and let it act."""
    place = f"policies/{slug}/guardrail"
    body = {"checks": list(checks)}
    api.put(place, json=body, headers={"If-Match": "*"}).raise_for_status()
    api.post(f"{place}/publish", json={}).raise_for_status()
    api.patch(f"policies/{slug}", json={"settings": {"mode": "enforce"}}).raise_for_status()


def _ended(api: httpx.Client, run: str) -> str | None:
    status = str(api.get(f"runs/{run}").json()["status"])
    return status if status not in ("queued", "running") else None


class Caller:
    """A connection that times its checks."""

    def __init__(self, api: httpx.Client) -> None:
        self.line = Connection(api)
        self.late = 0

    def check(self, body: bytes) -> float:
        """Seconds that one check took; one past its deadline is counted and said so."""
        started = time.perf_counter()
        status, data = self.line.post("check", body)
        took = time.perf_counter() - started
        if status == 503 and json.loads(data)["degraded_by"] == ["deadline"]:
            self.late += 1
        else:
            assert status == 200, data[:400]
        return took


def bodies(count: int) -> list[bytes]:
    rows = texts(count, 1000, seed=4711)
    return [json.dumps({"stage": "output", "text": row["output"]}).encode() for row in rows]


def sequential(caller: Caller, count: int) -> list[float]:
    given = bodies(200)
    for body in given[:50]:
        caller.check(body)
    return [caller.check(given[n % len(given)]) for n in range(count)]


def together(api: httpx.Client, callers: int, seconds: float) -> tuple[list[float], str]:
    """Latencies of all callers, and how many checks a second."""
    taken: list[float] = []
    late: list[int] = []
    until = time.perf_counter() + seconds

    def work(seed: int) -> None:
        caller, given = Caller(api), bodies(100)
        while time.perf_counter() < until:
            taken.append(caller.check(given[(seed + len(taken)) % len(given)]))
        late.append(caller.late)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(taken) / (time.perf_counter() - started)
    return taken, f"{rate:.0f} checks a second, {sum(late)} of {len(taken):,} past their deadline"


def in_process() -> None:
    """`decide` and the features by themselves."""
    from apps.guardrails.learning import features
    from apps.runtime.decide import Finding, decide

    text = next(iter(texts(1, 1000)))["output"]
    found = [Finding(f"p{n}", "application", "disallowed", "block", "c") for n in range(10)]
    for name, act in (
        ("features of 1 kB", lambda: features.extract([text])),
        ("decide on 10 findings", lambda: decide(found)),
    ):
        taken = []
        for _ in range(500):
            started = time.perf_counter()
            act()
            taken.append(time.perf_counter() - started)
        print(f"{name}: {spread(taken)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=2000)
    parser.add_argument("--beside", type=int, default=0, help="labels of a retrain beside it")
    given = parser.parse_args()
    with running() as site:
        site.workspace("bench")
        api = site.client("admin@bench.example", "bench")
        for number in range(POLICIES):
            guard(api, f"p{number}", number)
        time.sleep(2)
        taken = sequential(Caller(api), given.checks)
        print(f"sequential, {POLICIES} policies: {spread(taken)}")
        taken, rate = together(api, 8, 10)
        print(f"8 callers: {rate}, {spread(taken)}")
        if given.beside:
            beside(api, given.beside)
    in_process()


def beside(api: httpx.Client, labels: int) -> None:
    """The same, one after the other, while a retrain of so many labels runs."""
    make_policy(api, "large", audit_fraction=0.05, audit_share=0.0, mode="off")
    import_lines(api, "large", lines(texts(int(labels * 1.2), 200, seed=99)))
    line = Connection(api)
    for _ in range(labels):
        item = next_item(line, "large")
        if item is None:
            break
        submit(line, item, bring_next=False)
    run = api.post("policies/large/runs").json()["id"]
    caller, given, taken = Caller(api), bodies(200), []
    while _ended(api, run) is None:
        taken += [caller.check(given[n % len(given)]) for n in range(50)]
    print(
        f"beside a retrain of {labels:,} labels: {len(taken)} checks, {caller.late} past their "
        f"deadline, {spread(taken)}"
    )


if __name__ == "__main__":
    main()
