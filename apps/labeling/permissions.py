"""Labelling is for everybody with a role on the policy; the list of labels for its owners."""

from __future__ import annotations

from uuid import UUID

from django.db.models import F

from apps.accounts.actor import Actor
from apps.accounts.permissions import is_member, permission
from apps.base.problems import NotFound
from apps.labeling.models import Lease
from apps.policies.permissions import has_role, is_owner, load_policy

permission("labels.submit", scope="label", rule=is_member)
permission("labels.give", scope="label", rule=has_role)
permission("leases.use", scope="label", rule=lambda actor, lease: has_role(actor, lease.policy))
permission("labels.view", scope="read", rule=is_owner)


def load_own_lease(actor: Actor, lease: UUID) -> Lease:
    """The actor's own lease, with the policy it is for; others' leases do not exist for them."""
    own = Lease.objects.filter(pk=lease, membership=actor.membership_id)
    found = own.annotate(slug=F("policy__slug")).first()
    if found is None:
        raise NotFound
    found.policy = load_policy(actor, found.slug)
    return found
