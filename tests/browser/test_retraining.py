"""Retrains and figures that follow by themselves on open pages."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits, World
from tests.running import Running, wait_for
from tests.test_loop import import_rows, start_run

FIGURES = "#figures"


def varied_rows(count: int) -> list[dict[str, Any]]:
    """Texts that need many labels: what violates is told by any of 25 words."""
    draw = random.Random(11)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(50)]
    made = []
    for number in range(count):
        place = draw.randrange(50)
        rest = " ".join("".join(draw.choices("aeioulmnrst", k=5)) for _ in range(6))
        kind = "bad" if place < 25 else "good"
        made.append({"id": f"{kind}-{number}", "output": f"Take {words[place]} {rest}."})
    return made


def answer(api: httpx.Client, slug: str, count: int, *, wrong: bool = True) -> None:
    """Answer items of the queue one after another and hold none back; one in seven wrongly."""
    for number in range(count):
        item = api.post(f"policies/{slug}/queue/next").json()
        violates = item["example"]["external_id"].startswith("bad") != (wrong and number % 7 == 3)
        verdict = "violates" if violates else "complies"
        given = {"lease": item["lease"], "verdict": verdict}
        assert api.post("labels", json=given).status_code == 201


class Worker:
    """The worker of the queue "train", which can be held between two steps of a run."""

    def __init__(self, site: Running) -> None:
        up = psutil.Process(site.process.pid)
        self.main = next(p for p in up.children() if "train@%h" in p.cmdline())

    @contextmanager
    def held(self) -> Iterator[Callable[[float], None]]:
        """Nothing goes on inside, except while step(seconds) is called."""

        def step(seconds: float) -> None:
            self._each(psutil.Process.resume)
            time.sleep(seconds)
            self._each(psutil.Process.suspend)

        self._each(psutil.Process.suspend)
        try:
            yield step
        finally:
            self._each(psutil.Process.resume)

    def _each(self, do: Callable[[psutil.Process], None]) -> None:
        for process in (self.main, *self.main.children(recursive=True)):
            try:
                do(process)
            except psutil.NoSuchProcess:
                continue


@pytest.fixture
def worker(site: Running) -> Worker:
    return Worker(site)


def run_until_working(world: World, slug: str, step: Callable[[float], None]) -> None:
    def working() -> bool:
        (run, *_) = world.api.get(f"policies/{slug}/runs").json()["results"]
        assert run["status"] in ("queued", "running"), "it was over too fast to be watched"
        if run["status"] == "running":
            return True
        step(0.04)
        return False

    wait_for(working, seconds=30, every=0.01)


def test_a_retrain_is_watched_and_changes_an_open_evidence_page(
    visits: Visits, world: World, worker: Worker
) -> None:
    world.policy("watched", audit_fraction=0.4, audit_share=0.4)
    import_rows(world.api, "watched", varied_rows(400))
    answer(world.api, "watched", 80, wrong=False)
    assert start_run(world.api, "watched")["status"] == "succeeded"
    answer(world.api, "watched", 100, wrong=False)

    open_page = visits.open(world.owner, "/policies/watched/evidence/")
    expect(open_page.locator(FIGURES)).to_contain_text("model 1,")
    open_page.evaluate("window.__here = true")

    page = visits.open(world.owner, "/policies/watched/labels/")
    with worker.held() as step:
        page.get_by_role("button", name="Retrain").click()
        page.wait_for_url("**/training/*/")
        page.evaluate("window.__here = true")
        expect(page.locator("#run .pill").first).to_have_text("queued")
        run_until_working(world, "watched", step)
        expect(page.locator("#run .pill").first).to_have_text("running")
        expect(page.locator("#run .log li").first).to_contain_text(re.compile("[a-z]"))
        # the open Evidence page tells of it as well
        expect(open_page.get_by_label("Retrain on its way")).to_be_visible()
    expect(page.locator("#run .pill").first).to_have_text("succeeded", timeout=30_000)
    expect(page.locator("#run .log")).to_contain_text("fold")
    expect(page.get_by_role("link", name="model 2")).to_be_visible()
    assert page.evaluate("window.__here"), "the page of the run reloaded"

    figures = open_page.locator(FIGURES)
    expect(figures).to_contain_text("model 2,")
    expect(open_page.get_by_label("Retrain on its way")).to_be_hidden()
    assert open_page.evaluate("window.__here"), "the Evidence page reloaded"
    recall = open_page.locator("#figure-recall")
    expect(recall).to_contain_text(re.compile(r"\[0\.\d\d, [01]\.\d\d\]"))
    expect(recall).to_contain_text(re.compile(r"n \d+\s+violating"))
    expect(recall).to_contain_text(re.compile(r"was\s+[01]\.\d\d\s+on the same items"))
    # said once for those who hear the page, and what stands below follows too
    expect(open_page.locator("#announce")).to_contain_text("→")
    expect(open_page.locator("table").last).to_contain_text("model 2")


def test_somebody_elses_audit_label_moves_the_open_figures(visits: Visits, world: World) -> None:
    world.policy("moving-figures", texts=200, audit_fraction=0.5, audit_share=0.5)
    answer(world.api, "moving-figures", 80)
    start_run(world.api, "moving-figures")
    patched = world.api.patch("policies/moving-figures", json={"settings": {"audit_share": 1}})
    assert patched.status_code == 200, patched.text

    page = visits.open(world.owner, "/policies/moving-figures/evidence/")
    page.evaluate("window.__here = true")
    waits = []
    for _ in range(3):
        page.wait_for_timeout(1100)  # a burst is one evaluation a second
        before = page.locator(FIGURES).inner_text()
        given = time.monotonic()
        answer(world.api, "moving-figures", 1)
        changed(page, before)
        waits.append(time.monotonic() - given)
    assert sorted(waits)[1] <= 1.5, waits
    assert page.evaluate("window.__here")
    # marked for those who look at it
    expect(page.locator("[data-figure][data-changed]").first).to_be_visible()


def test_cancel(visits: Visits, world: World, worker: Worker) -> None:
    world.policy("cancel", texts=200, audit_fraction=0.2, audit_share=0.2)
    answer(world.api, "cancel", 80)
    page = visits.open(world.owner, "/policies/cancel/")
    with worker.held() as step:
        # one that waits stops at once
        page.get_by_role("button", name="Retrain").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#run .pill").first).to_have_text("cancelled")
        # one that works stops at its next step
        page.get_by_role("button", name="Try again").click()
        page.wait_for_url("**/training/*/")
        run_until_working(world, "cancel", step)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".messages")).to_contain_text("stops at its next step")
    expect(page.locator("#run .pill").first).to_have_text("cancelled", timeout=20_000)
    expect(page.locator("#run")).to_contain_text("Cancelled by a person")
    assert world.api.get("policies/cancel/metrics").json()["model_version"] is None


def test_a_failed_run_says_why_and_can_be_tried_again(visits: Visits, world: World) -> None:
    world.policy("too-few", texts=120, audit_fraction=0.2, audit_share=0.2)
    answer(world.api, "too-few", 3)
    page = visits.open(world.owner, "/policies/too-few/guardrail/")
    page.get_by_role("button", name="Retrain").click()
    expect(page.locator("#run .pill").first).to_have_text("failed", timeout=20_000)
    expect(page.locator("#run")).to_contain_text("Too few labels")
    answer(world.api, "too-few", 60)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#run .pill").first).to_have_text("succeeded", timeout=30_000)
    page.get_by_role("link", name="All runs").click()
    rows = page.locator("tbody tr", has_text="Too few")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("succeeded")


def changed(page: Page, before: str) -> None:
    wait_for(lambda: page.locator(FIGURES).inner_text() != before, seconds=3, every=0.02)
