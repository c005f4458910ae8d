"""What the check API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.policies.serializers import WholeTextField
from apps.policies.specification import STAGES
from apps.runtime.checking import Checked
from apps.runtime.models import Decision


class MessageIn(serializers.Serializer):
    role = serializers.CharField(max_length=50)
    content = WholeTextField()


class ToolCallIn(serializers.Serializer):
    name = WholeTextField(max_length=200)
    arguments = serializers.JSONField(required=False)


class PassageIn(serializers.Serializer):
    text = WholeTextField()
    source = WholeTextField(required=False, max_length=2000, default="")


class PassagesField(serializers.ListField):
    """Passages as texts, or as objects that also say where they come from."""

    def run_child_validation(self, data: Any) -> list[Any]:
        rows = [{"text": row} if isinstance(row, str) else row for row in data]
        return super().run_child_validation(rows)


class ContextIn(serializers.Serializer):
    key = serializers.CharField(
        max_length=200, help_text="Whose traffic this is, e.g. a user's id: fixes rollouts."
    )


class CheckIn(serializers.Serializer):
    stage = serializers.ChoiceField(choices=STAGES)
    text = WholeTextField(required=False)
    messages = MessageIn(many=True, required=False)
    tool_call = ToolCallIn(required=False)
    passages = PassagesField(child=PassageIn(), required=False)
    policies = serializers.ListField(
        child=serializers.CharField(max_length=60), required=False, max_length=200
    )
    context = ContextIn(required=False)


class SpansField(serializers.ListField):
    """[[start, end]] in code points of the text as received."""

    child = serializers.ListField(child=serializers.IntegerField(), min_length=2, max_length=2)


class PlaceShape(serializers.Serializer):
    turn = serializers.IntegerField()
    spans = SpansField()


class ReasonShape(serializers.Serializer):
    policy = serializers.CharField()
    policy_version = serializers.IntegerField()
    rule = serializers.CharField(allow_null=True)
    check = serializers.CharField()
    score = serializers.FloatField(allow_null=True)
    threshold = serializers.FloatField(allow_null=True)
    action = serializers.CharField()
    level = serializers.CharField()
    turn = serializers.IntegerField(allow_null=True)
    spans = SpansField()
    places = PlaceShape(many=True)
    reason = serializers.CharField()
    lifted_by = serializers.CharField(allow_null=True)


class EntryShape(serializers.Serializer):
    policy = serializers.CharField()
    policy_version = serializers.IntegerField()
    check = serializers.CharField()
    kind = serializers.CharField()
    mode = serializers.CharField()
    status = serializers.ChoiceField(choices=["ran", "skipped", "failed"])
    why = serializers.CharField()
    rule = serializers.CharField()
    advisory = serializers.BooleanField()
    score = serializers.FloatField(allow_null=True)
    threshold = serializers.FloatField(allow_null=True)
    action = serializers.CharField()
    turn = serializers.IntegerField(allow_null=True)
    places = PlaceShape(many=True)
    reason = serializers.CharField()


class BundleShape(serializers.Serializer):
    id = serializers.CharField()
    models = serializers.DictField(child=serializers.IntegerField())


class AnswerShape(serializers.Serializer):
    """What an answer and its record both say."""

    decision_id = serializers.UUIDField()
    action = serializers.CharField()
    degraded = serializers.BooleanField()
    degraded_by = serializers.ListField(child=serializers.CharField())
    reasons = ReasonShape(many=True)
    receipt = EntryShape(many=True)
    latency_ms = serializers.FloatField()


class CheckedShape(AnswerShape):
    output = serializers.JSONField(
        allow_null=True,
        help_text="What may pass instead where the action is redact or rewrite: one text, or for "
        "messages and passages a list of texts.",
    )
    bundle = BundleShape()
    recorded = serializers.BooleanField()


class DecisionShape(AnswerShape):
    at = serializers.DateTimeField()
    caller = serializers.CharField()
    stage = serializers.CharField()
    finished = serializers.BooleanField()
    bundle = serializers.CharField()
    length = serializers.IntegerField()


def show_checked(checked: Checked) -> dict[str, Any]:
    return {
        **_show_answer(checked.decision),
        "output": checked.output,
        "bundle": {"id": checked.bundle.id, "models": checked.bundle.models},
        "recorded": checked.recorded,
    }


def show_decision(decision: Decision) -> dict[str, Any]:
    return {
        **_show_answer(decision),
        "at": decision.at,
        "caller": decision.caller,
        "stage": decision.stage,
        "finished": decision.finished,
        "bundle": decision.bundle,
        "length": decision.length,
    }


def _show_answer(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.pk,
        "action": decision.action,
        "degraded": bool(decision.degraded),
        "degraded_by": decision.degraded,
        "reasons": decision.reasons,
        "receipt": decision.receipt,
        "latency_ms": decision.latency_ms,
    }
