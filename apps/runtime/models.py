"""Decisions: what was answered, by which versions, and what ran."""

from __future__ import annotations

from typing import ClassVar

import pgtrigger
from django.db import models

from apps.accounts.actor import Actor
from apps.accounts.models import Workspace
from apps.base.ids import uuid7


class DecisionQuerySet(models.QuerySet["Decision"]):
    def visible_to(self, actor: Actor) -> DecisionQuerySet:
        return self.filter(workspace=actor.workspace)


class Decision(models.Model):
    """One answer of the check API. Append-only; its table is partitioned by month, through `id`.

    Args:
        caller: how the audit trail names who asked.
        finished: False when the answer was advice only, because an enforced policy failed.
        degraded: why it was less than a whole judgement; [] when it was whole.
        text_hash: keyed hash of what was judged, by the workspace's own key; never the text.
        length: code points judged.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    caller = models.CharField(max_length=400)
    stage = models.CharField(max_length=10)
    action = models.CharField(max_length=10)
    finished = models.BooleanField()
    degraded = models.JSONField()
    bundle = models.CharField(max_length=32)
    text_hash = models.BinaryField()
    length = models.PositiveIntegerField()
    latency_ms = models.FloatField()
    reasons = models.JSONField()
    receipt = models.JSONField()

    objects: ClassVar[DecisionQuerySet] = DecisionQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            # the list of decisions, by keyset
            models.Index(fields=["workspace", "id"], name="decision_list"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="decision_append_only", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.action} ({self.id})"
