"""The kill switch: one act, and nothing in the workspace acts any more."""

from __future__ import annotations

from django.db import transaction

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.accounts.models import Workspace
from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.runtime.models import KillSwitch


def kill_switch_of(workspace: Workspace) -> KillSwitch:
    """Its state; off where nobody ever touched it."""
    found = KillSwitch.objects.filter(workspace=workspace).first()
    return found or KillSwitch(workspace=workspace, on=False)


@transaction.atomic
def turn_kill_switch(actor: Actor, *, on: bool, reason: str) -> KillSwitch:
    """Put every enforced policy in shadow, or let them act again; served within a second."""
    if not reason.strip() or len(reason) > 500:
        raise Problem(
            "The switch was not turned.",
            errors=[FieldError("/reason", "Say why, in at most 500 characters.")],
        )
    check_text(reason)
    switch, _ = KillSwitch.objects.update_or_create(
        workspace=actor.workspace,
        defaults={"on": on, "reason": reason, "changed_by": actor.label},
    )
    record(actor, "kill_switch.on" if on else "kill_switch.off", actor.workspace, reason=reason)
    return switch
