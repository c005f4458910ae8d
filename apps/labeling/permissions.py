"""Labelling is for everybody with a role on the policy; the list of labels for its owners."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import is_member, permission
from apps.base.prepared import prepared
from apps.base.problems import NotFound
from apps.labeling.models import Lease
from apps.policies.models import role_on
from apps.policies.permissions import has_role, is_owner

permission("labels.submit", scope="label", rule=is_member)
permission("labels.give", scope="label", rule=has_role)
permission("leases.use", scope="label", rule=lambda actor, lease: has_role(actor, lease.policy))
permission("labels.view", scope="read", rule=is_owner)


def load_own_lease(actor: Actor, lease: UUID) -> Lease:
    """The actor's own lease, with the policy it is for; others' leases do not exist for them."""
    rows = Lease.objects.select_related("policy", "slot")
    rows = rows.annotate(own_role=role_on("policy", actor))
    try:
        with prepared():
            found = rows.get(pk=lease, membership=actor.membership_id)
    except Lease.DoesNotExist:
        raise NotFound from None
    if found.own_role is None:
        raise NotFound
    found.policy.own_role = found.own_role  # type: ignore[attr-defined]
    found.policy.workspace = actor.workspace
    return found
