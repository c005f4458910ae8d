"""Checking takes a token with the scope `check`; decisions are for admins."""

from __future__ import annotations

import threading
import time
from uuid import UUID

from django.db.models import QuerySet

from apps.accounts.actor import Actor
from apps.accounts.permissions import allowed, is_admin, permission
from apps.base.found import the_one
from apps.base.problems import NotFound
from apps.policies.models import Policy
from apps.policies.permissions import is_owner, load_policy, owns_some_role
from apps.runtime.models import Canary, Decision, Incident, Retention
from apps.runtime.partitions import seconds_of

_WRITTEN_WITHIN = 2.0
# of a web process's threads, which checks need as well
_WAITING = threading.BoundedSemaphore(2)

# not for annotators: an answer tells scores, which would colour their labels
permission("check.run", scope="check", rule=owns_some_role)
permission("decisions.view", scope="read", rule=is_admin)
# it may ask judges
permission("decisions.replay", scope="check", rule=is_admin)


def load_decision(actor: Actor, decision: UUID) -> Decision:
    """A decision of the actor's workspace; raises NotFound otherwise.

    One that was made a moment ago may be on its way to the database: whoever may report it waits.
    """
    rows = Decision.objects.visible_to(actor).filter(pk=decision)
    found = rows.first()
    if found is None and owns_some_role(actor, None) and _WAITING.acquire(blocking=False):
        try:
            found = _wait_for(rows, decision)
        finally:
            _WAITING.release()
    if found is None:
        raise NotFound
    return found


def _wait_for(rows: QuerySet[Decision], decision: UUID) -> Decision | None:
    made_at = seconds_of(decision)
    while (found := rows.first()) is None and 0 <= time.time() - made_at < _WRITTEN_WITHIN:
        time.sleep(0.05)
    return found


def sees_incident(actor: Actor, incident: Incident) -> bool:
    """Owners of its policy; a canary's has none and is for admins."""
    return is_admin(actor, None) if incident.policy is None else is_owner(actor, incident.policy)


def tries_changes(actor: Actor, policy: Policy) -> bool:
    """Whether they see what a change of a policy would do to kept texts.

    Numbers alone would spell the texts out, draft by draft: it is all of it or nothing.
    """
    if is_admin(actor, None):
        return True
    owners = Retention.objects.filter(workspace=actor.workspace, for_owners=True)
    return is_owner(actor, policy) and owners.exists()


permission("decisions.preview", scope="read", rule=tries_changes)
permission("decisions.feedback", scope="check", rule=owns_some_role)
permission("decisions.keep_texts", scope="admin", rule=is_admin)
permission("incidents.list", scope="read", rule=owns_some_role)
permission("incidents.view", scope="read", rule=sees_incident)
permission("incidents.edit", scope="policies:write", rule=sees_incident)
permission("canaries.view", scope="read", rule=is_admin)
permission("canaries.edit", scope="admin", rule=is_admin)
permission("kill_switch.view", scope="read", rule=owns_some_role)
permission("kill_switch.turn", scope="admin", rule=is_admin)
permission("traffic.view", scope="read", rule=is_admin)


def load_incident(actor: Actor, incident: UUID) -> Incident:
    """An incident of a policy the actor owns, or a canary's for an admin."""
    found = the_one(
        Incident.objects.visible_to(actor)
        .filter(pk=incident)
        .select_related("policy", "policy_example", "case", "workspace")
    )
    if found.policy is not None:
        found.policy = load_policy(actor, found.policy.slug)
    return found


def may_read(actor: Actor, decision: Decision) -> bool:
    """Whether what was judged and said is theirs: of who may view decisions, or asked for it."""
    return allowed(actor, "decisions.view", decision) or decision.caller == actor.label


def load_canary(actor: Actor, canary: UUID) -> Canary:
    """A canary of the actor's workspace."""
    return the_one(Canary.objects.filter(workspace=actor.workspace, pk=canary))
