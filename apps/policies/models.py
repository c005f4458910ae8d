"""Policies, their drafts, their immutable versions and the roles people have on them."""

from __future__ import annotations

from typing import Any, ClassVar

import pgtrigger
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import TextChoices
from django.db.models.expressions import RawSQL

from apps.accounts.actor import Actor
from apps.accounts.models import Membership, Role, Workspace
from apps.base.ids import uuid7
from apps.policies.specification import Specification, parse

_APPEND_ONLY = pgtrigger.Update | pgtrigger.Delete


class PolicyQuerySet(models.QuerySet["Policy"]):
    def visible_to(self, actor: Actor) -> PolicyQuerySet:
        """The policies of the actor's workspace on which they have a role (admins: all)."""
        rows = self.filter(workspace=actor.workspace)
        if actor.membership is None or actor.is_admin:
            return rows
        return rows.filter(roles__membership=actor.membership)

    def owned_by(self, actor: Actor) -> PolicyQuerySet:
        """The policies the actor owns (admins: all of the workspace)."""
        if actor.membership is not None and actor.membership.role == Role.ANNOTATOR:
            return self.none()
        rows = self.filter(workspace=actor.workspace)
        if actor.membership is None or actor.is_admin:
            return rows
        return rows.filter(roles__membership=actor.membership, roles__role=Role.OWNER)

    def with_role_of(self, actor: Actor) -> PolicyQuerySet:
        """Adds `own_role`: the actor's role on each policy, for the permission rules.

        Not for use inside another query, where the table has another name.
        """
        return self.annotate(own_role=RawSQL(OWN_ROLE, own_role_values(actor)))  # noqa: S611


OWN_ROLE = """CASE WHEN %s THEN 'admin' ELSE (
    SELECT CASE WHEN %s THEN 'annotator' ELSE role.role END FROM policies_policyrole role
    WHERE role.policy_id = policies_policy.id AND role.membership_id = %s
) END"""
"""The actor's role on a policies_policy; NULL where they have none.

Whoever is an annotator in the workspace owns nothing, whatever they once owned.
"""


def own_role_values(actor: Actor) -> list[Any]:
    member = actor.membership
    return [
        member is None or actor.is_admin,
        member is not None and member.role == Role.ANNOTATOR,
        actor.membership_id,
    ]


class Policy(models.Model):
    """A behavioural specification: what model outputs may and may not do."""

    class Status(TextChoices):
        DRAFT = "draft"
        ACTIVE = "active"
        RETIRED = "retired"

    class Level(TextChoices):
        """Whose word it is; the first binds those after it."""

        PLATFORM = "platform"
        ORGANISATION = "organisation"
        APPLICATION = "application"

    class Mode(TextChoices):
        """Off: not looked at. Shadow: decides and is recorded, never acts. Enforce: acts."""

        OFF = "off"
        SHADOW = "shadow"
        ENFORCE = "enforce"

    class OnFailure(TextChoices):
        """What is advised when an enforced policy cannot judge: let through, or block."""

        OPEN = "open"
        CLOSED = "closed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="policies")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT)
    current_version = models.ForeignKey(
        "PolicyVersion", models.SET_NULL, null=True, related_name="+"
    )
    # targets (the threshold is chosen for the first one that is set, in this order)
    target_false_positive_rate = models.FloatField(
        null=True,
        blank=True,
        default=0.05,
        validators=[MinValueValidator(0.0001), MaxValueValidator(0.9)],
    )
    target_recall = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.01), MaxValueValidator(0.9999)]
    )
    target_cost_ratio = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.001), MaxValueValidator(1000)]
    )
    retrain_after = models.PositiveIntegerField(default=25, validators=[MinValueValidator(1)])
    retrain_every_hours = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(8760)]
    )
    audit_fraction = models.FloatField(
        default=0.3, validators=[MinValueValidator(0.05), MaxValueValidator(0.95)]
    )
    audit_share = models.FloatField(
        default=0.3, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )
    level = models.CharField(max_length=12, choices=Level.choices, default=Level.APPLICATION)
    mode = models.CharField(max_length=7, choices=Mode.choices, default=Mode.SHADOW)
    on_failure = models.CharField(max_length=6, choices=OnFailure.choices, default=OnFailure.CLOSED)
    # the share of traffic an enforced policy acts on, in percent; the rest is in shadow
    rollout = models.PositiveSmallIntegerField(
        default=100, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    # what is said instead of an output where the action is rewrite
    safe_completion = models.CharField(max_length=2000, default="Sorry, I cannot help with that.")
    # whoever wrote some of a draft does not publish it
    second_approver = models.BooleanField(default=False)
    # the categories of taxonomies it stands for, as "openai/hate"
    categories = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    own_role: str | None

    objects: ClassVar[PolicyQuerySet] = PolicyQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "slug"], name="policy_slug_unique")
        ]
        indexes = [
            # the list of policies, by keyset
            models.Index(fields=["workspace", "id"], name="policy_list"),
        ]

    def __str__(self) -> str:
        return self.name


