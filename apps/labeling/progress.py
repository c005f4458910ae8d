"""How far labelling is: read from counters, never by counting the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Aggregate, Avg, Count, FloatField, Q, QuerySet
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.corpus.models import CorpusCounter
from apps.labeling.models import Label, LabelCounter, Slot, Verdict
from apps.policies.models import Policy


@dataclass(frozen=True)
class Progress:
    """Texts of a policy, and how many of them have an answer."""

    texts: int
    answered: int
    own_today: int

    @property
    def left(self) -> int:
        return max(self.texts - self.answered, 0)


@dataclass(frozen=True)
class Pace:
    """What one person did on a policy in the last 24 hours."""

    labels: int
    median_seconds: float | None


def of_policies(policies: Sequence[Policy], actor: Actor) -> dict[UUID, Progress]:
    """The progress of each policy, in three queries whatever their number."""
    corpus = {c.policy_id: c for c in CorpusCounter.objects.filter(policy__in=policies)}
    given = {c.policy_id: c for c in LabelCounter.objects.filter(policy__in=policies)}
    own = dict(
        _today(Label.objects.filter(policy__in=policies, annotator=actor.membership_id))
        .values_list("policy")
        .annotate(Count("id"))
    )
    found = {}
    for policy in policies:
        texts, answers = corpus.get(policy.pk), given.get(policy.pk)
        found[policy.pk] = Progress(
            texts=texts.train + texts.audit if texts else 0,
            answered=answers.train + answers.audit + answers.unsure if answers else 0,
            own_today=own.get(policy.pk, 0),
        )
    return found


def pace(policy: Policy, actor: Actor) -> Pace:
    """How many answers one gave in the last 24 hours, and their median time."""
    given = _today(Label.objects.filter(policy=policy, annotator=actor.membership_id))
    return Pace(**given.aggregate(labels=Count("id"), median_seconds=_Median("seconds")))


def pool(policy: Policy) -> CorpusCounter:
    """How many texts there are to be labelled."""
    return CorpusCounter.objects.filter(policy=policy).first() or CorpusCounter(policy=policy)


def people(policy: Policy) -> list[dict[str, Any]]:
    """Answers of each person on the policy: by verdict, with their mean time."""
    rows = (
        _given(Label.objects.filter(policy=policy))
        .values("annotator__user__email")
        .annotate(
            violates=Count("id", filter=Q(verdict=Verdict.VIOLATES)),
            complies=Count("id", filter=Q(verdict=Verdict.COMPLIES)),
            unsure=Count("id", filter=Q(verdict=Verdict.UNSURE)),
            seconds=Avg("seconds"),
        )
        .order_by("-violates", "annotator__user__email")
    )
    return [dict(row) for row in rows[:100]]


def escalated(policy: Policy) -> list[Slot]:
    """Items skipped by two people: they wait for an owner, who draws them on the Label page."""
    waiting = Slot.objects.filter(policy=policy, state="free", skips__gte=2).order_by("id")
    return list(waiting.select_related("policy_example__example")[:20])


def _given(rows: QuerySet[Label]) -> QuerySet[Label]:
    """Answers, without those that were undone."""
    return rows.exclude(verdict=Verdict.RETRACTED).exclude(superseded_by__verdict=Verdict.RETRACTED)


def _today(rows: QuerySet[Label]) -> QuerySet[Label]:
    return _given(rows).filter(created_at__gt=timezone.now() - timedelta(hours=24))


class _Median(Aggregate):
    template = "percentile_cont(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()
