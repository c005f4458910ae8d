"""How fast the running site is: import, labelling, retrain to page, memory.

Starts Parapet as `make run` does on a fresh data folder and measures over HTTP, so that the
load generator shares the machine's cores with everything else.

    python bench/speed.py import|label|many|retrain|audit|memory ...   (default: all)
        [--examples 100000] [--runs 3]
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.running import Running, running, wait_for

RULES = [
    {
        "key": "names-a-dose",
        "polarity": "disallowed",
        "text": "Names a dose.",
        "severity": 3,
        "action": "block",
        "examples": [],
    }
]
WORDS = Path(__file__).with_name("words.txt").read_text().split()


def texts(count: int, size: int, seed: int = 1, first: int = 0) -> Iterator[dict[str, Any]]:
    """`count` texts of about `size` bytes from a fixed seed; a third violate by their words.

    Their ids end in numbers from `first` on: one id may not name two texts.
    """
    draw = random.Random(seed)
    for number in range(first, first + count):
        violates = draw.random() < 0.33
        words = draw.choices(WORDS, k=max(3, size // 7))
        words[draw.randrange(len(words))] = draw.choice(
            ["milligrams", "tablets", "overdose"] if violates else ["pharmacist", "leaflet", "rest"]
        )
        yield {"id": f"{'bad' if violates else 'good'}-{number}", "output": " ".join(words)}


def lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


def make_policy(api: httpx.Client, slug: str, **settings: Any) -> None:
    policy = {
        "slug": slug,
        "name": slug,
        "stages": ["output"],
        "definition": "Doses.",
        "rules": RULES,
        "settings": {"retrain_after": 1_000_000, **settings},
    }
    api.post("policies", json=policy).raise_for_status()
    api.post(f"policies/{slug}/publish").raise_for_status()


def import_lines(api: httpx.Client, slug: str, body: bytes) -> tuple[float, dict[str, Any]]:
    """Seconds from the first byte sent to the last row kept, and the import."""
    started = time.perf_counter()
    sent = api.post(
        "imports",
        params={"policy": slug, "source": "bench"},
        content=body,
        headers={"Content-Type": "application/x-ndjson"},
    )
    sent.raise_for_status()

    def done() -> dict[str, Any] | None:
        job: dict[str, Any] = api.get(f"imports/{sent.json()['id']}").json()
        return job if job["status"] in ("done", "failed") else None

    job: dict[str, Any] = wait_for(done, seconds=600, every=0.2)
    return time.perf_counter() - started, job


class Connection:
    """A kept connection with as little of its own as can be: httpx takes 1 to 2 ms a request."""

    def __init__(self, api: httpx.Client) -> None:
        self.connection = http.client.HTTPConnection(api.base_url.host, api.base_url.port)
        self.headers = {
            "Authorization": api.headers["Authorization"],
            "Content-Type": "application/json",
        }
        self.used = 0.0

    def post(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        if time.monotonic() - self.used > 3:  # the site closes what is idle
            self.connection.close()
        self.used = time.monotonic()
        self.connection.request("POST", f"/api/v1/{path}", body, self.headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def next_item(line: Connection, slug: str) -> dict[str, Any] | None:
    status, body = line.post(f"policies/{slug}/queue/next")
    assert status in (200, 204), body[:400]
    return json.loads(body) if status == 200 else None


def submit(line: Connection, item: dict[str, Any], *, bring_next: bool) -> dict[str, Any]:
    violates = item["example"]["external_id"].startswith("bad")
    answer = {"lease": item["lease"], "verdict": "violates" if violates else "complies"}
    status, body = line.post("labels", json.dumps({**answer, "next": bring_next}).encode())
    assert status == 201, body[:400]
    return dict(json.loads(body))


def at(share: float, seconds: list[float], unit: float = 1000.0) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * unit


def spread(seconds: list[float], unit: float = 1000.0, digits: int = 1) -> str:
    p50, p95, p99 = (f"{at(share, seconds, unit):.{digits}f}" for share in (0.5, 0.95, 0.99))
    return f"p50 {p50}  p95 {p95}  p99 {p99} ms"


class Bench:
    """One running site and a workspace in it."""

    def __init__(self, site: Running, examples: int, runs: int) -> None:
        self.site = site
        self.examples = examples
        self.runs = runs
        site.workspace("bench")
        self.api = site.client("admin@bench.example", "bench")
        self.line = Connection(self.api)

    def bench_import(self) -> None:
        """100,000 lines of 100 bytes, a tenth of them duplicates; each run brings new texts."""
        seconds, growth = [], []
        for run in range(self.runs):
            body = lines(texts(90_000, 66, seed=run)) + b"\n" + lines(texts(10_000, 66, seed=run))
            make_policy(self.api, f"import-{run}")
            with Peak(self.site) as peak:
                took, job = import_lines(self.api, f"import-{run}", body)
            seconds.append(took)
            growth.append(peak.growth)
            print(f"  run {run + 1}: {took:.1f} s, {peak.growth:.0f} MB, {_counts(job)}")
        print(
            f"import of 100,000 texts ({len(body) / 1e6:.1f} MB): median "
            f"{statistics.median(seconds):.1f} s; web and worker grow by at most "
            f"{max(growth):.0f} MB"
        )

    def bench_label(self) -> None:
        """One annotator: next and submit, one after the other; and as the page, both in one."""
        slug = self._big_policy()
        pairs = [self._label(slug, 400) for _ in range(5)]
        item = next_item(self.line, slug)
        singles = []
        for _ in range(400):
            assert item
            started = time.perf_counter()
            item = submit(self.line, item, bring_next=True)["next"]
            singles.append(time.perf_counter() - started)
        found = [at(0.95, pair) for pair in pairs]
        print(
            f"one annotator, {self.examples:,} examples: next + submit, two requests, "
            f"p95 {statistics.median(found):.1f} ms, median of "
            f"{', '.join(f'{p95:.1f}' for p95 in found)}"
        )
        print(f"  all of them {spread([*chain(*pairs)])}")
        print(f"  submit that brings the next {spread(singles)}")

    def _label(self, slug: str, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            item = next_item(self.line, slug)
            assert item
            submit(self.line, item, bring_next=False)
            seconds.append(time.perf_counter() - started)
        return seconds

    def bench_many(self) -> None:
        """Eight annotators at once, no pause, each answer bringing the next item."""
        slug = self._big_policy()
        ids: list[str] = []
        lock = threading.Lock()
        lines_of = [Connection(self._annotator(slug, n)) for n in range(8)]
        until = time.perf_counter() + 20

        def work(line: Connection) -> None:
            given = []
            item = next_item(line, slug)
            while item and time.perf_counter() < until:
                given.append(item["example"]["id"])
                item = submit(line, item, bring_next=True)["next"]
            with lock:
                ids.extend(given)

        threads = [threading.Thread(target=work, args=(line,)) for line in lines_of]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
        print(
            f"eight annotators: {len(ids) / took:.0f} labels a second; "
            f"{len(ids) - len(set(ids))} items given twice"
        )

    def bench_retrain(self) -> None:
        """From the request of a retrain to the new figures in a page that polls."""
        for labels in (1_000, 10_000):
            slug = f"retrain-{labels}"
            make_policy(self.api, slug, audit_fraction=0.3, audit_share=0.1)
            import_lines(self.api, slug, lines(texts(int(labels * 1.6), 600, seed=labels)))
            item = next_item(self.line, slug)
            for _ in range(int(labels * 1.1)):
                assert item
                item = submit(self.line, item, bring_next=True)["next"]
            page = self._page()
            seconds = []
            for _ in range(self.runs):
                item = self._label_for_train(slug, item)  # or nothing changed
                time.sleep(2)
                seen = _version(page, slug)
                started = time.perf_counter()
                self.api.post(f"policies/{slug}/runs").raise_for_status()
                time.sleep(random.random() * 0.5)  # the page polls from any moment on
                wait_for(lambda s=slug, v=seen, p=page: _version(p, s) != v, seconds=60, every=0.5)
                seconds.append(time.perf_counter() - started)
            trained = self.api.get(f"policies/{slug}/metrics").json()["labels"]
            print(
                f"retrain at {trained['train']:,} train labels (600 bytes each): trigger to new "
                f"figures on an open page, median {statistics.median(seconds):.2f} s "
                f"({', '.join(f'{s:.2f}' for s in seconds)})"
            )

    def _label_for_train(self, slug: str, item: dict[str, Any] | None) -> dict[str, Any] | None:
        """Label until one came from the train side; the next item."""

        def since() -> int:
            return int(self.api.get(f"policies/{slug}/metrics").json()["labels_since_training"])

        before = since()
        while since() == before:
            assert item
            item = submit(self.line, item, bring_next=True)["next"]
        return item

    def bench_audit(self) -> None:
        """From an audit label to the live model's figures in a page that polls."""
        slug = "retrain-1000"
        make_policy(self.api, "audit", audit_fraction=0.5, audit_share=1.0)
        slug = "audit"
        import_lines(self.api, slug, lines(texts(2_000, 600, seed=5)))
        self.api.patch(f"policies/{slug}", json={"settings": {"audit_share": 0.3}})
        item = next_item(self.line, slug)
        for _ in range(300):
            assert item
            item = submit(self.line, item, bring_next=True)["next"]
        self.api.post(f"policies/{slug}/runs").raise_for_status()
        page = self._page()
        wait_for(lambda: _version(page, slug), seconds=60)
        self.api.patch(f"policies/{slug}", json={"settings": {"audit_share": 1.0}})
        seconds = []
        for _ in range(20):
            assert item
            time.sleep(random.random() + 1.5)
            seen = _version(page, slug)
            started = time.perf_counter()
            item = submit(self.line, item, bring_next=True)["next"]
            offset = random.random() * 0.5  # the page polls every half second, from any moment on
            time.sleep(offset)
            try:
                wait_for(lambda v=seen: _version(page, slug) != v, seconds=8, every=0.5)
            except AssertionError:
                continue  # it was a train label: nothing to follow
            seconds.append(time.perf_counter() - started)
        print(f"audit label to figures on an open page: {spread(seconds)} (n {len(seconds)})")

    def bench_memory(self) -> None:
        """Proportional set size of every process, largest first."""
        for name, size in sorted(memory(self.site).items(), key=lambda pair: -pair[1]):
            print(f"  {name:<28} {size:6.0f} MB")

    def _big_policy(self) -> str:
        slug = f"big-{self.examples}"
        if self.api.get(f"policies/{slug}").status_code == 404:
            make_policy(self.api, slug)
            for start in range(0, self.examples, 100_000):
                count = min(100_000, self.examples - start)
                body = lines(texts(count, 100, seed=100 + start, first=start))
                _, job = import_lines(self.api, slug, body)
                assert job["new"] == count, _counts(job)
            # PostgreSQL vacuums within the minute after an import, the longer the more came
            time.sleep(75 + self.examples / 5_000)
        return slug

    def _annotator(self, slug: str, number: int) -> httpx.Client:
        email = f"annotator{number}@bench.example"
        added = self.api.post("members", json={"email": email, "role": "annotator"})
        if added.status_code == 201:
            role = {"member": added.json()["id"], "role": "annotator"}
            self.api.put(f"policies/{slug}/roles", json=role).raise_for_status()
        return self.site.client(email, "bench", "label", "read")

    def _page(self) -> httpx.Client:
        """A signed-in browser's session, to poll what an open page polls."""
        password = self.site.manage("new_password", "admin@bench.example")
        page = httpx.Client(base_url=self.site.address, follow_redirects=True, timeout=30)
        form = page.get("/sign-in/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert token
        data = {"csrfmiddlewaretoken": token[1], "email": "admin@bench.example"}
        page.post("/sign-in/", data={**data, "password": password}).raise_for_status()
        return page


def _version(page: httpx.Client, slug: str) -> str:
    """What the open page would know after this poll."""
    found = re.search(r"seen=([0-9a-f-]{36})", page.get(f"/policies/{slug}/figures/").text)
    return found[1] if found else ""


def _counts(job: dict[str, Any]) -> str:
    return f"{job['new']:,} new, {job['duplicates']:,} duplicates, {job['rejected']:,} rejected"


def memory(site: Running) -> dict[str, float]:
    """MB (proportional set size) of each process of the site but PostgreSQL."""
    found: dict[str, float] = {}
    for process in psutil.Process(site.process.pid).children(recursive=True):
        try:
            command = " ".join(process.cmdline())
            if "postgres" in command:
                continue
            name = _role(command)
            found[f"{name} {process.pid}"] = process.memory_full_info().pss / 2**20
        except psutil.Error:
            continue
    return found


def _role(command: str) -> str:
    for name in ("granian", "train@", "default@", "beat"):
        if name in command:
            return name.rstrip("@")
    return command[:20]


class Peak:
    """The largest growth in MB of the web and default-worker processes while it is open."""

    def __init__(self, site: Running) -> None:
        self.site = site
        self.growth = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Peak:
        before = memory(self.site)

        def watch() -> None:
            while not self._over.wait(0.3):
                now = memory(self.site)
                grown = sum(max(0.0, size - before.get(name, size)) for name, size in now.items())
                self.growth = max(self.growth, grown)

        self._thread = threading.Thread(target=watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["import", "label", "many", "retrain", "audit", "memory"]
    parser.add_argument("what", nargs="*", choices=[*names, []], default=names)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with running() as site:
        bench = Bench(site, options.examples, options.runs)
        for name in options.what or names:
            measure: Callable[[], None] = getattr(bench, f"bench_{name}")
            measure()
            sys.stdout.flush()


if __name__ == "__main__":
    main()
