"""Texts that want to be more than text stay text on every page that shows them."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visits, World
from tests.running import ROOT
from tests.test_loop import RULES, import_rows

PWN = "window.__pwned=1"
HANDED_OVER = ROOT.parent / "shared" / "hostile" / "hostile_texts.jsonl"
PHONE = {"width": 360, "height": 740}
LONG = 200_000

OWN = [
    f"<script>{PWN}</script>",
    f"<script type=module>{PWN}</script>",
    "<script src=//127.0.0.1:9/x.js></script>",
    f'<img src=x onerror="{PWN}">',
    f"<svg onload={PWN}>",
    f"<svg><script>{PWN}</script></svg>",
    f"<svg><animate onbegin={PWN} attributeName=x dur=1s>",
    f"<math><mtext><img src=x onerror={PWN}></mtext></math>",
    f"<body onload={PWN}>",
    f"<details open ontoggle={PWN}>t</details>",
    f"<video><source onerror={PWN}></video>",
    f'<iframe srcdoc="<script>parent.{PWN}</script>"></iframe>',
    f'"><script>{PWN}</script>',
    f"' autofocus onfocus='{PWN}' x='",
    f"</textarea><script>{PWN}</script>",
    f"</title><script>{PWN}</script>",
    f"</script><script>{PWN}</script>",
    f"</pre></section></form><script>{PWN}</script>",
    f"--><img src=x onerror={PWN}>",
    f"<a href='javascript:{PWN}'>click me</a>",
    "<style>*{display:none!important}</style>",
    '<link rel=stylesheet href="//127.0.0.1:9/x.css">',
    '<base href="//127.0.0.1:9/">',
    "<meta http-equiv=refresh content='0;url=//127.0.0.1:9/'>",
    '<form action="//127.0.0.1:9/" method=post><button>Violates</button></form>',
    '<div hx-get="/sign-out/" hx-trigger="load">x</div>',
    '<div data-hx-get="//127.0.0.1:9/" data-hx-trigger="load">x</div>',
    '<div hx-post="/policies/new/" hx-trigger="load delay:1ms" hx-target="body">x</div>',
    f'<div hx-on::load="{PWN}" hx-on:click="{PWN}">x</div>',
    '<div id="figures" hx-swap-oob="true">replaced</div>',
    f'<div hx-vals="js:{{a: ({PWN})}}" hx-get="/" hx-trigger="load"></div>',
    '<div hx-ext="x" hx-boost="true"><a href="//127.0.0.1:9/">b</a></div>',
    "{{ request.user.password }} {% debug %} {% include 'base.html' %}",
    "\u202eevihcra\u202c \u2066isolated\u2069 \u200bzero\u200dwidth \U000e0041 tag",
    "\u202e" * 60 + " never closed",
    "re\u0301" + "\u0316\u0300\u0489" * 400 + " zalgo",
    "W" * 4096,
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 <b>right to left</b> 123",
    '=HYPERLINK("http://127.0.0.1:9/","x") \t @SUM(1) \r\n -1+1',
    "`" * 3 + "html\n[x](javascript:" + PWN + ")\n" + "`" * 3,
    "A long text. " * 20_000,
    "\u2028\u2029\x85 line ends and a lone \ufffd",
]

TOO_WIDE = """
document.documentElement.scrollWidth <= innerWidth ? []
  : [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 200)).slice(-5)
