"""Every page of every role: accessible, in its place on a phone, and photographed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.browser.conftest import Person, Visits, World, saved
from tests.running import Running, wait_for

WIDTHS = {1440: 900, 390: 844}
POLICY = "/policies/medical-dosage/"


def look_at(page: Page, name: str) -> Iterator[str]:
    """Photograph a page in both themes and widths; yields what is wrong with it."""
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            for violation in violations(page, theme):
                yield f"{name} {width} {theme}: {_told(violation)}"
            page.screenshot(path=saved(f"{name}-{width}-{theme}"), full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate(
        """async () => {
          // plots take their new size a frame later
          for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
          return document.documentElement.scrollWidth > innerWidth
            && [...document.querySelectorAll("main *")]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
            .map((e) => e.outerHTML.slice(0, 120)).slice(0, 3);
        }"""
    )
    if wide:
        yield f"{name}: wider than a phone of 360 px: {wide}"


def violations(page: Page, theme: str) -> list[dict[str, Any]]:
    """What axe finds: everything in the light, in the dark what the dark can spoil."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if theme == "dark":
        options["runOnly"] = ["color-contrast"]
    found: list[dict[str, Any]] = page.evaluate(
        "options => axe.run(options).then(found => found.violations)", options
    )
    return found


def _told(violation: dict[str, Any]) -> str:
    nodes = [node["html"][:160] + " " + _data(node) for node in violation["nodes"][:3]]
    return f"{violation['id']} ({violation['help']}): {nodes}"


def _data(node: dict[str, Any]) -> str:
    data = [check.get("data") for check in node["any"] if isinstance(check.get("data"), dict)]
    return json.dumps(data)[:200] if data else ""


def walk(page: Page, pages: dict[str, str]) -> None:
    wrong: list[str] = []
    for name, address in pages.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(address)
        if "chart" in name:
            page.locator(".chart-tools button").first.wait_for()
        wrong += look_at(page, name)
    assert not wrong, "\n".join(wrong)


def test_nobody(visits: Visits) -> None:
    visits.allow("status of 404", "status of 403")
    page = visits.open(None)
    walk(page, {"sign-in": "/sign-in/", "not-found": "/nowhere/"})
    page.goto("/sign-in/")
    page.get_by_label("E-mail").fill("nobody@demo.example")
    page.get_by_label("Password").fill("something else")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("do not match").wait_for()
    assert not [*look_at(page, "sign-in-wrong")]


def test_annotator(visits: Visits, demo: dict[str, Person]) -> None:
    visits.allow("status of 40[34]")
    page = visits.open(demo["annotator"])
    walk(
        page,
        {
            "annotator-home": "/",
            "annotator-policies": "/policies/",
            "annotator-specification": POLICY,
            "annotator-version": f"{POLICY}versions/1/",
            "annotator-choose": "/label/",
            "annotator-label": "/label/medical-dosage/",
            "annotator-skip": "/label/medical-dosage/?skip=1",
            "annotator-password": "/password/",
            "annotator-not-allowed": f"{POLICY}data/",
            "annotator-no-people": "/people/",
            "annotator-api-docs": "/api/docs/",
        },
    )
    page.goto("/label/medical-dosage/")
    page.keyboard.press("?")
    wrong = [*look_at(page, "annotator-keys")]
    assert not wrong, "\n".join(wrong)


def test_owner(visits: Visits, demo: dict[str, Person], site: Running) -> None:
    with site.client("owner@demo.example", "demo") as api:
        example = api.get("examples?policy=medical-dosage").json()["results"][0]["id"]
        run = api.get("policies/medical-dosage/runs").json()["results"][0]["id"]
        evaluation = api.get("policies/medical-dosage/metrics").json()["evaluation"]
        done = api.get("imports?policy=medical-dosage").json()["results"][-1]["id"]
    page = visits.open(demo["owner"])
    walk(
        page,
        {
            "owner-home": "/",
            "owner-policies": "/policies/",
            "owner-no-policies": "/policies/?q=nothing+of+this+name",
            "owner-create": "/policies/new/",
            "owner-specification": POLICY,
            "owner-edit": f"{POLICY}edit/",
            "owner-edit-new-rule": f"{POLICY}edit/?new=1",
            "owner-publish": f"{POLICY}publish/",
            "owner-promote": f"{POLICY}models/1/promote/?threshold=0.3",
            "owner-version": f"{POLICY}versions/1/",
            "owner-data": f"{POLICY}data/",
            "owner-data-search": f"{POLICY}data/?text=ibuprofen&label=violates",
            "owner-data-none": f"{POLICY}data/?text=zyxwvut",
            "owner-example": f"{POLICY}data/{example}/",
            "owner-upload": f"{POLICY}import/",
            "owner-imported": f"/imports/{done}/",
            "owner-labels": f"{POLICY}labels/",
            "owner-guardrail-chart": f"{POLICY}guardrail/",
            "owner-evidence-chart": f"{POLICY}evidence/",
            "owner-evaluation": f"/evaluations/{evaluation}/",
            "owner-settings": f"{POLICY}settings/",
            "owner-training": "/training/",
            "owner-run": f"/training/{run}/",
        },
    )
    page.goto(f"{POLICY}import/")
    page.get_by_label("File").set_input_files(
        {"name": "more.csv", "mimeType": "text/csv", "buffer": b"id,answer,lang\n1,Take two.,en\n"}
    )
    page.get_by_role("button", name="Look at its columns").click()
    page.wait_for_url("**/map/")
    wrong = [*look_at(page, "owner-map")]
    page.goto(f"{POLICY}evidence/")
    for name in ("precision", "recall"):
        assert page.locator(f"#figure-{name}").get_by_text(re.compile(r"\[0\.\d\d, ")).is_visible()
    assert not wrong, "\n".join(wrong)


def test_admin(visits: Visits, demo: dict[str, Person]) -> None:
    page = visits.open(demo["admin"])
    walk(page, {"admin-people": "/people/", "admin-audit": "/audit/"})
    page.goto("/audit/?action=nothing.like.it")
    wrong = [*look_at(page, "admin-audit-none")]
    for name, address in (("admin-home", "/"), ("admin-training", "/training/")):
        page.goto(address)
        page.get_by_text("train@").wait_for()
        wrong += look_at(page, name)
    page.goto("/people/")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("button", name="New token for annotator@demo.example").click()
    wrong += look_at(page, "admin-token")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def empty_policy(world: World) -> str:
    if world.api.get("policies/empty").status_code == 404:
        world.policy("empty")
    return "empty"


def test_empty_states(visits: Visits, world: World, empty_policy: str) -> None:
    page = visits.open(world.owner)
    walk(
        page,
        {
            "empty-data": "/policies/empty/data/",
            "empty-labels": "/policies/empty/labels/",
            "empty-guardrail": "/policies/empty/guardrail/",
            "empty-evidence": "/policies/empty/evidence/",
            "empty-label": "/label/empty/",
        },
    )
    wait_for(lambda: page.url.endswith("/label/empty/"), seconds=1)
