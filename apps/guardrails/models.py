"""Model versions, and the counts that training and scoring read instead of texts."""

from __future__ import annotations

from django.db import models

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
