"""An owner brings files in: columns, source, progress, counts, rejected rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits, World
from tests.test_loop import rows


def upload(page: Page, slug: str, name: str, content: bytes) -> None:
    page.goto(f"/policies/{slug}/import/")
    page.get_by_label("File").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )
    page.get_by_role("button", name="Look at its columns").click()
    page.wait_for_url("**/map/")


def as_csv(count: int) -> bytes:
    """Texts under names that nobody can guess, two bad rows and one twice."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["number", "question", "what the model said", "by"])
    data = rows(count)
    for row in [*data, data[0]]:
        writer.writerow([row["id"], row["prompt"], row["output"], "assistant-7b"])
    writer.writerow(["empty", "Why?", "", "assistant-7b"])
    writer.writerow(["short", "Why?"])
    return buffer.getvalue().encode()


def test_a_csv_from_upload_to_rejected_rows(visits: Visits, world: World, tmp_path: Path) -> None:
    world.policy("csv")
    page = visits.open(world.owner, "/policies/csv/data/")
    page.get_by_role("link", name="Import a file").click()
    upload(page, "csv", "answers.csv", as_csv(1500))

    preview = page.get_by_role("region", name="Preview of the file")
    expect(preview).to_contain_text("what the model said")
    expect(preview.locator("tbody tr")).to_have_count(10)
    page.get_by_label("output").select_option("what the model said")
    page.get_by_label("prompt").select_option("question")
    page.get_by_label("id", exact=False).first.select_option("number")
    page.get_by_label("model", exact=False).first.select_option("by")
    page.get_by_label("Source").fill("Pharmacy pilot")
    page.get_by_label("Licence").fill("ours")
    page.get_by_label("Consent").select_option("train")
    page.evaluate("window.__watched = true")
    page.get_by_role("button", name="Start the import").click()

    # the page follows by itself until the counts are there
    page.wait_for_url("**/imports/*/")
    page.evaluate("window.__here = true")
    expect(page.locator("#import-progress .pill")).to_have_text("done", timeout=20_000)
    assert page.evaluate("window.__here")
    facts = page.locator("#import-progress dl")
    for name, number in (("New", "1,500"), ("Duplicates", "1"), ("Rejected", "2")):
        expect(facts.locator(f"dt:text-is('{name}') + dd")).to_have_text(number)
    expect(page.get_by_text("The first rejected rows")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the rejected rows").click()
    kept = tmp_path / "rejected.csv"
    download.value.save_as(kept)
    rejected = list(csv.DictReader(kept.open()))
    assert [row["row"] for row in rejected] == ["1503", "1504"]
    assert "cells" in rejected[1]["reason"]

    page.get_by_role("link", name="See the data").click()
    expect(page.locator("main")).to_contain_text("1,500")
    page.get_by_label("Search the texts").fill('"double the dose"')
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr").first).to_contain_text("double the dose")
    page.get_by_role("link", name="Pharmacy pilot").click()
    expect(page.get_by_role("link", name="Pharmacy pilot")).to_have_attribute(
        "aria-current", "true"
    )


def test_a_gzipped_jsonl(visits: Visits, world: World) -> None:
    world.policy("jsonl")
    page = visits.open(world.owner)
    lines = "\n".join(json.dumps(row) for row in rows(40))
    upload(page, "jsonl", "answers.jsonl.gz", gzip.compress(lines.encode()))
    # the usual names are found by themselves
    expect(page.get_by_label("output")).to_have_value("output")
    expect(page.get_by_label("prompt")).to_have_value("prompt")
    page.get_by_label("Consent").select_option("evaluate")
    page.get_by_role("button", name="Start the import").click()
    expect(page.locator("#import-progress .pill")).to_have_text("done", timeout=20_000)
    page.get_by_role("link", name="See the data").click()
    page.locator("tbody tr a").first.click()
    expect(page.locator("main")).to_contain_text("not for training")


def test_what_cannot_be_imported_says_why(visits: Visits, world: World) -> None:
    visits.allow("status of 400")
    world.policy("unreadable")
    page = visits.open(world.owner, "/policies/unreadable/import/")
    page.get_by_label("File").set_input_files(
        {"name": "a.csv", "mimeType": "text/csv", "buffer": "naïve".encode("latin-1")}
    )
    page.get_by_role("button", name="Look at its columns").click()
    expect(page.get_by_role("alert").first).to_contain_text("not UTF-8")

    upload(page, "unreadable", "b.csv", b"a,b\n1,2\n")
    page.get_by_label("Consent").select_option("train")
    page.get_by_label("output").select_option("b")
    page.get_by_label("Source").fill(" ")
    page.get_by_role("button", name="Start the import").click()
    expect(page.locator(".notice[role=alert]")).to_contain_text("Name the source")
    # the choice of columns is still there
    expect(page.get_by_label("output")).to_have_value("b")
