"""An owner writes a policy in the browser: drafts that save themselves, versions, two tabs."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visits, World, sign_in


def rule(page: Page, number: int) -> Locator:
    return page.locator("[data-rule]").nth(number)


def write_example(part: Locator, number: int, side: str, text: str, why: str) -> None:
    row = part.locator("[data-example]").nth(number)
    row.get_by_label("Text").fill(text)
    row.get_by_label("Why").fill(why)
    row.get_by_label("It").select_option(label=side)


def test_a_policy_from_its_name_to_its_second_version(visits: Visits, world: World) -> None:
    page = visits.open(world.owner, "/policies/")
    page.get_by_role("link", name="New policy").first.click()
    page.get_by_label("Name", exact=True).fill("Investment advice")
    expect(page.get_by_label("Short name")).to_have_value("investment-advice")
    page.get_by_role("button", name="Write the rules").click()
    page.wait_for_url("**/investment-advice/edit/")

    page.get_by_label("Definition").fill("Whether an answer tells somebody what to buy or sell.")
    page.get_by_label("input", exact=True).check()
    first = rule(page, 0)
    first.get_by_label("Text").first.fill("Tells a person to buy or sell something.")
    first.get_by_label("Severity").select_option("3")
    write_example(first, 0, "breaks the rule", "Buy gold now.", "An order to buy.")
    first.get_by_role("button", name="Add an example").click()
    write_example(first, 1, "is fine", "Funds spread risk.", "A fact.")
    page.get_by_role("button", name="Add a rule").click()
    second = rule(page, 1)
    second.get_by_label("Text").first.fill("Explains how markets work.")
    second.get_by_label("Polarity").select_option("allowed")
    expect(second.get_by_label("Action")).to_be_hidden()
    write_example(second, 0, "is fine", "A bond pays interest.", "General knowledge.")

    # it saves itself: nobody pressed a button, and a reload brings everything back
    difference = page.locator("#difference")
    expect(difference).to_contain_text("Explains how markets work.")
    expect(difference).to_contain_text("Draft saved")
    page.wait_for_timeout(900)
    page.reload()
    expect(page.get_by_label("Definition")).to_have_value(re.compile("buy or sell"))
    expect(page.locator("[data-rule]")).to_have_count(2)
    expect(rule(page, 1).get_by_label("Polarity")).to_have_value("allowed")
    expect(page.get_by_label("input", exact=True)).to_be_checked()
    example = rule(page, 1).locator("[data-example]").first
    expect(example.get_by_label("Text")).to_have_value("A bond pays interest.")

    page.get_by_role("link", name="Publish…").click()
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".messages")).to_contain_text("Version 1 is published")
    expect(page.locator("main")).to_contain_text("Tells a person to buy or sell something.")

    page.get_by_role("link", name="Edit the draft").click()
    expect(difference).to_contain_text("Nothing differs")
    open_rule(page, 0)
    rule(page, 0).get_by_label("Text").first.fill("Tells a person to buy, sell or hold something.")
    expect(difference.locator(".diff-added", has_text="hold")).to_be_visible()
    page.get_by_role("link", name="Publish…").click()
    expect(page.locator(".diff-added", has_text="hold")).to_be_visible()
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".messages")).to_contain_text("Version 2 is published")

    page.get_by_role("link", name="v2").click()
    expect(page.get_by_role("heading", name="Against version 1")).to_be_visible()
    expect(page.locator(".diff-added", has_text="hold")).to_be_visible()
    page.get_by_label("Compare with").select_option("0")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Against nothing")).to_be_visible()


def open_rule(page: Page, number: int) -> None:
    """Rules that are written are folded; a click on one opens it."""
    part = rule(page, number)
    if part.get_attribute("open") is None:
        part.locator("summary").click()


def test_rules_move_and_go_by_buttons(visits: Visits, world: World) -> None:
    world.policy("moving")
    page = visits.open(world.owner, "/policies/moving/edit/")
    open_rule(page, 1)
    rule(page, 1).get_by_role("button", name="Move up").click()
    expect(page.locator("#difference")).to_contain_text("Draft saved, revision 2")
    page.reload()
    open_rule(page, 0)
    expect(rule(page, 0).get_by_label("Text").first).to_have_value("General facts.")
    rule(page, 0).get_by_role("button", name="Remove").click()
    expect(page.locator("#difference")).to_contain_text("Draft saved, revision 3")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#difference")).to_contain_text("Draft saved, revision 4")
    expect(rule(page, 0).get_by_label("Text").first).to_have_value("General facts.")
    rule(page, 0).get_by_role("button", name="Remove").click()
    expect(page.locator("#difference")).to_contain_text("Draft saved, revision 5")
    page.reload()
    expect(page.locator("[data-rule]")).to_have_count(1)


def test_leaving_at_once_takes_the_last_words_along(visits: Visits, world: World) -> None:
    world.policy("in-a-hurry")
    page = visits.open(world.owner, "/policies/in-a-hurry/edit/")
    page.get_by_label("Definition").fill("Written a moment before.")
    page.get_by_role("link", name="Publish…").click()
    expect(page.locator(".diff-added", has_text="moment before")).to_be_visible()
    expect(page.get_by_role("button", name="Publish")).to_be_visible()


def test_what_cannot_be_saved_is_not_left_without_a_word(visits: Visits, world: World) -> None:
    world.policy("misspelt")
    page = visits.open(world.owner, "/policies/misspelt/edit/")
    open_rule(page, 0)
    rule(page, 0).get_by_label("Key").fill("no blanks here")
    page.get_by_role("link", name="Done").click()
    problem = page.locator("#difference .notice-bad")
    expect(problem).to_contain_text("rule 1, key")
    assert page.url.endswith("/policies/misspelt/edit/")
    rule(page, 0).get_by_label("Key").fill("no-blanks-here")
    page.get_by_role("link", name="Done").click()
    page.wait_for_url("**/policies/misspelt/")
    expect(page.locator("main")).to_contain_text("no-blanks-here")


def test_two_tabs_on_one_draft_lose_nothing(visits: Visits, world: World) -> None:
    world.policy("two-tabs")
    here = visits.open(world.owner, "/policies/two-tabs/edit/")
    there = visits.open(world.owner, "/policies/two-tabs/edit/")
    here.get_by_label("Definition").fill("Written here.")
    expect(here.locator("#difference")).to_contain_text("Draft saved, revision 2")

    there.get_by_label("Definition").fill("Written there.")
    notice = there.locator("#difference [role=alert]")
    expect(notice).to_contain_text("Somebody else changed this draft")
    # what was typed stands, also after the plain save and the choice to keep it
    there.get_by_role("button", name="Save the draft").click()
    visits.allow("status of 412")
    expect(there.get_by_label("Definition")).to_have_value("Written there.")
    expect(there.get_by_role("alert").first).to_contain_text("Somebody else changed this draft")
    draft = world.api.get("policies/two-tabs/draft").json()
    assert "Written here." in str(draft)

    there.get_by_role("button", name="Save the draft").click()
    expect(there.locator(".messages")).to_contain_text("The draft is saved")
    assert "Written there." in str(world.api.get("policies/two-tabs/draft").json())


def test_a_draft_without_javascript(visits: Visits, world: World) -> None:
    world.policy("plain")
    page = visits.open(world.owner, "/policies/plain/edit/", java_script_enabled=False)
    page.get_by_role("button", name="Add a rule").click()
    expect(page.locator("[data-rule]")).to_have_count(3)
    rule(page, 2).get_by_label("Text").first.fill("A third rule.")
    page.get_by_role("button", name="Save the draft").click()
    expect(page.locator(".messages")).to_contain_text("The draft is saved")
    expect(rule(page, 2).locator("summary")).to_contain_text("A third rule.")

    # a mistake costs nothing that was typed
    visits.allow("status of 400")
    rule(page, 2).locator("summary").click()
    rule(page, 2).get_by_label("Key").fill("names-a-dose")
    page.get_by_label("Definition").fill("A new definition.")
    page.get_by_role("button", name="Save the draft").click()
    expect(page.locator(".notice[role=alert]")).to_contain_text("What you wrote is still here")
    expect(page.get_by_label("Definition")).to_have_value("A new definition.")
    expect(page.locator("[data-rule]")).to_have_count(3)
    expect(rule(page, 2).get_by_label("Text").first).to_have_value("A third rule.")


def test_signed_out_while_writing_nothing_is_lost(visits: Visits, world: World) -> None:
    visits.allow("401")
    world.policy("half-written", texts=0)
    page = visits.open(world.owner, "/policies/half-written/edit/")
    page.context.clear_cookies(name="sessionid")
    page.get_by_label("Scope").fill("Answers about the weather.")
    expect(page.locator("#toasts")).to_contain_text("You are signed out.")

    other = page.context.new_page()
    sign_in(other, world.owner)
    other.close()
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator("#toasts")).to_contain_text("You are signed in again.")
    page.get_by_label("Scope").press_sequentially(" And of the sea.")
    page.wait_for_timeout(1_200)
    page.reload()
    expect(page.get_by_label("Scope")).to_have_value("Answers about the weather. And of the sea.")


def test_a_second_person_publishes_what_an_owner_wrote(visits: Visits, world: World) -> None:
    slug = world.policy("second-person")
    admin = visits.open(world.admin, f"/policies/{slug}/settings/")
    admin.get_by_label("A second person publishes").check()
    admin.get_by_role("button", name="Save the settings").click()
    expect(admin.get_by_label("A second person publishes")).to_be_checked()

    owner = visits.open(world.owner, f"/policies/{slug}/settings/")
    expect(owner.get_by_label("A second person publishes")).to_be_disabled()
    owner.goto(f"/policies/{slug}/edit/")
    owner.get_by_label("Definition").fill("Whether an answer names a dose, in words or figures.")
    expect(owner.locator("#difference")).to_contain_text("Draft saved")
    owner.get_by_role("link", name="Publish…").click()
    expect(owner.locator("main")).to_contain_text(f"has to publish it: {world.admin.email}")
    expect(owner.get_by_role("button", name="Publish")).to_be_disabled()

    admin.goto("/policies/?q=second-person")
    admin.get_by_role("link", name="rules wait for a second person").click()
    expect(admin.locator("main")).to_contain_text(f"Written by {world.owner.email}")
    admin.get_by_role("button", name="Publish").click()
    expect(admin.locator("main")).to_contain_text("Version 2")
    admin.get_by_role("link", name="v2").click()
    expect(admin.locator("main")).to_contain_text(f"written by {world.owner.email}")
