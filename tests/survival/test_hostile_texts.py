"""Every hostile text through everything that takes text: refused plainly, or kept as it came."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode
from zlib import crc32

import pytest
from django import forms as django_forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.urls import reverse
from rest_framework import serializers

from apps.accounts import forms as accounts_forms
from apps.accounts import serializers as accounts_shapes
from apps.base.invisible import is_blank
from apps.corpus import forms as corpus_forms
from apps.corpus import importing
from apps.corpus import serializers as corpus_shapes
from apps.evidence import serializers as evidence_shapes
from apps.guardrails import content_serializers as content_shapes
from apps.guardrails import serializers as guardrails_shapes
from apps.labeling import serializers as labeling_shapes
from apps.policies import forms as policies_forms
from apps.policies import serializers as policies_shapes
from apps.runtime import serializers as runtime_shapes
from tests import factories
from tests.hostile import ROOT, Hostile, counts, texts
from tests.survival.conftest import World
from tests.survival.world import request_of, routes

pytestmark = pytest.mark.django_db
SLOWEST = 2.0
"""Seconds of this process, however busy its machine; the database has a limit of its own."""
TEXTS = texts()


@pytest.fixture(autouse=True)
def statements_end(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '5s'")


def test_the_texts_are_there() -> None:
    warnings.warn(f"hostile texts: {counts()}", stacklevel=1)
    assert len(TEXTS) >= 60


# --- sending --------------------------------------------------------------------------------


def encoded(fields: dict[str, Any]) -> str:
    return urlencode(fields, doseq=True, errors="surrogatepass")


def form(client: Any, url: str, fields: dict[str, Any] | str, **headers: str) -> Any:
    """POST a form as bytes, so that even a lone surrogate can be sent."""
    body = fields if isinstance(fields, str) else encoded(fields)
    return client.post(url, body, content_type="application/x-www-form-urlencoded", headers=headers)


def query(client: Any, url: str, fields: dict[str, Any]) -> Any:
    return client.get(f"{url}?{urlencode(fields, errors='surrogatepass')}")


def timely(send: Callable[[], Any]) -> Any:
    """The answer, which came in time and is not a failure of the server."""
    start = time.process_time()
    answer = send()
    took = time.process_time() - start
    assert answer.status_code < 500, f"{answer.status_code}: {answer.content[:300]!r}"
    assert took <= SLOWEST, f"{took:.1f} s"
    return answer


def each(one: Callable[[Hostile], None], given: list[Hostile] = TEXTS) -> None:
    """Do it for every text, undo it, and say for which texts it went wrong."""
    wrong = []
    for hostile in given:
        try:
            with transaction.atomic():
                one(hostile)
                transaction.set_rollback(True)
        except AssertionError as error:
            wrong.append(f"{hostile.id}: {str(error).splitlines()[0][:200]}")
    assert not wrong, "\n".join(wrong)


def a_third(door: str) -> list[Hostile]:
    """Another third of the texts for each door: all that are alike refuse them in one place."""
    return TEXTS[crc32(door.encode()) % 3 :: 3]


# --- doors whose text comes back ------------------------------------------------------------

Door = Callable[[World, str], tuple[Any, Callable[[], Any]]]


def _api(world: World, actor: str = "admin") -> factories.Api:
    return factories.Api("", world.callers[actor].client)


def _page(world: World, actor: str = "admin") -> Any:
    return world.callers[actor].client


def policy_name(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    api = _api(world)
    answer = api.post("policies", {"slug": "hostile", "name": text})
    return answer, lambda: api.get("policies/hostile").json()["name"]


def policy_name_by_page(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    answer = form(_page(world), "/policies/new/", {"slug": "hostile", "name": text})
    return answer, lambda: _api(world).get("policies/hostile").json()["name"]


def draft(
    change: Callable[[dict[str, Any], str], None],
    read: Callable[[Any], Any],
    *,
    publish: bool = False,
) -> Door:
    """A text in the draft over the API, read from the draft (and from the published version)."""

    def door(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
        api, slug = _api(world), world.own.policy.slug
        content = json.loads(json.dumps(factories.SPECIFICATION))
        change(content, text)
        answer = api.put(f"policies/{slug}/draft", content, **{"If-Match": "*"})

        def kept() -> Any:
            found = read(api.get(f"policies/{slug}/draft").json())
            if not publish:
                return found
            published = api.post(f"policies/{slug}/publish")
            if published.status_code == 201:
                number = published.json()["version"]
                version = timely(lambda: api.get(f"policies/{slug}/versions/{number}")).json()
                assert read(version) == found, "the version differs from the draft"
                timely(lambda: api.get(f"policies/{slug}/versions/{number}/diff"))
            return found

        return answer, kept

    return door


def _set(content: dict[str, Any], name: str, text: str) -> None:
    content[name] = text


def _set_rule(content: dict[str, Any], text: str) -> None:
    content["rules"][0]["text"] = text


def _set_example(content: dict[str, Any], name: str, text: str) -> None:
    content["rules"][0]["examples"][0][name] = text


def draft_by_page(field: str, read: Callable[[Any], Any]) -> Door:
    """A text in the editor's form."""

    def door(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
        fields = {
            "stages": "output",
            "definition": "What it is about.",
            "revision": "",
            "order": "0",
            "rules-0-key": "a-rule",
            "rules-0-text": "A rule.",
            "rules-0-severity": "1",
            "rules-0-action": "block",
            "rules-0-examples-0-text": "An example.",
            "rules-0-examples-0-violates": "true",
            field: text,
        }
        slug = world.own.policy.slug
        answer = form(_page(world), f"/policies/{slug}/edit/", fields)
        return answer, lambda: read(_api(world).get(f"policies/{slug}/draft").json())

    return door


def rationale(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    lease = str(world.own.objects["lease"])
    body = {"lease": lease, "verdict": "unsure", "rationale": text}
    answer = _api(world, "annotator").post("labels", body)
    return answer, lambda: _newest_label(world)["rationale"]


def rationale_by_page(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    lease = str(world.own.objects["lease"])
    body = {"lease": lease, "verdict": "unsure", "rationale": text}
    url = f"/label/{world.own.policy.slug}/submit/"
    answer = form(_page(world, "annotator"), url, body)
    return answer, lambda: _newest_label(world)["rationale"]


def _newest_label(world: World) -> Any:
    path = f"labels?page_size=1&policy={world.own.policy.slug}"
    return _api(world, "owner").get(path).json()["results"][0]


def undone_rationale(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    answer, _ = rationale(world, text)
    undo = f"policies/{world.own.policy.slug}/undo"
    return answer, lambda: _api(world, "annotator").post(undo).json()["rationale"]


def skip_reason(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    path = f"leases/{world.own.objects['lease']}/skip"
    answer = _api(world, "annotator").post(path, {"reason": text})
    return answer, lambda: _newest_entry(world, "label.skip")["reason"]


def skip_reason_by_page(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    fields = {"lease": str(world.own.objects["lease"]), "reason": "", "other": text}
    url = f"/label/{world.own.policy.slug}/skip/"
    answer = form(_page(world, "annotator"), url, fields)
    return answer, lambda: _newest_entry(world, "label.skip")["reason"]


def _newest_entry(world: World, action: str) -> Any:
    return _api(world).get(f"audit?page_size=1&action={action}").json()["results"][0]["data"]


def token_name(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    member = str(world.own.people["spare"].membership_id)
    answer = _api(world).post("tokens", {"member": member, "name": text, "scopes": ["read"]})
    return answer, lambda: _newest(world, "tokens")["name"]


def token_name_by_page(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    url = f"/people/{world.own.people['spare'].membership_id}/tokens/"
    answer = form(_page(world), url, {"name": text, "scopes": "read", "days": "3"})
    return answer, lambda: _newest(world, "tokens")["name"]


def member_name(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    body = {"email": "new@own.example", "role": "annotator", "name": text}
    return _api(world).post("members", body), lambda: _newest(world, "members")["name"]


def member_name_by_page(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    body = {"email": "new@own.example", "role": "annotator", "name": text}
    return form(_page(world), "/people/", body), lambda: _newest(world, "members")["name"]


def _newest(world: World, path: str) -> Any:
    return _api(world).get(f"{path}?page_size=1").json()["results"][0]


def source_name(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    answer = _send_rows(world, {"source": text})
    return answer, lambda: _newest(world, "sources")["name"]


def source_licence(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    answer = _send_rows(world, {"source": "with a licence", "licence": text})
    return answer, lambda: _newest(world, "sources")["licence"]


def _send_rows(world: World, fields: dict[str, str]) -> Any:
    fields = {"policy": world.own.policy.slug, **fields}
    return _page(world).post(
        f"/api/v1/imports?{urlencode(fields, errors='surrogatepass')}",
        b'{"output": "x"}',
        content_type="application/x-ndjson",
    )


def source_by_page(field: str, shown: str) -> Door:
    def door(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
        url = f"/imports/{world.own.objects['draft_import']}/map/"
        fields = {"source": "mapped", "consent": "train", "map-output": "output", field: text}
        return form(_page(world), url, fields), lambda: _newest(world, "sources")[shown]

    return door


def kept_by(path: str, body: dict[str, Any], field: str, read: str = "") -> Door:
    """A text that the API keeps in a list of the policy (path below it) or of the workspace."""

    def door(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
        place = path.format(slug=world.own.policy.slug)
        answer = _api(world).post(place, {**body, field: text})
        return answer, lambda: _made(world, place, answer)[read or field]

    return door


def _made(world: World, place: str, answer: Any) -> Any:
    rows = factories.walk_list(_api(world), place)
    return next(row for row in rows if row["id"] == answer.json()["id"])


def kept_by_page(path: str, body: dict[str, str], field: str, listed: str) -> Door:
    def door(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
        slug = world.own.policy.slug
        answer = form(_page(world), path.format(slug=slug), {**body, field: text})
        rows = factories.walk_list(_api(world), listed.format(slug=slug))
        newest = max(rows, key=lambda row: row["id"])
        return answer, lambda: newest[field]

    return door


def kill_switch_reason(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    answer = _api(world).put("kill-switch", {"on": False, "reason": text})
    return answer, lambda: _api(world).get("kill-switch").json()["reason"]


def listed_words(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    place = f"policies/{world.own.policy.slug}/guardrail"
    check = {"key": "words", "kind": "keywords", "settings": {"words": [text]}}
    answer = _api(world).put(place, {"checks": [check]}, **{"If-Match": "*"})
    draft_of = lambda: _api(world).get(place).json()["draft"]  # noqa: E731
    return answer, lambda: draft_of()["checks"][0]["settings"]["words"][0]


def taxonomy_name(world: World, text: str) -> tuple[Any, Callable[[], Any]]:
    body = {"slug": "hostile", "name": text, "categories": [{"code": "a"}]}
    answer = _api(world).post("taxonomies", body)
    return answer, lambda: next(
        row["name"] for row in _api(world).get("taxonomies").json() if row["slug"] == "hostile"
    )


CASES, EXCEPTIONS = "policies/{slug}/cases", "policies/{slug}/exceptions"

# Each keeps what it takes; "page" ones may turn CRLF into LF.
DOORS: dict[str, Door] = {
    "policy name": policy_name,
    "policy name (page)": policy_name_by_page,
    "definition": draft(lambda c, t: _set(c, "definition", t), lambda d: d["definition"]),
    "scope": draft(lambda c, t: _set(c, "scope", t), lambda d: d["scope"]),
    "rationale of a policy": draft(lambda c, t: _set(c, "rationale", t), lambda d: d["rationale"]),
    "rule": draft(_set_rule, lambda d: d["rules"][0]["text"], publish=True),
    "example": draft(
        lambda c, t: _set_example(c, "text", t), lambda d: d["rules"][0]["examples"][0]["text"]
    ),
    "why": draft(
        lambda c, t: _set_example(c, "why", t), lambda d: d["rules"][0]["examples"][0]["why"]
    ),
    "definition (page)": draft_by_page("definition", lambda d: d["definition"]),
    "scope (page)": draft_by_page("scope", lambda d: d["scope"]),
    "rationale of a policy (page)": draft_by_page("rationale", lambda d: d["rationale"]),
    "rule (page)": draft_by_page(
        "rules-0-text", lambda d: d["rules"][0]["text"] if d["rules"] else None
    ),
    "example (page)": draft_by_page(
        "rules-0-examples-0-text", lambda d: [e["text"] for e in d["rules"][0]["examples"]]
    ),
    "why (page)": draft_by_page(
        "rules-0-examples-0-why", lambda d: d["rules"][0]["examples"][0]["why"]
    ),
    "rationale of a label": rationale,
    "rationale of a label (page)": rationale_by_page,
    "rationale of an undone label": undone_rationale,
    "reason of a skip": skip_reason,
    "reason of a skip (page)": skip_reason_by_page,
    "token name": token_name,
    "token name (page)": token_name_by_page,
    "member name": member_name,
    "member name (page)": member_name_by_page,
    "source": source_name,
    "licence": source_licence,
    "source (page)": source_by_page("source", "name"),
    "licence (page)": source_by_page("licence", "licence"),
    "case": kept_by(CASES, {"expected": "complies", "why": "x"}, "text"),
    "why of a case": kept_by(CASES, {"expected": "complies", "text": "x"}, "why"),
    "case (page)": kept_by_page(
        "/policies/{slug}/cases/add/", {"expected": "complies", "why": "x"}, "text", CASES
    ),
    "phrase": kept_by(EXCEPTIONS, {"reason": "x"}, "phrase"),
    "reason of an exception": kept_by(EXCEPTIONS, {"phrase": "x"}, "reason"),
    "reason of an exception (page)": kept_by_page(
        "/policies/{slug}/exceptions/", {"phrase": "x", "days": "1"}, "reason", EXCEPTIONS
    ),
    "canary": kept_by("canaries", {"stage": "output", "expected": "allow"}, "text"),
    "canary (page)": kept_by_page(
        "/serving/canaries/", {"stage": "output", "expected": "allow"}, "text", "canaries"
    ),
    "reason of the kill switch": kill_switch_reason,
    "listed words": listed_words,
    "taxonomy": taxonomy_name,
}


@pytest.mark.parametrize("name", DOORS)
def test_a_text_is_refused_or_comes_back_byte_for_byte(world: World, name: str) -> None:
    def one(hostile: Hostile) -> None:
        if name in ("source", "licence") and len(hostile.text) > 60_000:
            return  # they stand in the address
        start = time.process_time()
        answer, kept = DOORS[name](world, hostile.text)
        assert time.process_time() - start <= SLOWEST
        timely(lambda: answer)
        if hostile.must_be_refused:
            assert answer.status_code in (400, 413), answer.status_code
        if answer.status_code >= 400:
            return
        if (
            answer.status_code == 200
            and name.endswith("(page)")
            and b"form-errors" in answer.content
        ):
            return
        expected: Any = hostile.text
        if name.endswith("(page)"):
            expected = expected.replace("\r\n", "\n")
        found = kept()
        if name == "example (page)":
            found = found[0] if found else expected  # an empty example is no example
        if name == "rule (page)" and not expected.strip():
            return  # an empty rule with its examples stays, without text
        assert found == expected, f"came back as {str(found)[:60]!r}"

    each(one)


# --- fields that only refuse or choose ------------------------------------------------------

# fields in one group are sent together: their form looks at all of them before it answers
CHOOSING: dict[tuple[str, str], list[list[str]]] = {
    ("api:policies", "POST"): [["slug"], ["targets"], ["settings"], ["stages"], ["rules"]],
    ("api:policy", "PATCH"): [["targets"], ["settings"], ["retired"]],
    ("api:draft", "PUT"): [["stages"], ["rules"]],
    ("api:roles", "PUT"): [["member"], ["role"]],
    ("api:check", "POST"): [["stage"], ["policies"], ["messages"], ["tool_call"], ["passages"]],
    ("api:check_batch", "POST"): [["items"]],
    ("api:check_stream", "POST"): [["stream"], ["chunk"], ["number", "final", "stage"]],
    ("moderations", "POST"): [["input"], ["model"]],
    ("api:replay", "POST"): [["text"], ["messages"], ["tool_call"], ["passages"]],
    ("api:feedback", "POST"): [["verdict"], ["note"], ["policy"], ["turn"], ["text"]],
    ("api:incident", "PATCH"): [["act"], ["why"]],
    ("api:kept_texts", "PUT"): [["share"], ["days"], ["for_owners"]],
    ("api:guardrail", "PUT"): [["checks"], ["gate"]],
    ("api:guardrail_publish", "POST"): [["note"]],
    ("api:guardrail_try", "POST"): [
        ["text"], ["content"], ["stage"], ["messages"], ["tool_call"], ["passages"],
    ],
    ("api:exceptions", "POST"): [["rule"], ["days"], ["text"]],
    ("api:cases", "POST"): [["expected"]],
    ("api:canaries", "POST"): [["stage"], ["expected"]],
    ("api:kill_switch", "PUT"): [["on"]],
    ("api:taxonomies", "POST"): [["slug"], ["categories"]],
    ("api:mappings", "PUT"): [["source"], ["targets"]],
    ("guardrails:checks", "POST"): [
        ["add", "revision", "checks-1-kind", "checks-1-key", "checks-1-rule", "gate-kind"],
        ["text", "try"], ["text", "shape", "try"], ["stage", "try"],
    ],
    ("guardrails:restore", "POST"): [["version"]],
    ("guardrails:exceptions", "POST"): [["rule", "days"], ["phrase"], ["text"]],
    ("evidence:promote", "POST"): [["threshold"]],
    ("api:model_promote", "POST"): [["threshold"]],
    ("api:model_effect", "POST"): [["threshold"]],
    ("evidence:publish_guardrail", "POST"): [["note"], ["calibrate"]],
    ("evidence:add_case", "POST"): [["expected"], ["why"]],
    ("runtime:playground", "POST"): [["stage"], ["shape"], ["text"]],
    ("runtime:replay", "POST"): [["text"]],
    ("runtime:feedback", "POST"): [
        ["verdict"], ["policy"], ["note"], ["text_number"], ["shape"], ["text"],
    ],
    ("runtime:move_incident", "POST"): [["act"], ["why"]],
    ("runtime:kill_switch", "POST"): [["on"], ["reason"]],
    ("runtime:keep_texts", "POST"): [["share"], ["days"], ["for_owners"]],
    ("runtime:add_canary", "POST"): [["stage", "expected"]],
    ("api:labels", "POST"): [["lease"], ["verdict"], ["rules"], ["severity", "seconds", "next"]],
    ("api:members", "POST"): [["email"], ["role"]],
    ("api:member", "PATCH"): [["role"]],
    ("api:tokens", "POST"): [["member"], ["scopes"], ["days"]],
    ("accounts:sign_in", "POST"): [["email"], ["password"], ["next"]],
    ("accounts:password", "POST"): [["current"], ["new"]],
    ("accounts:preferences", "POST"): [["theme"]],
    ("accounts:choose_workspace", "POST"): [["workspace"]],
    ("accounts:people", "POST"): [["email", "role"]],
    ("accounts:member", "POST"): [["role", "action"]],
    ("accounts:issue_token", "POST"): [["scopes", "days", "checks_per_second"]],
    ("policies:create", "POST"): [["slug"]],
    ("policies:edit", "POST"): [
        ["revision"],
        ["order", "add_rule"],
        ["stages", "rules-0-key", "rules-0-polarity", "rules-0-severity", "rules-0-action",
         "rules-0-examples-0-violates"],
    ],
    ("policies:settings", "POST"): [["name"], [
        "target_false_positive_rate", "target_recall", "target_cost_ratio", "retrain_after",
        "retrain_every_hours", "audit_fraction", "audit_share", "mode", "on_failure", "level",
        "rollout", "safe_completion", "second_approver",
    ]],
    ("policies:set_role", "POST"): [["member"], ["role"]],
    ("policies:retire", "POST"): [["retired"]],
    ("policies:set_categories", "POST"): [["categories"]],
    ("policies:add_taxonomy", "POST"): [["slug"], ["name"], ["lines"]],
    ("policies:map_category", "POST"): [["source"], ["targets"]],
    ("corpus:map", "POST"): [["consent"], [f"map-{name}" for name in importing.FIELDS]],
    ("labeling:submit", "POST"): [["lease"], ["verdict"], ["rules"], ["seconds", "ahead"]],
    ("labeling:skip", "POST"): [["lease"]],
}  # fmt: skip
FIELDS = [(route, how, group) for (route, how), groups in CHOOSING.items() for group in groups]
# what the API takes as a list or as an object of texts
AS_LIST = {"rules", "stages", "scopes", "policies", "targets"}
AS_OBJECT = {"settings"}


@pytest.mark.parametrize(("route", "method", "fields"), FIELDS)
def test_a_text_in_a_field_that_chooses_is_refused_plainly(
    world: World, route: str, method: str, fields: list[str]
) -> None:
    actor = "annotator" if "lab" in route else "admin"
    actor = "anonymous" if route == "accounts:sign_in" else actor
    client = world.callers[actor].client
    url = reverse(route, kwargs=world.own.arguments(route))
    body = request_of(route, method, world.own)["data"]
    body = json.loads(body) if isinstance(body, str) else dict(body)
    if any(field.startswith("rules-0") for field in fields):
        body["rules-0-text"] = "A rule."

    def value(field: str, text: str) -> Any:
        if not route.startswith("api:"):
            return text
        if field == "targets" and route == "api:policy":
            return {text: text}
        return [text] if field in AS_LIST else {text: text} if field in AS_OBJECT else text

    def one(hostile: Hostile) -> None:
        sent = {**body, **{field: value(field, hostile.text) for field in fields}}
        if route.startswith("api:") or route == "moderations":
            call = getattr(client, method.lower())
            kind = "application/json"
            headers = {"If-Match": "*"}
            answer = timely(lambda: call(url, json.dumps(sent), content_type=kind, headers=headers))
        else:
            body_of_form = encoded(sent)
            answer = timely(lambda: form(client, url, body_of_form))
        if hostile.must_be_refused:
            assert answer.status_code in (400, 413), answer.status_code

    each(one, a_third(f"{route} {fields}"))


@pytest.mark.parametrize("value", ["Tr0ub4dor&3 " * 4000, "x" * 1_000_000])
def test_a_huge_password_is_judged_in_time(world: World, value: str) -> None:
    client = world.callers["anonymous"].client
    fields = {"email": "admin@own.example", "password": value}
    with transaction.atomic():
        answer = timely(lambda: form(client, "/sign-in/", fields))
        transaction.set_rollback(True)
    assert answer.status_code in (400, 403, 413)


# --- queries, addresses, headers ------------------------------------------------------------

QUERIES: list[tuple[str, list[str]]] = [
    ("/api/v1/examples?policy={slug}", [
        "q", "label", "split", "source", "model", "language", "external_id", "cursor", "page_size",
    ]),
    ("/api/v1/examples", ["policy"]),
    ("/api/v1/labels", ["policy"]),
    ("/api/v1/labels?policy={slug}", ["cursor", "page_size"]),
    ("/api/v1/imports", ["policy", "cursor", "page_size"]),
    ("/api/v1/audit", ["action", "cursor"]),
    ("/api/v1/policies", ["cursor", "format"]),
    ("/api/v1/policies/{slug}/versions", ["cursor"]),
    ("/api/v1/policies/{slug}/versions/1/diff", ["against"]),
    ("/api/v1/policies/{slug}/evaluations", ["cursor"]),
    ("/api/v1/evaluations/{evaluation}/items", ["cursor"]),
    ("/api/v1/schema", ["format", "lang", "version"]),
    ("/api/v1/incidents", ["status", "cursor"]),
    ("/api/v1/canaries", ["cursor"]),
    ("/api/v1/decisions", ["action", "stage", "policy", "since", "until", "cursor"]),
    ("/api/v1/policies/{slug}/cases", ["run", "cursor"]),
    ("/api/v1/policies/{slug}/exceptions", ["cursor"]),
    ("/api/v1/policies/{slug}/guardrail/versions", ["cursor"]),
    ("/decisions/", ["action", "stage", "policy", "since", "until", "cursor"]),
    ("/incidents/", ["status", "cursor"]),
    ("/policies/{slug}/cases/", ["cursor"]),
    ("/policies/{slug}/exceptions/", ["cursor"]),
    ("/sign-in/", ["next"]),
    ("/policies/", ["q", "status", "cursor"]),
    ("/policies/{slug}/versions/1/", ["against"]),
    ("/policies/{slug}/data/", [
        "text", "label", "split", "source", "model", "language", "cursor",
    ]),
    ("/policies/{slug}/labels/", ["cursor"]),
    ("/policies/{slug}/evidence/", ["cursor"]),
    ("/policies/{slug}/figures/", ["seen"]),
    ("/policies/{slug}/guardrail/", ["cursor"]),
    ("/policies/{slug}/edit/", ["new"]),
    ("/evaluations/{evaluation}/", ["cursor"]),
    ("/label/", ["cursor"]),
    ("/label/{slug}/text/", ["lease"]),
    ("/people/", ["cursor"]),
    ("/audit/", ["action", "cursor"]),
    ("/training/", ["cursor"]),
]  # fmt: skip


def _answers_plainly(world: World, url: str, fields: list[str]) -> None:
    client = world.callers["anonymous" if url == "/sign-in/" else "admin"].client
    url = url.format(**world.own.objects)
    joint = "&" if "?" in url else "?"

    def one(hostile: Hostile) -> None:
        if "schema" in url and hostile.id not in FEW:
            return
        if len(hostile.text) > 60_000:
            return  # no server takes an address of this length
        pairs = urlencode(dict.fromkeys(fields, hostile.text), errors="surrogatepass")
        answer = timely(lambda: client.get(f"{url}{joint}{pairs}"))
        if hostile.must_be_refused:
            assert answer.status_code == 400, answer.status_code
        if "html" in answer["Content-Type"]:
            assert not raw(hostile, answer.content.decode()), "shown unescaped"

    each(one, a_third(f"{url} {fields}"))


API_QUERIED = [(u, f) for u, fields in QUERIES if u.startswith("/api/") for f in fields]
PAGES_QUERIED = [(url, fields) for url, fields in QUERIES if not url.startswith("/api/")]


@pytest.mark.parametrize(("url", "field"), API_QUERIED)
def test_a_text_in_a_query_of_the_api_is_answered_plainly(
    world: World, url: str, field: str
) -> None:
    _answers_plainly(world, url, [field])


@pytest.mark.parametrize(("url", "fields"), PAGES_QUERIED)
def test_a_text_in_every_query_field_of_a_page_is_answered_plainly(
    world: World, url: str, fields: list[str]
) -> None:
    _answers_plainly(world, url, fields)


# all texts where policies are addressed, and these few wherever anything is
FEW = {"PT001", "PT030", "PT052", "PT055", "PT076", "PT088", "PT092"}


@pytest.mark.parametrize("route", sorted(r for r, arguments in routes().items() if arguments))
def test_a_text_in_an_address_names_nothing(world: World, route: str) -> None:
    arguments = world.own.arguments(route)
    marks = {name: f"mark{place}" for place, name in enumerate(arguments)}
    pattern = reverse(route, kwargs=arguments)
    for name, value in arguments.items():
        pattern = pattern.replace(f"/{value}", f"/{marks[name]}", 1)
    client = world.callers["admin"].client

    def one(hostile: Hostile) -> None:
        if len(hostile.text) > 5000 or hostile.text in ("0", ""):
            return
        if not route.startswith("policies:") and hostile.id not in FEW:
            return
        for name in arguments:
            url = pattern
            for other, mark in marks.items():
                value = hostile.text if other == name else str(arguments[other])
                url = url.replace(mark, quote(value, safe="", errors="surrogatepass"), 1)
            answer = timely(lambda url=url: client.get(url))
            assert answer.status_code in (400, 404, 405), answer.status_code

    each(one)


HEADERS = [
    "Idempotency-Key", "If-Match", "Authorization", "Accept", "X-CSRFToken", "HX-Request",
    "X-Requested-With", "Referer", "Origin", "User-Agent", "Cookie", "X-Forwarded-For",
    "Accept-Language", "HX-Current-URL", "HX-Target", "If-None-Match", "Range",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_text_in_a_header_is_answered_plainly(world: World, header: str) -> None:
    client, slug = world.callers["admin"].client, world.own.policy.slug

    def one(hostile: Hostile) -> None:
        if len(hostile.text) > 60_000:
            return
        value = hostile.text.encode("utf-8", "surrogatepass").decode("latin-1")
        if header == "Authorization":
            value = f"Bearer {value}"
        headers = {"If-Match": "*", header: value}
        url = f"/api/v1/policies/{slug}/draft"
        kind = "application/json"
        timely(lambda: client.put(url, "{}", content_type=kind, headers=headers))
        if header != "Cookie":
            timely(lambda: client.get("/password/", headers=headers))

    each(one, a_third(header))


# --- imports --------------------------------------------------------------------------------

ROW_FIELDS = ["prompt", "output", "context", "model", "language", "id", "group", "tags"]
# rows are whole texts here, or a JSON value that holds one
IN_ROW: dict[str, Callable[[str], Any]] = {
    **{name: (lambda text: text) for name in ROW_FIELDS},
    "tags": lambda text: [text],
    "metadata value": lambda text: {"note": text},
    "metadata name": lambda text: {text: 1},
}
LIMITS = {"id": 200, "model": 200, "language": 35, "group": 2000, "tags": 100}


@pytest.mark.parametrize("name", IN_ROW)
def test_an_imported_text_is_rejected_or_comes_back_byte_for_byte(world: World, name: str) -> None:
    field = name.partition(" ")[0]
    owner = world.own.people["owner"]
    with transaction.atomic():
        policy = factories.make_policy(owner, "hostile")
        rows = [
            {"output": f"text {h.id} of {name}", "prompt": h.id, field: IN_ROW[name](h.text)}
            for h in TEXTS
        ]
        job = factories.import_rows(owner, policy, rows)
        assert job.status == "succeeded", job.reason
        rejected = set(job.rejected_rows.values_list("row", flat=True))
        api = factories.Api("", factories.page_client(owner))
        back = factories.walk_list(api, "examples?page_size=50&policy=hostile")
        transaction.set_rollback(True)
    kept = [value_in_row(row, name) for row in back]
    for number, hostile in enumerate(TEXTS, start=1):
        if hostile.must_be_refused:
            assert number in rejected, hostile.id
        elif number not in rejected and field != "group":
            assert hostile.text in kept, hostile.id
        if number in rejected:
            allowed = (
                hostile.must_be_refused
                or len(hostile.text) > LIMITS.get(field, 1_000_000)
                or (field == "metadata" and len(json.dumps(hostile.text)) > 64_000)
                or (field == "output" and is_blank(hostile.text))
                or field == "id"  # the same id for another text
            )
            assert allowed, f"{hostile.id} was rejected"


def value_in_row(row: dict[str, Any], name: str) -> Any:
    """The text that was put into a row, as the API gives it back."""
    if name == "metadata value":
        return row["metadata"].get("note")
    if name == "metadata name":
        return next(iter(row["metadata"]), None)
    if name == "tags":
        return row["tags"][0] if row["tags"] else None
    return row["external_id"] if name == "id" else row.get(name)


@pytest.mark.parametrize("by", ["page", "api"])
def test_a_text_as_a_file_name_names_no_path(world: World, by: str) -> None:
    slug = world.own.policy.slug
    client = world.callers["admin"].client

    def one(hostile: Hostile) -> None:
        if hostile.must_be_refused or len(hostile.text) > 5000:
            return
        file = SimpleUploadedFile("x", b"output\nx\n")
        file._name = f"{hostile.text}.csv"  # the setter would clean it
        if by == "page":
            answer = timely(lambda: client.post(f"/policies/{slug}/import/", {"file": file}))
        else:
            fields = {"policy": slug, "source": "files", "file": file}
            answer = timely(lambda: client.post("/api/v1/imports", fields))
        assert answer.status_code in (202, 302, 400), answer.status_code
        page = answer.content.decode()
        told = "Parapet reads .csv" in page or "a short, plain name" in page
        assert answer.status_code != 400 or told, page[:200]

    each(one)


@pytest.mark.parametrize("as_key", [True, False])
def test_a_text_in_a_mapping_is_refused_plainly(world: World, as_key: bool) -> None:
    client = world.callers["admin"].client

    def one(hostile: Hostile) -> None:
        mapping = {"output": "output", **({hostile.text: "x"} if as_key else {"id": hostile.text})}
        fields = {
            "policy": world.own.policy.slug,
            "source": "mapped",
            "mapping": json.dumps(mapping),
            "file": SimpleUploadedFile("x.csv", b"output\nx\n"),
        }
        answer = timely(lambda: client.post("/api/v1/imports", fields))
        if hostile.must_be_refused:
            assert answer.status_code == 400, answer.status_code

    each(one)


# --- pages that show them -------------------------------------------------------------------


def raw(hostile: Hostile, page: str) -> bool:
    """Whether a text with markup stands in the page as markup."""
    return "<" in hostile.text and hostile.text in page


SHOWN = [h for h in TEXTS if not h.must_be_refused and len(h.text) <= 10_000]


@pytest.fixture(scope="module")
def stuffed(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """A workspace with hostile text in every place that keeps text."""
    with django_db_blocker.unblock(), transaction.atomic():
        workspace = factories.make_workspace("stuffed")
        admin = factories.make_member(workspace, "admin", email="admin@stuffed.example")
        slugs = []
        for start in range(0, len(SHOWN), 40):
            part = SHOWN[start : start + 40]
            slugs.append(f"stuffed-{start}")
            _stuff(admin, slugs[-1], part)
        yield {"admin": admin, "slugs": slugs}
        transaction.set_rollback(True)


def _stuff(admin: Any, slug: str, part: list[Hostile]) -> None:
    api = factories.Api("", factories.page_client(admin))
    rules = [
        {
            "key": h.id.lower(),
            "polarity": "disallowed",
            "text": h.text if h.text.strip() else "blank",
            "severity": 1,
            "action": "block",
            "examples": [{"text": h.text, "violates": True, "why": h.text}],
        }
        for h in part
    ]
    first = next(h.text for h in part if h.text.strip())
    scope, rationale, definition = (part[n % len(part)].text for n in (1, 2, 3))
    made = api.post(
        "policies",
        {
            "slug": slug,
            "name": first[:200],
            "stages": ["output"],
            "definition": first,
            "scope": scope,
            "rationale": rationale,
            "rules": rules,
        },
    )
    assert made.status_code == 201, made.content
    assert api.post(f"policies/{slug}/publish").status_code == 201
    changed = [{**rule, "text": rule["text"][::-1] + " <b>"} for rule in rules]
    content = {"stages": ["output"], "definition": definition or "d", "rules": changed}
    saved = api.put(f"policies/{slug}/draft", content, **{"If-Match": "*"})
    assert saved.status_code == 200, saved.content
    rows = [
        {
            "id": h.text[:200],
            "output": h.text or "nothing",
            "prompt": h.text,
            "context": h.text,
            "model": h.text[:200],
            "language": h.text[:35],
            "tags": [h.text[:100]],
            "metadata": {h.text[:50]: h.text, "items": 5, "keys": h.text},
        }
        for h in part
    ]
    policy = factories.load_policy(admin, slug)
    source = next(h.text for h in part if h.text.strip())[:200]
    job = factories.import_rows(admin, policy, rows, source=source)
    assert job.status == "succeeded", job.reason
    for h in part:
        item = api.post(f"policies/{slug}/queue/next")
        if item.status_code == 204:
            break
        body = {"lease": item.json()["lease"], "verdict": "violates", "rationale": h.text}
        assert api.post("labels", {**body, "rules": [h.id.lower()]}).status_code == 201
    api.post(f"policies/{slug}/undo")
    for h in part:
        if h.text.strip():
            body = {"member": str(admin.membership_id), "name": h.text[:200], "scopes": ["read"]}
            assert api.post("tokens", body).status_code == 201, h.id
    for h in part[:15]:
        name = {"email": f"{h.id}@stuffed.example", "role": "annotator", "name": h.text[:200]}
        assert api.post("members", name).status_code == 201, h.id


def _pages(stuffed: dict[str, Any], slug: str) -> list[str]:
    """The addresses of every page that shows one of the texts."""
    api = factories.Api("", factories.page_client(stuffed["admin"]))
    examples = [row["id"] for row in factories.walk_list(api, f"examples?policy={slug}")]
    job = api.get(f"imports?policy={slug}").json()["results"][0]["id"]
    item = api.post(f"policies/{slug}/queue/next")
    whole = (
        [f"/label/{slug}/", f"/label/{slug}/text/?lease={item.json()['lease']}"]
        if item.status_code == 200
        else []
    )
    return [
        "/", "/policies/", "/label/", "/people/", "/audit/", "/training/",
        f"/policies/{slug}/", f"/policies/{slug}/edit/", f"/policies/{slug}/publish/",
        f"/policies/{slug}/versions/1/", f"/policies/{slug}/settings/",
        f"/policies/{slug}/data/", f"/policies/{slug}/labels/", f"/policies/{slug}/evidence/",
        f"/policies/{slug}/guardrail/", f"/imports/{job}/", *whole,
        *(f"/policies/{slug}/data/{example}/?whole=1" for example in examples),
    ]  # fmt: skip


TAG = re.compile(r"<(/?[a-zA-Z][^\s/>]*)([^>]*)>")
ALLOWED_SCRIPT = re.compile(r"<script\b[^>]*\b(?:src=\"/static/|type=\"application/json\")")


def test_every_page_shows_every_text_as_text(stuffed: dict[str, Any]) -> None:
    client = factories.page_client(stuffed["admin"])
    wrong = []
    for slug in stuffed["slugs"]:
        for url in _pages(stuffed, slug):
            try:
                answer = timely(lambda url=url: client.get(url))
            except AssertionError as error:
                raise AssertionError(url) from error
            assert answer.status_code == 200, (url, answer.status_code)
            page = answer.content.decode()
            wrong += [f"{url}: {h.id}" for h in SHOWN if raw(h, page)]
            for tag in re.finditer(r"<script\b[^>]*>", page):
                if not ALLOWED_SCRIPT.match(tag.group()):
                    wrong.append(f"{url}: {tag.group()}")
            for name, rest in TAG.findall(page):
                if re.search(r"\son\w+\s*=|\shx-on|javascript:", _outside_quotes(rest)):
                    wrong.append(f"{url}: <{name}{rest[:80]}>")
    assert not wrong, "\n".join(wrong[:40])


def _outside_quotes(attributes: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'", '""', attributes)


def test_the_box_of_a_sample_decodes_to_the_text(stuffed: dict[str, Any]) -> None:
    from html import unescape

    client = factories.page_client(stuffed["admin"])
    api = factories.Api("", client)
    for slug in stuffed["slugs"]:
        for row in factories.walk_list(api, f"examples?policy={slug}"):
            page = client.get(f"/policies/{slug}/data/{row['id']}/?whole=1").content.decode()
            boxes = re.findall(r'<pre class="sample"[^>]*>(.*?)</pre>', page, flags=re.DOTALL)
            shown = [
                unescape(
                    re.sub(
                        r'<span class="code-point">U\+([0-9A-F]+)</span>',
                        lambda m: f"&#{int(m[1], 16)};" if int(m[1], 16) > 0xA0 else f"\0{m[1]};",
                        box.removeprefix("\n"),  # as a browser drops it
                    )
                )
                for box in boxes
            ]
            shown = [re.sub(r"\0([0-9A-F]+);", lambda m: chr(int(m[1], 16)), s) for s in shown]
            assert row["output"] in shown, row["id"]


def test_a_metadata_name_cannot_break_the_page_of_its_example(stuffed: dict[str, Any]) -> None:
    client = factories.page_client(stuffed["admin"])
    api = factories.Api("", client)
    slug = stuffed["slugs"][0]
    (row, *_) = api.get(f"examples?policy={slug}").json()["results"]
    assert row["metadata"]["items"] == 5
    assert client.get(f"/policies/{slug}/data/{row['id']}/").status_code == 200


# --- nothing that takes text is left out ----------------------------------------------------

KNOWN = {
    # by a door whose text comes back, by a field that chooses, or by a query
    "SpecificationIn": {"stages", "definition", "scope", "rationale", "rules"},
    "PolicyIn": {"slug", "name", "targets", "settings"},
    "PolicyPatch": {"name", "targets", "settings", "retired", "categories"},
    "RoleIn": {"member", "role"},
    "LabelIn": {
        "lease", "verdict", "rules", "severity", "rationale", "seconds", "next",
    },
    "SkipIn": {"reason"},
    "LabelQuery": {"policy"},
    "MemberIn": {"email", "role", "name"},
    "MemberPatch": {"role"},
    "TokenIn": {"member", "name", "scopes", "checks_per_second", "days"},
    "AuditQuery": {"action"},
    "ListQuery": {"cursor", "page_size"},
    "ImportQuery": {"policy", "source", "licence", "may_train", "mapping"},
    "ImportListQuery": {"policy"},
    "ExampleQuery": {"policy", "q", "label", "split", "source", "model", "language", "external_id"},
    "SignInForm": {"email", "password"},
    "PasswordForm": {"current", "new"},
    "MemberForm": {"email", "name", "role"},
    "TokenForm": {"name", "scopes", "checks_per_second", "days"},
    "SourceForm": {"source", "licence", "consent"},
    "NewPolicyForm": {"name", "slug"},
    "SettingsForm": {
        "name",
        "target_false_positive_rate", "target_recall", "target_cost_ratio", "retrain_after",
        "retrain_every_hours", "audit_fraction", "audit_share", "mode", "on_failure", "level",
        "rollout", "safe_completion", "second_approver",
    },
    "ContentIn": {"text", "messages", "tool_call", "passages"},
    "CheckIn": {"stage", "policies", "context"},
    "ContextIn": {"key"},
    "PassageIn": {"text", "source"},
    "BatchIn": {"items"},
    "ChunkIn": {"stream", "number", "chunk", "final", "stage", "policies", "context"},
    "FeedbackIn": {"verdict", "note", "policy", "turn"},
    "DecisionQuery": {
        "action", "stage", "policy", "since", "until", "degraded", "shadow", "canary",
    },
    "IncidentQuery": {"status"},
    "IncidentPatch": {"act", "why"},
    "CanaryIn": {"stage", "text", "expected"},
    "KillSwitchIn": {"on", "reason"},
    "CheckConfigIn": {"key", "kind", "rule", "advisory", "weight", "settings"},
    "GateIn": {"kind", "least", "threshold", "slope", "offset"},
    "GuardrailIn": {"checks", "gate"},
    "PublishIn": {"note"},
    "PromoteIn": {"threshold"},
    "TryIn": {"stage", "content"},
    "ExceptionIn": {"rule", "phrase", "text", "reason", "days"},
    "CaseIn": {"text", "expected", "why"},
    "CaseQuery": {"run"},
    "TaxonomyIn": {"slug", "name", "categories"},
    "MessageIn": {
        "role", "content", "refusal", "tool_calls", "function_call", "tool_call_id", "name",
    },
    "ToolCallIn": {"name", "arguments", "function", "id", "type", "index"},
    "FunctionIn": {"name", "arguments"},
}  # fmt: skip
SHAPES = (
    accounts_shapes, content_shapes, corpus_shapes, evidence_shapes, guardrails_shapes,
    labeling_shapes, policies_shapes, runtime_shapes,
)  # fmt: skip
FORMS = (accounts_forms, corpus_forms, policies_forms)


def _declared() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module in (*SHAPES, *FORMS):
        for name, kind in vars(module).items():
            if not isinstance(kind, type):
                continue
            written = issubclass(kind, serializers.Serializer) and name.endswith(
                ("In", "Patch", "Query")
            )
            if written:
                found[name] = set(kind._declared_fields)
            elif issubclass(kind, django_forms.BaseForm) and kind.__module__ == module.__name__:
                found[name] = set(kind.base_fields)
    return found


def test_every_serializer_and_form_that_takes_text_is_known_here() -> None:
    lists = ("Label", "Audit", "ImportList", "Example", "Incident", "Case", "Decision")
    inherited = dict.fromkeys([f"{name}Query" for name in lists], "ListQuery")
    inherited |= {"PolicyIn": "SpecificationIn", "CheckIn": "ContentIn", "FeedbackIn": "ContentIn"}
    inherited["TryIn"] = "ContentIn"
    known = {
        name: fields | KNOWN.get(inherited.get(name, ""), set()) for name, fields in KNOWN.items()
    }
    assert _declared() == known


def test_every_name_that_a_view_reads_is_known_here() -> None:
    read = set()
    for path in (ROOT / "apps").rglob("views.py"):
        read |= set(
            re.findall(r"request\.(?:GET|POST)\.get(?:list)?\(\"([\w-]+)\"", path.read_text())
        )
    tried = {f for _, _, group in FIELDS for f in group} | {
        f for _, fields in QUERIES for f in fields
    }
    assert read - tried <= {"rationale", "reason", "other", "item"}  # these come back: see DOORS
