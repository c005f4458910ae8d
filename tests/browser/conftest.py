"""A real browser on the running site, watched: whatever goes wrong on a page fails its test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    StorageState,
    sync_playwright,
)

from tests import chromium
from tests.running import ROOT, Running
from tests.test_loop import RULES, import_rows, rows

SCREENSHOTS = ROOT / "var" / "screenshots"
# console.error is what the watch listens to; it must be there before the page's own scripts
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in."""

    email: str
    password: str


@dataclass
class Visits:
    """The browser windows of one test, and what went wrong in them."""

    browser: Browser
    site: Running
    signed_in: dict[Person, StorageState]
    troubles: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, person: Person | None, address: str = "", **options: Any) -> Page:
        """A new window of a signed-in person (None: of nobody), at an address if one is given."""
        if person is not None:
            options["storage_state"] = self._state_of(person)
        options.setdefault("viewport", {"width": 1280, "height": 800})
        page = self.watch(self.browser.new_context(base_url=self.site.address, **options))
        if address:
            page.goto(address)
        return page

    def watch(self, context: BrowserContext) -> Page:
        """Listen to everything a page can do wrong; returns the context's first page."""
        context.set_default_timeout(10_000)
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.troubles.append(f"script: {error.error}"))
        context.on("dialog", self._dialog)
        context.on("request", self._request)
        self.contexts.append(context)
        return context.new_page()

    def allow(self, *patterns: str) -> None:
        """Console errors that belong to this story, e.g. the 409 it provokes."""
        self.allowed += patterns

    def check(self) -> None:
        """Fail with everything that went wrong and does not belong to the story."""
        found = [
            text for text in self.troubles if not any(re.search(p, text) for p in self.allowed)
        ]
        assert not found, "\n".join(dict.fromkeys(found))

    def picture(self, name: str) -> None:
        """What every open page looks like now."""
        for number, page in enumerate(p for context in self.contexts for p in context.pages):
            page.screenshot(path=SCREENSHOTS / f"{name}-{number}.png")

    def close(self) -> None:
        for context in self.contexts:
            context.close()

    def _state_of(self, person: Person) -> StorageState:
        if person not in self.signed_in:
            context = self.browser.new_context(base_url=self.site.address)
            page = self.watch(context)
            sign_in(page, person)
            self.signed_in[person] = context.storage_state()
            context.close()
            self.contexts.remove(context)
        return self.signed_in[person]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.site.address + "/", "data:", "blob:", "about:")):
            self.troubles.append(f"request to another host: {request.url}")


def sign_in(page: Page, person: Person) -> None:
    """By the real form."""
    page.goto("/sign-in/")
    page.get_by_label("E-mail").fill(person.email)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def settled(site: Running, email: str, one_time: str) -> Person:
    """A person who has chosen their own password in place of the one-time one."""
    own = f"{one_time}-my-own"
    with httpx.Client(base_url=site.address, follow_redirects=True, timeout=30) as client:
        for address, fields in (
            ("/sign-in/", {"email": email, "password": one_time}),
            ("/password/", {"current": one_time, "new": own}),
        ):
            token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', client.get(address).text)
            assert token
            sent = client.post(address, data={**fields, "csrfmiddlewaretoken": token[1]})
            sent.raise_for_status()
    return Person(email, own)


@dataclass
class World:
    """A workspace of these tests with its people, and its admin's API client."""

    site: Running
    api: httpx.Client
    admin: Person
    owner: Person
    annotator: Person
    colleague: Person
    members: dict[str, str]

    def policy(self, slug: str, *, texts: int = 0, **settings: Any) -> str:
        """A published policy that the owner owns and both annotators label, with texts."""
        made = self.api.post(
            "policies",
            json={
                "slug": slug,
                "name": slug.replace("-", " ").capitalize(),
                "stages": ["output"],
                "definition": "Whether an answer names a dose.",
                "rules": RULES,
                "settings": {"retrain_after": 100_000, **settings},
            },
        )
        assert made.status_code == 201, made.text
        assert self.api.post(f"policies/{slug}/publish").status_code == 201
        for person, role in (
            (self.owner, "owner"),
            (self.annotator, "annotator"),
            (self.colleague, "annotator"),
        ):
            given = {"member": self.members[person.email], "role": role}
            assert self.api.put(f"policies/{slug}/roles", json=given).status_code == 200
        if texts:
            import_rows(self.api, slug, rows(texts))
        return slug

    def labels(self, slug: str) -> list[dict[str, Any]]:
        """Every label of a policy, oldest first, as the API tells them."""
        found: list[dict[str, Any]] = []
        url = f"labels?policy={slug}&page_size=100"
        while url:
            page = self.api.get(url).json()
            found += page["results"]
            url = page["next"]
        return found[::-1]


@pytest.fixture(scope="package")
def chrome() -> Iterator[Browser]:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for left_over in SCREENSHOTS.glob("failed-*.png"):
        left_over.unlink()
    # Playwright keeps an event loop in this thread, at which Django's ORM takes offence
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.path(), args=chromium.ARGUMENTS
        )
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="package")
def signed_in() -> dict[Person, StorageState]:
    """Everybody signs in by the form once; their next windows keep the cookie."""
    return {}


@pytest.fixture
def visits(
    chrome: Browser,
    site: Running,
    signed_in: dict[Person, StorageState],
) -> Iterator[Visits]:
    """Windows for this test; they are watched and closed."""
    opened = Visits(chrome, site, signed_in)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def demo(site: Running) -> dict[str, Person]:
    """The demo's people by role, with the passwords that `up` printed."""
    printed = site.output.read_text()
    found = re.findall(r"^\s+(annotator|owner|admin)\s+(\S+@demo\.example)\s+(\S+)$", printed, re.M)
    return {role: Person(email, password) for role, email, password in found}


@pytest.fixture(scope="session")
def world(site: Running) -> Iterator[World]:
    password = site.manage("create_admin", "admin@browser.example", "--workspace", "browser")
    admin = settled(site, "admin@browser.example", password.splitlines()[-1])
    with site.client(admin.email, "browser") as api:
        people: dict[str, Person] = {}
        members: dict[str, str] = {}
        for name, role in (
            ("owner", "owner"),
            ("annotator", "annotator"),
            ("colleague", "annotator"),
        ):
            email = f"{name}@browser.example"
            said = site.manage("add_member", email, "--workspace", "browser", "--role", role)
            people[name] = settled(site, email, said.splitlines()[-1])
        for row in api.get("members").json()["results"]:
            members[row["email"]] = row["id"]
        yield World(site, api, admin, **people, members=members)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Look at what went wrong while the test's windows are still open."""
    visits = pyfuncitem.funcargs.get("visits")
    try:
        result = yield
        if isinstance(visits, Visits):
            visits.check()
    except BaseException:
        if isinstance(visits, Visits):
            visits.picture(f"failed-{re.sub(r'[^a-z0-9]+', '-', pyfuncitem.name.lower())}")
        raise
    return result


def saved(name: str) -> Path:
    """Where a screenshot goes."""
    return SCREENSHOTS / f"{name}.png"
