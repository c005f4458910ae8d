"""People, workspaces, roles, API tokens and the audit trail."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import pgtrigger
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.utils import timezone

from apps.base.ids import uuid7

CHECKS_PER_SECOND = 100
"""What a token may ask of the check API, unless whoever makes it says otherwise."""


class UserManager(BaseUserManager["User"]):
    """People are found by their e-mail address, whatever its case."""

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").strip().lower())

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser, PermissionsMixin):
    """A person. What they may do hangs on their memberships, never on this row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254, unique=True)  # always lower case
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True)
    # somebody else knows the password: nothing is open until they choose their own
    must_change_password = models.BooleanField(default=False)
    # how this person likes to work: theme, label keys; small and validated by the view
    preferences = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        """What they are called where there is little room."""
        return self.name or self.email.partition("@")[0]


def _split_key() -> bytes:
    return secrets.token_bytes(32)


class Workspace(models.Model):
    """The tenant boundary: nothing in one workspace is visible from another."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=200)
    # keys the hash that fixes an example's side for ever; losing it loses the split
    split_key = models.BinaryField(default=_split_key)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """What a member may do at most; annotators and owners also need a role on a policy."""

    ANNOTATOR = "annotator"
    OWNER = "owner"
    ADMIN = "admin"


class Membership(models.Model):
    """A person in a workspace. An owner may create policies; an admin may do everything in it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="membership_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> ApiTokenQuerySet:
        """Those that have neither ended nor been revoked."""
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())


class ApiToken(models.Model):
    """A hashed, scoped key of one membership; the key itself is shown once and never stored."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    membership = models.ForeignKey(Membership, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=8, unique=True)
    digest = models.BinaryField()
    scopes = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    checks_per_second = models.PositiveSmallIntegerField(default=CHECKS_PER_SECOND)
    # what is checked with it is no traffic
    of_canaries = models.BooleanField(default=False, db_default=False)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"gk_…{self.prefix}"


class SignInAttempts(models.Model):
    """Failed sign-ins of one address or one caller in one window, counted in one upsert."""

    key = models.CharField(max_length=100, primary_key=True)
    window = models.DateTimeField()
    count = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.key


class IdempotencyKey(models.Model):
    """The answer to a write that carried an Idempotency-Key, replayed for 24 hours."""

    id = models.BigAutoField(primary_key=True)
    membership = models.ForeignKey(Membership, models.CASCADE)
    key = models.CharField(max_length=200)
    request_digest = models.BinaryField()
    status = models.PositiveSmallIntegerField(null=True)
    # sealed: it may quote what was checked
    answer = models.BinaryField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["membership", "key"], name="idempotency_key_unique")
        ]

    def __str__(self) -> str:
        return self.key


class AuditHead(models.Model):
    """The last link of a workspace's audit chain; its row lock makes the chain linear."""

    workspace = models.OneToOneField(Workspace, models.CASCADE, primary_key=True)
    sequence = models.BigIntegerField(default=0)
    hash = models.BinaryField(default=bytes(32))

    def __str__(self) -> str:
        return f"{self.workspace}: {self.sequence}"


class AuditEntry(models.Model):
    """One change by a person or a task. hash = SHA-256(previous hash || canonical JSON)."""

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="audit_entries")
    sequence = models.BigIntegerField()
    at = models.DateTimeField()
    actor = models.CharField(max_length=300)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200)
    data = models.JSONField()
    previous_hash = models.BinaryField()
    hash = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "sequence"], name="audit_sequence_unique")
        ]
        indexes = [
            # the audit page filtered by action
            models.Index(fields=["workspace", "action", "sequence"], name="audit_action"),
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.action}"
