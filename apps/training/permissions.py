"""Owners and admins see and start runs of their policies; the whole system is for admins."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import is_admin, permission
from apps.base.found import the_one
from apps.policies.permissions import is_owner, load_policy, owns_some_role
from apps.training.models import TrainingRun

permission("runs.list", scope="read", rule=owns_some_role)
permission("runs.start", scope="train", rule=is_owner)
permission("runs.view", scope="read", rule=lambda actor, run: is_owner(actor, run.policy))
permission("runs.cancel", scope="train", rule=lambda actor, run: is_owner(actor, run.policy))
permission("system.view", scope="admin", rule=is_admin)


def load_run(actor: Actor, run: UUID) -> TrainingRun:
    """A run of a policy the actor can see."""
    found = the_one(
        TrainingRun.objects.visible_to(actor)
        .select_related("policy", "model_version", "dataset", "requested_by__user")
        .filter(pk=run)
    )
    found.policy = load_policy(actor, found.policy.slug)
    return found
