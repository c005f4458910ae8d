"""Slots, leases, labels and the frozen sets of labels that models are trained on."""

from __future__ import annotations

import pgtrigger
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from apps.accounts.models import Membership
from apps.base.ids import uuid7
from apps.corpus.models import PolicyExample, Side
from apps.policies.models import Policy, PolicyVersion

_APPEND_ONLY = pgtrigger.Update | pgtrigger.Delete


class State(models.TextChoices):
    """Where a slot is: held back (its group is audited by another text), free, out, answered."""

    HELD = "held"
    FREE = "free"
    LEASED = "leased"
    ANSWERED = "answered"


class Stream(models.TextChoices):
    """How an item was drawn. Only audit and exploration draws are random samples."""

    AUDIT = "audit"
    EXPLORATION = "exploration"
    LEARNING = "learning"


class Slot(models.Model):
    """One answer that is wanted for one example of a policy: the queue is these rows.

    Args:
        position: the random order of the stream: group_u on the audit side, u on the train side.
        priority: what the learning stream ranks by; 0 until a model has scored the example.
        drawn: whether anybody was ever given it; a drawn slot without answer is unresolved.
        skips: how many people skipped it; from two on it waits for an owner.
    """

    id = models.BigAutoField(primary_key=True)
    policy = models.ForeignKey(
        Policy, models.CASCADE, related_name="slots", db_index=False, db_constraint=False
    )
    policy_example = models.ForeignKey(PolicyExample, models.CASCADE, related_name="slots")
    side = models.CharField(max_length=5, choices=Side.choices)
    position = models.FloatField()
    priority = models.FloatField(default=0.0)
    state = models.CharField(max_length=8, choices=State.choices)
    drawn = models.BooleanField(default=False)
    skips = models.PositiveSmallIntegerField(default=0)
    lease = models.ForeignKey("Lease", models.SET_NULL, null=True, related_name="+", db_index=False)
    label = models.ForeignKey("Label", models.SET_NULL, null=True, related_name="+", db_index=False)

    class Meta:
        indexes = [
            # the audit and exploration streams
            models.Index(
                fields=["policy", "side", "position"],
                name="slot_random",
                condition=models.Q(state="free", skips__lt=2),
            ),
            # the learning stream
            models.Index(
                fields=["policy", "-priority", "position"],
                name="slot_learning",
                condition=models.Q(state="free", side="train", skips__lt=2),
            ),
            # how far the audit stream was drawn
            models.Index(
                fields=["policy", "position"],
                name="slot_drawn",
                condition=models.Q(side="audit", drawn=True),
            ),
            # skipped twice: what waits for an owner
            models.Index(
                fields=["policy", "id"],
                name="slot_escalated",
                condition=models.Q(state="free", skips__gte=2),
            ),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk}"


