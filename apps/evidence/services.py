"""Evaluating the live model on the audit labels, after a training run and after each label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection
from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from numpy.typing import NDArray

from apps.base.prepared import first_row
from apps.base.problems import Problem
from apps.corpus.models import Batch, CorpusCounter, Side
from apps.evidence import estimators
from apps.evidence.models import Evaluation, Refresh
from apps.evidence.sample import Members, choose_sample, sample_below
from apps.guardrails import artifacts
from apps.guardrails.counts import example_counts, keep_recent_counts
from apps.guardrails.learning import artifact
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.learning.features import Counts
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import live_model
from apps.labeling.datasets import Answer, answers
from apps.labeling.labels import counts as label_counts
from apps.labeling.models import DECISIVE, Label, Stream, Verdict
from apps.policies.models import Policy

logger = logging.getLogger(__name__)

# a refresh that was asked for and not begun for this long lost its message: ask again
ASK_AGAIN_AFTER = timedelta(seconds=3)

# a refresh that was begun and not ended for this long: its worker died on it, or it failed
DIED_AFTER = timedelta(minutes=1)

# the first label of a burst moves the figures at once, those after it together, this long after
PAUSE = timedelta(seconds=0.4)

# Called with a policy's id to evaluate it in so many seconds; evidence/tasks.py fills it.
enqueue: list[Callable[[str, float], None]] = []


@dataclass(frozen=True)
class Item:
    """One counted audit item, as `evaluations/{id}/items` lists it."""

    example: UUID
    external_id: str
    label: str
    score: float
    flagged: bool
    weight: float


def request_refresh(policy_id: UUID) -> None:
    """Ask for the policy's figures; while they are asked for already, this costs one statement."""
    now = timezone.now()
    asked = first_row(
        "INSERT INTO evidence_refresh AS there (policy_id, requested_at) VALUES (%s, %s)"
        " ON CONFLICT (policy_id) DO UPDATE SET requested_at = excluded.requested_at"
        " WHERE there.requested_at IS NULL OR there.requested_at < %s RETURNING begun_at",
        [policy_id, now, now - ASK_AGAIN_AFTER],
    )
    if asked is not None:
        (begun_at,) = asked
        wait = begun_at + PAUSE - now if begun_at else timedelta()
        for send in enqueue:
            send(str(policy_id), max(0.0, wait.total_seconds()))


def refresh(policy: Policy) -> Evaluation | None:
    """Answer a request: keep the counts of new labels, and let audit labels move the figures."""
    begun_at = timezone.now()
    row = Refresh.objects.filter(policy=policy)
    row.update(requested_at=None, begun_at=begun_at)
    found = _refreshed(policy)
    row.filter(begun_at=begun_at).update(ended_at=timezone.now())
    return found


def _refreshed(policy: Policy) -> Evaluation | None:
    keep_recent_counts(policy, label_counts(policy).sequence)
    version = live_model(policy)
    if version is None:
        return None
    seen = newest(policy)
    audit = Label.objects.filter(policy=policy, stream=Stream.AUDIT)
    if (
        seen
        and seen.policy_version_id == policy.current_version_id
        and not audit.filter(sequence__gt=seen.watermark).exists()
    ):
        return seen
    try:
        return evaluate(policy, version)
    except ArtifactRefused as refusal:  # checks and canaries tell it; a retrain evaluates again
        logger.error("not_evaluated", extra={"policy": policy.slug, "reason": str(refusal)})
        return seen


def overdue_refreshes() -> list[UUID]:
    """Policies whose request was lost on its way, or whose worker died on it."""
    now = timezone.now()
    died = Q(begun_at__lt=now - DIED_AFTER) & (Q(ended_at=None) | Q(ended_at__lt=F("begun_at")))
    late = Refresh.objects.filter(Q(requested_at__lt=now - ASK_AGAIN_AFTER) | died)
    return list(late.values_list("policy_id", flat=True))


