"""An annotator labels: by keyboard, by mouse, offline, in two tabs, without JavaScript."""

from __future__ import annotations

import re
from collections import Counter

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits, World, settled
from tests.running import wait_for

# when a key goes down, and when another item stands on the screen
WATCH_SPEED = """
() => {
  window.__here = true;
  window.__waits = [];
  let pressed = null;
  // an undo asks the server; everything else must not wait for it
  addEventListener("keydown", (event) => {
    pressed = event.key === "z" ? null : performance.now();
  }, true);
  new MutationObserver(() => {
    if (pressed === null) return;
    const since = pressed;
    pressed = null;
    requestAnimationFrame(() => window.__waits.push(performance.now() - since));
  }).observe(document.querySelector("[data-screen]"), { childList: true });
}
"""


def read(page: Page) -> str:
    """The text on the screen, after as long as somebody needs who does not answer unread."""
    page.wait_for_timeout(300)
    return text(page)


def text(page: Page) -> str:
    return page.locator("[data-screen] .output .sample").inner_text()


def start(visits: Visits, world: World, slug: str, **options: object) -> Page:
    page = visits.open(world.annotator, f"/label/{slug}/", **options)
    expect(page.locator("[data-item]")).to_be_visible()
    return page


def moved_on(page: Page, before: str) -> str:
    """The text that came after another one."""
    wait_for(lambda: text(page) != before, seconds=2, every=0.01)
    return text(page)


def saved(page: Page) -> None:
    expect(page.locator("[data-saved]")).to_have_text("saved")


