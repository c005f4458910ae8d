"""Training runs: the rows that retrains are."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from apps.accounts.actor import Actor
from apps.accounts.models import Membership
from apps.base.ids import uuid7
from apps.base.jobs import ACTIVE, Job
from apps.guardrails.models import ModelVersion
from apps.labeling.models import DatasetVersion
from apps.policies.models import Policy


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    def visible_to(self, actor: Actor) -> TrainingRunQuerySet:
        """Runs of policies the actor can see."""
        return self.filter(policy__in=Policy.objects.visible_to(actor))


class TrainingRun(Job):
    """One retrain of a policy's classifier, from frozen labels to live model."""

    class Trigger(models.TextChoices):
        LABELS = "labels"
        PERSON = "person"
        SCHEDULE = "schedule"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="runs", db_index=False)
    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    requested_by = models.ForeignKey(Membership, models.SET_NULL, null=True)
    seed = models.PositiveIntegerField(default=0)
    dataset = models.ForeignKey(DatasetVersion, models.PROTECT, null=True, related_name="runs")
    model_version = models.ForeignKey(ModelVersion, models.SET_NULL, null=True, related_name="runs")
    # lines of {"at", "text"}; short, so they live in the row
    log = models.JSONField(default=list)

    objects: ClassVar[TrainingRunQuerySet] = TrainingRunQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            # one running retrain a policy
            models.UniqueConstraint(
                fields=["policy"],
                name="run_active_unique",
                condition=models.Q(status__in=list(ACTIVE)),
            )
        ]
        indexes = [
            models.Index(fields=["policy", "-id"], name="run_list"),
            # the sweeper
            models.Index(
                fields=["status"],
                name="run_active",
                condition=models.Q(status__in=list(ACTIVE)),
            ),
        ]

    def __str__(self) -> str:
        return f"run of {self.policy}"
