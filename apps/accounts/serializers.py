"""What the members, tokens and audit API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.accounts.actor import SCOPES
from apps.accounts.models import CHECKS_PER_SECOND, ApiToken, AuditEntry, Membership, Role
from apps.accounts.tokens import DEFAULT_DAYS
from apps.base.lists import ListQuery
from apps.base.schema import shown


class MemberIn(serializers.Serializer):
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    name = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=200, trim_whitespace=False
    )


class MemberPatch(serializers.Serializer):
    role = serializers.ChoiceField(choices=Role.choices)


class TokenIn(serializers.Serializer):
    member = serializers.UUIDField()
    name = serializers.CharField(max_length=200, trim_whitespace=False)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=["all", *SCOPES]))
    days = serializers.IntegerField(required=False, default=DEFAULT_DAYS)
    checks_per_second = serializers.IntegerField(required=False, default=CHECKS_PER_SECOND)


class AuditQuery(ListQuery):
    action = serializers.CharField(required=False, default="", allow_blank=True, max_length=60)


class MemberShape(serializers.Serializer):
    id = serializers.UUIDField()
    email = serializers.CharField()
    name = serializers.CharField()
    role = serializers.CharField()
    is_active = serializers.BooleanField()
    one_time_password = serializers.CharField(required=False)


class TokenShape(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    member = serializers.UUIDField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    checks_per_second = serializers.IntegerField()
    token = serializers.CharField(required=False)


class AuditShape(serializers.Serializer):
    sequence = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    action = serializers.CharField()
    target = serializers.CharField()
    data = serializers.DictField()
    hash = serializers.CharField()


def show_member(membership: Membership) -> dict[str, Any]:
    return {
        "id": membership.pk,
        "email": membership.user.email,
        "name": membership.user.name,
        "role": membership.role,
        "is_active": membership.is_active,
    }


def show_token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.pk,
        "name": token.name,
        "member": token.membership_id,
        "prefix": token.prefix,
        "scopes": token.scopes,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
        "checks_per_second": token.checks_per_second,
    }


def show_entry(entry: AuditEntry) -> dict[str, Any]:
    return shown(AuditShape, entry, hash=bytes(entry.hash).hex())