def test_by_keyboard_alone(visits: Visits, world: World) -> None:
    world.policy("keyboard", texts=30)
    page = start(visits, world, "keyboard")
    page.evaluate(WATCH_SPEED)
    keys = page.keyboard

    first = text(page)
    keys.press("1")
    expect(page.get_by_label("Names a dose.")).to_be_checked()
    keys.press("r")
    keys.type("Two tablets is a dose; v c u s z are words here.")
    keys.press("Escape")
    keys.press("v")
    second = moved_on(page, first)
    expect(page.get_by_label("Names a dose.")).not_to_be_checked()
    expect(page.locator("#rationale")).to_have_value("")

    # undo brings the item back as it was answered, and it can be answered otherwise
    keys.press("z")
    expect(page.locator("[data-screen] .output .sample")).to_have_text(first)
    expect(page.get_by_label("Names a dose.")).to_be_checked()
    expect(page.locator("#rationale")).to_have_value(re.compile("is a dose"))
    expect(page.get_by_role("button", name="Violates")).to_have_attribute("aria-pressed", "true")
    keys.press("1")
    keys.press("c")
    expect(page.locator("[data-screen] .output .sample")).to_have_text(second)
    keys.press("u")
    third = moved_on(page, second)

    keys.press("s")
    expect(page.get_by_role("dialog", name="Why do you skip it?")).to_be_visible()
    keys.press("Tab")
    keys.press("ArrowDown")
    keys.press("Enter")
    moved_on(page, third)

    keys.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()

    for _ in range(6):
        before = read(page)
        keys.press("c")
        moved_on(page, before)
    saved(page)
    assert page.evaluate("window.__here"), "a key made the page navigate"
    waits = page.evaluate("window.__waits")
    assert len(waits) >= 8
    # the middle one, because other tests share the two cores and may steal a moment
    assert sorted(waits)[len(waits) // 2] <= 150, waits
    assert max(waits) <= 500, waits

    given = Counter(label["verdict"] for label in world.labels("keyboard"))
    assert given == {"violates": 1, "retracted": 1, "complies": 7, "unsure": 1}
    (violates,) = [row for row in world.labels("keyboard") if row["verdict"] == "violates"]
    assert violates["rules"] == ["names-a-dose"]
    assert violates["rationale"].startswith("Two tablets is a dose; v c u s z")


def test_what_is_ticked_and_written_is_still_there_after_a_reload(
    visits: Visits, world: World
) -> None:
    world.policy("unfinished", texts=12)
    page = start(visits, world, "unfinished")
    page.keyboard.press("1")
    page.keyboard.press("r")
    page.keyboard.type("half a thought")
    page.reload()
    expect(page.get_by_label("Names a dose.")).to_be_checked()
    expect(page.locator("#rationale")).to_have_value("half a thought")
    before = read(page)
    page.get_by_role("button", name="Violates").click()
    moved_on(page, before)
    saved(page)
    page.reload()
    expect(page.get_by_label("Names a dose.")).not_to_be_checked()
    expect(page.locator("#rationale")).to_have_value("")


def test_a_broken_rule_and_complies_contradict_each_other(visits: Visits, world: World) -> None:
    world.policy("contradicted", texts=12)
    page = start(visits, world, "contradicted")
    before = read(page)
    page.keyboard.press("1")
    page.keyboard.press("c")
    expect(page.get_by_text("A broken rule is ticked.")).to_be_visible()
    assert text(page) == before
    page.keyboard.press("c")
    moved_on(page, before)
    saved(page)
    page.keyboard.press("z")
    expect(page.locator("[data-screen] .output .sample")).to_have_text(before)
    expect(page.get_by_label("Names a dose.")).not_to_be_checked()
    assert [row["rules"] for row in world.labels("contradicted")][:1] == [[]]


def test_own_keys(visits: Visits, world: World) -> None:
    world.policy("own-keys", texts=20)
    page = start(visits, world, "own-keys")
    keys = page.keyboard
    keys.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.get_by_label("Key for: Violates").fill("x")
    dialog.get_by_label("Key for: Complies").fill("x")  # taken: it stays C
    dialog.get_by_role("button", name="Done").click()
    first = text(page)
    keys.press("v")
    assert text(page) == first
    keys.press("x")
    second = moved_on(page, first)
    keys.press("c")
    third = moved_on(page, second)
    saved(page)

    # kept in this browser; and single keys can be off altogether
    page.reload()
    expect(page.locator("[data-key-of=violates]")).to_have_text("X")
    third = text(page)
    page.get_by_role("button", name="keys").click()
    page.get_by_label("Single keys work").uncheck()
    dialog.get_by_role("button", name="Done").click()
    for key in "xvcusz1":
        keys.press(key)
    assert text(page) == third
    expect(page.get_by_label("Names a dose.")).not_to_be_checked()
    keys.press("?")
    dialog.get_by_role("button", name="As delivered").click()
    expect(dialog.get_by_label("Key for: Violates")).to_have_value("V")
    dialog.get_by_role("button", name="Done").click()
    keys.press("v")
    moved_on(page, third)
    saved(page)
    assert [row["verdict"] for row in world.labels("own-keys")] == [
        "violates",
        "complies",
        "violates",
    ]


def test_blur_stays_until_it_is_taken_off(visits: Visits, world: World) -> None:
    world.policy("blur", texts=10)
    page = start(visits, world, "blur")
    screen = page.locator("[data-screen]")
    blurred = "getComputedStyle(document.querySelector('[data-screen] .output .sample')).filter"
    page.keyboard.press("b")
    page.mouse.move(5, 5)
    assert "blur" in page.evaluate(blurred)
    before = text(page)
    page.keyboard.press("c")
    moved_on(page, before)
    page.wait_for_timeout(200)
    assert "blur" in page.evaluate(blurred), "the next item came unblurred"
    screen.locator(".output .sample").hover()
    page.wait_for_timeout(200)
    assert "blur" not in page.evaluate(blurred), "pointing at a text reveals it"
    page.mouse.move(5, 5)
    saved(page)
    page.reload()
    page.wait_for_timeout(200)
    assert "blur" in page.evaluate(blurred), "the preference is kept"
    page.keyboard.press("b")
    page.wait_for_timeout(200)
    assert "blur" not in page.evaluate(blurred)


def test_by_mouse(visits: Visits, world: World) -> None:
    world.policy("mouse", texts=12)
    page = start(visits, world, "mouse")
    first = text(page)
    page.get_by_text("Names a dose.").click()
    expect(page.get_by_label("Names a dose.")).to_be_checked()
    page.get_by_role("button", name="Violates").click()
    second = moved_on(page, first)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-screen] .output .sample")).to_have_text(first)
    page.get_by_role("button", name="Violates").click()
    expect(page.locator("[data-screen] .output .sample")).to_have_text(second)
    page.get_by_role("button", name="Skip").click()
    page.get_by_label("Another language than mine").check()
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    third = moved_on(page, second)
    page.get_by_role("button", name="Unsure").click()
    moved_on(page, third)
    saved(page)
    verdicts = [row["verdict"] for row in world.labels("mouse")]
    assert verdicts == ["violates", "retracted", "violates", "unsure"]
    expect(page.locator("[data-today]")).to_have_text("2")
    # to the very end: then it says so
    for _ in range(12):
        if not page.locator("[data-workbench]").count():
            break
        if page.locator(".verdict-complies").is_enabled():
            page.get_by_role("button", name="Complies").click()
        page.wait_for_timeout(300)
    expect(page.locator("main")).to_contain_text("Nothing to label right now")


