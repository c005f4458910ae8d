"""What an owner decides to serve: another model version, or another threshold of one."""

from __future__ import annotations

from copy import copy

from django.db import transaction

from apps.accounts.actor import Actor
from apps.base.problems import FieldError, Problem
from apps.evidence import cases
from apps.evidence.services import evaluate
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import choose_threshold, make_live, tell_change
from apps.policies.models import Policy


def candidate(version: ModelVersion, threshold: float | None = None) -> ModelVersion:
    """The version as it would be served, to try before anything changes; never to be saved.

    Args:
        threshold: in (0, 1], as 0 would stop everything; None for the one it has.

    Raises:
        Problem: 400 for a threshold out of range.
    """
    if threshold is not None and not 0 < threshold <= 1:
        message = "Give a number above 0 and at most 1."
        raise Problem(message, errors=[FieldError("/threshold", message)])
    tried = copy(version)
    tried.threshold = version.threshold if threshold is None else threshold
    return tried


def promote(
    actor: Actor, *, policy: Policy, version: ModelVersion, threshold: float | None = None
) -> None:
    """Serve a model version from now on, at its threshold or at one chosen by hand.

    Raises:
        Problem: 400 for a threshold out of range; 409 when it is served like that already, when
            its fit was refused, when it fails a must-pass case, or when something else was served
            while its cases were judged.
    """
    tried = candidate(version, threshold)
    live = version.status == ModelVersion.Status.LIVE
    moved = tried.threshold != version.threshold
    if live and not moved:
        raise Problem(
            f"Model {version.number} is served at this threshold already.",
            code="unchanged",
            status=409,
        )
    if refusal := version.report.get("refusal"):
        raise Problem(
            f"Model {version.number} cannot be served: {refusal}. Retrain the policy.",
            code="model_refused",
            status=409,
        )
    # before the transaction: a slow remote check must not hold the audit trail
    cases.hold_model(policy, tried)
    with transaction.atomic():
        Policy.objects.select_for_update(no_key=True).get(pk=policy.pk)
        now = ModelVersion.objects.get(pk=version.pk)
        if (now.status, now.threshold) != (version.status, version.threshold):
            raise Problem(
                "What is served changed meanwhile; look at it again.", code="changed", status=409
            )
        if moved:
            choose_threshold(actor, version, tried.threshold)
        if live:
            tell_change(policy, f"model {version.number} at threshold {version.threshold:.4g}")
        else:
            make_live(actor, version)
        evaluate(policy, version)
