"""Model versions, what guardrails consist of, and the counts that are read instead of texts."""

from __future__ import annotations

import pgtrigger
from django.db import models

from apps.accounts.models import Membership
from apps.base.ids import uuid7
from apps.corpus.models import Example
from apps.labeling.models import DatasetVersion
from apps.policies.models import Policy, PolicyVersion


class DocumentCounts(models.Model):
    """In how many train-side texts of a policy each column occurs: what the IDF is made of."""

    policy = models.OneToOneField(
        Policy, models.CASCADE, primary_key=True, related_name="document_counts"
    )
    extractor_version = models.PositiveSmallIntegerField()
    documents = models.PositiveIntegerField(default=0)
    frequency = models.BinaryField()  # little-endian int32, one a column

    def __str__(self) -> str:
        return f"{self.policy}: {self.documents}"


class ExampleCounts(models.Model):
    """The n-gram counts of a labelled example's output, so that nobody reads the text again."""

    example = models.OneToOneField(Example, models.CASCADE, primary_key=True, related_name="+")
    extractor_version = models.PositiveSmallIntegerField()
    counts = models.BinaryField()

    def __str__(self) -> str:
        return str(self.example_id)


class ModelVersion(models.Model):
    """A trained classifier of a policy; its artifact is a file named by its hash.

    Args:
        number: 1, 2, 3... per policy: the number people say.
        config_hash: recipe, extractor and library versions.
        signature: HMAC of the artifact by a key that is not in the database.
        report: out-of-fold figures and how calibration went, for the page; no audit labels in it.
    """

    class Status(models.TextChoices):
        LIVE = "live"
        RETIRED = "retired"
        REJECTED = "rejected"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="models", db_index=False)
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=8, choices=Status.choices)
    dataset = models.ForeignKey(DatasetVersion, models.PROTECT, related_name="models")
    policy_version = models.ForeignKey(
        PolicyVersion, models.PROTECT, related_name="+", db_index=False
    )
    config_hash = models.CharField(max_length=64)
    seed = models.PositiveIntegerField()
    recipe = models.JSONField()
    libraries = models.JSONField()
    threshold = models.FloatField()
    threshold_rule = models.CharField(max_length=20)
    threshold_note = models.CharField(max_length=500)
    threshold_provisional = models.BooleanField()
    report = models.JSONField()
    sha256 = models.CharField(max_length=64)
    signature = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    live_since = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="model_number_unique"),
            models.UniqueConstraint(
                fields=["policy", "dataset", "config_hash", "seed"], name="model_inputs_unique"
            ),
            models.UniqueConstraint(
                fields=["policy"], name="model_live_unique", condition=models.Q(status="live")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy} model {self.number}"


class GuardrailDraft(models.Model):
    """What a policy's guardrail will be; `revision` guards against lost edits.

    Args:
        authors: all who wrote some of it since the last version.
    """

    policy = models.OneToOneField(
        Policy, models.CASCADE, primary_key=True, related_name="guardrail_draft"
    )
    content = models.JSONField()
    revision = models.PositiveIntegerField(default=1)
    edited_by = models.ForeignKey(Membership, models.SET_NULL, null=True, related_name="+")
    edited_at = models.DateTimeField(auto_now=True)
    authors = models.ManyToManyField(Membership, related_name="+")

    def __str__(self) -> str:
        return f"guardrail draft of {self.policy}"


class GuardrailVersion(models.Model):
    """Checks and gate of a policy, numbered 1, 2, 3... and never changed; the newest one guards."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="guardrails", db_index=False)
    number = models.PositiveIntegerField()
    content = models.JSONField()
    note = models.CharField(max_length=500, blank=True)
    written_by = models.JSONField(default=list)  # addresses of its draft's authors
    published_by = models.CharField(max_length=300)
    published_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="guardrail_number_unique")
        ]
        triggers = [
            pgtrigger.Protect(
                name="guardrail_append_only", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.policy} guardrail {self.number}"


class RuleException(models.Model):
    """A phrase or a whole text that is let through for one rule until a day: the answer at 3 a.m.

    Args:
        rule: key of the rule; "" for what the policy finds as a whole (its classifier).
        phrase: let through wherever it stands; what stands round it is judged without it.
        text_hash: of a whole text that is let through as it is, keyed (see exemptions.py); one of
            both is given.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="exceptions", db_index=False)
    rule = models.CharField(max_length=60, blank=True)
    phrase = models.CharField(max_length=1000, blank=True)
    text_hash = models.BinaryField(null=True)
    reason = models.CharField(max_length=500)
    made_by = models.CharField(max_length=300)
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # the list of a policy's exceptions, and those in force
            models.Index(fields=["policy", "id"], name="exception_list"),
        ]
        constraints = [
            models.CheckConstraint(
                name="exception_one_kind",
                condition=models.Q(phrase="") ^ models.Q(text_hash__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"exception of {self.policy}"
