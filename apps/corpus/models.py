"""Sources, imports, examples and what each policy keeps of an example."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models

from apps.accounts.actor import Actor
from apps.accounts.models import Membership, Workspace
from apps.base.ids import uuid7
from apps.base.jobs import ACTIVE, Job
from apps.policies.models import Policy


class Source(models.Model):
    """Where outputs come from, under which licence, and whether they may be trained on."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="sources")
    name = models.CharField(max_length=200)
    licence = models.CharField(max_length=200, blank=True)
    may_train = models.BooleanField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="source_name_unique")
        ]

    def __str__(self) -> str:
        return self.name


class ImportQuerySet(models.QuerySet["Import"]):
    def owned_by(self, actor: Actor) -> ImportQuerySet:
        """Imports into policies the actor owns."""
        return self.filter(workspace=actor.workspace, policy__in=Policy.objects.owned_by(actor))

    def visible_to(self, actor: Actor) -> ImportQuerySet:
        """Imports into policies the actor can see."""
        return self.filter(workspace=actor.workspace, policy__in=Policy.objects.visible_to(actor))


class Import(Job):
    """A file on its way into the corpus of a policy.

    `next_row` is the watermark: rows below it are committed, so a restarted import ends with
    each row once. An import waits as a draft until its columns are mapped.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="imports")
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="imports")
    source = models.ForeignKey(Source, models.PROTECT, null=True, related_name="imports")
    created_by = models.ForeignKey(Membership, models.SET_NULL, null=True)
    file_name = models.CharField(max_length=255)
    format = models.CharField(max_length=8)  # csv, json, jsonl
    mapping = models.JSONField(default=dict)
    total_rows = models.PositiveIntegerField(null=True)
    next_row = models.PositiveIntegerField(default=0)
    rows = models.PositiveIntegerField(default=0)
    new = models.PositiveIntegerField(default=0)
    duplicates = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)

    objects: ClassVar[ImportQuerySet] = ImportQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            models.Index(fields=["policy", "-id"], name="import_list"),
            # the sweeper
            models.Index(
                fields=["status"],
                name="import_active",
                condition=models.Q(status__in=list(ACTIVE)),
            ),
        ]

    def __str__(self) -> str:
        return self.file_name


class RejectedRow(models.Model):
    """A row that was not imported, and why. Never the row's text."""

    id = models.BigAutoField(primary_key=True)
    import_job = models.ForeignKey(Import, models.CASCADE, related_name="rejected_rows")
    row = models.PositiveIntegerField()
    reason = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["import_job", "row"], name="rejected_row_unique")
        ]

    def __str__(self) -> str:
        return f"{self.row}: {self.reason}"


class Example(models.Model):
    """One model interaction: prompt x, output y and their context, kept as received."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    content_hash = models.BinaryField()
    prompt = models.TextField(blank=True)
    output = models.TextField()
    context = models.TextField(blank=True)
    model = models.CharField(max_length=200, blank=True)
    language = models.CharField(max_length=35, blank=True)
    tags = models.JSONField(default=list)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    search = models.GeneratedField(
        # the first 64 kB, because a tsvector has a limit of 1 MB
        expression=models.Func(
            models.F("output"),
            models.F("prompt"),
            template="to_tsvector('simple'::regconfig, left(output || ' ' || prompt, 65536))",
        ),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "content_hash"], name="example_content_unique"
            )
        ]
        indexes = [GinIndex(fields=["search"], name="example_search")]

    def __str__(self) -> str:
        return str(self.id)


class Side(models.TextChoices):
    """Which use an example is fixed to, for ever, by its group."""

    TRAIN = "train"
    AUDIT = "audit"


class PolicyExampleQuerySet(models.QuerySet["PolicyExample"]):
    def visible_to(self, actor: Actor) -> PolicyExampleQuerySet:
        return self.filter(policy__in=Policy.objects.visible_to(actor))


class PolicyExample(models.Model):
    """What is per policy about an example: its side, its permanent random numbers, its group.

    PostgreSQL checks the reference to the example only. Policy, source and import are the same for
    the 10,000 rows of a batch: asking after them row by row took a sixth of an import's time. They
    go only with their whole workspace, and erasing it waits for a batch that holds it.

    Args:
        group_hash: keyed hash of the near-duplicate group; a group lies wholly on one side.
        group_u: the group's permanent random number in [0, 1): the audit order.
        u: the example's own permanent random number in [0, 1).
        batch: the policy's n-th committed batch brought it; "imported until" is a batch number.
        occurrences: how often this text came, duplicates included.
    """

    id = models.BigAutoField(primary_key=True)
    policy = models.ForeignKey(
        Policy, models.CASCADE, related_name="examples", db_index=False, db_constraint=False
    )
    example = models.ForeignKey(
        Example, models.CASCADE, related_name="in_policies", db_index=False
    )  # the unique constraint has its index
    source = models.ForeignKey(
        Source, models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    import_job = models.ForeignKey(
        Import, models.SET_NULL, null=True, related_name="+", db_index=False, db_constraint=False
    )
    external_id = models.CharField(max_length=200, blank=True)
    side = models.CharField(max_length=5, choices=Side.choices)
    group_hash = models.BinaryField()
    group_u = models.FloatField()
    u = models.FloatField()
    batch = models.PositiveIntegerField()
    occurrences = models.PositiveIntegerField(default=1)

    objects: ClassVar[PolicyExampleQuerySet] = PolicyExampleQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["example", "policy"], name="policy_example_unique"),
            models.UniqueConstraint(
                fields=["policy", "external_id"],
                name="policy_external_id_unique",
                condition=~models.Q(external_id=""),
            ),
        ]
        indexes = [
            # the data list, by keyset
            models.Index(fields=["policy", "id"], name="policy_example_list"),
            # a group's members in the order of u: side of newcomers, the audited one of a group
            models.Index(fields=["policy", "group_hash", "u"], name="policy_example_group"),
            # the audit sample: who lies below the cut
            models.Index(
                fields=["policy", "group_u"],
                name="policy_example_audit",
                condition=models.Q(side="audit"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.example_id} in {self.policy_id}"


class CorpusCounter(models.Model):
    """How much a policy has; its row lock gives batches their gapless numbers."""

    policy = models.OneToOneField(
        Policy, models.CASCADE, primary_key=True, related_name="corpus_counter"
    )
    batches = models.PositiveIntegerField(default=0)
    train = models.PositiveIntegerField(default=0)
    audit = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.policy}: {self.batches}"


class Batch(models.Model):
    """When a policy's n-th batch was committed: what "imported until" means to a reader."""

    id = models.BigAutoField(primary_key=True)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="batches", db_index=False)
    number = models.PositiveIntegerField()
    committed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="batch_number_unique")
        ]

    def __str__(self) -> str:
        return f"batch {self.number}"


class Facet(models.Model):
    """How many examples of a policy have this value, counted as they arrive."""

    id = models.BigAutoField(primary_key=True)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="facets", db_index=False)
    name = models.CharField(max_length=10)  # model, language, source
    value = models.CharField(max_length=200)
    count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "name", "value"], name="facet_unique")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.value}"
