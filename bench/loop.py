"""The whole loop on real data, and whether its figures are true.

Imports three labelled sets as three policies through the API of a running Parapet, labels through
the queue with the data's own verdicts, retrains, and prints per policy: precision and recall with
their intervals from the site, the same recomputed from the items the evaluation lists, and the
live model's true precision and recall over the whole audit side. Over several seeds (each an own
workspace whose split key follows the seed) the share of intervals that contain the truth.

    python bench/loop.py [--data ../shared/data] [--seeds 5]
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.running import Running, running, wait_for

SETS = {"openai_moderation_sexual": 500, "davidson_hate": 2000, "xstest_refusal": 1000}
FIGURES = ("precision", "recall", "false_positive_rate")


@dataclass
class Outcome:
    """One policy of one seed."""

    policy: str
    seed: int
    metrics: dict[str, Any]
    recomputed: dict[str, float | None]
    truth: dict[str, float]
    audit_texts: int
    seconds: dict[str, float]

    def covered(self, name: str) -> bool | None:
        """Whether the interval contains the truth; None where there is too little evidence."""
        figure = self.metrics[name]
        if figure["value"] is None:
            return None
        return bool(figure["low"] <= self.truth[name] <= figure["high"])


def load(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make_policy(api: httpx.Client, name: str) -> None:
    made = api.post(
        "policies",
        json={
            "slug": name,
            "name": name.replace("_", " "),
            "stages": ["output"],
            "definition": f"The verdicts of the data set {name}.",
            "rules": [
                {
                    "key": "violates",
                    "polarity": "disallowed",
                    "text": "What the data's annotators marked.",
                    "severity": 3,
                    "action": "block",
                    "examples": [],
                }
            ],
            "settings": {"audit_fraction": 0.5, "audit_share": 0.5},
        },
    )
    made.raise_for_status()
    api.post(f"policies/{name}/publish").raise_for_status()


def import_set(api: httpx.Client, name: str, rows: list[dict[str, Any]]) -> None:
    fields = {"id": "id", "output": "text", "prompt": "prompt", "group": "group", "model": "model"}
    body = "\n".join(
        json.dumps({field: row[column] for field, column in fields.items() if row.get(column)})
        for row in rows
    )
    sent = api.post(
        "imports",
        params={"policy": name, "source": name},
        content=body,
        headers={"Content-Type": "application/x-ndjson"},
    )
    sent.raise_for_status()

    def over() -> bool:
        status = api.get(f"imports/{sent.json()['id']}").json()["status"]
        if status == "failed":
            raise RuntimeError("the import failed")
        return bool(status == "done")

    wait_for(over, seconds=120)


def label(api: httpx.Client, name: str, truth: dict[str, int], count: int) -> int:
    answer = api.post(f"policies/{name}/queue/next")
    item = answer.json() if answer.status_code == 200 else None
    given = 0
    while item and given < count:
        verdict = "violates" if truth[item["example"]["external_id"]] else "complies"
        sent = api.post("labels", json={"lease": item["lease"], "verdict": verdict, "next": True})
        sent.raise_for_status()
        item = sent.json()["next"]
        given += 1
    return given


def retrain(api: httpx.Client, name: str) -> None:
    """One more retrain on all labels there are, after whatever the labels started by themselves."""

    def idle() -> bool:
        newest = api.get(f"policies/{name}/runs", params={"page_size": 1}).json()["results"]
        return not newest or newest[0]["status"] not in ("queued", "running")

    wait_for(idle, seconds=120)
    started = api.post(f"policies/{name}/runs")
    if started.status_code not in (202, 409):
        started.raise_for_status()
    time.sleep(0.2)
    wait_for(idle, seconds=120)


def walk(api: httpx.Client, url: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    page = api.get(url, params={**params, "page_size": 200}).json()
    while True:
        rows += page["results"]
        if not page["next"]:
            return rows
        page = api.get(page["next"]).json()


def shares(items: list[tuple[bool, bool, float]]) -> dict[str, float | None]:
    """Precision, recall, false-positive rate of (violates, flagged, weight) rows."""

    def share(rows: list[tuple[bool, bool, float]], hit: int) -> float | None:
        total = sum(row[2] for row in rows)
        return sum(row[2] for row in rows if row[hit]) / total if total else None

    return {
        "precision": share([row for row in items if row[1]], 0),
        "recall": share([row for row in items if row[0]], 1),
        "false_positive_rate": share([row for row in items if not row[0]], 1),
    }


def one(api: httpx.Client, folder: Path, name: str, count: int, seed: int) -> Outcome:
    rows = load(folder, name)
    truth = {row["id"]: int(row["label"]) for row in rows}
    seconds: dict[str, float] = {}

    def timed(what: str, since: float) -> None:
        seconds[what] = time.perf_counter() - since

    make_policy(api, name)
    started = time.perf_counter()
    import_set(api, name, rows)
    timed("import", started)
    started = time.perf_counter()
    label(api, name, truth, count)
    timed("label", started)
    started = time.perf_counter()
    retrain(api, name)
    timed("retrain", started)
    metrics = wait_for(lambda: _settled(api, name), seconds=60)
    items = walk(api, f"evaluations/{metrics['evaluation']}/items")
    audit = walk(api, "examples", policy=name, split="audit")
    flagged = [
        (bool(truth[row["external_id"]]), row["score"] >= metrics["threshold"], 1.0)
        for row in audit
    ]
    return Outcome(
        policy=name,
        seed=seed,
        metrics=metrics,
        recomputed=shares([(i["label"] == "violates", i["flagged"], i["weight"]) for i in items]),
        truth={key: value or 0.0 for key, value in shares(flagged).items()},
        audit_texts=len(audit),
        seconds=seconds,
    )


def _settled(api: httpx.Client, name: str) -> dict[str, Any] | None:
    """The metrics once no run is on its way and they stand still."""
    first = api.get(f"policies/{name}/metrics").json()
    time.sleep(1.5)
    second: dict[str, Any] = api.get(f"policies/{name}/metrics").json()
    still = first["evaluation"] == second["evaluation"] and second["evaluation"]
    return second if still else None


def show(outcome: Outcome) -> None:
    took = ", ".join(f"{what} {value:.1f} s" for what, value in outcome.seconds.items())
    labels = outcome.metrics["labels"]
    print(
        f"{outcome.policy}, seed {outcome.seed}: {labels['train']} train and {labels['audit']} "
        f"audit labels, model {outcome.metrics['model_version']}; {took}"
    )
    for name in FIGURES:
        figure = outcome.metrics[name]
        truth = outcome.truth[name]
        if figure["value"] is None:
            print(f"  {name:<20} too few to say (n {figure['n']}); true {truth:.3f}")
            continue
        again = outcome.recomputed[name]
        assert again is not None
        assert abs(again - figure["value"]) < 1e-9, "the page's figure is not the items' figure"
        inside = "inside" if outcome.covered(name) else "OUTSIDE"
        print(
            f"  {name:<20} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] "
            f"n {figure['n']}; recomputed {again:.3f}; true {truth:.3f} {inside}"
        )


def run(site: Running, folder: Path, seeds: int) -> list[Outcome]:
    outcomes = []
    for seed in range(1, seeds + 1):
        site.workspace(f"seed-{seed}", split_seed=seed)
        with site.client(f"admin@seed-{seed}.example", f"seed-{seed}") as api:
            for name, count in SETS.items():
                outcome = one(api, folder, name, count, seed)
                show(outcome)
                outcomes.append(outcome)
                sys.stdout.flush()
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with running() as site:
        outcomes = run(site, options.data, options.seeds)
    print()
    for name in FIGURES:
        answers = [outcome.covered(name) for outcome in outcomes]
        said = [answer for answer in answers if answer is not None]
        print(
            f"{name}: {sum(said)} of {len(said)} intervals contain the truth "
            f"({len(answers) - len(said)} had too little evidence)"
        )


if __name__ == "__main__":
    main()