def evaluate(policy: Policy, version: ModelVersion) -> Evaluation:
    """The evaluation of a model version on today's audit labels; made if it is new."""
    watermark = label_counts(policy).sequence
    policy_version = policy.current_version
    assert policy_version is not None
    identity = {
        "model_version": version,
        "threshold": version.threshold,
        "policy_version": policy_version,
        "watermark": watermark,
    }
    there = Evaluation.objects.filter(**identity).first()
    if there is not None:
        return there
    audit = _audit_side(policy, watermark)
    counter = CorpusCounter.objects.filter(policy=policy).first()
    sample = choose_sample(audit.members, last_batch=counter.batches if counter else 0)
    verdicts = np.array([audit.verdict(row) for row in sample.rows], object)
    unsure = verdicts == Verdict.UNSURE
    rows, weights = sample.rows[~unsure], sample.weights[~unsure]
    unresolved = verdicts[~unsure] == ""
    violates = verdicts[~unsure] == Verdict.VIOLATES
    texts = example_counts([audit.examples[row] for row in rows])
    scores = artifact.score(artifacts.load(version), texts)
    flagged = scores >= version.threshold
    counted = ~unresolved
    before = _previous(version)
    batch = Batch.objects.filter(policy=policy, number=sample.batch).first()
    evaluation = Evaluation(
        policy=policy,
        **identity,
        batch=sample.batch,
        imported_until=batch.committed_at if batch else None,
        cut=sample.cut,
        counted=int(np.sum(counted)),
        unresolved=int(np.sum(unresolved)),
        unsure=int(np.sum(unsure)),
        under_older_versions=sum(
            audit.answers[row].version != policy_version.pk for row in rows[counted]
        ),
        figures=_figures(violates[counted], flagged[counted], weights[counted]),
        previous=None,
        bounds=estimators.bounds(violates, flagged, weights, unresolved),
        curve=estimators.curve(violates[counted], scores[counted], weights[counted]),
        histogram=estimators.histogram(violates[counted], scores[counted]),
    )
    if before is not None:
        then = _flagged_by(before, texts)
        if then is not None:
            evaluation.previous = {
                "model_version": before.number,
                **_figures(violates[counted], then[counted], weights[counted]),
            }
    Evaluation.objects.bulk_create([evaluation], ignore_conflicts=True)
    return Evaluation.objects.get(**identity)


def items_of(evaluation: Evaluation) -> list[Item]:
    """Every item an evaluation counted, in the audit order, with what is needed to recompute it.

    Raises:
        Problem: 409 where the model's file is missing or damaged.
    """
    audit = _audit_side(evaluation.policy, evaluation.watermark, cut=evaluation.cut)
    sample = sample_below(audit.members, batch=evaluation.batch, cut=evaluation.cut)
    chosen = [
        (int(row), float(weight))
        for row, weight in zip(sample.rows, sample.weights, strict=True)
        if audit.verdict(row) in DECISIVE
    ]
    try:
        model = artifacts.load(evaluation.model_version)
    except artifact.ArtifactRefused:
        raise Problem(
            "The file of the model is missing or damaged, so nobody can tell its scores.",
            code="model_refused",
            status=409,
        ) from None
    scores = artifact.score(model, example_counts([audit.examples[row] for row, _ in chosen]))
    return [
        Item(
            example=audit.examples[row],
            external_id=audit.external_ids[row],
            label=audit.verdict(row),
            score=float(score),
            flagged=bool(score >= evaluation.threshold),
            weight=weight,
        )
        for (row, weight), score in zip(chosen, scores, strict=True)
    ]


@dataclass(frozen=True)
class AuditLabel:
    """A counted audit label: of which text, what was said, and how many texts it stands for."""

    example: UUID
    verdict: str
    weight: float

    @property
    def violates(self) -> bool:
        return self.verdict == Verdict.VIOLATES


def audit_labels(policy: Policy) -> list[AuditLabel]:
    """The decisive audit labels that count today, in the audit order; no model is asked."""
    audit = _audit_side(policy, label_counts(policy).sequence)
    counter = CorpusCounter.objects.filter(policy=policy).first()
    sample = choose_sample(audit.members, last_batch=counter.batches if counter else 0)
    return [
        AuditLabel(audit.examples[row], audit.verdict(row), float(weight))
        for row, weight in zip(sample.rows, sample.weights, strict=True)
        if audit.verdict(row) in DECISIVE
    ]


# a threshold that was moved leaves the evaluations at the older ones behind
_AS_SERVED = {
    "model_version__status": ModelVersion.Status.LIVE,
    "threshold": F("model_version__threshold"),
}


def newest(policy: Policy) -> Evaluation | None:
    """The newest evaluation of the policy's live model."""
    return (
        Evaluation.objects.filter(policy=policy, **_AS_SERVED)
        .select_related("model_version", "policy_version")
        .order_by("-id")
        .first()
    )


