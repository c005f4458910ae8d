"""What the policies API takes and gives."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.base.schema import shown
from apps.policies.differences import Change
from apps.policies.models import Policy, PolicyDraft, PolicyRole, PolicyVersion
from apps.policies.services import SETTINGS, TARGETS
from apps.policies.taxonomies import Categories


class WholeTextField(serializers.CharField):
    """Text kept byte for byte, and never made of a number."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_blank", True)
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            parts = ": one string, not a list of parts" if isinstance(data, list) else ""
            raise serializers.ValidationError(f"This is text{parts}.")
        return str(super().to_internal_value(data))


class SpecificationIn(serializers.Serializer):
    """The draft; its rules are checked by policies.specification.parse."""

    stages = serializers.ListField(child=serializers.CharField(), required=False)
    definition = WholeTextField(required=False)
    scope = WholeTextField(required=False)
    rationale = WholeTextField(required=False)
    rules = serializers.ListField(child=serializers.DictField(), required=False)


class SettingsShape(serializers.ModelSerializer):
    class Meta:
        model = Policy
        fields = SETTINGS


@extend_schema_field(
    {
        "type": "object",
        "properties": {name: {"type": ["number", "null"]} for name in TARGETS},
        "additionalProperties": False,
        "description": "The first one that is set counts.",
    }
)
class TargetsField(serializers.DictField):
    """By name; services.change_settings checks them."""


@extend_schema_field(SettingsShape)
class SettingsField(serializers.DictField):
    """By name; services.change_settings checks them."""


class PolicyIn(SpecificationIn):
    slug = serializers.CharField(max_length=60)
    name = WholeTextField(max_length=200)
    targets = TargetsField(required=False)
    settings = SettingsField(required=False)


class PolicyPatch(serializers.Serializer):
    name = WholeTextField(max_length=200, required=False)
    targets = TargetsField(required=False)
    settings = SettingsField(required=False)
    retired = serializers.BooleanField(required=False)
    categories = serializers.ListField(
        child=serializers.CharField(max_length=121), required=False, max_length=100
    )


class RoleIn(serializers.Serializer):
    member = serializers.UUIDField()
    role = serializers.ChoiceField(choices=["annotator", "owner", "none"])


class RuleExampleShape(serializers.Serializer):
    text = serializers.CharField()
    violates = serializers.BooleanField()
    why = serializers.CharField()


class RuleShape(serializers.Serializer):
    key = serializers.CharField()
    polarity = serializers.ChoiceField(choices=["disallowed", "allowed"])
    text = serializers.CharField()
    severity = serializers.IntegerField()
    action = serializers.CharField()
    examples = RuleExampleShape(many=True)


class SpecificationShape(serializers.Serializer):
    stages = serializers.ListField(child=serializers.CharField())
    definition = serializers.CharField()
    scope = serializers.CharField()
    rationale = serializers.CharField()
    rules = RuleShape(many=True)


class DraftShape(SpecificationShape):
    revision = serializers.IntegerField()
    edited_at = serializers.DateTimeField()


class PolicyShape(serializers.Serializer):
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    targets = TargetsField()
    settings = SettingsField()
    categories = serializers.ListField(child=serializers.CharField())
    role = serializers.CharField()
    created_at = serializers.DateTimeField()


class PolicyWithDraftShape(PolicyShape):
    draft = DraftShape()


class VersionShape(SpecificationShape):
    version = serializers.IntegerField()
    written_by = serializers.ListField(child=serializers.CharField())
    published_by = serializers.CharField()
    published_at = serializers.DateTimeField()


class ChangeShape(serializers.Serializer):
    kind = serializers.CharField()
    where = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()


class RoleShape(serializers.Serializer):
    member = serializers.UUIDField()
    email = serializers.CharField()
    role = serializers.CharField()


class CategoryShape(serializers.Serializer):
    code = serializers.CharField(max_length=60)
    name = serializers.CharField(max_length=200, required=False, allow_blank=True)
    about = serializers.CharField(max_length=2000, required=False, allow_blank=True)


class TaxonomyIn(serializers.Serializer):
    slug = serializers.CharField(max_length=60)
    name = WholeTextField(max_length=200)
    categories = CategoryShape(many=True)


class TaxonomyShape(TaxonomyIn):
    built_in = serializers.BooleanField()


class MappingShape(serializers.Serializer):
    source = serializers.CharField(max_length=121)
    targets = serializers.ListField(
        child=serializers.CharField(max_length=121), allow_empty=True, max_length=100
    )


def show_taxonomy(taxonomy: Categories) -> dict[str, Any]:
    return shown(
        TaxonomyShape, taxonomy, categories=[vars(category) for category in taxonomy.categories]
    )


def show_policy(policy: Policy) -> dict[str, Any]:
    return shown(
        PolicyShape,
        policy,
        version=policy.current_version.number if policy.current_version else None,
        targets={name: getattr(policy, f"target_{name}") for name in TARGETS},
        settings={name: getattr(policy, name) for name in SETTINGS},
        role=policy.own_role,
    )


def show_draft(draft: PolicyDraft) -> dict[str, Any]:
    return {**draft.content, "revision": draft.revision, "edited_at": draft.edited_at}


def show_version(version: PolicyVersion) -> dict[str, Any]:
    return {
        **version.specification.as_dict(),
        "version": version.number,
        "written_by": version.written_by,
        "published_by": version.published_by,
        "published_at": version.published_at,
    }


def show_change(change: Change) -> dict[str, Any]:
    return shown(ChangeShape, change)


def show_role(role: PolicyRole) -> dict[str, Any]:
    return {
        "member": role.membership_id,
        "email": role.membership.user.email,
        "role": role.role,
    }
