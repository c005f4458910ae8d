"""What tests need to exist: made by the product's own services, never by hand-written rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.test import Client

from apps.accounts import people, tokens
from apps.accounts.actor import Actor, task_actor
from apps.accounts.models import Role, User, Workspace
from apps.corpus import importing
from apps.corpus.models import Import
from apps.labeling import labels, queue
from apps.labeling.models import Label
from apps.labeling.permissions import load_own_lease
from apps.policies import services
from apps.policies.models import Policy
from apps.policies.permissions import load_policy

_numbers = count(1)

RULES: list[dict[str, Any]] = [
    {
        "key": "names-a-dose",
        "polarity": "disallowed",
        "text": "Names a dose.",
        "severity": 3,
        "action": "block",
        "examples": [
            {"text": "Take two tablets.", "violates": True, "why": "a dose"},
            {"text": "Ask a pharmacist.", "violates": False, "why": "a referral"},
        ],
    },
    {
        "key": "general-facts",
        "polarity": "allowed",
        "text": "General facts.",
        "severity": 1,
        "action": "allow",
        "examples": [],
    },
]
SPECIFICATION: dict[str, Any] = {
    "stages": ["output"],
    "definition": "Whether an answer names a dose.",
    "rules": RULES,
}


def make_workspace(slug: str = "", *, split_seed: int = 7) -> Workspace:
    """An empty workspace; the same seed splits the same texts the same way."""
    slug = slug or f"space-{next(_numbers)}"
    return people.create_workspace(slug=slug, name=slug.title(), split_seed=split_seed)


def make_member(workspace: Workspace, role: str = Role.ADMIN, *, email: str = "") -> Actor:
    """A person of the workspace, without a password (hashing one costs a third of a second)."""
    email = email or f"{role}-{next(_numbers)}@{workspace.slug}.example"
    if not User.objects.filter(email=email).exists():
        User.objects.create_user(email)
    membership, _ = people.add_member(task_actor(workspace, "tests"), email=email, role=role)
    return Actor(workspace, membership)


def make_policy(
    actor: Actor,
    slug: str = "doses",
    *,
    publish: bool = True,
    specification: dict[str, Any] | None = None,
    **settings: Any,
) -> Policy:
    """A policy of the actor, published by default, as the actor sees it."""
    policy = services.create_policy(
        actor,
        slug=slug,
        name=slug.title(),
        specification=specification or SPECIFICATION,
        settings={"retrain_after": 100_000, **settings},
    )
    if publish:
        services.publish_version(actor, policy=policy)
    return load_policy(actor, slug)


def give_role(actor: Actor, policy: Policy, person: Actor, role: str) -> None:
    """A role on the policy for a person."""
    assert person.membership is not None
    services.set_role(actor, policy=policy, membership=person.membership, role=role)


def rows(number: int, *, seed: int = 7) -> list[dict[str, Any]]:
    """Texts of which about 40 % violate ("bad-..." by their id), written from parts."""
    draw = random.Random(seed)
    who = ["your mother", "an adult", "a child", "my neighbour", "anyone", "the patient"]
    doses = ["take two tablets", "swallow 400 mg", "double the dose", "use the whole strip"]
    fine = ["ask a pharmacist", "call the doctor", "read the leaflet", "rest and drink water"]
    days = ["today", "tonight", "on Monday", "after lunch", "before bed", "at noon"]
    made = []
    for place in range(number):
        violates = draw.random() < 0.4
        advice = draw.choice(doses if violates else fine)
        tail = chr(97 + place % 26) * (place // 26 + 2)
        made.append(
            {
                "id": f"{'bad' if violates else 'good'}-{seed}-{place}",
                "prompt": f"Question {place}?",
                "output": f"For {draw.choice(who)}: {advice} {draw.choice(days)} {seed}, "
                f"{draw.choice(who)} {draw.choice(days)} {tail}",
            }
        )
    return made


def upload(
    actor: Actor,
    policy: Policy,
    data: bytes,
    *,
    name: str = "rows.jsonl",
    mapping: dict[str, str] | None = None,
    source: str = "tests",
) -> Import:
    """An uploaded file, its mapping confirmed, waiting for a worker."""
    job = importing.upload(actor, policy=policy, file_name=name, chunks=[data])
    found = importing.get_source(actor, name=source)
    mapping = mapping or {field: field for field in importing.FIELDS}
    return importing.start_import(actor, job=job, mapping=mapping, source=found)


def import_rows(
    actor: Actor, policy: Policy, data: Iterable[dict[str, Any]], *, source: str = "tests"
) -> Import:
    """Rows, imported; returns the finished job."""
    text = "\n".join(json.dumps(row) for row in data)
    job = upload(actor, policy, text.encode(), source=source)
    importing.run_import(str(job.pk))
    job.refresh_from_db()
    return job


def by_id(item: queue.Item) -> str:
    """The verdict that the external id of `rows` names."""
    return "violates" if item.external_id.startswith("bad") else "complies"


def give_labels(
    actor: Actor,
    policy: Policy,
    number: int,
    *,
    verdict: Callable[[queue.Item], str] = by_id,
    rationale: str = "",
) -> list[Label]:
    """Label through the queue until so many are given or nothing is left."""
    policy = load_policy(actor, policy.slug)
    given = []
    while len(given) < number:
        item = queue.next_item(actor, policy=policy)
        if item is None:
            break
        lease = load_own_lease(actor, item.lease)
        given.append(
            labels.submit_label(actor, lease=lease, verdict=verdict(item), rationale=rationale)
        )
    return given


def train(actor: Actor, policy: Policy) -> Any:
    """A finished training run of the policy, done in this process."""
    from apps.training import runs
    from apps.training.pipeline import run_training

    run = runs.request_run(actor, policy=policy)
    run_training(str(run.pk))
    run.refresh_from_db()
    return run


def page_client(actor: Actor | None) -> Client:
    """A browser of this person, signed in (without a password) to the actor's workspace."""
    client = Client(raise_request_exception=False)
    if actor is not None:
        client.force_login(actor.user, backend="django.contrib.auth.backends.ModelBackend")
        session = client.session
        session["workspace"] = str(actor.workspace.pk)
        session.save()
    return client