def newest_of(policies: Sequence[Policy]) -> dict[UUID, Evaluation]:
    """The newest evaluation of each policy's live model, in one query."""
    rows = (
        Evaluation.objects.filter(policy__in=policies, **_AS_SERVED)
        .select_related("model_version")
        .order_by("policy", "-id")
        .distinct("policy")
    )
    return {row.policy_id: row for row in rows}


def history_of(policies: Sequence[Policy], *, versions: int) -> dict[UUID, list[Evaluation]]:
    """The last evaluation of each of the newest model versions of each policy, oldest first."""
    served = ModelVersion.objects.filter(live_since__isnull=False)
    newest = Window(RowNumber(), partition_by="policy", order_by="-number")
    shown = served.filter(policy__in=policies).annotate(place=newest).filter(place__lte=versions)
    rows = (
        Evaluation.objects.filter(
            policy__in=policies,
            model_version__in=shown.values("pk"),
            threshold=F("model_version__threshold"),
        )
        .select_related("model_version")
        .defer("curve", "histogram", "bounds")
        .order_by("policy", "-model_version__number", "-watermark", "-id")
        .distinct("policy", "model_version__number")
    )
    found: dict[UUID, list[Evaluation]] = {}
    for row in rows:
        found.setdefault(row.policy_id, []).insert(0, row)
    return found


@dataclass(frozen=True)
class _AuditSide:
    """The audit texts up to the furthest drawn one, row by row, and their answers."""

    members: Members
    examples: list[UUID]
    external_ids: list[str]
    answers: dict[int, Answer]

    def verdict(self, row: int) -> str:
        """What was answered; "" where nothing is yet."""
        answer = self.answers.get(int(row))
        return answer.verdict if answer else ""


def _audit_side(policy: Policy, watermark: int, *, cut: float | None = None) -> _AuditSide:
    """Read the audit side up to the furthest drawn text, or up to a known cut."""
    with connection.cursor() as cursor:
        if cut is None:
            cursor.execute(
                "SELECT max(position) FROM labeling_slot"
                " WHERE policy_id = %s AND side = 'audit' AND drawn",
                [policy.pk],
            )
            (cut,) = cursor.fetchone()
        cursor.execute(
            "SELECT there.id, there.example_id, there.external_id, there.group_hash,"
            " there.group_u, there.u, there.batch, slot.drawn"
            " FROM corpus_policyexample there"
            " JOIN labeling_slot slot ON slot.policy_example_id = there.id"
            " WHERE there.policy_id = %s AND there.side = 'audit' AND there.group_u <= %s"
            " ORDER BY there.id",
            [policy.pk, -1.0 if cut is None else cut],
        )
        rows = cursor.fetchall()
    given = {a.policy_example: a for a in answers(policy, side=Side.AUDIT, watermark=watermark)}
    by_row = {i: given[row[0]] for i, row in enumerate(rows) if row[0] in given}
    answered = np.zeros(len(rows), bool)
    answered[list(by_row)] = True
    names: dict[bytes, int] = {}
    members = Members(
        group=np.array([names.setdefault(bytes(r[3]), len(names)) for r in rows], np.int64),
        group_u=np.array([row[4] for row in rows], np.float64),
        u=np.array([row[5] for row in rows], np.float64),
        batch=np.array([row[6] for row in rows], np.int64),
        drawn=np.array([row[7] for row in rows], bool),
        answered=answered,
    )
    return _AuditSide(members, [row[1] for row in rows], [row[2] for row in rows], by_row)


def _figures(
    violates: NDArray[np.bool_], flagged: NDArray[np.bool_], weights: NDArray[np.float64]
) -> dict[str, Any]:
    return estimators.figures(
        violates.astype(bool), flagged.astype(bool), weights.astype(np.float64)
    ).as_dict()


def _flagged_by(version: ModelVersion, texts: Counts) -> NDArray[np.bool_] | None:
    """What a model flags; None when its file is gone or damaged, which must not stop others."""
    try:
        return artifact.score(artifacts.load(version), texts) >= version.threshold
    except artifact.ArtifactRefused:
        return None


def _previous(version: ModelVersion) -> ModelVersion | None:
    """The model that was live before this one; for one that never was, the live one."""
    return (
        ModelVersion.objects.filter(
            policy_id=version.policy_id, live_since__lt=version.live_since or timezone.now()
        )
        .order_by("-live_since")
        .first()
    )
