"""Evaluations: what the audit labels said of a model, frozen each time they were asked."""

from __future__ import annotations

import pgtrigger
from django.db import models

from apps.base.ids import uuid7
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy, PolicyVersion


class Evaluation(models.Model):
    """One model version at one threshold on the audit labels up to a watermark.

    Its items are derived (`services.items_of`), not copied: population (`batch`), `cut`,
    watermark and model say which they are.

    Args:
        figures: estimators.Figures of the model on these items.
        previous: the same of the model that was live before, on the same items; null for none.
        bounds: how far figures can move when the unresolved items are answered.
        unresolved, unsure: items of the prefix without an answer, and with "unsure".
        under_older_versions: counted labels made under an older policy version.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="evaluations", db_index=False)
    model_version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="evaluations", db_index=False
    )
    threshold = models.FloatField()
    policy_version = models.ForeignKey(
        PolicyVersion, models.PROTECT, related_name="+", db_index=False
    )
    watermark = models.BigIntegerField()
    batch = models.PositiveIntegerField()
    imported_until = models.DateTimeField(null=True)
    cut = models.FloatField()
    counted = models.PositiveIntegerField()
    unresolved = models.PositiveIntegerField()
    unsure = models.PositiveIntegerField()
    under_older_versions = models.PositiveIntegerField()
    figures = models.JSONField()
    previous = models.JSONField(null=True)
    bounds = models.JSONField()
    curve = models.JSONField()
    histogram = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model_version", "threshold", "policy_version", "watermark"],
                name="evaluation_unique",
            )
        ]
        indexes = [
            # the newest of a policy: every page with figures
            models.Index(fields=["policy", "-id"], name="evaluation_newest"),
            # the newest of each model version: sparklines
            models.Index(fields=["model_version", "-watermark"], name="evaluation_of_model"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="evaluation_append_only", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.model_version} on {self.counted} labels"


class Refresh(models.Model):
    """That a policy's figures are asked for: a burst of labels becomes one evaluation.

    Args:
        requested_at: null while nobody waits for them.
        begun_at, ended_at: when they were last worked out; without an end since, a worker died.
    """

    policy = models.OneToOneField(Policy, models.CASCADE, primary_key=True, related_name="+")
    requested_at = models.DateTimeField(null=True)
    begun_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.policy)


class MustPassCase(models.Model):
    """A text whose verdict is known; every candidate has to get it right before it goes live.

    Args:
        facts: what else was judged with the text: role, source, calls of tools.
        expected: violates or complies.
        why: in words, and where it comes from, e.g. an incident.
    """

    class Expected(models.TextChoices):
        VIOLATES = "violates"
        COMPLIES = "complies"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="cases", db_index=False)
    text = models.TextField()
    facts = models.JSONField(default=dict, blank=True)
    expected = models.CharField(max_length=8, choices=Expected.choices)
    why = models.CharField(max_length=2000)
    made_by = models.CharField(max_length=300)
    made_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # the list of a policy's cases, and those that count
            models.Index(fields=["policy", "id"], name="case_list"),
        ]

    def __str__(self) -> str:
        return f"case of {self.policy}: {self.expected}"

    @property
    def name(self) -> str:
        """What pages and refusals call it."""
        return f"case {str(self.pk)[-6:]}"
