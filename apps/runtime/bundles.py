"""What a workspace serves: built from the database, verified, warmed, swapped as a whole.

Each web process keeps its own copy and looks once a second whether it is still true; a copy that
cannot be renewed goes on serving, and its answers say so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection

from apps.accounts.models import Workspace
from apps.accounts.tokens import ASKED_AGAIN, forget_known
from apps.base.prepared import first_row
from apps.base.problems import Problem
from apps.guardrails.assembling import (
    Parts,
    guardrail_of,
    panel_of,
    parts_of,
    rules_by_key,
    strictest_action,
)
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import CLASSIFIER
from apps.guardrails.guarding import look, score_all
from apps.guardrails.learning.panel import Panel
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy
from apps.policies.taxonomies import mappings_of
from apps.runtime.judging import Bundle, Guard
from apps.runtime.models import KillSwitch, Retention, ServedBundle

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds for which a copy is trusted without asking: a promotion is served this much later."""
TRIED_AGAIN = 5.0
"""Seconds after which what could not be served is tried again, where nothing was changed."""


@dataclass(frozen=True)
class Served:
    """A bundle, and why it is not the newest ("" when it is)."""

    bundle: Bundle
    stale: str = ""


@dataclass
class _Kept:
    """What a process serves of a workspace.

    Args:
        looked, built: when the database was asked for changes, and when it was last built.
        refused: whether something of the newest could not be served, so that older stands in.
        away: whether the database did not answer.
    """

    sequence: int
    state: list[tuple[Any, ...]]
    bundle: Bundle
    looked: float
    built: float
    refused: bool = False
    away: bool = False

    @property
    def stale(self) -> str:
        if self.away:
            return "database"
        return "refused" if self.refused else ""

    @property
    def to_mend(self) -> bool:
        lacking = self.refused or _refused(self.bundle)
        return bool(lacking) and time.monotonic() - self.built > TRIED_AGAIN


_kept: dict[UUID, _Kept] = {}
_building: dict[UUID, threading.Lock] = defaultdict(threading.Lock)


def served(workspace: Workspace) -> Served:
    """The bundle that judges now.

    Raises:
        Problem: 503 when there is none yet and the database does not answer.
    """
    kept = _kept.get(workspace.pk)
    every = LOOK_EVERY if kept is None or kept.stale != "database" else ASKED_AGAIN
    old = kept is None or time.monotonic() - kept.looked > every
    # one thread renews; the others go on with what there is
    building = _building[workspace.pk]
    if old and building.acquire(blocking=kept is None):
        try:
            kept = _renew(workspace)
        finally:
            building.release()
    assert kept is not None
    return Served(kept.bundle, kept.stale)


def forget() -> None:
    """Let the next call build anew."""
    _kept.clear()


def build(workspace: Workspace) -> Bundle:
    """The bundle of the workspace's active policies as they are now, on record and warm."""
    bundle, manifest = assemble(workspace)
    _put_on_record(workspace, manifest)
    _warm(bundle.guards, bundle.panel)
    return bundle


def _put_on_record(workspace: Workspace, manifest: dict[str, Any]) -> str:
    """Keep what a bundle consists of; returns its id."""
    row = ServedBundle(id=_id(manifest), workspace=workspace, manifest=manifest)
    ServedBundle.objects.bulk_create([row], ignore_conflicts=True)
    return str(row.id)