"""


def texts() -> list[str]:
    found = list(OWN)
    if HANDED_OVER.exists():
        for line in HANDED_OVER.read_text().splitlines():
            row = json.loads(line)
            text = row["text"] if "text" in row else "".join(u * n for u, n in row["repeat"])
            if row["expect"] == "store_and_show_verbatim" and text.strip():
                found.append(text)
    return [text for text in dict.fromkeys(found) if "\x00" not in text]


@pytest.fixture(scope="module")
def hostile(world: World) -> list[str]:
    """A policy of hostile rules, with hostile texts; returns the texts that are in."""
    rule = {
        **RULES[0],
        "key": "hostile",
        "text": OWN[12],
        "examples": [
            {"text": OWN[25], "violates": True, "why": OWN[3]},
            {"text": OWN[33], "violates": False, "why": OWN[17]},
        ],
    }
    specification = {
        "slug": "hostile",
        "name": OWN[0][:200],
        "stages": ["output"],
        "definition": OWN[14],
        "scope": OWN[35],
        "rationale": OWN[26],
        "rules": [rule, RULES[1]],
        "settings": {"retrain_after": 100_000},
    }
    made = world.api.post("policies", json=specification)
    assert made.status_code == 201, made.text
    assert world.api.post("policies/hostile/publish").status_code == 201
    for person, role in ((world.owner, "owner"), (world.annotator, "annotator")):
        given = {"member": world.members[person.email], "role": role}
        world.api.put("policies/hostile/roles", json=given)
    found = texts()
    data = [
        {
            "id": text[:100],
            "prompt": found[number - 1][:2000],
            "output": text,
            "context": text[:500],
            "model": text[:60],
            "language": "en",
        }
        for number, text in enumerate(found)
    ]
    # the long ones come after the answers: the label page must still meet one of them
    short = [row for row in data if len(row["output"]) <= LONG]
    done = import_rows(world.api, "hostile", short)
    assert done["new"] >= 40, done
    _answer(world.api)
    done = import_rows(world.api, "hostile", [row for row in data if row not in short])
    assert done["new"] >= 1, done
    return found


def _answer(api: httpx.Client) -> None:
    """Some answers with hostile words, and a hostile reason to skip."""
    for text in OWN[:6]:
        item = api.post("policies/hostile/queue/next").json()
        answer = {"lease": item["lease"], "verdict": "violates", "rules": ["hostile"]}
        assert api.post("labels", json={**answer, "rationale": text}).status_code == 201
    item = api.post("policies/hostile/queue/next").json()
    api.post(f"leases/{item['lease']}/skip", json={"reason": OWN[25]})


def harmless(page: Page) -> None:
    page.wait_for_load_state("domcontentloaded")
    assert page.evaluate("window.__pwned") is None, page.url
    assert page.evaluate(TOO_WIDE) == [], page.url
    assert page.locator("main").is_visible()


def test_on_the_pages_of_owners(visits: Visits, world: World, hostile: list[str]) -> None:
    page = visits.open(world.admin, viewport=PHONE)
    for address in (
        "/",
        "/policies/",
        "/policies/hostile/",
        "/policies/hostile/edit/",
        "/policies/hostile/publish/",
        "/policies/hostile/versions/1/",
        "/policies/hostile/labels/",
        "/policies/hostile/settings/",
        "/policies/hostile/guardrail/",
        "/policies/hostile/evidence/",
        "/audit/",
    ):
        page.goto(address)
        harmless(page)
    page.goto("/policies/hostile/")
    page.get_by_role("link", name="Edit the draft").click(trial=True)
    page.get_by_role("link", name="Data").click(trial=True)


def test_in_the_list_and_on_each_example(visits: Visits, world: World, hostile: list[str]) -> None:
    page = visits.open(world.owner, "/policies/hostile/data/", viewport=PHONE)
    addresses: list[str] = []
    while True:
        harmless(page)
        page.get_by_role("button", name="Search").click(trial=True)
        links: list[Any] = page.locator("tbody th a").evaluate_all("all => all.map(a => a.href)")
        addresses += links
        following = page.get_by_role("link", name="Next →")
        if not following.count():
            break
        with page.expect_navigation(wait_until="domcontentloaded"):
            following.click()
    assert len(addresses) >= 40
    for address in addresses:
        page.goto(address)
        harmless(page)
    page.get_by_role("link", name="Data").click(trial=True)

    # the longest is cut, and whole on request; what hides is shown by its code
    page.goto("/policies/hostile/data/?text=%22A+long+text%22")
    page.locator("tbody th a", has_text=re.compile("^A long text")).first.click()
    page.get_by_role("link", name="show the whole text").first.click()
    harmless(page)
    samples = page.locator(".sample").all_inner_texts()
    assert max(map(len, samples)) >= 259_000
    page.goto("/policies/hostile/data/?text=tag")
    page.locator("tbody th a", has_text="isolated").first.click()
    expect(page.locator(".code-point").first).to_have_text(re.compile("U\\+"))


def test_on_the_label_page(visits: Visits, world: World, hostile: list[str]) -> None:
    page = visits.open(world.annotator, "/label/hostile/", viewport=PHONE)
    whole = 0
    for _ in range(len(hostile)):
        if not page.locator("[data-workbench]").count():
            break
        harmless(page)
        page.get_by_role("button", name="Unsure").click(trial=True)
        more = page.get_by_role("link", name="show the whole text")
        if more.count() and not whole:
            more.first.click()
            harmless(page)
            whole += 1
            page.get_by_role("link", name="Back to labelling").click()
        before = page.locator("[data-item]").get_attribute("data-lease")
        page.wait_for_timeout(300)  # nobody answers unread
        page.keyboard.press("u")
        page.wait_for_function(
            "lease => document.querySelector('[data-item]')?.dataset.lease !== lease", arg=before
        )
    assert whole, "nobody came across the long text"


def test_in_the_preview_of_an_import(visits: Visits, world: World, hostile: list[str]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([OWN[0], OWN[25], OWN[13], "output"])
    for place in range(0, 40, 4):
        writer.writerow(OWN[place : place + 4])
    page = visits.open(world.owner, "/policies/hostile/import/", viewport=PHONE)
    name = "<img src=x onerror=window.__pwned=1>.csv"
    page.get_by_label("File").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": buffer.getvalue().encode()}
    )
    page.get_by_role("button", name="Look at its columns").click()
    page.wait_for_url("**/map/")
    harmless(page)
    page.get_by_label("Consent").select_option("train")
    page.get_by_role("button", name="Start the import").click()
    expect(page.locator("#import-progress .pill")).to_have_text("done", timeout=20_000)
    harmless(page)


def test_htmx_leaves_a_sample_alone(visits: Visits, world: World, hostile: list[str]) -> None:
    """Even if escaping broke: attributes inside a sample's box stay dead."""
    page = visits.open(world.owner, "/policies/hostile/data/")
    with page.expect_navigation():
        page.locator("tbody th a").first.click()
    page.evaluate(
        """() => {
          window.__requests = [];
          document.body.addEventListener("htmx:beforeRequest",
            (event) => window.__requests.push(event.detail.pathInfo.requestPath));
          const sample = document.querySelector(".sample");
          sample.innerHTML = '<b hx-get="/policies/" hx-trigger="load">x</b>'
            + '<b data-hx-get="/policies/" data-hx-trigger="load">x</b>'
            + '<b hx-on:click="window.__pwned = 1" id="tempting">x</b>';
          htmx.process(sample);
        }"""
    )
    page.locator("#tempting").click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.__requests") == []
    harmless(page)
