"""A workspace whose guardrail is made of words, so that every verdict is plain to see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from apps.accounts.actor import Actor
from apps.accounts.models import Workspace
from apps.guardrails import configuring
from apps.policies import services as policies
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.runtime import bundles
from apps.runtime.models import Decision
from apps.runtime.recording import keep, recorder
from tests import factories

WORDS = {
    "key": "doses",
    "kind": "keywords",
    "rule": "names-a-dose",
    "settings": {"words": ["two tablets", "400 mg"]},
}


@dataclass
class Space:
    """An admin, an enforced policy, and a key that may do everything."""

    admin: Actor
    policy: Policy

    @cached_property
    def api(self) -> Any:
        return factories.api(self.admin)

    def guard(self, *checks: dict[str, Any], gate: dict[str, Any] | None = None) -> Any:
        """Publish a guardrail of these checks."""
        content = {"checks": list(checks), **({"gate": gate} if gate else {})}
        configuring.save_guardrail_draft(
            self.admin, policy=self.policy, content=content, revision=None
        )
        version = configuring.publish_guardrail(self.admin, policy=self.policy)
        bundles.forget()
        return version

    def publish(self, **specification: Any) -> None:
        """Publish a version with these fields in place of what the policy says."""
        now = self.policy.current_version.specification.as_dict()
        policies.save_draft(
            self.admin, policy=self.policy, specification={**now, **specification}, revision=None
        )
        policies.publish_version(self.admin, policy=self.policy)
        self.policy = load_policy(self.admin, self.policy.slug)
        bundles.forget()

    def set(self, **settings: Any) -> None:
        policies.change_settings(self.admin, policy=self.policy, targets={}, settings=settings)
        bundles.forget()

    def check(self, text: str = "", **body: Any) -> Any:
        content = {"text": text} if text else {}
        return self.api.post("check", {"stage": "output", **content, **body})


@pytest.fixture
def space(db: None) -> Space:
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin)
    made = Space(admin, load_policy(admin, policy.slug))
    made.guard(WORDS)
    made.set(mode="enforce")
    return made


def written() -> list[Decision]:
    """Write what waits to be written, as the recorder's thread would; all there are, newest first.

    What other tests left waiting is thrown away with them.
    """
    batch = []
    while not recorder._waiting.empty():
        batch.append(recorder._waiting.get_nowait())
        recorder._waiting.task_done()
    here = set(Workspace.objects.values_list("pk", flat=True))
    batch = [row for row in batch if row[0].workspace_id in here]
    if batch:
        keep(batch)
    return list(Decision.objects.order_by("-id"))
