"""Who may do what with a policy; the apps to the right ask the same two predicates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.accounts.actor import Actor
from apps.accounts.models import Role
from apps.accounts.permissions import is_admin as is_workspace_admin
from apps.accounts.permissions import permission
from apps.base.prepared import columns, first_row, from_row
from apps.base.problems import NotFound
from apps.policies.models import OWN_ROLE, Policy, PolicyVersion, own_role_values


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
# an allowed rule of a higher level lifts the blocks of policies that its owner may not even see
permission("policies.set_authority", scope="policies:write", rule=is_workspace_admin)


POLICY = f"{columns(Policy)}, {OWN_ROLE}"
"""What to select, with `own_role_values`, of a policies_policy for `seen_policy`."""

_LOAD = f"""
SELECT {POLICY}, {columns(PolicyVersion)}
FROM policies_policy
LEFT JOIN policies_policyversion ON policies_policyversion.id = policies_policy.current_version_id
WHERE policies_policy.workspace_id = %s AND policies_policy.slug = %s
"""


def load_policy(actor: Actor, slug: str) -> Policy:
    """The policy of this slug, if the actor can see it; raises NotFound otherwise."""
    values = first_row(_LOAD, [*own_role_values(actor), actor.workspace.pk, slug])
    if values is None:
        raise NotFound
    policy = seen_policy(actor, values)
    if policy.current_version_id is not None:
        policy.current_version = from_row(PolicyVersion, values)
    return policy


def seen_policy(actor: Actor, values: Iterator[Any]) -> Policy:
    """The policy in a row's next values, if the actor has a role on it; else NotFound."""
    policy = from_row(Policy, values)
    policy.own_role = next(values)
    if policy.own_role is None:
        raise NotFound
    policy.workspace = actor.workspace
    return policy