class Lease(models.Model):
    """A slot lent to one person until `expires_at`; closed by an answer, a skip or a release."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="+", db_index=False)
    slot = models.ForeignKey(Slot, models.CASCADE, related_name="leases", db_index=False)
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="+", db_index=False)
    policy_version = models.ForeignKey(
        PolicyVersion, models.PROTECT, related_name="+", db_index=False
    )
    stream = models.CharField(max_length=11, choices=Stream.choices)
    expires_at = models.DateTimeField()
    closed = models.BooleanField(default=False)

    class Meta:
        indexes = [
            # what a person holds now
            models.Index(
                fields=["membership", "policy", "id"],
                name="lease_open",
                condition=models.Q(closed=False),
            ),
            # the sweeper
            models.Index(
                fields=["expires_at"], name="lease_expiry", condition=models.Q(closed=False)
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Verdict(models.TextChoices):
    """An answer; `retracted` is the revision that undo writes."""

    VIOLATES = "violates"
    COMPLIES = "complies"
    UNSURE = "unsure"
    RETRACTED = "retracted"


DECISIVE = (Verdict.VIOLATES, Verdict.COMPLIES)


class Label(models.Model):
    """One revision of one answer. Rows are never changed: a later one `supersedes` an earlier one.

    Args:
        sequence: 1, 2, 3... per policy in the order of commit; a watermark is such a number.
        slot: null for an extra answer that came after its lease was over and the slot taken.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="labels", db_index=False)
    sequence = models.BigIntegerField()
    slot = models.ForeignKey(Slot, models.CASCADE, null=True, related_name="labels", db_index=False)
    policy_example = models.ForeignKey(PolicyExample, models.CASCADE, related_name="labels")
    annotator = models.ForeignKey(Membership, models.PROTECT, related_name="labels", db_index=False)
    policy_version = models.ForeignKey(
        PolicyVersion, models.PROTECT, related_name="+", db_index=False
    )
    # not a foreign key: leases are swept away in time, labels stay
    lease_id = models.UUIDField()
    stream = models.CharField(max_length=11, choices=Stream.choices)
    verdict = models.CharField(max_length=9, choices=Verdict.choices)
    rules = models.JSONField(default=list)
    severity = models.PositiveSmallIntegerField(
        null=True, validators=[MinValueValidator(1), MaxValueValidator(4)]
    )
    rationale = models.TextField(blank=True)
    seconds = models.FloatField(null=True)
    supersedes = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="superseded_by", db_index=False
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "sequence"], name="label_sequence_unique"),
            models.UniqueConstraint(
                fields=["slot"], name="label_slot_unique", condition=models.Q(supersedes=None)
            ),
            models.UniqueConstraint(
                fields=["policy_example", "annotator", "policy_version"],
                name="label_person_unique",
                condition=models.Q(supersedes=None, slot__isnull=False),
            ),
            # a revision is revised once, so that a slot's answers form one line
            models.UniqueConstraint(
                fields=["supersedes"],
                name="label_supersedes_unique",
                condition=models.Q(supersedes__isnull=False),
            ),
            # a lease is answered once: a repeated submit finds its first answer here
            models.UniqueConstraint(
                fields=["lease_id"],
                name="label_lease_unique",
                condition=~models.Q(verdict="retracted"),
            ),
        ]
        indexes = [
            # own last answer (undo), pace and counts per person
            models.Index(fields=["policy", "annotator", "-sequence"], name="label_annotator"),
        ]
        triggers = [pgtrigger.Protect(name="label_append_only", operation=_APPEND_ONLY)]

    def __str__(self) -> str:
        return f"{self.verdict} ({self.sequence})"


class Skip(models.Model):
    """Somebody passed an item on, and why; they are not offered it again."""

    id = models.BigAutoField(primary_key=True)
    slot = models.ForeignKey(Slot, models.CASCADE, related_name="skipped", db_index=False)
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="+", db_index=False)
    reason = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "membership"], name="skip_unique")]

    def __str__(self) -> str:
        return self.reason


class LabelCounter(models.Model):
    """Running counts of a policy's labels; its row lock gives labels their gapless sequence.

    Args:
        frozen: the sequence when the last dataset was frozen.
        since_frozen: decisive train-side labels given since then; what was undone is not counted.
        train..., audit...: current labels by side and verdict.
    """

    policy = models.OneToOneField(
        Policy, models.CASCADE, primary_key=True, related_name="label_counter"
    )
    sequence = models.BigIntegerField(default=0)
    frozen = models.BigIntegerField(default=0)
    since_frozen = models.BigIntegerField(default=0)
    train_violates = models.IntegerField(default=0)
    train_complies = models.IntegerField(default=0)
    audit_violates = models.IntegerField(default=0)
    audit_complies = models.IntegerField(default=0)
    unsure = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.policy}: {self.sequence}"

    @property
    def train(self) -> int:
        return self.train_violates + self.train_complies

    @property
    def audit(self) -> int:
        return self.audit_violates + self.audit_complies


class DatasetVersion(models.Model):
    """The frozen list of labels a training run used: all current ones up to the watermark.

    Args:
        content_hash: covers label ids, verdicts, the document counts behind the IDF, recipe,
            extractor and library versions, seed. Same hash, same model.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="datasets", db_index=False)
    content_hash = models.CharField(max_length=64)
    watermark = models.BigIntegerField()
    violates = models.PositiveIntegerField()
    complies = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "content_hash"], name="dataset_hash_unique")
        ]
        triggers = [pgtrigger.Protect(name="dataset_append_only", operation=_APPEND_ONLY)]

    def __str__(self) -> str:
        return self.content_hash[:12]