def test_a_double_click_answers_one_item(visits: Visits, world: World) -> None:
    world.policy("double", texts=10)
    page = start(visits, world, "double")
    before = text(page)
    page.get_by_role("button", name="Complies").dblclick()
    moved_on(page, before)
    saved(page)
    assert len(world.labels("double")) == 1
    read(page)
    page.keyboard.press("c")
    wait_for(lambda: len(world.labels("double")) == 2, seconds=5)


def test_a_closed_tab_loses_nothing(visits: Visits, world: World) -> None:
    world.policy("closing", texts=20)
    page = start(visits, world, "closing")
    given = []
    for _ in range(4):
        before = read(page)
        given.append(before)
        page.keyboard.press("c")
        moved_on(page, before)
    on_screen = text(page)
    page.close()

    page = page.context.new_page()
    page.goto("/label/closing/")
    expect(page.locator("[data-saved]")).to_have_text("saved")
    wait_for(lambda: len(world.labels("closing")) == 4, seconds=5)
    assert text(page) == on_screen, "the item one was at is still there"
    labels = world.labels("closing")
    assert len({row["example"] for row in labels}) == 4


def test_offline_for_a_while(visits: Visits, world: World) -> None:
    visits.allow("ERR_INTERNET_DISCONNECTED")
    world.policy("offline", texts=20)
    page = start(visits, world, "offline")
    first = text(page)
    page.context.set_offline(True)
    page.keyboard.press("v")
    second = moved_on(page, first)
    page.keyboard.press("c")
    expect(page.locator("[data-saved]")).to_have_text("offline, 2 kept")
    # neither undo nor a third answer breaks anything
    page.keyboard.press("z")
    page.keyboard.press("c")
    assert text(page) == second
    assert world.labels("offline") == []
    page.context.set_offline(False)
    moved_on(page, second)
    saved(page)
    assert [row["verdict"] for row in world.labels("offline")] == ["violates", "complies"]

    # also when the tab is closed before the network is back
    page.context.set_offline(True)
    before = text(page)
    page.keyboard.press("u")
    moved_on(page, before)
    expect(page.locator("[data-saved]")).to_have_text("offline, 1 kept")
    context = page.context
    page.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto("/label/offline/")
    wait_for(lambda: len(world.labels("offline")) == 3, seconds=5)
    saved(page)
    assert world.labels("offline")[-1]["verdict"] == "unsure"
    assert text(page) != before