def assemble(workspace: Workspace) -> tuple[Bundle, dict[str, Any]]:
    """The same without a trace, for those who try something; and its manifest."""
    policies = list(
        Policy.objects.filter(
            workspace=workspace, status=Policy.Status.ACTIVE, current_version__isnull=False
        )
        .select_related("current_version")
        .prefetch_related("current_version__rules")
        .order_by("slug")
    )
    for policy in policies:
        policy.workspace = workspace
    parts = parts_of(policies)
    panel, problems = panel_of(policies, parts.models)
    guards = tuple(_guard(policy, parts, problems.get(policy.slug, "")) for policy in policies)
    stopped = KillSwitch.objects.filter(workspace=workspace, on=True).exists()
    manifest = _manifest(workspace.pk, guards, parts.models.values(), stopped)
    kept = Retention.objects.filter(workspace=workspace).first()
    bundle = Bundle(
        id=_id(manifest),
        guards=guards,
        panel=panel,
        stopped=stopped,
        mappings=mappings_of(workspace),
        kept_share=kept.share if kept else 0.0,
        kept_days=kept.days if kept else 0,
        workspace=workspace.pk,
    )
    return bundle, manifest


def _warm(guards: Sequence[Guard], panel: Panel | None) -> None:
    """Let every check that runs here look once, so that no caller pays for its first time."""
    subjects = score_all(panel, [Subject("A text to warm up with: é, 1 2 3, a@b.example.")])
    for guard in guards:
        for check in guard.guardrail.checks:
            if not check.remote:
                look(guard.guardrail, check, subjects, panel)


def _guard(policy: Policy, parts: Parts, problem: str) -> Guard:
    version = policy.current_version
    assert version is not None
    rules = rules_by_key(version)
    model, guardrail = parts.models.get(policy.pk), parts.guardrails.get(policy.pk)
    return Guard(
        policy=policy.slug,
        policy_version=version.number,
        level=policy.level,
        stages=tuple(version.stages),
        mode=policy.mode,
        on_failure=policy.on_failure,
        action=strictest_action(rules),
        guardrail=guardrail_of(
            policy,
            rules=rules,
            model=model,
            version=guardrail,
            exceptions=parts.exceptions.get(policy.pk, ()),
            problem=problem,
        ),
        rollout=policy.rollout,
        safe_completion=policy.safe_completion,
        categories=tuple(policy.categories),
        guardrail_version=guardrail.number if guardrail else 0,
        model_version=model.number if model else None,
    )


def _manifest(
    workspace: UUID, guards: Sequence[Guard], models: Iterable[ModelVersion], stopped: bool
) -> dict[str, Any]:
    """All that makes this bundle this bundle, as data."""
    sums = {str(model.policy_id): model.sha256 for model in models}
    # the version of the guardrail stands for its checks' settings and its gate
    named = [field.name for field in fields(Guard) if field.name != "guardrail"]
    return {
        "workspace": str(workspace),
        "stopped": stopped,
        "models": sums,
        "guards": [
            {
                **{name: getattr(guard, name) for name in named},
                "exemptions": [one.id for one in guard.guardrail.exemptions],
                "checks": [
                    {"key": check.key, "threshold": check.threshold, "problem": check.problem}
                    for check in guard.guardrail.checks
                ],
            }
            for guard in guards
        ],
    }


