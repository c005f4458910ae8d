"""From rows to what guards: checks built, the model verified, exceptions read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.utils import timezone

from apps.base.problems import Problem
from apps.guardrails import artifacts
from apps.guardrails.checks import KINDS
from apps.guardrails.checks.classifier import evaluate_for
from apps.guardrails.configuration import (
    CLASSIFIER,
    DEFAULT,
    CheckSettings,
    Configuration,
    built,
    stored,
    threshold,
)
from apps.guardrails.exemptions import Exemption, phrase_of
from apps.guardrails.guarding import Check, Guardrail
from apps.guardrails.learning import artifact
from apps.guardrails.learning.panel import Panel
from apps.guardrails.models import GuardrailVersion, ModelVersion, RuleException
from apps.policies.models import Policy, PolicyVersion, Rule
from apps.policies.specification import ACTIONS, Specification

logger = logging.getLogger(__name__)

_WARM_UP = "A text to warm up with."


@dataclass(frozen=True)
class Parts:
    """What policies are guarded by, each by the policy's id."""

    models: Mapping[UUID, ModelVersion]
    guardrails: Mapping[UUID, GuardrailVersion]
    exceptions: Mapping[UUID, Sequence[RuleException]]


def parts_of(policies: Sequence[Policy]) -> Parts:
    """The live models, newest guardrails and exceptions in force of several policies."""
    exceptions: dict[UUID, list[RuleException]] = {}
    in_force = RuleException.objects.filter(
        policy__in=policies, ended_at=None, expires_at__gt=timezone.now()
    )
    for row in in_force.order_by("pk"):
        exceptions.setdefault(row.policy_id, []).append(row)
    live = ModelVersion.objects.filter(policy__in=policies, status=ModelVersion.Status.LIVE)
    return Parts({row.policy_id: row for row in live}, newest_guardrails(policies), exceptions)


def newest_guardrails(policies: Sequence[Policy]) -> dict[UUID, GuardrailVersion]:
    """The version that guards each policy; none for one that its classifier alone guards."""
    rows = GuardrailVersion.objects.filter(policy__in=policies)
    newest = rows.order_by("policy", "-number").distinct("policy")
    return {row.policy_id: row for row in newest}


def panel_of(
    policies: Iterable[Policy], models: Mapping[UUID, ModelVersion]
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


def configuration_of(version: GuardrailVersion | None) -> Configuration:
    """What a version fixes; a policy without one is guarded by its classifier alone."""
    return stored(version.content) if version else DEFAULT


def guardrail_of(
    policy: Policy,
    *,
    rules: Mapping[str, Rule],
    model: ModelVersion | None,
    version: GuardrailVersion | None,
    exceptions: Sequence[RuleException] = (),
    problem: str = "",
    configuration: Configuration | None = None,
) -> Guardrail:
    """A policy's guardrail as it is served.

    Args:
        rules: of the policy version, by key.
        problem: why its classifier cannot judge.
        configuration: what to try in place of what the version says.
    """
    configuration = configuration or configuration_of(version)
    strictest = strictest_action(rules)
    return Guardrail(
        checks=tuple(
            _check(check, rules.get(check.rule), strictest, policy, model, problem)
            for check in configuration.checks
        ),
        gate=configuration.gate,
        exemptions=tuple(_exemptions(policy, exceptions)),
        key=bytes(policy.workspace.split_key),
    )


@dataclass(frozen=True)
class Standing:
    """What stands guard over one policy, ready to be put together as it is or with a draft."""

    policy: Policy
    parts: Parts
    panel: Panel | None
    problem: str

    def guardrail(
        self,
        *,
        rules: Mapping[str, Rule] | None = None,
        configuration: Configuration | None = None,
    ) -> Guardrail:
        """The guardrail, with other rules or checks in place of the published ones."""
        policy = self.policy
        if rules is None:
            assert policy.current_version is not None
            rules = rules_by_key(policy.current_version)
        return guardrail_of(
            policy,
            rules=rules,
            model=self.parts.models.get(policy.pk),
            version=self.parts.guardrails.get(policy.pk),
            exceptions=self.parts.exceptions.get(policy.pk, ()),
            problem=self.problem,
            configuration=configuration,
        )


def standing(policy: Policy, *, model: ModelVersion | None = None) -> Standing:
    """What stands guard over a policy, with a candidate in place of its live model if given."""
    parts = parts_of([policy])
    if model is not None:
        parts = replace(parts, models={policy.pk: model})
    panel, problems = panel_of([policy], parts.models)
    return Standing(policy, parts, panel, problems.get(policy.slug, ""))


def strictest_action(rules: Mapping[str, Rule]) -> str:
    """What the disallowed rules of a policy ask for together."""
    asked = [rule.action for rule in rules.values() if rule.polarity == "disallowed"]
    return max(asked, key=ACTIONS.index)


def rules_by_key(version: PolicyVersion) -> dict[str, Rule]:
    """The rules of a published version."""
    return {rule.key: rule for rule in version.rules.all()}


def drafted_rules(specification: Specification) -> dict[str, Rule]:
    """The rules of a draft that is ready to be published; they are in no table yet."""
    rows = specification.as_dict()["rules"]
    return {row["key"]: Rule(position=n, **row) for n, row in enumerate(rows)}


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
        needs_call=KINDS[check.kind].needs_call,
    )
    if check.kind == CLASSIFIER:
        if model is None or problem:
            return replace(served, problem=problem or "no_model")
        return replace(served, threshold=model.threshold, evaluate=evaluate_for(policy.slug))
    try:
        return replace(served, evaluate=built(check, policy.workspace_id))
    except Problem:
        return replace(served, problem="check_refused")
    except Exception:  # one that cannot be built must not take the others with it
        logger.exception("check_not_built", extra={"policy": policy.slug})
        return replace(served, problem="check_refused")


def _exemptions(policy: Policy, rows: Iterable[RuleException]) -> Iterator[Exemption]:
    """Those that can be read; without one, what it let through is stopped."""
    for row in rows:
        try:
            yield exemption_of(row)
        except Exception:
            logger.exception("exception_not_read", extra={"policy": policy.slug})


def exemption_of(row: RuleException) -> Exemption:
    """An exception as it is served."""
    return Exemption(
        id=str(row.pk),
        rule=row.rule,
        expires=row.expires_at.timestamp(),
        phrase=phrase_of(row.phrase) if row.phrase else None,
        text_hash=bytes(row.text_hash or b""),
    )