def test_two_tabs_at_once(visits: Visits, world: World) -> None:
    visits.allow("ERR_INTERNET_DISCONNECTED")
    world.policy("tabs", texts=20)
    here = start(visits, world, "tabs")
    there = here.context.new_page()
    there.goto("/label/tabs/")
    seen = set()
    for _ in range(3):
        for page in (here, there):
            before = read(page)
            seen.add(before)
            page.keyboard.press("c")
            moved_on(page, before)
            saved(page)
    labels = world.labels("tabs")
    assert len({row["example"] for row in labels}) == len(labels) == len(seen)

    # both offline, both closed: each tab's answers are kept
    here.reload()
    there.reload()
    here.context.set_offline(True)
    before = text(here)
    here.keyboard.press("v")
    moved_on(here, before)
    expect(here.locator("[data-saved]")).to_have_text("offline, 1 kept")
    there_second = there.locator("[data-workbench]").get_attribute("data-again")
    assert there_second
    skipped = text(there)
    assert skipped == before
    there.keyboard.press("v")
    second = moved_on(there, skipped)
    there.keyboard.press("u")
    expect(there.locator("[data-saved]")).to_have_text("offline, 2 kept")
    context = here.context
    here.close()
    there.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto("/label/tabs/")
    wait_for(lambda: len(world.labels("tabs")) == len(labels) + 2, seconds=5)
    saved(page)
    assert text(page) not in (before, second)


def test_signed_out_in_between(visits: Visits, world: World) -> None:
    """Somebody signs out in another tab: the answer waits for the next sign-in."""
    world.policy("signed-out", texts=10)
    one_time = _add(world, "leaver@browser.example", "signed-out")
    person = settled(world.site, "leaver@browser.example", one_time)
    page = visits.open(person, "/label/signed-out/")
    other = page.context.new_page()
    other.goto("/password/")
    other.locator("details.menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/sign-in/")
    visits.allow("status of 40[13]")
    page.keyboard.press("v")
    page.wait_for_url("**/sign-in/**")
    page.get_by_label("E-mail").fill(person.email)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/label/signed-out/")
    wait_for(lambda: len(world.labels("signed-out")) == 1, seconds=5)
    saved(page)
    visits.signed_in.pop(person)


def _add(world: World, email: str, slug: str) -> str:
    added = world.api.post("members", json={"email": email, "role": "annotator"}).json()
    given = {"member": added["id"], "role": "annotator"}
    assert world.api.put(f"policies/{slug}/roles", json=given).status_code == 200
    return str(added["one_time_password"])


def test_without_javascript(visits: Visits, world: World) -> None:
    world.policy("no-script", texts=10)
    page = visits.open(world.annotator, "/label/no-script/", java_script_enabled=False)
    first = text(page)
    page.get_by_label("Names a dose.").check()
    page.locator("#rationale").fill("By hand.")
    page.get_by_role("button", name="Violates").click()
    second = text(page)
    assert second != first
    page.get_by_role("button", name="Undo").click()
    assert text(page) == first, "the item that came back"
    page.get_by_role("button", name="Complies").click()
    assert text(page) == second
    before = text(page)
    page.get_by_role("button", name="Skip").click()
    page.get_by_label("I cannot judge this").check()
    page.get_by_role("dialog").get_by_role("button", name="Skip").click()
    assert text(page) != before
    verdicts = Counter(row["verdict"] for row in world.labels("no-script"))
    assert verdicts == {"violates": 1, "retracted": 1, "complies": 1}
    (label,) = [row for row in world.labels("no-script") if row["verdict"] == "violates"]
    assert label["rationale"] == "By hand."


def test_by_touch_on_a_phone(visits: Visits, world: World) -> None:
    world.policy("phone", texts=10)
    page = visits.open(
        world.annotator,
        "/label/phone/",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    first = text(page)
    box = page.get_by_role("button", name="Violates").bounding_box()
    assert box
    assert box["y"] + box["height"] <= 844, "the verdicts are within reach"
    page.get_by_role("button", name="Violates").tap()
    second = moved_on(page, first)
    page.get_by_text("General facts.").tap()
    page.get_by_role("button", name="Complies").tap()
    moved_on(page, second)
    saved(page)
    assert [row["verdict"] for row in world.labels("phone")] == ["violates", "complies"]
