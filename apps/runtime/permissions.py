"""Checking takes a token with the scope `check`; decisions are for admins."""

from __future__ import annotations

from uuid import UUID

from apps.accounts.actor import Actor
from apps.accounts.permissions import is_admin, permission
from apps.base.problems import NotFound
from apps.policies.permissions import owns_some_role
from apps.runtime.models import Decision

# not for annotators: an answer tells scores, which would colour their labels
permission("check.run", scope="check", rule=owns_some_role)
permission("decisions.view", scope="read", rule=is_admin)


def load_decision(actor: Actor, decision: UUID) -> Decision:
    """A decision of the actor's workspace; raises NotFound otherwise."""
    try:
        return Decision.objects.visible_to(actor).get(pk=decision)
    except Decision.DoesNotExist:
        raise NotFound from None
