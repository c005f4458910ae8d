"""What the models and examples API gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.lists import ListQuery
from apps.base.schema import shown
from apps.corpus.models import PolicyExample, Side
from apps.guardrails.checks.interface import Kind
from apps.guardrails.content_serializers import ContentIn
from apps.guardrails.models import GuardrailVersion, ModelVersion, RuleException
from apps.policies.serializers import WholeTextField
from apps.policies.specification import STAGES


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


class FieldShape(serializers.Serializer):
    name = serializers.CharField()
    kind = serializers.CharField()
    title = serializers.CharField()
    help = serializers.CharField()
    default = serializers.JSONField(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField())


class KindShape(serializers.Serializer):
    """A kind of check and its settings."""

    name = serializers.CharField()
    title = serializers.CharField()
    about = serializers.CharField()
    remote = serializers.BooleanField()
    fields = FieldShape(many=True)  # type: ignore[assignment]


class CheckConfigIn(serializers.Serializer):
    key = serializers.CharField(max_length=60)
    kind = serializers.CharField(max_length=60)
    rule = serializers.CharField(max_length=60, required=False, allow_blank=True)
    advisory = serializers.BooleanField(required=False)
    weight = serializers.FloatField(required=False)
    settings = serializers.JSONField(required=False)


class GateIn(serializers.Serializer):
    kind = serializers.ChoiceField(choices=["any", "all", "at_least", "weighted"], required=False)
    least = serializers.IntegerField(required=False)
    threshold = serializers.FloatField(required=False)
    slope = serializers.FloatField(required=False, allow_null=True)
    offset = serializers.FloatField(required=False)


class GuardrailIn(serializers.Serializer):
    """What guards a policy: its checks, and the gate that makes one verdict of theirs."""

    checks = CheckConfigIn(many=True)
    gate = GateIn(required=False)


class GuardrailShape(serializers.Serializer):
    version = serializers.IntegerField(help_text="0: nobody configured it, the classifier guards.")
    content = serializers.JSONField()
    draft = serializers.JSONField()
    revision = serializers.IntegerField()


class GuardrailDraftShape(serializers.Serializer):
    content = serializers.JSONField()
    revision = serializers.IntegerField()


class PublishIn(serializers.Serializer):
    note = WholeTextField(required=False, default="", max_length=500)


class GuardrailVersionShape(serializers.Serializer):
    version = serializers.IntegerField()
    content = serializers.JSONField()
    note = serializers.CharField()
    written_by = serializers.ListField(child=serializers.CharField())
    published_by = serializers.CharField()
    published_at = serializers.DateTimeField()


class TryIn(ContentIn):
    stage = serializers.ChoiceField(choices=STAGES, required=False, default="output")
    content = GuardrailIn(required=False)


class TriedShape(serializers.Serializer):
    fires = serializers.BooleanField(allow_null=True)
    score = serializers.FloatField(allow_null=True)
    checks = serializers.ListField(child=serializers.DictField())


class ExceptionIn(serializers.Serializer):
    rule = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
    phrase = WholeTextField(required=False, default="", max_length=1000)
    text = WholeTextField(required=False, default="")
    reason = WholeTextField(max_length=500)
    days = serializers.IntegerField(required=False, default=7)


class ExceptionShape(serializers.Serializer):
    id = serializers.UUIDField()
    rule = serializers.CharField()
    phrase = serializers.CharField()
    whole_text = serializers.BooleanField()
    reason = serializers.CharField()
    made_by = serializers.CharField()
    made_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


def show_kind(kind: Kind) -> dict[str, Any]:
    return shown(
        KindShape,
        kind,
        fields=[
            {
                "name": one.name,
                "kind": one.kind,
                "title": one.label,
                "help": one.help,
                "default": one.default,
                "choices": list(one.choices),
            }
            for one in kind.fields
        ],
    )


def show_guardrail_version(version: GuardrailVersion) -> dict[str, Any]:
    return shown(GuardrailVersionShape, version, version=version.number)


def show_exception(row: RuleException) -> dict[str, Any]:
    return shown(ExceptionShape, row, whole_text=row.text_hash is not None)


def show_model(version: ModelVersion) -> dict[str, Any]:
    return shown(
        ModelShape,
        version,
        version=version.number,
        policy_version=version.policy_version.number,
        dataset=version.dataset.content_hash,
        labels={
            "violates": version.dataset.violates,
            "complies": version.dataset.complies,
        },
    )


def show_example(
    row: PolicyExample,
    *,
    label: str | None = None,
    score: float | None = None,
    whole: bool,
    facts: bool = True,
) -> dict[str, Any]:
    """An example; `whole` adds what annotators must not see, `facts` what came with it."""
    example = row.example
    shown = {
        "id": row.example_id,
        "prompt": example.prompt,
        "output": example.output,
        "context": example.context,
        "language": example.language,
        "created_at": example.created_at,
    }
    if whole:
        shown |= {
            "external_id": row.external_id,
            "model": example.model if facts else "",
            "tags": example.tags if facts else [],
            "metadata": example.metadata if facts else {},
            "source": row.source.name,
            "occurrences": row.occurrences,
            "split": row.side,
            "label": label,
            "score": score,
        }
    return shown
