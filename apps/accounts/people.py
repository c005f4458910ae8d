"""Workspaces and the people in them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.actor import Actor, task_actor
from apps.accounts.audit import open_chain, record
from apps.accounts.models import Membership, Role, SignInAttempts, User, Workspace
from apps.base.problems import FieldError, Problem

ATTEMPTS_WINDOW = timedelta(minutes=15)


@transaction.atomic
def create_workspace(*, slug: str, name: str, split_seed: int | None = None) -> Workspace:
    """Make a workspace.

    Args:
        split_seed: derives the key that splits examples, for experiments that must repeat;
            None takes a random key.
    """
    workspace = Workspace(slug=slug, name=name)
    if split_seed is not None:
        workspace.split_key = hashlib.sha256(f"split seed {split_seed}".encode()).digest()
    workspace.save()
    open_chain(workspace)
    record(task_actor(workspace, "create_workspace"), "workspace.create", workspace, slug=slug)
    return workspace


@transaction.atomic
def add_member(
    actor: Actor, *, email: str, role: str, name: str = "", password: str | None = None
) -> tuple[Membership, str]:
    """Add a person to the actor's workspace.

    Returns the membership and, when the person is new to Parapet, a one-time password to hand
    over, which opens nothing but the page where they choose their own ("" otherwise: they keep the
    password they have).

    Args:
        password: in place of a one-time password; theirs from then on.

    Raises:
        Problem: 409 for somebody who is in the workspace already, and for an account of another
            workspace, whose admin may know its password: only a command joins those.
    """
    email = email.strip().lower()
    errors = []
    try:
        validate_email(email)
    except ValidationError:
        errors.append(FieldError("/email", "This is not an e-mail address."))
    if role not in Role.values:
        errors.append(FieldError("/role", f"Roles are: {', '.join(Role.values)}."))
    if errors:
        raise Problem("The person was not added.", errors=errors)
    user = User.objects.filter(email__iexact=email).first()
    if user is not None and actor.membership is not None:
        _hold_account(actor.workspace, user)
    one_time = ""
    if user is None:
        one_time = password or new_password()
        user = User.objects.create_user(
            email, one_time, name=name, must_change_password=not password
        )
    elif password:
        user.set_password(password)
        user.save(update_fields=["password"])
        one_time = password
    membership, created = Membership.objects.get_or_create(
        workspace=actor.workspace, user=user, defaults={"role": role}
    )
    if not created and membership.is_active and not password:
        raise Problem(
            "This person is in the workspace already; change the role instead.",
            code="member_exists",
            status=409,
        )
    membership.is_active = True
    membership.role = role
    membership.save(update_fields=["is_active", "role"])
    record(actor, "member.add", membership, email=email, role=role)
    return membership, one_time


def _hold_account(workspace: Workspace, user: User) -> None:
    if not Membership.objects.filter(workspace=workspace, user=user).exists():
        raise Problem(
            "This address has an account in another workspace. Whoever runs the host can join it "
            "to yours: manage.py add_member.",
            code="account_exists",
            status=409,
        )


@transaction.atomic
def change_role(actor: Actor, *, membership: Membership, role: str) -> None:
    """Give a member another role; the last admin keeps theirs."""
    if role not in Role.values:
        raise Problem(
            "The role was not changed.",
            errors=[FieldError("/role", f"Roles are: {', '.join(Role.values)}.")],
        )
    if role != Role.ADMIN:
        _keep_one_admin(membership)
    before = membership.role
    membership.role = role
    membership.save(update_fields=["role"])
    record(actor, "member.change_role", membership, before=before, after=role)


@transaction.atomic
def deactivate_member(actor: Actor, *, membership: Membership) -> None:
    """Take a member's access away: their sessions here and all their tokens end at once."""
    _keep_one_admin(membership)
    membership.is_active = False
    membership.save(update_fields=["is_active"])
    membership.tokens.filter(revoked_at=None).update(revoked_at=timezone.now())
    record(actor, "member.deactivate", membership, email=membership.user.email)


@transaction.atomic
def change_password(*, user: User, password: str, one_time: bool = False) -> None:
    """Set a new password; every other session of the person ends.

    Args:
        one_time: it is handed over by somebody, and the person has to choose another.

    Raises:
        ValidationError: where it is too weak, or the one-time password again.
    """
    validate_password(password, user)
    if user.must_change_password and user.check_password(password):
        raise ValidationError("Choose another password than the one that you were given.")
    user.set_password(password)
    user.must_change_password = one_time
    user.save(update_fields=["password", "must_change_password"])
    for membership in user.memberships.select_related("workspace"):
        actor = Actor(membership.workspace, membership)
        record(actor, "member.change_password", membership)


def new_password() -> str:
    """A random one-time password of 20 characters, easy to copy."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


def may_try(limits: Mapping[str, int]) -> bool:
    """Count an attempt to guess against each key (an address, a caller), before it is looked at.

    Returns whether none of them was over its limit in the window; `forgive` takes a right one back.
    """
    now = timezone.now()
    allowed = True
    with connection.cursor() as cursor:
        for key, limit in sorted(limits.items()):
            cursor.execute(
                'INSERT INTO accounts_signinattempts AS tried (key, "window", count)'
                " VALUES (%s, %s, 1) ON CONFLICT (key) DO UPDATE SET"
                ' count = CASE WHEN tried."window" < %s THEN 1 ELSE tried.count + 1 END,'
                ' "window" = CASE WHEN tried."window" < %s THEN excluded."window"'
                '   ELSE tried."window" END RETURNING count',
                [_attempt_key(key), now, now - ATTEMPTS_WINDOW, now - ATTEMPTS_WINDOW],
            )
            allowed = cursor.fetchone()[0] <= limit and allowed
    return allowed


def forgive(keys: Iterable[str]) -> None:
    """Take back an attempt that was right."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_signinattempts SET count = greatest(count - 1, 0) WHERE key = ANY(%s)",
            [[_attempt_key(key) for key in keys]],
        )


def delete_expired() -> None:
    """Forget guesses whose window is over, and sessions that have ended."""
    SignInAttempts.objects.filter(window__lt=timezone.now() - ATTEMPTS_WINDOW).delete()
    SessionStore.clear_expired()


def _attempt_key(key: str) -> str:
    return hashlib.sha256(key.lower().encode()).hexdigest()


def _keep_one_admin(membership: Membership) -> None:
    # locked, so that two admins who demote each other come one after the other
    admins = Membership.objects.select_for_update().filter(
        workspace=membership.workspace, role=Role.ADMIN, is_active=True
    )
    if [admin.pk for admin in admins.order_by("pk")] == [membership.pk]:
        raise Problem(
            "This is the workspace's last admin; make another one first.",
            code="last_admin",
            status=409,
        )
