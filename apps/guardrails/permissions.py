"""Scores and models are for a policy's owners: annotators never see either."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import permission
from apps.base.found import the_one
from apps.guardrails.models import ModelVersion, RuleException
from apps.policies.permissions import is_owner, load_policy

permission("models.view", scope="read", rule=is_owner)

permission(
    "models.promote",
    scope="policies:write",
    rule=lambda actor, version: is_owner(actor, version.policy),
)
permission("model.view", scope="read", rule=lambda actor, version: is_owner(actor, version.policy))

permission("guardrails.view", scope="read", rule=is_owner)
permission("guardrails.edit", scope="policies:write", rule=is_owner)
permission(
    "exceptions.end",
    scope="policies:write",
    rule=lambda actor, exception: is_owner(actor, exception.policy),
)


def load_model(actor: Actor, slug: str, number: int) -> ModelVersion:
    """A model version of a policy the actor can see; its policy carries the actor's role."""
    policy = load_policy(actor, slug)
    found = the_one(
        ModelVersion.objects.filter(policy=policy, number=number).select_related(
            "dataset", "policy_version"
        )
    )
    found.policy = policy
    return found


def load_exception(actor: Actor, slug: str, exception: UUID) -> RuleException:
    """An exception of a policy the actor can see; its policy carries the actor's role."""
    policy = load_policy(actor, slug)
    found = the_one(policy.exceptions.filter(pk=exception))
    found.policy = policy
    return found
