"""API keys: gk_<8 characters>_<43 characters of 32 random bytes>_<check>."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.accounts.actor import SCOPES, Actor, role_scopes
from apps.accounts.audit import record
from apps.accounts.models import ApiToken, Membership
from apps.base.problems import FieldError, Problem

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEFAULT_DAYS = 90
MAXIMUM_DAYS = 365
LAST_USED_EVERY = timedelta(minutes=5)


@transaction.atomic
def issue_token(
    actor: Actor,
    *,
    membership: Membership,
    name: str,
    scopes: Sequence[str],
    days: int = DEFAULT_DAYS,
) -> tuple[ApiToken, str]:
    """Make a token for a member; the second value is the key, which nobody can show again."""
    wanted = set(scopes)
    allowed = role_scopes(membership.role)
    wanted = allowed if wanted == {"all"} else wanted
    errors = []
    if not wanted:
        errors.append(FieldError("/scopes", "Choose at least one scope."))
    if wanted - set(SCOPES):
        errors.append(FieldError("/scopes", f"Scopes are: {', '.join(SCOPES)}."))
    for scope in sorted((wanted & set(SCOPES)) - allowed):
        errors.append(
            FieldError("/scopes", f"A person with the role {membership.role} cannot hold {scope}.")
        )
    if not 1 <= days <= MAXIMUM_DAYS:
        errors.append(FieldError("/days", f"A token lives 1 to {MAXIMUM_DAYS} days."))
    if errors:
        raise Problem("The token was not made.", errors=errors)
    prefix, secret = _random(8), _random(43)
    body = f"gk_{prefix}_{secret}"
    token = ApiToken.objects.create(
        membership=membership,
        name=name,
        prefix=prefix,
        digest=_digest(secret),
        scopes=sorted(wanted),
        expires_at=timezone.now() + timedelta(days=days),
    )
    record(actor, "token.issue", token, person=membership.user.email, scopes=sorted(wanted))
    return token, f"{body}_{_check(body)}"


@transaction.atomic
def revoke_token(actor: Actor, *, token: ApiToken) -> None:
    """End a token at once; a second time changes nothing."""
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        record(actor, "token.revoke", token, person=token.membership.user.email)


def actor_of(key: str) -> Actor | None:
    """The actor of a key, or None when it is malformed, unknown, ended or its person is."""
    parts = key.split("_")
    if not key.isascii() or "\x00" in key:
        return None
    if len(parts) != 4 or parts[0] != "gk" or parts[3] != _check("_".join(parts[:3])):
        return None
    now = timezone.now()
    rows = ApiToken.objects.select_related("membership__user", "membership__workspace")
    try:
        token = rows.get(prefix=parts[1])
    except ApiToken.DoesNotExist:
        return None
    if not hmac.compare_digest(bytes(token.digest), _digest(parts[2])):
        return None
    membership = token.membership
    if token.revoked_at or token.expires_at < now:
        return None
    if not (membership.is_active and membership.user.is_active):
        return None
    if token.last_used_at is None or now - token.last_used_at > LAST_USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    scopes = frozenset(token.scopes) & role_scopes(membership.role)
    return Actor(membership.workspace, membership, token=token, scopes=frozenset(scopes))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check(body: str) -> str:
    """Six characters that catch a mistyped key before the database is asked."""
    return f"{zlib.crc32(body.encode()):08x}"[:6]