class PolicyRole(models.Model):
    """What a member does on one policy: annotate it, or own it (which includes annotating)."""

    policy = models.ForeignKey(Policy, models.CASCADE, related_name="roles")
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="policy_roles")
    role = models.CharField(
        max_length=10, choices=[(Role.ANNOTATOR, "annotator"), (Role.OWNER, "owner")]
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "membership"], name="policy_role_unique")
        ]

    def __str__(self) -> str:
        return f"{self.membership} on {self.policy}"


class PolicyDraft(models.Model):
    """The editable text of a policy's next version; `revision` guards against lost edits.

    Args:
        authors: all who wrote some of it since the last version.
    """

    policy = models.OneToOneField(Policy, models.CASCADE, primary_key=True, related_name="draft")
    content = models.JSONField()
    revision = models.PositiveIntegerField(default=1)
    edited_by = models.ForeignKey(Membership, models.SET_NULL, null=True)
    edited_at = models.DateTimeField(auto_now=True)
    authors = models.ManyToManyField(Membership, related_name="+")

    def __str__(self) -> str:
        return f"draft of {self.policy}"

    @property
    def specification(self) -> Specification:
        return parse(self.content)


class PolicyVersion(models.Model):
    """A published specification, numbered 1, 2, 3... and never changed."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    policy = models.ForeignKey(Policy, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    stages = models.JSONField()
    definition = models.TextField()
    scope = models.TextField(blank=True)
    rationale = models.TextField(blank=True)
    written_by = models.JSONField(default=list)  # addresses of its draft's authors
    published_by = models.CharField(max_length=300)
    published_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["policy", "number"], name="policy_version_unique")
        ]
        triggers = [pgtrigger.Protect(name="version_append_only", operation=_APPEND_ONLY)]

    def __str__(self) -> str:
        return f"{self.policy} v{self.number}"

    @property
    def specification(self) -> Specification:
        """The version as plain data (reads its rules)."""
        return parse(
            {
                "stages": self.stages,
                "definition": self.definition,
                "scope": self.scope,
                "rationale": self.rationale,
                "rules": [
                    {
                        "key": rule.key,
                        "polarity": rule.polarity,
                        "text": rule.text,
                        "severity": rule.severity,
                        "action": rule.action,
                        "examples": rule.examples,
                    }
                    for rule in self.rules.all()
                ],
            }
        )


class Rule(models.Model):
    """A rule of one version; `key` says which rule it is over versions."""

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(PolicyVersion, models.CASCADE, related_name="rules")
    position = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=60)
    polarity = models.CharField(max_length=10)
    text = models.TextField()
    severity = models.PositiveSmallIntegerField()
    action = models.CharField(max_length=10)
    examples = models.JSONField()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["version", "key"], name="rule_key_unique")]
        triggers = [pgtrigger.Protect(name="rule_append_only", operation=_APPEND_ONLY)]

    def __str__(self) -> str:
        return self.key


class Taxonomy(models.Model):
    """A workspace's own list of harm categories; the built-in ones are in taxonomies.py.

    Args:
        categories: [{"code", "name", "about"}], in order.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, models.CASCADE, related_name="taxonomies", db_index=False
    )
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=200)
    categories = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "slug"], name="taxonomy_slug_unique")
        ]

    def __str__(self) -> str:
        return self.name


class CategoryMapping(models.Model):
    """What a workspace says a category means in other taxonomies, in place of the built-in word.

    Args:
        source: "llama_guard/S10"; targets: ["openai/hate", ...], [] for none.
    """

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    source = models.CharField(max_length=121)
    targets = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "source"], name="mapping_source_unique")
        ]

    def __str__(self) -> str:
        return self.source
