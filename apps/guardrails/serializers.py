"""What the models and examples API gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.lists import ListQuery
from apps.corpus.models import PolicyExample, Side
from apps.guardrails.models import ModelVersion


class ExampleQuery(ListQuery):
    policy = serializers.CharField(max_length=60)
    q = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)
    label = serializers.ChoiceField(
        choices=["violates", "complies", "unsure", "none"], required=False, default=""
    )
    split = serializers.ChoiceField(choices=Side.choices, required=False, default="")
    source = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)
    model = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)
    language = serializers.CharField(required=False, default="", allow_blank=True, max_length=35)
    external_id = serializers.CharField(
        required=False, default="", allow_blank=True, max_length=200, trim_whitespace=False
    )


class ModelShape(serializers.Serializer):
    id = serializers.UUIDField()
    version = serializers.IntegerField()
    status = serializers.CharField()
    policy_version = serializers.IntegerField()
    dataset = serializers.CharField()
    labels = serializers.DictField()
    recipe = serializers.DictField()
    libraries = serializers.DictField()
    seed = serializers.IntegerField()
    threshold = serializers.FloatField()
    threshold_rule = serializers.CharField()
    threshold_note = serializers.CharField()
    threshold_provisional = serializers.BooleanField()
    report = serializers.DictField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    live_since = serializers.DateTimeField(allow_null=True)


def show_model(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": version.pk,
        "version": version.number,
        "status": version.status,
        "policy_version": version.policy_version.number,
        "dataset": version.dataset.content_hash,
        "labels": {
            "violates": version.dataset.violates,
            "complies": version.dataset.complies,
        },
        "recipe": version.recipe,
        "libraries": version.libraries,
        "seed": version.seed,
        "threshold": version.threshold,
        "threshold_rule": version.threshold_rule,
        "threshold_note": version.threshold_note,
        "threshold_provisional": version.threshold_provisional,
        "report": version.report,
        "sha256": version.sha256,
        "size": version.size,
        "created_at": version.created_at,
        "live_since": version.live_since,
    }


def show_example(
    row: PolicyExample, *, label: str | None = None, score: float | None = None, whole: bool
) -> dict[str, Any]:
    """An example; `whole` adds what annotators must not see."""
    shown = {
        "id": row.example_id,
        "external_id": row.external_id,
        "prompt": row.example.prompt,
        "output": row.example.output,
        "context": row.example.context,
        "model": row.example.model,
        "language": row.example.language,
        "tags": row.example.tags,
        "metadata": row.example.metadata,
        "source": row.source.name,
        "occurrences": row.occurrences,
        "created_at": row.example.created_at,
    }
    if whole:
        shown |= {"split": row.side, "label": label, "score": score}
    return shown