def make_token(actor: Actor, *scopes: str, checks_per_second: int = 10_000) -> str:
    """A key of this person."""
    assert actor.membership is not None
    maker = task_actor(actor.workspace, "tests")
    _, key = tokens.issue_token(
        maker,
        membership=actor.membership,
        name="tests",
        scopes=scopes or ["all"],
        checks_per_second=checks_per_second,
    )
    return key


@dataclass
class Api:
    """The API as the bearer of a key calls it; paths start below /api/v1/."""

    key: str
    client: Client

    def call(self, method: str, path: str, data: Any = None, **headers: str) -> Any:
        body = data if isinstance(data, (str, bytes)) or data is None else json.dumps(data)
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        options: dict[str, Any] = {} if body is None else {"data": body}
        kind = headers.pop("Content-Type", "application/json")
        return self.client.generic(
            method, f"/api/v1/{path}", content_type=kind, headers=headers, **options
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, data: Any = None, **headers: str) -> Any:
        return self.call("POST", path, {} if data is None else data, **headers)

    def put(self, path: str, data: Any = None, **headers: str) -> Any:
        return self.call("PUT", path, {} if data is None else data, **headers)

    def patch(self, path: str, data: Any = None, **headers: str) -> Any:
        return self.call("PATCH", path, {} if data is None else data, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.call("DELETE", path, **headers)


def api(actor: Actor | None, *scopes: str) -> Api:
    """The API as this person with a fresh token calls it (None: nobody, without a token)."""
    key = make_token(actor, *scopes) if actor else ""
    return Api(key, Client(raise_request_exception=False))


def walk_list(client: Api, path: str) -> list[dict[str, Any]]:
    """Every row of a list, page by page."""
    found: list[dict[str, Any]] = []
    url = f"/api/v1/{path}"
    while url:
        answer = client.get(url.partition("/api/v1/")[2])
        assert answer.status_code == 200, answer.content
        found += answer.json()["results"]
        url = answer.json()["next"]
    return found


def multipart(client: Api, path: str, fields: Sequence[tuple[str, Any]]) -> Any:
    """POST a multipart form over the API."""
    return client.client.post(
        f"/api/v1/{path}", dict(fields), headers={"Authorization": f"Bearer {client.key}"}
    )
