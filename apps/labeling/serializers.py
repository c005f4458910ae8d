"""What the queue and labels API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.lists import ListQuery
from apps.base.schema import shown
from apps.labeling.labels import number_of, rules_of
from apps.labeling.models import Label
from apps.labeling.queue import Item
from apps.policies.serializers import RuleShape, WholeTextField


class LabelIn(serializers.Serializer):
    lease = serializers.UUIDField()
    verdict = serializers.ChoiceField(choices=["violates", "complies", "unsure"])
    rules = serializers.ListField(child=serializers.CharField(), required=False, max_length=100)
    severity = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=4)
    rationale = WholeTextField(required=False, default="")
    seconds = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=86_400)
    next = serializers.BooleanField(required=False, default=False)


class SkipIn(serializers.Serializer):
    reason = WholeTextField(max_length=300)


class LabelQuery(ListQuery):
    policy = serializers.CharField(max_length=60)


class QueueExampleShape(serializers.Serializer):
    id = serializers.UUIDField()
    external_id = serializers.CharField()
    prompt = serializers.CharField()
    output = serializers.CharField()
    context = serializers.CharField()
    model = serializers.CharField()
    language = serializers.CharField()


class QueueItemShape(serializers.Serializer):
    lease = serializers.UUIDField()
    expires_at = serializers.DateTimeField()
    example = QueueExampleShape()
    policy_version = serializers.IntegerField()
    rules = RuleShape(many=True)


class SubmittedShape(serializers.Serializer):
    id = serializers.UUIDField()
    next = QueueItemShape(required=False, allow_null=True)


class UndoneShape(serializers.Serializer):
    item = QueueItemShape()
    verdict = serializers.CharField()
    rules = serializers.ListField(child=serializers.CharField())
    severity = serializers.IntegerField(allow_null=True)
    rationale = serializers.CharField()


class LabelShape(serializers.Serializer):
    id = serializers.UUIDField()
    sequence = serializers.IntegerField()
    example = serializers.UUIDField()
    external_id = serializers.CharField()
    annotator = serializers.CharField()
    policy_version = serializers.IntegerField()
    verdict = serializers.CharField()
    rules = serializers.ListField(child=serializers.CharField())
    severity = serializers.IntegerField(allow_null=True)
    rationale = serializers.CharField()
    seconds = serializers.FloatField(allow_null=True)
    supersedes = serializers.UUIDField(allow_null=True)
    created_at = serializers.DateTimeField()


def show_item(item: Item) -> dict[str, Any]:
    return {
        "lease": item.lease,
        "expires_at": item.expires_at,
        "example": {
            "id": item.example,
            "external_id": item.external_id,
            "prompt": item.prompt,
            "output": item.output,
            "context": item.context,
            "model": item.model,
            "language": item.language,
        },
        "policy_version": number_of(item.version),
        "rules": rules_of(item.version),
    }


def show_label(label: Label) -> dict[str, Any]:
    return shown(
        LabelShape,
        label,
        example=label.policy_example.example_id,
        external_id=label.policy_example.external_id,
        annotator=label.annotator.user.email,
        policy_version=number_of(label.policy_version_id),
        supersedes=label.supersedes_id,
    )
