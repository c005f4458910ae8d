"""A weighted gate whose score is a probability, fitted on labels its classifier never saw."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apps.accounts.actor import Actor
from apps.base.problems import Problem
from apps.evidence.effects import SECONDS, labelled_texts
from apps.evidence.services import audit_labels
from apps.guardrails import configuring
from apps.guardrails.assembling import standing
from apps.guardrails.configuration import parse
from apps.guardrails.guarding import verdict_on
from apps.guardrails.learning.calibration import fit_sigmoid
from apps.policies.models import Policy

LEAST_PER_SIDE = 10


@dataclass(frozen=True)
class Calibration:
    """c = 1 / (1 + exp(-(slope * mean + offset))), and on how many audit labels it was fitted."""

    slope: float
    offset: float
    labels: int


def calibrate_gate(actor: Actor, *, policy: Policy) -> Calibration:
    """Fit the calibration of the draft's weighted gate on the audit labels, and save the draft.

    Figures on the same labels flatter it a little: two numbers were fitted on them.

    Raises:
        Problem: 409 when the gate is not weighted or asks others, when there are too few labels,
            or when its mean does not rise with violations.
    """
    content, revision = configuring.draft_of(policy)
    configuration = parse(content, rules=configuring.rules_of(policy))
    gate = configuration.gate
    if gate.kind != "weighted":
        raise Problem(
            "Only a weighted gate is calibrated; choose it first.", code="not_weighted", status=409
        )
    guards = standing(policy)
    guardrail = guards.guardrail(
        configuration=replace(configuration, gate=replace(gate, slope=None, offset=0.0))
    )
    if any(check.remote for check in guardrail.checks):
        raise Problem(
            "A gate with remote checks cannot be calibrated: they would be asked for each label.",
            code="remote",
            status=409,
        )
    means, violates = [], []
    until = time.monotonic() + SECONDS
    for subject, label in labelled_texts(audit_labels(policy)):
        if time.monotonic() > until:
            break
        mean = verdict_on(guardrail, subject, guards.panel).score
        if mean is not None:
            means.append(mean)
            violates.append(label.violates)
    slope, offset = _fit(np.array(means, float), np.array(violates, bool))
    configuring.save_guardrail_draft(
        actor,
        policy=policy,
        content={**content, "gate": {**content["gate"], "slope": slope, "offset": offset}},
        revision=revision or None,
        fitted=True,
    )
    return Calibration(slope, offset, len(means))


def _fit(means: NDArray[np.float64], violates: NDArray[np.bool_]) -> tuple[float, float]:
    missing = LEAST_PER_SIDE - min(int(violates.sum()), int((~violates).sum()))
    if missing > 0:
        raise Problem(
            f"Too few audit labels to calibrate: at least {LEAST_PER_SIDE} violating and as many "
            f"complying ones are needed, {missing} more of the rarer.",
            code="too_few",
            status=409,
        )
    slope, offset = fit_sigmoid(means, violates)
    if slope <= 0:
        raise Problem(
            "The weighted mean does not rise with violations; change the checks or their weights.",
            code="no_slope",
            status=409,
        )
    return slope, offset
