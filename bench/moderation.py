"""Eight policies on real texts, trained in the site and served through /v1/moderations.

A policy for each of eight categories of the set openai_moderation: half of the texts are imported
and labelled through the queue, the others are sent to /v1/moderations. Prints each category's
average precision beside scikit-learn's on the labels that the site learnt from (TF-IDF of words and
characters, logistic regression), and how long a call took.

    python bench/moderation.py FOLDER [--labels 400]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline, make_union

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.speed import import_lines, make_policy, spread
from tests.running import Running, running, wait_for

CATEGORIES = [
    "sexual",
    "hate",
    "violence",
    "harassment",
    "self-harm",
    "sexual/minors",
    "hate/threatening",
    "violence/graphic",
]


def load(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / "openai_moderation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(7).shuffle(rows)
    return rows


def is_of(row: dict[str, Any], category: str) -> bool:
    return category in row["category"].split(",")


def train(
    api: httpx.Client, category: str, rows: list[dict[str, Any]], most: int
) -> dict[str, bool]:
    """Label up to so many texts through the queue and train; returns the labels learnt from."""
    slug = category.replace("/", "-")
    make_policy(api, slug, audit_fraction=0.1, audit_share=0.1)
    lines = [json.dumps({"id": row["id"], "output": row["text"]}) for row in rows]
    import_lines(api, slug, "\n".join(lines).encode())
    truth = {row["id"]: is_of(row, category) for row in rows}
    given: dict[str, bool] = {}
    while len(given) < most:
        answer = api.post(f"policies/{slug}/queue/next")
        if answer.status_code != 200:
            break
        item = answer.json()
        name = item["example"]["external_id"]
        verdict = "violates" if truth[name] else "complies"
        api.post("labels", json={"lease": item["lease"], "verdict": verdict}).raise_for_status()
        given[name] = truth[name]
    run = api.post(f"policies/{slug}/runs").json()["id"]

    def ended() -> str | None:
        found = api.get(f"runs/{run}").json()
        return None if found["status"] in ("queued", "running") else str(found["status"])

    status = wait_for(ended, seconds=120, every=0.3)
    if status != "succeeded":
        print(f"{category}: not trained. {api.get(f'runs/{run}').json()['reason']}")
    body = {"settings": {"mode": "enforce"}, "categories": [f"openai/{category}"]}
    api.patch(f"policies/{slug}", json=body).raise_for_status()
    audit = audit_side(api, slug)
    return {name: violates for name, violates in given.items() if name not in audit}


def audit_side(api: httpx.Client, slug: str) -> set[str]:
    """The texts that only prove: no model learns from their labels."""
    names: set[str] = set()
    url = f"examples?policy={slug}&split=audit&page_size=200"
    while url:
        page = api.get(url).json()
        names |= {row["external_id"] for row in page["results"]}
        url = page["next"]
    return names


def baseline(texts: list[str], labels: list[bool], test: list[str]) -> Any:
    vectorisers = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=100_000
        ),
    )
    model = make_pipeline(vectorisers, LogisticRegression(C=10, class_weight="balanced"))
    model.fit(texts, labels)
    return model.predict_proba(test)[:, 1]


def served(site: Running, key: str, texts: list[str]) -> tuple[list[dict[str, float]], list[float]]:
    """The scores of each text by category, and how long each call of one text took."""
    scores, taken = [], []
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=site.address, headers=headers, timeout=30) as client:
        for text in texts:
            started = time.perf_counter()
            answer = client.post("/v1/moderations", json={"input": text})
            taken.append(time.perf_counter() - started)
            answer.raise_for_status()
            scores.append(answer.json()["results"][0]["category_scores"])
    return scores, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the data sets are")
    parser.add_argument("--labels", type=int, default=400)
    given = parser.parse_args()
    rows = load(given.folder)
    ours, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    text_of = {row["id"]: row["text"] for row in ours}
    with running() as site:
        site.workspace("moderation")
        api = site.client("admin@moderation.example", "moderation")
        labels = {name: train(api, name, ours, given.labels) for name in CATEGORIES}
        time.sleep(2)
        key = api.headers["Authorization"].removeprefix("Bearer ")
        print("labelled and trained")
        scores, taken = served(site, key, [row["text"] for row in test])
    print(f"{len(test)} texts through /v1/moderations, 8 policies: {spread(taken)}")
    for category, told in labels.items():
        truth = [is_of(row, category) for row in test]
        mine = average_precision_score(truth, [score[category] for score in scores])
        texts = [text_of[name] for name in told]
        theirs = baseline(texts, list(told.values()), [row["text"] for row in test])
        print(
            f"{category}: average precision {mine:.3f}, scikit-learn on the"
            f" {len(told)} labels it learnt from ({sum(told.values())} violating)"
            f" {average_precision_score(truth, theirs):.3f}; {sum(truth)} of the texts violate"
        )


if __name__ == "__main__":
    main()
