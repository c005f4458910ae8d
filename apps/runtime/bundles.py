"""What a workspace serves: built from the database, verified, warmed, swapped as a whole.

Each web process keeps its own copy and looks once a second whether it is still true; a copy that
cannot be renewed goes on serving, and its answers say so.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import OuterRef, Subquery

from apps.accounts.models import Workspace
from apps.base.problems import Problem
from apps.guardrails import artifacts
from apps.guardrails.learning import artifact, features
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy
from apps.policies.specification import ACTIONS
from apps.runtime.judging import Bundle, Guard

LOOK_EVERY = 1.0
"""Seconds for which a copy is trusted without asking: a promotion is served this much later."""

_WARM_UP = "A text to warm up with."
# what, when it changes, makes another bundle
_SERVED = ("pk", "current_version", "level", "mode", "on_failure", "live_model")


@dataclass(frozen=True)
class Served:
    """A bundle, and why it is not the newest ("" when it is)."""

    bundle: Bundle
    stale: str = ""


@dataclass
class _Kept:
    state: list[tuple[Any, ...]]
    bundle: Bundle
    looked: float
    stale: str = ""


_kept: dict[UUID, _Kept] = {}
_building = threading.Lock()


def served(workspace: Workspace) -> Served:
    """The bundle that judges now.

    Raises:
        Problem: 503 when there is none yet and the database does not answer.
    """
    kept = _kept.get(workspace.pk)
    old = kept is None or time.monotonic() - kept.looked > LOOK_EVERY
    # one thread renews; the others go on with what there is
    if old and _building.acquire(blocking=kept is None):
        try:
            kept = _renew(workspace)
        finally:
            _building.release()
    assert kept is not None
    return Served(kept.bundle, kept.stale)


def forget() -> None:
    """Let the next call build anew."""
    _kept.clear()


def build(workspace: Workspace) -> Bundle:
    """The bundle of the workspace's active policies as they are now."""
    policies = (
        Policy.objects.filter(
            workspace=workspace, status=Policy.Status.ACTIVE, current_version__isnull=False
        )
        .select_related("current_version")
        .prefetch_related("current_version__rules")
        .order_by("slug")
    )
    live = ModelVersion.objects.filter(policy__in=policies, status=ModelVersion.Status.LIVE)
    models = {version.policy_id: version for version in live}
    guards = tuple(_guard(policy, models.get(policy.pk)) for policy in policies)
    return Bundle(_id(guards), guards)


def _renew(workspace: Workspace) -> _Kept:
    kept = _kept.get(workspace.pk)
    try:
        state = _state(workspace)
        if kept is None or kept.state != state or kept.stale:
            bundle = build(workspace)
            if kept is not None and _lost(kept.bundle, bundle):
                kept.looked, kept.stale = time.monotonic(), "model_refused"
                return kept
            kept = _Kept(state, bundle, 0.0)
    except DatabaseError:
        if kept is None:
            raise Problem(
                "The policies cannot be read: the database does not answer.",
                code="database",
                status=503,
                extra={"action": "block", "degraded": True},
            ) from None
        kept.stale = "database"
    else:
        kept.stale = ""
    kept.looked = time.monotonic()
    _kept[workspace.pk] = kept
    return kept


def _state(workspace: Workspace) -> list[tuple[Any, ...]]:
    live = ModelVersion.objects.filter(policy=OuterRef("pk"), status=ModelVersion.Status.LIVE)
    rows = Policy.objects.filter(workspace=workspace, status=Policy.Status.ACTIVE)
    rows = rows.annotate(live_model=Subquery(live.values("pk")[:1])).order_by("pk")
    return list(rows.values_list(*_SERVED))


def _lost(before: Bundle, now: Bundle) -> list[str]:
    """Policies that could judge before and whose new model cannot be served."""
    could = {guard.policy for guard in before.guards if guard.model is not None}
    return [g.policy for g in now.guards if g.problem == "model_refused" and g.policy in could]


def _guard(policy: Policy, version: ModelVersion | None) -> Guard:
    assert policy.current_version is not None
    rules = policy.current_version.rules.all()
    asked = [rule.action for rule in rules if rule.polarity == "disallowed"]
    served: dict[str, Any] = {
        "policy": policy.slug,
        "policy_version": policy.current_version.number,
        "level": policy.level,
        "stages": tuple(policy.current_version.stages),
        "mode": policy.mode,
        "on_failure": policy.on_failure,
        "action": max(asked, key=ACTIONS.index),
    }
    if version is None:
        return Guard(**served, problem="no_model")
    served |= {"model_version": version.number, "model_sha256": version.sha256}
    try:
        model = artifacts.load(version)
        artifact.score(model, features.extract([_WARM_UP]))
    except artifact.ArtifactRefused:
        return Guard(**served, problem="model_refused")
    return Guard(**served, model=model)


def _id(guards: tuple[Guard, ...]) -> str:
    named = [field.name for field in fields(Guard) if field.name != "model"]
    said = [{name: getattr(guard, name) for name in named} for guard in guards]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
