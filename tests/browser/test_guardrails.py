"""The stories of what guards: from a wrong answer to its fix, from shadow to enforce, and back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Person, Visits, World
from tests.browser.test_pages import violations

MISSED, BAD = "Swallow the whole strip at once.", "Take two tablets tonight."


def guarded(world: World, words: str) -> str:
    slug = f"guarded-{len(world.api.get('policies?page_size=200').json()['results'])}"
    world.policy(slug)
    check = {
        "key": "words",
        "kind": "keywords",
        "rule": "names-a-dose",
        "settings": {"words": [words]},
    }
    place = f"policies/{slug}/guardrail"
    world.api.put(place, json={"checks": [check]}, headers={"If-Match": "*"}).raise_for_status()
    world.api.post(f"{place}/publish", json={}).raise_for_status()
    return slug


@pytest.fixture
def slug(world: World) -> str:
    return guarded(world, "two tablets")


def enforce(world: World, slug: str) -> None:
    world.api.patch(f"policies/{slug}", json={"settings": {"mode": "enforce"}}).raise_for_status()


def play(page: Page, text: str) -> None:
    page.wait_for_timeout(1_200)  # a change is served within a second
    page.goto("/playground/")
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Check").click()


def decided(page: Page, action: str) -> None:
    expect(page.get_by_label("The decision").get_by_role("heading")).to_have_text(action)


def test_from_the_playground_to_feedback_to_an_incident_to_its_fix(
    world: World, visits: Visits, slug: str
) -> None:
    enforce(world, slug)
    page = visits.open(world.owner)
    play(page, MISSED)
    decided(page, "allow")
    page.get_by_label("Whose verdict").select_option(slug)
    page.get_by_label("Why").fill("a strip is a dose")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Its life").locator("[aria-current]")).to_have_text("reproduced")
    incident = page.url

    page.get_by_role("main").get_by_role("link", name="Label").click()
    expect(page.locator("main")).to_contain_text(MISSED)
    page.keyboard.press("v")
    expect(page.locator("main")).not_to_contain_text(MISSED)
    page.goto(incident)
    expect(page.get_by_label("Its life").locator("[aria-current]")).to_have_text("labelled")
    page.get_by_role("button", name="Make it a case").click()
    expect(page.get_by_label("Its life").locator("[aria-current]")).to_have_text("case")

    page.get_by_role("link", name="change the checks").click()
    page.locator("summary", has_text="Keywords").click()
    page.get_by_label("Words and phrases").fill("two tablets\nthe whole strip")
    page.get_by_role("button", name="Save, and see").click()
    expect(page.locator("main .diff")).to_contain_text("the whole strip")
    expect(page.locator("main")).to_contain_text("passes")
    page.get_by_role("button", name="Publish").click()
    page.goto(incident)
    expect(page.get_by_label("Its life").locator("[aria-current]")).to_have_text("fixed")
    page.get_by_role("button", name="Verify and close").click()
    expect(page.get_by_label("Its life").locator("[aria-current]")).to_have_text("verified")
    expect(page.get_by_label("What happened").get_by_role("row").last).to_contain_text("verified")


def test_a_false_block_is_let_through_where_it_is_seen(world: World, visits: Visits) -> None:
    enforce(world, guarded(world, "three spoons"))
    page = visits.open(world.owner)
    play(page, "Lay three spoons on the table.")
    page.get_by_role("button", name="Let it through…").click()
    expect(page.get_by_label("Phrase")).to_have_value("three spoons")
    expect(page.get_by_label("For", exact=True)).to_have_value("names-a-dose")
    page.get_by_role("button", name="Let it through").click()
    expect(page.locator("main")).to_contain_text("until")
    play(page, "Lay three spoons on the table.")
    decided(page, "allow")


def test_a_policy_goes_from_shadow_to_enforce(world: World, visits: Visits) -> None:
    # words of its own: another story's policy may be enforced for the usual ones
    slug, bad = guarded(world, "seven tablets"), "Take seven tablets tonight."
    page = visits.open(world.owner)
    play(page, bad)
    decided(page, "allow")
    expect(page.get_by_label(f"Checks of {slug}, a table")).to_contain_text("block")
    page.goto(f"/policies/{slug}/settings/")
    page.get_by_label("What the check API does with it").select_option("enforce")
    page.get_by_role("button", name="Save the settings").click()
    play(page, bad)
    decided(page, "block")


def test_the_kill_switch_stops_and_starts_everything(
    world: World, visits: Visits, slug: str
) -> None:
    enforce(world, slug)
    page = visits.open(world.admin)
    page.goto("/serving/")
    page.get_by_label("Reason").fill("false blocks at night")
    page.get_by_role("button", name="Stop everything from acting").click()
    try:
        expect(page.locator("main")).to_contain_text("The kill switch is on")
        play(page, BAD)
        expect(page.get_by_label("The decision")).to_contain_text("The kill switch is on")
    finally:
        page.goto("/serving/")
        page.get_by_label("Reason").fill("mended")
        page.get_by_role("button", name="Let policies act again").click()
    play(page, BAD)
    decided(page, "block")


def test_an_owner_moves_the_threshold_after_seeing_what_that_does(
    visits: Visits, demo: dict[str, Person]
) -> None:
    page = visits.open(demo["owner"], "/policies/medical-dosage/guardrail/")

    def serve(threshold: str) -> None:
        page.get_by_role("link", name="Move the threshold").click()
        page.get_by_label("Threshold").fill(threshold)
        page.get_by_role("button", name="See what it does").click()
        effect = page.get_by_label("Effect on audit labels, a table")
        expect(effect).to_contain_text("with this change")
        page.get_by_role("button", name="Serve model 2").click()
        expect(page.locator("main")).to_contain_text("was chosen by hand")

    page.get_by_role("link", name="Move the threshold").click()
    before = page.get_by_label("Threshold").input_value()
    page.get_by_role("link", name="Back to the guardrail").click()
    serve("0.9")
    expect(page.locator("main")).to_contain_text("τ = 0.900")
    serve(before)


def test_a_weighted_gate_is_calibrated_before_it_is_published(
    visits: Visits, demo: dict[str, Person]
) -> None:
    checks = "/policies/medical-dosage/guardrail/checks/"
    page = visits.open(demo["owner"], checks)
    page.get_by_label("It fires when").select_option("weighted")
    page.get_by_role("button", name="Save, and see").click()
    expect(page.locator("main")).to_contain_text("calibrated, it is a probability")
    page.get_by_role("button", name="Calibrate on the audit labels").click()
    expect(page.locator("main")).to_contain_text("becomes the probability")
    assert not violations(page, "light")
    page.goto(checks)
    page.get_by_label("It fires when").select_option("any")
    page.get_by_role("button", name="Save the draft").click()
    expect(page.get_by_label("It fires when")).to_have_value("any")


def asks_before_leaving(page: Page) -> bool:
    return bool(
        page.evaluate(
            """() => {
              const leaving = new Event("beforeunload", { cancelable: true });
              dispatchEvent(leaving);
              return leaving.defaultPrevented;
            }"""
        )
    )


def test_checks_that_are_not_saved_are_not_left_without_asking(
    world: World, visits: Visits, slug: str
) -> None:
    page = visits.open(world.owner, f"/policies/{slug}/guardrail/checks/")
    page.get_by_label("A text, judged by the draft").fill("only tried")
    assert not asks_before_leaving(page)
    page.locator("summary", has_text="Keywords").click()
    page.get_by_label("Words and phrases").fill("three tablets")
    assert asks_before_leaving(page)
    page.get_by_role("button", name="Save the draft").click()
    expect(page.get_by_text("The draft is saved")).to_be_visible()
    assert not asks_before_leaving(page)
    page.get_by_label("Add a check").select_option("length")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label("Name", exact=True).last).to_have_value("length")
    assert asks_before_leaving(page)


def test_what_is_tried_stays_while_the_checks_are_saved(world: World, visits: Visits) -> None:
    world.policy("trying", texts=12)
    page = visits.open(world.owner, "/policies/trying/guardrail/checks/")
    tried = page.get_by_label("A text, judged by the draft")
    tried.fill("Take two tablets.")
    page.get_by_label("Add a check").select_option("secrets")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(tried).to_have_value("Take two tablets.")
    page.get_by_role("button", name="Save the draft").last.click()
    expect(page.get_by_text("The draft is saved")).to_be_visible()
    expect(tried).to_have_value("Take two tablets.")
    tried.press("Control+Enter")
    expect(page.locator("#tried")).to_contain_text("secrets")


def test_a_tool_call_is_tried_on_checks_that_are_not_saved(
    world: World, visits: Visits, slug: str
) -> None:
    page = visits.open(world.owner, f"/policies/{slug}/guardrail/checks/")
    page.locator("summary", has_text="Keywords").click()
    page.get_by_label("Words and phrases").fill("the whole strip")
    page.get_by_label("A text, judged by the draft").fill(
        '{"name": "reply", "arguments": {"text": "Swallow the whole strip."}}'
    )
    page.get_by_label("Given as").select_option("tool_call")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.locator("#tried mark").first).to_have_text("the whole strip")
    assert violations(page, "light") == []
