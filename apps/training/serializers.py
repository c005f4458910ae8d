"""What the runs API gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.schema import shown
from apps.training.models import TrainingRun


class LogLineShape(serializers.Serializer):
    at = serializers.CharField()
    text = serializers.CharField()


class RunShape(serializers.Serializer):
    id = serializers.UUIDField()
    policy = serializers.CharField()
    status = serializers.ChoiceField(
        choices=["queued", "running", "succeeded", "failed", "cancelled"]
    )
    trigger = serializers.CharField()
    progress = serializers.FloatField()
    step = serializers.CharField()
    log = LogLineShape(many=True)
    reason = serializers.CharField()
    model_version = serializers.IntegerField(allow_null=True)
    dataset = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


def show_run(run: TrainingRun) -> dict[str, Any]:
    return shown(
        RunShape,
        run,
        policy=run.policy.slug,
        model_version=run.model_version.number if run.model_version else None,
        dataset=run.dataset.content_hash if run.dataset else None,
    )
