"""Two workspaces with everything in them, and one caller for each kind of actor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from apps.accounts import people, tokens
from apps.accounts.actor import Actor, task_actor
from apps.accounts.models import ApiToken
from apps.corpus import importing
from apps.corpus.models import PolicyExample
from apps.evidence import cases
from apps.evidence.models import Evaluation
from apps.guardrails import configuring
from apps.guardrails.checks.interface import Subject
from apps.labeling import queue
from apps.policies import services
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.runtime import canaries, checking, incidents
from apps.runtime.models import Decision
from apps.training import runs
from tests import factories

ACTORS = (
    "anonymous",
    "annotator",
    "stranger",
    "owner",
    "other_owner",
    "admin",
    "foreign_admin",
    "deactivated",
    "token_read",
    "token_expired",
    "token_revoked",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OWNERS_WORDS = "only owners may read this rationale"


@dataclass
class Space:
    """One workspace: its people, its policies, and an object of each kind that has an address."""

    slug: str
    people: dict[str, Actor]
    policy: Policy
    waiting_policy: Policy
    objects: dict[str, Any] = field(default_factory=dict)

    def arguments(self, route: str) -> dict[str, Any]:
        """The arguments of a route's address, filled with this workspace's objects."""
        names = routes()[route]
        found = {name: self.objects[name] for name in names}
        if "import_id" in names:
            found["import_id"] = self.objects[_IMPORTS.get(route, "done_import")]
        if "run" in names:
            found["run"] = self.objects["run"]
        return found


# which import a route is tried on: one that waits for its mapping, for a worker, or is over
_IMPORTS = {"corpus:map": "draft_import", "corpus:cancel": "queued_import"} | {
    "api:import_cancel": "queued_import"
}


def routes() -> dict[str, list[str]]:
    """Every named route of the site with the names of its arguments."""
    return dict(_walk(get_resolver(), ""))


def _walk(resolver: URLResolver, space: str) -> Iterator[tuple[str, list[str]]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from _walk(pattern, inner)
        elif isinstance(pattern, URLPattern):
            assert pattern.name, f"the route {pattern.pattern} has no name"
            yield f"{space}{pattern.name}", list(pattern.pattern.converters)


def make_space(slug: str, *, policies: str = "") -> Space:
    """A workspace in the middle of its work: labels, a live model, jobs in every state.

    Args:
        policies: how the slugs of its policies begin; as its own unless told otherwise.
    """
    policies = policies or slug
    workspace = factories.make_workspace(slug)
    made = {
        "admin": factories.make_member(workspace, "admin", email=f"admin@{slug}.example"),
        "owner": factories.make_member(workspace, "owner", email=f"owner@{slug}.example"),
        "other_owner": factories.make_member(workspace, "owner"),
        "annotator": factories.make_member(workspace, "annotator"),
        "stranger": factories.make_member(workspace, "annotator"),
        "spare": factories.make_member(workspace, "annotator", email=f"spare@{slug}.example"),
        "deactivated": factories.make_member(workspace, "admin"),
    }
    owner, annotator = made["owner"], made["annotator"]
    policy = factories.make_policy(owner, f"{policies}-doses", audit_fraction=0.4, audit_share=0.4)
    waiting = factories.make_policy(owner, f"{policies}-waiting")
    factories.make_policy(made["other_owner"], "elsewhere")
    for one in (policy, waiting):
        factories.give_role(owner, one, annotator, "annotator")
    space = Space(slug, made, policy, waiting)
    done = factories.import_rows(owner, policy, [*factories.rows(120), {"output": ""}])
    factories.give_labels(owner, policy, 30, rationale=OWNERS_WORDS)
    factories.give_labels(annotator, policy, 30)
    run = factories.train(owner, policy)
    assert run.status == "succeeded", run.reason
    policy = load_policy(annotator, policy.slug)
    lease = queue.next_item(annotator, policy=policy)
    assert lease is not None
    draft = importing.upload(
        owner, policy=policy, file_name="rows.csv", chunks=[b"id,output\n1,a text\n"]
    )
    changed = {**factories.SPECIFICATION, "definition": "Whether an answer names any dose."}
    services.save_draft(owner, policy=policy, specification=changed, revision=None)
    token = tokens.issue_token(
        task_actor(workspace, "tests"),
        membership=made["spare"].membership,  # type: ignore[arg-type]
        name="of the spare",
        scopes=["read"],
    )[0]
    people.deactivate_member(made["admin"], membership=made["deactivated"].membership)  # type: ignore[arg-type]
    example = PolicyExample.objects.filter(policy=policy).order_by("id").first()
    assert example is not None
    decision = checking.check(made["admin"], stage="output", content={"text": "a text"}).decision
    Decision.objects.bulk_create([decision])
    space.objects = {
        "slug": policy.slug,
        "number": 1,
        "example": example.example_id,
        "done_import": done.pk,
        "queued_import": factories.upload(owner, policy, b'{"output": "later"}\n').pk,
        "draft_import": draft.pk,
        "import_id": None,
        "lease": lease.lease,
        "run": runs.request_run(owner, policy=waiting).pk,
        "evaluation": Evaluation.objects.get(policy=policy).pk,
        "member": made["spare"].membership_id,
        "token": token.pk,
        "decision": decision.pk,
        # it lets the case pass, whatever a model learnt from this draw of labels
        "exception": configuring.make_exception(
            owner, policy=policy, rule="", text="a text", reason="matrix", days=1
        ).pk,
        "case": cases.add_case(
            owner, policy=policy, text="a text", expected="complies", why="matrix"
        ).pk,
        "incident": incidents.open_incident(
            owner, policy=policy, subject=Subject("an incident"), expected="violates"
        ).pk,
        "canary": canaries.add_canary(
            made["admin"], stage="output", text="a canary", expected="allow"
        ).pk,
    }
    return space


def missing_arguments(route: str) -> dict[str, Any]:
    """Arguments that name nothing."""
    absent = {"slug": "no-such-policy", "number": 77}
    return {name: absent.get(name, uuid4()) for name in routes()[route]}


@dataclass
class Caller:
    """One actor with a browser or a key."""

    client: Client
    key: str = ""

    def send(self, route: str, method: str, arguments: dict[str, Any], space: Space) -> Any:
        """A request that would succeed for whoever may do it."""
        url = reverse(route, kwargs=arguments)
        options = request_of(route, method, space)
        headers = {**options.pop("headers", {})}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        query = options.pop("query", {})
        if query:
            options["query_params"] = query
        cookies = self.client.cookies.copy()
        try:
            return getattr(self.client, method.lower())(url, headers=headers, **options)
        finally:
            self.client.cookies = cookies  # signing out is undone, too


def callers(space: Space, other: Space) -> dict[str, Caller]:
    """Every actor of the matrix; all but the foreign admin belong to `space`."""
    admin = space.people["admin"]
    found = {"anonymous": Caller(Client(raise_request_exception=False))}
    for name in ("annotator", "stranger", "owner", "other_owner", "admin", "deactivated"):
        found[name] = Caller(factories.page_client(space.people[name]))
    found["foreign_admin"] = Caller(factories.page_client(other.people["admin"]))
    for name, scopes in (("token_read", ["read"]), ("token_expired", []), ("token_revoked", [])):
        key = factories.make_token(admin, *scopes)
        found[name] = Caller(Client(raise_request_exception=False), key)
        row = ApiToken.objects.filter(prefix=key.split("_")[1])
        past = timezone.now() - timedelta(seconds=1)
        if name == "token_expired":
            row.update(expires_at=past)
        elif name == "token_revoked":
            row.update(revoked_at=past)
    return found


def status_of(answer: Any) -> str:
    """The status of an answer; "sign-in" where a page sends a stranger to the sign-in page."""
    to_sign_in = answer.status_code == 302 and answer["Location"].startswith("/sign-in/?next=")
    return "sign-in" if to_sign_in else str(answer.status_code)


def request_of(route: str, method: str, space: Space) -> dict[str, Any]:
    """What is sent to a route: a body (and a query) that its service would accept."""
    query: dict[str, Any] = {"policy": space.policy.slug} if route in _FILTERED else {}
    if route == "labeling:whole_text":
        query = {"lease": space.objects["lease"]}
    if method not in ("POST", "PUT", "PATCH"):
        return {"query": query if method == "GET" else {}}
    made = _bodies(space).get((route, method))
    if made is None:
        return {"content_type": "application/json"} if route.startswith("api") else {}
    if route == "api:imports":
        return {
            "data": json.dumps(made),
            "content_type": "application/x-ndjson",
            "query": {"policy": space.policy.slug, "source": "matrix"},
        }
    if route.startswith("api:") or route == "moderations":
        headers = {"If-Match": "*"} if route in ("api:draft", "api:guardrail") else {}
        return {"data": json.dumps(made), "content_type": "application/json", "headers": headers}
    return {"data": made}


WORDS = {"key": "words", "kind": "keywords", "settings": {"words": ["dose"]}}
_FILTERED = ("api:examples", "api:labels")


def _bodies(space: Space) -> dict[tuple[str, str], Any]:
    member: UUID | None = space.people["spare"].membership_id
    lease = str(space.objects["lease"])
    return {
        ("api:policies", "POST"): {"slug": "another", "name": "Another"},
        ("api:policy", "PATCH"): {"settings": {"audit_share": 0.5}},
        ("api:draft", "PUT"): factories.SPECIFICATION,
        ("api:publish", "POST"): {},
        ("api:roles", "PUT"): {"member": str(member), "role": "annotator"},
        ("api:queue_next", "POST"): {},
        ("api:undo", "POST"): {},
        ("api:runs", "POST"): {},
        ("api:imports", "POST"): {"output": "a new text"},
        ("api:import_cancel", "POST"): {},
        ("api:labels", "POST"): {"lease": lease, "verdict": "complies"},
        ("api:skip", "POST"): {"reason": "cannot judge"},
        ("api:run_cancel", "POST"): {},
        ("api:check", "POST"): {"stage": "output", "text": "a text"},
        ("api:check_batch", "POST"): {"items": [{"stage": "output", "text": "a text"}]},
        ("api:check_stream", "POST"): {"stream": "matrix", "number": 1, "chunk": "A text."},
        ("moderations", "POST"): {"input": "a text"},
        ("api:replay", "POST"): {"text": "a text"},
        ("api:feedback", "POST"): {"verdict": "right"},
        ("api:incident", "PATCH"): {"act": "dismiss", "why": "matrix"},
        ("api:canaries", "POST"): {"stage": "output", "text": "a text", "expected": "allow"},
        ("api:kill_switch", "PUT"): {"on": False, "reason": "matrix"},
        ("api:kept_texts", "PUT"): {"share": 0.5, "days": 3},
        ("api:guardrail", "PUT"): {"checks": [WORDS]},
        ("api:guardrail_publish", "POST"): {},
        ("guardrails:restore", "POST"): {"version": "1"},
        ("evidence:publish_guardrail", "POST"): {"note": "matrix"},
        ("api:guardrail_calibrate", "POST"): {},
        ("api:model_effect", "POST"): {"threshold": 0.5},
        ("api:model_promote", "POST"): {"threshold": 0.5},
        ("evidence:promote", "POST"): {"threshold": "0.5"},
        ("api:guardrail_try", "POST"): {"text": "a text"},
        ("api:guardrail_effect", "POST"): {"checks": [WORDS]},
        ("api:exceptions", "POST"): {"phrase": "another", "reason": "matrix"},
        ("api:cases", "POST"): {"text": "a text", "expected": "complies", "why": "matrix"},
        ("api:taxonomies", "POST"): {"slug": "own", "name": "Own", "categories": [{"code": "a"}]},
        ("api:mappings", "PUT"): {"source": "llama_guard/S1", "targets": ["openai/violence"]},
        ("guardrails:checks", "POST"): {"checks-1-kind": "classifier", "checks-1-key": "one"},
        ("guardrails:exceptions", "POST"): {"phrase": "x", "reason": "matrix", "days": "1"},
        ("guardrails:end_exception", "POST"): {},
        ("evidence:add_case", "POST"): {"text": "a", "expected": "complies", "why": "matrix"},
        ("evidence:withdraw_case", "POST"): {},
        ("runtime:playground", "POST"): {"text": "a text", "stage": "output"},
        ("runtime:replay", "POST"): {"text": "a text"},
        ("runtime:feedback", "POST"): {"verdict": "right"},
        ("runtime:move_incident", "POST"): {"act": "dismiss", "why": "matrix"},
        ("runtime:kill_switch", "POST"): {"on": "false", "reason": "matrix"},
        ("runtime:keep_texts", "POST"): {"share": "50", "days": "3"},
        ("runtime:add_canary", "POST"): {"stage": "output", "text": "a", "expected": "allow"},
        ("runtime:remove_canary", "POST"): {},
        ("api:members", "POST"): {"email": f"new@{space.slug}.example", "role": "annotator"},
        ("api:member", "PATCH"): {"role": "owner"},
        ("api:tokens", "POST"): {"member": str(member), "name": "new", "scopes": ["read"]},
        ("accounts:sign_in", "POST"): {"email": "nobody@nowhere.example", "password": "wrong"},
        ("accounts:password", "POST"): {"current": "wrong", "new": "wrong"},
        ("accounts:preferences", "POST"): {"theme": "dark"},
        ("accounts:choose_workspace", "POST"): {"workspace": ""},
        ("accounts:people", "POST"): {"email": f"new@{space.slug}.example", "role": "annotator"},
        ("accounts:member", "POST"): {"role": "owner"},
        ("accounts:issue_token", "POST"): {"name": "new", "scopes": ["read"], "days": "30"},
        ("accounts:revoke_token", "POST"): {},
        ("policies:create", "POST"): {"name": "Another", "slug": "another"},
        ("policies:edit", "POST"): {"definition": "New.", "stages": ["output"], "revision": ""},
        ("policies:publish", "POST"): {},
        ("policies:settings", "POST"): {
            "name": "Renamed",
            "target_false_positive_rate": "5",
            "retrain_after": "30",
            "audit_fraction": "30",
            "audit_share": "30",
            "mode": "shadow",
            "rollout": "100",
            "on_failure": "closed",
            "safe_completion": "Sorry.",
            "level": "application",
        },
        ("policies:set_role", "POST"): {"member": str(member), "role": "annotator"},
        ("policies:set_categories", "POST"): {"categories": ["openai/hate"]},
        ("policies:add_taxonomy", "POST"): {"slug": "own", "name": "Own", "lines": "a = A"},
        ("policies:map_category", "POST"): {
            "source": "llama_guard/S1",
            "targets": ["openai/violence"],
        },
        ("policies:retire", "POST"): {"retired": "true"},
        ("corpus:upload", "POST"): {"file": SimpleUploadedFile("new.csv", b"output\na text\n")},
        ("corpus:map", "POST"): {"source": "matrix", "consent": "train", "map-output": "output"},
        ("corpus:cancel", "POST"): {},
        ("labeling:submit", "POST"): {"lease": lease, "verdict": "complies"},
        ("labeling:skip", "POST"): {"lease": lease, "reason": "cannot judge"},
        ("labeling:undo", "POST"): {},
        ("training:cancel", "POST"): {},
        ("training:start", "POST"): {},
    }
