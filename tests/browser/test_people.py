"""Admins look after people, tokens and workers; annotators see none of what owners do."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import Person, Visits, World, sign_in


def test_runs_workers_and_queues(visits: Visits, world: World) -> None:
    page = visits.open(world.admin, "/training/")
    system = page.get_by_label("Workers and queues")
    expect(system).to_contain_text("Runs waiting / running")
    expect(system).to_contain_text("train@")
    expect(system).to_contain_text("default@")
    expect(page.get_by_label("Runs", exact=True)).to_be_visible()
    world.policy("on-the-home-page")
    page.goto("/")
    expect(page.get_by_label("Workers and queues")).to_contain_text("train@")


def test_a_new_person_from_one_time_password_to_role(visits: Visits, world: World) -> None:
    page = visits.open(world.admin, "/people/")
    page.get_by_label("E-mail").fill("new@browser.example")
    page.get_by_label("Name").first.fill("Nia New")
    page.locator("#id_role").select_option("annotator")
    page.get_by_role("button", name="Add person").click()
    notice = page.get_by_role("status").filter(has_text="First password")
    one_time = notice.locator("code").inner_text()
    page.goto("/people/")
    expect(page.locator("main")).not_to_contain_text(one_time)
    expect(page.locator("main")).to_contain_text("Nia New")

    # that person signs in with it and chooses an own one
    theirs = visits.open(None)
    sign_in(theirs, Person("new@browser.example", one_time))
    expect(theirs.locator("main")).to_contain_text("Somebody gave you this password")
    theirs.goto("/label/")
    theirs.wait_for_url("**/password/")
    theirs.get_by_label("Current password").fill(one_time)
    theirs.get_by_label("New password").fill("short")
    theirs.get_by_role("button", name="Change password").click()
    expect(theirs.locator(".error")).to_contain_text("12")
    theirs.get_by_label("Current password").fill(one_time)
    theirs.get_by_label("New password").fill("a long own password of mine")
    theirs.get_by_role("button", name="Change password").click()
    expect(theirs.locator(".messages")).to_contain_text("Your password is changed")
    again = visits.open(None)
    sign_in(again, Person("new@browser.example", "a long own password of mine"))
    expect(again.get_by_role("link", name="Training")).to_be_hidden()

    # an owner now: sees more at the next look
    page.get_by_label("Role of new@browser.example").select_option("owner")
    page.get_by_role("row", name="new@browser.example").get_by_role("button", name="Change").click()
    expect(page.locator(".messages")).to_contain_text("new@browser.example is now owner")
    again.reload()
    expect(again.get_by_role("link", name="Training")).to_be_visible()
    expect(again.get_by_role("link", name="New policy").first).to_be_visible()

    page.get_by_label("Revoke the access of new@browser.example").click()
    expect(page.locator(".messages")).to_contain_text("has no access any more")
    again.goto("/policies/")
    expect(again.get_by_role("button", name="Sign in")).to_be_visible()

    page.goto("/audit/")
    trail = page.get_by_role("region", name="Entries", exact=True)
    for action in (
        "member.add",
        "member.change_role",
        "member.change_password",
        "member.deactivate",
    ):
        expect(trail.get_by_role("link", name=action).first).to_be_visible()
    page.get_by_label("Action").fill("member.deactivate")
    page.get_by_role("button", name="Filter").click()
    expect(trail).to_contain_text("new@browser.example")
    expect(trail).not_to_contain_text("member.add")


def test_a_token_is_shown_once_works_and_is_revoked(visits: Visits, world: World) -> None:
    page = visits.open(world.admin, "/people/")
    page.get_by_role("button", name=f"New token for {world.owner.email}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What it is for").fill("nightly export")
    dialog.get_by_label("read: ").check()
    dialog.get_by_role("button", name="Make token").click()
    key = page.get_by_role("status").locator("code").inner_text()
    assert re.match(r"gk_\w+", key)
    address = f"{world.site.address}/api/v1/policies"
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(address, headers=headers).status_code == 200
    assert httpx.post(address, headers=headers, json={}).status_code == 403
    page.goto("/people/")
    expect(page.locator("main")).not_to_contain_text(key)
    page.get_by_label("Revoke the token nightly export").click()
    expect(page.locator(".messages")).to_contain_text("nightly export is revoked")
    assert httpx.get(address, headers=headers).status_code == 401

    # the same without JavaScript
    plain = visits.open(world.admin, "/people/", java_script_enabled=False)
    plain.get_by_role("button", name=f"New token for {world.owner.email}").click()
    dialog = plain.get_by_role("dialog")
    dialog.get_by_label("What it is for").fill("by hand")
    dialog.get_by_label("read: ").check()
    dialog.get_by_role("button", name="Make token").click()
    expect(plain.locator(".notice[role=status]")).to_contain_text("by hand")


def test_an_annotator_sees_nothing_of_the_owners(visits: Visits, world: World) -> None:
    visits.allow("status of 40[34]")
    world.policy("seen-by-all")
    world.policy("not-theirs")
    page = visits.open(world.annotator, "/policies/seen-by-all/")
    tabs = page.get_by_role("navigation", name="Parts of the policy")
    expect(tabs.get_by_role("link")).to_have_text(["Specification"])
    main = page.get_by_role("navigation", name="Main")
    expect(main.get_by_role("link")).to_have_text(["Home", "Policies", "Label"])
    for name in ("Retrain", "Edit the draft", "Publish…"):
        expect(page.get_by_text(name)).to_be_hidden()

    closed = ("data", "labels", "guardrail", "evidence", "settings", "edit", "publish", "import")
    addresses = [f"/policies/seen-by-all/{part}/" for part in closed]
    for address in (*addresses, "/people/", "/audit/", "/training/", "/policies/new/"):
        page.goto(address)
        problem = page.locator("[data-problem]")
        expect(problem).to_be_visible()
        expect(problem.get_by_role("link", name="Home")).to_be_visible()


def test_the_theme_is_remembered(visits: Visits, world: World) -> None:
    page = visits.open(world.colleague, "/")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.locator("details.menu summary").click()
    with page.expect_response("**/preferences/"):
        page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    other = visits.open(world.colleague, "/policies/")
    assert other.evaluate(ground) == dark, "the choice follows the person"
    other.locator("details.menu summary").click()
    with other.expect_response("**/preferences/"):
        other.get_by_role("button", name="System").click()
    assert other.evaluate(ground) == light
