"""Decisions judged again: as they were, from the stored versions, or as a draft would have it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.guardrails.assembling import (
    drafted_rules,
    guardrail_of,
    panel_of,
    rules_by_key,
    standing,
    strictest_action,
)
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.contents import subjects_of
from apps.guardrails.guarding import Guardrail
from apps.guardrails.learning.panel import Panel
from apps.guardrails.models import GuardrailVersion, ModelVersion, RuleException
from apps.policies.models import Policy, PolicyVersion
from apps.policies.specification import Specification
from apps.runtime import bundles
from apps.runtime.checking import STAGE, judged_subjects
from apps.runtime.decide import restricts_more
from apps.runtime.judgement import Judgement
from apps.runtime.judging import Bundle, Guard, judge
from apps.runtime.models import Decision, DecisionText, ServedBundle
from apps.runtime.texts import decrypt

MOST_REPLAYED = 300
_LOOKED_AT = 3_000
SECONDS = 3.0
_SHOWN = 20
_SAID = ("policy", "policy_version", "check", "status", "action", "places")


@dataclass(frozen=True)
class Replay:
    """A decision judged again.

    Args:
        judgement: None where something is gone that it was made of; `gone` says what.
        same: whether the action is what it was, and all that each check said; scores to within
            the rounding of single precision, which differs with the models beside each other; None
            where it was not judged.
    """

    judgement: Judgement | None
    same: bool | None
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flip:
    """A recorded decision that a draft would have made otherwise."""

    decision: UUID
    text: str
    before: str
    after: str


@dataclass(frozen=True)
class Preview:
    """What a change would have done to recent decisions.

    Args:
        replayed: decisions that were judged both ways; `left` more were not, for want of time.
        undecided: those of which one of both made no finished judgement; they are not compared.
        lost: recent decisions whose text was not kept, so that nobody can tell.
        remote: whether checks that ask others were left out.
        stricter, milder: how many would have got a more, and a less restrictive action.
    """

    replayed: int
    left: int
    undecided: int
    lost: int
    stricter: int
    milder: int
    flips: list[Flip]
    remote: bool


def replay(
    workspace: Workspace, decision: Decision, content: Mapping[str, Any] | None = None
) -> Replay:
    """Judge again what a decision judged, by the versions it was judged by.

    Args:
        content: what was judged, where the workspace did not keep it.

    Raises:
        Problem: 409 when `content` is not what was judged.
    """
    subjects = judged_subjects(workspace, decision, content)
    if subjects is None:
        return Replay(None, None, ("its text was not kept; send it",))
    bundle, gone = _bundle_then(workspace, decision)
    if bundle is None:
        return Replay(None, None, gone)
    judgement = judge(bundle, stage=decision.stage, subjects=subjects)
    again = (judgement.action, judgement.finished)
    same = again == (decision.action, decision.finished) and _alike(
        judgement.receipt_as_data(), decision.receipt
    )
    return Replay(judgement, same, gone)


def preview(
    policy: Policy,
    *,
    configuration: Configuration | None = None,
    specification: Specification | None = None,
    model: ModelVersion | None = None,
) -> Preview:
    """Judge the newest decisions as things are, and with a draft or a model of one policy.

    Of those that the policy had a part in, or would have by a stage that the draft adds.
    """
    workspace = policy.workspace
    served = bundles.assemble(workspace)[0]
    drafted = _with_draft(served, policy, configuration, specification, model)
    now, then = _acting(served, policy), _acting(drafted, policy)
    recent = _recent(policy, specification)
    kept = DecisionText.objects.filter(
        workspace=workspace, decision__in=recent, expires_at__gt=timezone.now()
    ).order_by("-decision")
    until = time.monotonic() + SECONDS
    flips: list[Flip] = []
    counts, replayed, undecided, left = {"stricter": 0, "milder": 0}, 0, 0, 0
    for row in kept:
        if time.monotonic() > until:
            left += 1
            continue
        content = decrypt(workspace, row)
        if content is None:
            continue
        stage, subjects = content.pop("stage"), subjects_of(content)
        if stage == STAGE:
            stage = _any_stage(policy, specification)
        both = [judge(bundle, stage=stage, subjects=subjects) for bundle in (now, then)]
        if not all(judgement.finished for judgement in both):
            undecided += 1
            continue
        replayed += 1
        before, after = (judgement.action for judgement in both)
        if before == after:
            continue
        counts["stricter" if restricts_more(after, before) else "milder"] += 1
        if len(flips) < _SHOWN:
            flips.append(Flip(row.decision, subjects[0].text[:500], before, after))
    return Preview(
        replayed,
        left,
        undecided,
        lost=len(recent) - replayed - undecided - left,
        **counts,
        flips=flips,
        remote=any(
            check.remote
            for bundle in (served, drafted)
            for guard in bundle.guards
            for check in guard.guardrail.checks
        ),
    )


def alone(
    policy: Policy, configuration: Configuration, *, stage: str, subjects: Sequence[Subject]
) -> Judgement | None:
    """What a draft of one policy would do to texts, enforced on all of them and by itself.

    None where the policy is retired, or remote checks would have to be asked once more.
    """
    served = bundles.assemble(policy.workspace)[0]
    drafted = _with_draft(served, policy, configuration, None, None)
    acting = tuple(
        replace(guard, mode="enforce", rollout=100, stages=(stage,))
        for guard in drafted.guards
        if guard.policy == policy.slug
    )
    if not acting or any(check.remote for check in acting[0].guardrail.checks):
        return None
    return judge(replace(drafted, guards=acting, stopped=False), stage=stage, subjects=subjects)


def _recent(policy: Policy, specification: Specification | None) -> list[UUID]:
    """The newest decisions that a policy had a part in, among the newest of all."""
    version = policy.current_version
    added = set(specification.stages if specification else ()) - set(
        version.stages if version else ()
    )
    of_all = Decision.objects.filter(workspace=policy.workspace, canary=False).order_by("-id")
    rows = Decision.objects.filter(pk__in=of_all.values("pk")[:_LOOKED_AT]).filter(
        Q(receipt__contains=[{"policy": policy.slug}]) | Q(stage__in=added)
    )
    return list(rows.order_by("-id").values_list("pk", flat=True)[:MOST_REPLAYED])


def _acting(bundle: Bundle, policy: Policy) -> Bundle:
    """The bundle with the policy enforced on all traffic, and without checks that ask others."""
    guards = []
    for guard in bundle.guards:
        guard = replace(guard, guardrail=guard.guardrail.local)
        if guard.policy == policy.slug:
            guard = replace(guard, mode="enforce", rollout=100)
        guards.append(guard)
    return replace(bundle, guards=tuple(guards), stopped=False)


def _any_stage(policy: Policy, specification: Specification | None) -> str:
    """A stage that the policy guards, for texts that came without one (moderations)."""
    version = policy.current_version
    stages = specification.stages if specification else version.stages if version else ()
    return next(iter(stages), "output")


def _with_draft(
    bundle: Bundle,
    policy: Policy,
    configuration: Configuration | None,
    specification: Specification | None,
    model: ModelVersion | None,
) -> Bundle:
    """The bundle with the policy as its draft has it."""
    assert policy.current_version is not None
    rules = drafted_rules(specification) if specification else rules_by_key(policy.current_version)
    guards = standing(policy, model=model)
    draft = guards.guardrail(rules=rules, configuration=configuration)
    models = [panel.models for panel in (bundle.panel, guards.panel) if panel]
    return replace(
        bundle,
        panel=Panel({slug: one for each in models for slug, one in each.items()})
        if models
        else None,
        guards=tuple(
            replace(
                guard,
                guardrail=draft,
                stages=specification.stages if specification else guard.stages,
                action=strictest_action(rules),
            )
            if guard.policy == policy.slug
            else guard
            for guard in bundle.guards
        ),
    )


def _bundle_then(workspace: Workspace, decision: Decision) -> tuple[Bundle | None, tuple[str, ...]]:
    served = ServedBundle.objects.filter(pk=decision.bundle, workspace=workspace).first()
    if served is None:
        return None, ("its bundle is not on record",)
    stopped = served.manifest["stopped"]
    modes = {entry["policy"]: entry["mode"] for entry in decision.receipt}
    if stopped:  # which made a shadow of what is enforced
        modes |= {s["policy"]: s["mode"] for s in served.manifest["guards"] if s["policy"] in modes}
    gone: list[str] = []
    guards: list[Guard] = []
    loaded: dict[str, tuple[Policy, ModelVersion]] = {}
    for said in served.manifest["guards"]:
        if said["policy"] in modes:
            guard = _guard_then(workspace, decision, said, modes[said["policy"]], loaded, gone)
            if guard is not None:
                guards.append(guard)
    panel, problems = panel_of(
        [policy for policy, _ in loaded.values()],
        {policy.pk: model for policy, model in loaded.values()},
    )
    gone += [f"the model of {slug} (its file is missing or another)" for slug in problems]
    if gone:
        return None, tuple(gone)
    guarded = tuple(guards)
    return Bundle(served.pk, guarded, panel, stopped=stopped, workspace=workspace.pk), ()


def _guard_then(
    workspace: Workspace,
    decision: Decision,
    said: Mapping[str, Any],
    mode: str,
    loaded: dict[str, tuple[Policy, ModelVersion]],
    gone: list[str],
) -> Guard | None:
    slug = said["policy"]
    policy = Policy.objects.filter(workspace=workspace, slug=slug).first()
    version = (
        PolicyVersion.objects.filter(policy=policy, number=said["policy_version"])
        .prefetch_related("rules")
        .first()
    )
    if policy is None or version is None:
        gone.append(f"policy {slug} version {said['policy_version']}")
        return None
    policy.workspace = workspace
    model = ModelVersion.objects.filter(policy=policy, number=said["model_version"] or 0).first()
    guardrail = GuardrailVersion.objects.filter(
        policy=policy, number=said["guardrail_version"]
    ).first()
    if said["model_version"] and model is None:
        gone.append(f"model {said['model_version']} of {slug}")
    if said["guardrail_version"] and guardrail is None:
        gone.append(f"guardrail {said['guardrail_version']} of {slug}")
    if model is not None:
        loaded[slug] = (policy, model)
    rules = rules_by_key(version)
    exceptions: Sequence[RuleException] = list(
        RuleException.objects.filter(
            pk__in=said["exemptions"], expires_at__gt=decision.at
        ).order_by("pk")
    )
    for row in exceptions:  # in force then, whatever became of it since
        row.expires_at = row.expires_at.replace(year=row.expires_at.year + 100)
    return Guard(
        policy=slug,
        policy_version=version.number,
        level=said["level"],
        stages=(decision.stage,),
        mode=mode,
        on_failure=said["on_failure"],
        action=said["action"],
        guardrail=_at_thresholds_of(
            said,
            guardrail_of(
                policy, rules=rules, model=model, version=guardrail, exceptions=exceptions
            ),
        ),
        safe_completion=said["safe_completion"],
        guardrail_version=said["guardrail_version"],
        model_version=said["model_version"],
    )


def _at_thresholds_of(said: Mapping[str, Any], guardrail: Guardrail) -> Guardrail:
    """The guardrail with the thresholds it was served with: a model's may have been moved since."""
    # of a check that could not be served the manifest knows none
    then = {c["key"]: c["threshold"] for c in said["checks"] if not c["problem"]}
    checks = (replace(one, threshold=then.get(one.key, one.threshold)) for one in guardrail.checks)
    return replace(guardrail, checks=tuple(checks))


def _alike(again: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two receipts say the same of every check."""
    return len(again) == len(then) and all(
        all(one[name] == other[name] for name in _SAID) and _close(one["score"], other["score"])
        for one, other in zip(again, then, strict=True)
    )


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=1e-6)
