"""What a workspace serves: built from the database, verified, warmed, swapped as a whole.

Each web process keeps its own copy and looks once a second whether it is still true; a copy that
cannot be renewed goes on serving, and its answers say so.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.base.prepared import prepared
from apps.base.problems import Problem
from apps.guardrails import artifacts
from apps.guardrails.checks import KINDS
from apps.guardrails.checks.classifier import evaluate_for
from apps.guardrails.configuration import (
    CLASSIFIER,
    DEFAULT,
    CheckSettings,
    built,
    stored,
    threshold,
)
from apps.guardrails.exemptions import Exemption, phrase_of
from apps.guardrails.learning import artifact
from apps.guardrails.learning.panel import Panel
from apps.guardrails.models import GuardrailVersion, ModelVersion, RuleException
from apps.policies.models import Policy, Rule
from apps.policies.specification import ACTIONS
from apps.runtime.judging import Bundle, Check, Guard
from apps.runtime.models import KillSwitch, Retention, ServedBundle

LOOK_EVERY = 1.0
"""Seconds for which a copy is trusted without asking: a promotion is served this much later."""

_WARM_UP = "A text to warm up with."


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
    policies = list(
        Policy.objects.filter(
            workspace=workspace, status=Policy.Status.ACTIVE, current_version__isnull=False
        )
        .select_related("current_version")
        .prefetch_related("current_version__rules")
        .order_by("slug")
    )
    models = {
        version.policy_id: version
        for version in ModelVersion.objects.filter(policy__in=policies, status="live")
    }
    guardrails = {
        version.policy_id: version
        for version in GuardrailVersion.objects.filter(policy__in=policies)
        .order_by("policy", "-number")
        .distinct("policy")
    }
    excepted: dict[UUID, list[RuleException]] = {}
    for row in RuleException.objects.filter(
        policy__in=policies, ended_at=None, expires_at__gt=timezone.now()
    ).order_by("pk"):
        excepted.setdefault(row.policy_id, []).append(row)
    panel, problems = _panel(policies, models)
    guards = tuple(
        guard_of(
            policy,
            models.get(policy.pk),
            guardrails.get(policy.pk),
            excepted.get(policy.pk, []),
            problems.get(policy.slug, ""),
        )
        for policy in policies
    )
    stopped = KillSwitch.objects.filter(workspace=workspace, on=True).exists()
    manifest = _manifest(guards, models.values(), stopped)
    name = _id(manifest)
    ServedBundle.objects.bulk_create(
        [ServedBundle(id=name, workspace=workspace, manifest=manifest)], ignore_conflicts=True
    )
    kept = Retention.objects.filter(workspace=workspace).first()
    return Bundle(
        id=name,
        guards=guards,
        panel=panel,
        key=bytes(workspace.split_key),
        stopped=stopped,
        kept_share=kept.share if kept else 0.0,
        kept_days=kept.days if kept else 0,
    )


def guard_of(
    policy: Policy,
    model: ModelVersion | None,
    guardrail: GuardrailVersion | None,
    excepted: Sequence[RuleException],
    problem: str,
) -> Guard:
    """One policy as it is served; `problem` says why its classifier cannot judge."""
    version = policy.current_version
    assert version is not None
    rules = {rule.key: rule for rule in version.rules.all()}
    asked = [rule.action for rule in rules.values() if rule.polarity == "disallowed"]
    strictest = max(asked, key=ACTIONS.index)
    configuration = stored(guardrail.content) if guardrail else DEFAULT
    return Guard(
        policy=policy.slug,
        policy_version=version.number,
        level=policy.level,
        stages=tuple(version.stages),
        mode=policy.mode,
        on_failure=policy.on_failure,
        action=strictest,
        checks=tuple(
            _check(check, rules.get(check.rule), strictest, policy, model, problem)
            for check in configuration.checks
        ),
        gate=configuration.gate,
        exemptions=tuple(map(_exemption, excepted)),
        rollout=policy.rollout,
        safe_completion=policy.safe_completion,
        guardrail_version=guardrail.number if guardrail else 0,
        model_version=model.number if model else None,
    )


def _check(
    check: CheckSettings,
    rule: Rule | None,
    strictest: str,
    policy: Policy,
    model: ModelVersion | None,
    problem: str,
) -> Check:
    polarity = rule.polarity if rule else "disallowed"
    action = rule.action if rule else strictest
    served = Check(
        key=check.key,
        kind=check.kind,
        action="allow" if polarity == "allowed" else action,
        evaluate=None,
        rule=check.rule,
        polarity=polarity,
        threshold=threshold(check),
        weight=check.weight,
        advisory=check.advisory,
        remote=KINDS[check.kind].remote,
    )
    if check.kind == CLASSIFIER:
        if model is None or problem:
            return replace(served, problem=problem or "no_model")
        return replace(served, threshold=model.threshold, evaluate=evaluate_for(policy.slug))
    try:
        return replace(served, evaluate=built(check))
    except Problem:
        return replace(served, problem="check_refused")


def _panel(
    policies: Sequence[Policy], models: Mapping[UUID, ModelVersion]
) -> tuple[Panel | None, dict[str, str]]:
    """The classifiers side by side, each verified and warmed; and why some are not among them."""
    loaded, problems = {}, {}
    for policy in policies:
        if policy.pk not in models:
            continue
        try:
            loaded[policy.slug] = artifacts.load(models[policy.pk])
        except artifact.ArtifactRefused:
            problems[policy.slug] = "model_refused"
    if not loaded:
        return None, problems
    panel = Panel(loaded)
    panel.score([_WARM_UP])
    return panel, problems


def _exemption(row: RuleException) -> Exemption:
    return Exemption(
        id=str(row.pk),
        rule=row.rule,
        expires=row.expires_at.timestamp(),
        phrase=phrase_of(row.phrase) if row.phrase else None,
        text_hash=bytes(row.text_hash or b""),
    )


def _manifest(
    guards: Sequence[Guard], models: Iterable[ModelVersion], stopped: bool
) -> dict[str, Any]:
    """All that makes this bundle this bundle, as data."""
    sums = {str(model.policy_id): model.sha256 for model in models}
    named = [field.name for field in fields(Guard) if field.name not in _NOT_SAID]
    return {
        "stopped": stopped,
        "models": sums,
        "guards": [
            {
                **{name: getattr(guard, name) for name in named},
                "exemptions": [one.id for one in guard.exemptions],
                "checks": [
                    {"key": check.key, "threshold": check.threshold, "problem": check.problem}
                    for check in guard.checks
                ],
            }
            for guard in guards
        ],
    }


_NOT_SAID = ("checks", "exemptions", "gate")  # the guardrail's version stands for its gate


def _id(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
    """What, when it changes, makes another bundle; one row a policy, and the kill switch."""
    with prepared(), connection.cursor() as cursor:
        cursor.execute(_STATE, {"workspace": workspace.pk})
        return list(cursor.fetchall())


_STATE = """
SELECT policy.id, policy.current_version_id, policy.level, policy.mode, policy.on_failure,
    policy.rollout, policy.safe_completion,
    (SELECT id FROM guardrails_modelversion
        WHERE policy_id = policy.id AND status = 'live'),
    (SELECT max(number) FROM guardrails_guardrailversion WHERE policy_id = policy.id),
    (SELECT array_agg(id ORDER BY id) FROM guardrails_ruleexception
        WHERE policy_id = policy.id AND ended_at IS NULL AND expires_at > now()),
    (SELECT "on" FROM runtime_killswitch WHERE workspace_id = policy.workspace_id),
    (SELECT array[share, days] FROM runtime_retention WHERE workspace_id = policy.workspace_id)
FROM policies_policy policy
WHERE policy.workspace_id = %(workspace)s AND policy.status = 'active'
ORDER BY policy.id
"""


def _lost(before: Bundle, now: Bundle) -> bool:
    """Whether a check that could judge before cannot be served any more."""
    could = {(g.policy, c.key) for g in before.guards for c in g.checks if c.evaluate is not None}
    refused = ("model_refused", "check_refused")
    return any(
        (guard.policy, check.key) in could
        for guard in now.guards
        for check in guard.checks
        if check.problem in refused
    )
