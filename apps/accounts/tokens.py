"""API keys: gk_<8 characters>_<43 characters of 32 random bytes>_<check>."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.accounts.actor import SCOPES, Actor, role_scopes
from apps.accounts.audit import record
from apps.accounts.models import CHECKS_PER_SECOND, ApiToken, Membership, User, Workspace
from apps.base.prepared import columns, first_row, from_row
from apps.base.problems import FieldError, Problem

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEFAULT_DAYS = 90
MAXIMUM_DAYS = 365
LAST_USED_EVERY = timedelta(minutes=5)
MOST_CHECKS_PER_SECOND = 10_000


@transaction.atomic
def issue_token(
    actor: Actor,
    *,
    membership: Membership,
    name: str,
    scopes: Sequence[str],
    days: int = DEFAULT_DAYS,
    checks_per_second: int = CHECKS_PER_SECOND,
    of_canaries: bool = False,
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
    if not 1 <= checks_per_second <= MOST_CHECKS_PER_SECOND:
        most = f"{MOST_CHECKS_PER_SECOND:,}"
        errors.append(FieldError("/checks_per_second", f"1 to {most} checks a second."))
    if errors:
        raise Problem("The token was not made.", errors=errors)
    if not membership.is_active:
        raise Problem(
            f"{membership.user.email} has left this workspace; its tokens let nobody in.",
            code="has_left",
            status=409,
        )
    prefix, secret = _random(8), _random(43)
    body = f"gk_{prefix}_{secret}"
    token = ApiToken.objects.create(
        membership=membership,
        name=name,
        prefix=prefix,
        digest=_digest(secret),
        scopes=sorted(wanted),
        expires_at=timezone.now() + timedelta(days=days),
        checks_per_second=checks_per_second,
        of_canaries=of_canaries,
    )
    record(
        actor,
        "token.issue",
        token,
        person=membership.user.email,
        scopes=sorted(wanted),
        checks_per_second=checks_per_second,
    )
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
    token = _find(parts[1])
    if token is None or not hmac.compare_digest(bytes(token.digest), _digest(parts[2])):
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


@dataclass(frozen=True)
class _Known:
    """Whose key it is, as the database said then, and when it is asked again."""

    actor: Actor
    asked: float
    again: float


KNOWN_FOR = 30.0
"""Seconds for which the check API trusts a token without asking, unless `forget_known` comes."""
KNOWN_WITHOUT_DATABASE = 600.0
"""The same while the database is away: nobody can revoke anything then."""
ASKED_AGAIN = 5.0
"""Seconds between two questions to a database that is away: one request waits for each."""
_MOST_KNOWN = 10_000
_known: dict[bytes, _Known] = {}


def known_actor_of(key: str) -> Actor | None:
    """The actor of a key, for the path that must not ask the database each time."""
    name = hashlib.sha256(key.encode()).digest()
    known, now = _known.get(name), time.monotonic()
    if known is not None and now < known.again:
        return known.actor if _lives(known.actor) else None
    if known is not None:
        _known[name] = replace(known, again=now + ASKED_AGAIN)
    try:
        actor = actor_of(key)
    except DatabaseError:
        if known is None or now > known.asked + KNOWN_FOR + KNOWN_WITHOUT_DATABASE:
            raise
        return known.actor if _lives(known.actor) else None
    if actor is None:
        _known.pop(name, None)
        return None
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[name] = _Known(actor, now, now + KNOWN_FOR)
    return actor


def _lives(actor: Actor) -> bool:
    return actor.token is not None and actor.token.expires_at > timezone.now()


def forget_known(workspace: UUID) -> None:
    """Something changed in the workspace: ask again for each of its tokens."""
    for name, known in list(_known.items()):
        if known.actor.workspace.pk == workspace:
            _known.pop(name, None)


# the others are read when asked for
_TOKEN = (
    *("id", "membership_id", "prefix", "digest", "scopes", "expires_at", "revoked_at"),
    *("last_used_at", "checks_per_second", "of_canaries"),
)
_MEMBERSHIP = ("id", "workspace_id", "user_id", "role", "is_active")
_USER = ("id", "email", "name", "is_active")
_WORKSPACE = ("id", "slug", "name", "split_key")
_FIND = f"""
SELECT {columns(ApiToken, _TOKEN, table="token")},
    {columns(Membership, _MEMBERSHIP, table="membership")},
    {columns(User, _USER, table="user")},
    {columns(Workspace, _WORKSPACE, table="workspace")}
FROM accounts_apitoken token
JOIN accounts_membership membership ON membership.id = token.membership_id
JOIN accounts_user "user" ON "user".id = membership.user_id
JOIN accounts_workspace workspace ON workspace.id = membership.workspace_id
WHERE token.prefix = %s
"""


def _find(prefix: str) -> ApiToken | None:
    """The token with its person and workspace; every API call asks this."""
    values = first_row(_FIND, [prefix])
    if values is None:
        return None
    token = from_row(ApiToken, values, _TOKEN)
    token.membership = from_row(Membership, values, _MEMBERSHIP)
    token.membership.user = from_row(User, values, _USER)
    token.membership.workspace = from_row(Workspace, values, _WORKSPACE)
    return token


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check(body: str) -> str:
    """Six characters that catch a mistyped key before the database is asked."""
    return f"{zlib.crc32(body.encode()):08x}"[:6]
