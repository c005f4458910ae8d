"""What a guardrail would do to the audit labels: before it is published, and as it is served."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from apps.corpus.models import Example
from apps.evidence import estimators
from apps.evidence.services import AuditLabel, audit_labels
from apps.guardrails.assembling import standing
from apps.guardrails.checks.interface import Subject
from apps.guardrails.configuration import Configuration
from apps.guardrails.guarding import verdict_on
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy

MOST_TEXTS = 1_000
SECONDS = 3.0
_SHOWN = 20


@dataclass(frozen=True)
class Flip:
    """An audit text that the draft judges otherwise than what guards now."""

    example: UUID
    text: str
    violates: bool
    before: bool
    after: bool


@dataclass(frozen=True)
class Effect:
    """Figures on the same audit labels, before and after.

    Args:
        counted: labels that were judged both ways; `left` more were not: only the first
            MOST_TEXTS are, and only for SECONDS.
        undecided: texts that one of both could not judge; they are not counted.
        worse, better: how many flipped to the wrong and to the right side.
        beside: whether checks of tool calls or passages took part: labelled texts have neither.
    """

    counted: int
    left: int
    undecided: int
    before: estimators.Figures | None
    after: estimators.Figures | None
    worse: int
    better: int
    flips: list[Flip]
    remote: bool
    beside: bool

    @property
    def sides(self) -> list[tuple[str, dict[str, Any]]]:
        """The figures of both, by name; none where nothing was counted."""
        both = (("now", self.before), ("with this change", self.after))
        return [(name, figures.as_dict()) for name, figures in both if figures is not None]


def labelled_texts(labels: Sequence[AuditLabel]) -> list[tuple[Subject, AuditLabel]]:
    """The texts of the first MOST_TEXTS of these labels."""
    labels = labels[:MOST_TEXTS]
    texts = dict(
        Example.objects.filter(pk__in=[label.example for label in labels]).values_list(
            "pk", "output"
        )
    )
    return [(Subject(texts[label.example]), label) for label in labels]


def effect(
    policy: Policy,
    *,
    configuration: Configuration | None = None,
    model: ModelVersion | None = None,
) -> Effect:
    """Judge the audit texts by what guards now, and with a configuration or a model instead.

    Without either both sides are what guards now.

    Remote checks are left out on both sides: they would be asked a thousand times.
    """
    changed = configuration is not None or model is not None
    guards = standing(policy)
    drafted = standing(policy, model=model) if model is not None else guards
    both = (guards.guardrail(), drafted.guardrail(configuration=configuration))
    remote = any(check.remote for one in both for check in one.checks)
    now, then = (one.local for one in both)
    labels = audit_labels(policy)
    rows, flips, undecided = [], [], 0
    until = time.monotonic() + SECONDS
    judged = 0
    for subject, label in labelled_texts(labels):
        if time.monotonic() > until:
            break
        judged += 1
        before = verdict_on(now, subject, guards.panel).fires
        after = verdict_on(then, subject, drafted.panel).fires if changed else before
        if before is None or after is None:
            undecided += 1
            continue
        rows.append((label.violates, before, after, label.weight))
        if before != after:
            flips.append(Flip(label.example, subject.text, label.violates, before, after))
    table = np.array(rows, float).reshape(-1, 4)
    violating, was, will = (table[:, n].astype(bool) for n in range(3))
    return Effect(
        counted=len(rows),
        left=len(labels) - judged,
        undecided=undecided,
        before=estimators.figures(violating, was, table[:, 3]) if rows else None,
        after=estimators.figures(violating, will, table[:, 3]) if rows else None,
        worse=sum(flip.after != flip.violates for flip in flips),
        better=sum(flip.after == flip.violates for flip in flips),
        flips=flips[:_SHOWN],
        remote=remote,
        beside=any(
            check.needs_call or check.kind == "retrieval" for one in both for check in one.checks
        ),
    )
