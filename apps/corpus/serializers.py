"""What the sources, imports and examples API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.jobs import Status
from apps.base.lists import ListQuery
from apps.base.schema import shown
from apps.corpus.models import Import, RejectedRow, Source

# what the API says of an import's states
IMPORT_STATUS = {Status.SUCCEEDED: "done"}


class ImportQuery(serializers.Serializer):
    policy = serializers.CharField(max_length=60)
    source = serializers.CharField(max_length=200, trim_whitespace=False)
    licence = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=200, trim_whitespace=False
    )
    may_train = serializers.BooleanField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Whether its texts may be trained on; by default as the source has it, or yes.",
    )
    mapping = serializers.JSONField(required=False)


class ImportListQuery(ListQuery):
    policy = serializers.CharField(required=False, default="", allow_blank=True, max_length=60)


class SourceShape(serializers.Serializer):
    name = serializers.CharField()
    licence = serializers.CharField()
    may_train = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class ImportShape(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["queued", "running", "done", "failed", "cancelled"])
    policy = serializers.CharField()
    source = serializers.CharField()
    file_name = serializers.CharField()
    progress = serializers.FloatField()
    rows = serializers.IntegerField()
    new = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = serializers.IntegerField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class RejectedRowShape(serializers.Serializer):
    row = serializers.IntegerField()
    reason = serializers.CharField()


_OWNERS = "Owners and admins only."


class ExampleShape(serializers.Serializer):
    id = serializers.UUIDField()
    external_id = serializers.CharField(required=False, help_text=_OWNERS)
    prompt = serializers.CharField()
    output = serializers.CharField()
    context = serializers.CharField()
    model = serializers.CharField(required=False, help_text=_OWNERS)
    language = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField(), required=False, help_text=_OWNERS)
    metadata = serializers.DictField(required=False, help_text=_OWNERS)
    source = serializers.CharField(required=False, help_text=_OWNERS)
    occurrences = serializers.IntegerField(required=False, help_text=_OWNERS)
    created_at = serializers.DateTimeField()
    split = serializers.CharField(required=False, help_text=_OWNERS)
    label = serializers.CharField(required=False, allow_null=True, help_text=_OWNERS)
    score = serializers.FloatField(
        required=False,
        allow_null=True,
        help_text="The live model's probability of a violation. Owners and admins only.",
    )


def show_source(source: Source) -> dict[str, Any]:
    return shown(SourceShape, source)


def show_import(job: Import) -> dict[str, Any]:
    return shown(
        ImportShape,
        job,
        status=IMPORT_STATUS.get(Status(job.status), job.status),
        policy=job.policy.slug,
        source=job.source.name if job.source else "",
    )


def show_rejected(row: RejectedRow) -> dict[str, Any]:
    return {"row": row.row, "reason": row.reason}
