"""Who may do what with a policy; the apps to the right ask the same two predicates."""

from __future__ import annotations

from typing import Any

from apps.accounts.actor import Actor
from apps.accounts.models import Role
from apps.accounts.permissions import is_admin as is_workspace_admin
from apps.accounts.permissions import permission
from apps.base.prepared import prepared
from apps.base.problems import NotFound
from apps.policies.models import Policy


def has_role(actor: Actor, policy: Policy) -> bool:
    return policy.own_role in (Role.ANNOTATOR, Role.OWNER, Role.ADMIN)


def is_owner(actor: Actor, policy: Policy) -> bool:
    return policy.own_role in (Role.OWNER, Role.ADMIN)


def owns_some_role(actor: Actor, target: Any) -> bool:
    return actor.membership is not None and actor.membership.role in (Role.OWNER, Role.ADMIN)


permission("policies.list", scope="read", rule=lambda actor, _: actor.membership is not None)
permission("policies.create", scope="policies:write", rule=owns_some_role)
permission("policies.view", scope="read", rule=has_role)
permission(
    "versions.view", scope="read", rule=lambda actor, version: has_role(actor, version.policy)
)
permission("taxonomies.edit", scope="policies:write", rule=is_workspace_admin)
permission("policies.edit", scope="policies:write", rule=is_owner)


def load_policy(actor: Actor, slug: str) -> Policy:
    """The policy of this slug, if the actor can see it; raises NotFound otherwise."""
    rows = Policy.objects.visible_to(actor).with_role_of(actor).select_related("current_version")
    try:
        with prepared():
            policy = rows.get(slug=slug)
    except Policy.DoesNotExist:
        raise NotFound from None
    policy.workspace = actor.workspace
    return policy
