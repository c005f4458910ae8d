"""What an owner decides to serve: another model version, or another threshold of one."""

from __future__ import annotations

from copy import copy

from django.db import transaction

from apps.accounts.actor import Actor
from apps.base.problems import FieldError, Problem
from apps.evidence import cases
from apps.evidence.services import evaluate
from apps.guardrails import artifacts
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import (
    choose_threshold,
    fit_refusal,
    make_live,
    served_as,
    tell_change,
)
from apps.policies.models import Policy
from apps.policies.services import hold_policy


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
    actor: Actor,
    *,
    policy: Policy,
    version: ModelVersion,
    threshold: float | None = None,
    seen: str | None = None,
) -> None:
    """Serve a model version from now on, at its threshold or at one chosen by hand.

    Args:
        seen: what was served (see `served_as`) when the person decided; now, unless told.

    Raises:
        Problem: 400 for a threshold out of range; 409 when it is served like that already, when
            its fit was refused or its file is damaged, when it fails a must-pass case, or when
            something else is served than what was seen.
    """
    seen = served_as(policy) if seen is None else seen
    tried = candidate(version, threshold)
    live = version.status == ModelVersion.Status.LIVE
    moved = tried.threshold != version.threshold
    if live and not moved:
        raise Problem(
            f"Model {version.number} is served at this threshold already.",
            code="unchanged",
            status=409,
        )
    refusal = fit_refusal(version)
    if not refusal and not artifacts.is_whole(version):
        refusal = "its file is missing, damaged or of another installation"
    if refusal:
        raise Problem(
            f"Model {version.number} cannot be served: {refusal.rstrip('.')}. Retrain the policy.",
            code="model_refused",
            status=409,
        )
    # judged before anything is held, so that slow remote checks answer from memory below
    cases.hold_model(policy, tried)
    with transaction.atomic():
        hold_policy(policy)
        if served_as(policy) != seen:
            raise Problem(
                "What is served changed meanwhile; look at it again.", code="changed", status=409
            )
        cases.hold_model(policy, tried)
        if moved:
            choose_threshold(actor, version, tried.threshold)
        if live:
            tell_change(policy, f"model {version.number} at threshold {version.threshold:.4g}")
        else:
            make_live(actor, version)
        evaluate(policy, version)
