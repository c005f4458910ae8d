"""Figures are for a policy's owners: an annotator must not see what the model thinks."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import permission
from apps.base.found import the_one
from apps.evidence.models import Evaluation, MustPassCase
from apps.policies.permissions import is_owner, load_policy

permission("evidence.view", scope="read", rule=is_owner)
permission("evaluation.view", scope="read", rule=lambda actor, found: is_owner(actor, found.policy))


def load_evaluation(actor: Actor, evaluation: UUID) -> Evaluation:
    """An evaluation of a policy the actor can see."""
    found = the_one(
        Evaluation.objects.filter(pk=evaluation, policy__workspace=actor.workspace).select_related(
            "policy", "model_version", "policy_version"
        )
    )
    found.policy = load_policy(actor, found.policy.slug)
    return found


permission("cases.view", scope="read", rule=is_owner)
permission("cases.add", scope="policies:write", rule=is_owner)
permission(
    "cases.withdraw", scope="policies:write", rule=lambda actor, case: is_owner(actor, case.policy)
)


def load_case(actor: Actor, slug: str, case: UUID) -> MustPassCase:
    """A case of a policy the actor can see."""
    policy = load_policy(actor, slug)
    found = the_one(MustPassCase.objects.filter(policy=policy, pk=case))
    found.policy = policy
    return found