def _id(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _renew(workspace: Workspace) -> _Kept:
    kept = _kept.get(workspace.pk)
    sequence = kept.sequence if kept is not None else 0
    try:
        # whatever changes is in the audit trail: one number says that nothing did
        sequence = _sequence(workspace)
        if kept is None or kept.to_mend or sequence != kept.sequence:
            forget_known(workspace.pk)
            state = _state(workspace)
            if kept is None or kept.to_mend or state != kept.state:
                bundle = build(workspace)
                carried = _carry_over(kept.bundle, bundle) if kept is not None else bundle
                refused = carried is not bundle
                if refused:
                    carried = _named_anew(workspace, carried)
                now = time.monotonic()
                kept = _Kept(sequence, state, carried, now, now, refused)
            kept.sequence = sequence
        kept.away = False
    except DatabaseError:
        if kept is None:
            raise Problem(
                "The policies cannot be read: the database does not answer.",
                code="database",
                status=503,
                extra={"action": "block", "degraded": True},
            ) from None
        kept.away = True
    except Exception:  # what guards must not depend on what somebody has just changed
        if kept is None:
            raise
        logger.exception("bundle_not_built")
        kept.refused, kept.built, kept.sequence = True, time.monotonic(), sequence
    kept.looked = time.monotonic()
    _kept[workspace.pk] = kept
    return kept


def _sequence(workspace: Workspace) -> int:
    row = first_row(
        "SELECT sequence FROM accounts_audithead WHERE workspace_id = %s", [workspace.pk]
    )
    assert row is not None
    return int(next(row))


def _state(workspace: Workspace) -> list[tuple[Any, ...]]:
    """What, when it changes, makes another bundle; a row a policy, or one where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_STATE, {"workspace": workspace.pk})
        return list(cursor.fetchall())


_STATE = """
SELECT policy.id, policy.current_version_id, policy.level, policy.mode, policy.on_failure,
    policy.rollout, policy.safe_completion, policy.categories,
    (SELECT array[id::text, threshold::text] FROM guardrails_modelversion
        WHERE policy_id = policy.id AND status = 'live'),
    (SELECT max(number) FROM guardrails_guardrailversion WHERE policy_id = policy.id),
    (SELECT array_agg(id ORDER BY id) FROM guardrails_ruleexception
        WHERE policy_id = policy.id AND ended_at IS NULL AND expires_at > now()),
    (SELECT "on" FROM runtime_killswitch WHERE workspace_id = workspace.id),
    (SELECT jsonb_object_agg(source, targets ORDER BY source) FROM policies_categorymapping
        WHERE workspace_id = workspace.id)::text,
    (SELECT array[share, days] FROM runtime_retention WHERE workspace_id = workspace.id)
FROM accounts_workspace workspace
LEFT JOIN policies_policy policy
    ON policy.workspace_id = workspace.id AND policy.status = 'active'
WHERE workspace.id = %(workspace)s
ORDER BY policy.id
"""


def _carry_over(before: Bundle, now: Bundle) -> Bundle:
    """The new bundle, with the checks that cannot be served any more as they were before.

    All else is new: modes, rules, exceptions, the kill switch.
    """
    old = {
        (guard.policy, check.key): (guard, check)
        for guard in before.guards
        for check in guard.guardrail.checks
        if check.evaluate is not None
    }
    lost = _refused(now) & old.keys()
    if not lost:
        return now
    guards = []
    models = dict(now.panel.models) if now.panel else {}
    for guard in now.guards:
        checks = []
        for check in guard.guardrail.checks:
            if (guard.policy, check.key) in lost:
                last, there = old[guard.policy, check.key]
                check = replace(
                    check, evaluate=there.evaluate, threshold=there.threshold, problem=""
                )
                if check.kind == CLASSIFIER and before.panel is not None:
                    models[guard.policy] = before.panel.models[guard.policy]
                    guard = replace(guard, model_version=last.model_version)
            checks.append(check)
        guardrail = replace(guard.guardrail, checks=tuple(checks))
        guards.append(replace(guard, guardrail=guardrail))
    return replace(now, guards=tuple(guards), panel=Panel(models) if models else None)


def _named_anew(workspace: Workspace, bundle: Bundle) -> Bundle:
    """A bundle that others were carried into, on record as what it is."""
    served = [
        model
        for slug, number in bundle.models.items()
        for model in ModelVersion.objects.filter(
            policy__workspace=workspace, policy__slug=slug, number=number
        )
    ]
    manifest = _manifest(workspace.pk, bundle.guards, served, bundle.stopped)
    return replace(bundle, id=_put_on_record(workspace, manifest))


def _refused(bundle: Bundle) -> set[tuple[str, str]]:
    """Checks (of a policy, by key) that are there and cannot be served: a file may come back."""
    return {
        (guard.policy, check.key)
        for guard in bundle.guards
        for check in guard.guardrail.checks
        if check.problem in ("model_refused", "check_refused")
    }
