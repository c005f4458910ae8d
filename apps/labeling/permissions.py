"""Labelling is for everybody with a role on the policy; the list of labels for its owners."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import is_member, permission
from apps.base.prepared import columns, first_row, from_row
from apps.base.problems import NotFound
from apps.labeling.models import Lease, Slot
from apps.policies.models import own_role_values
from apps.policies.permissions import POLICY, has_role, is_owner, seen_policy

permission("labels.submit", scope="label", rule=is_member)
permission("labels.give", scope="label", rule=has_role)
permission("leases.use", scope="label", rule=lambda actor, lease: has_role(actor, lease.policy))
permission("labels.view", scope="read", rule=is_owner)


_LOAD = f"""
SELECT {columns(Lease, table="lease")}, {columns(Slot, table="slot")}, {POLICY}
FROM labeling_lease lease
JOIN labeling_slot slot ON slot.id = lease.slot_id
JOIN policies_policy ON policies_policy.id = lease.policy_id
WHERE lease.id = %s AND lease.membership_id = %s
"""


def load_own_lease(actor: Actor, lease: UUID) -> Lease:
    """The actor's own lease, with the policy it is for; others' leases do not exist for them."""
    values = first_row(_LOAD, [*own_role_values(actor), lease, actor.membership_id])
    if values is None:
        raise NotFound
    found = from_row(Lease, values)
    found.slot = from_row(Slot, values)
    found.policy = seen_policy(actor, values)
    return found
