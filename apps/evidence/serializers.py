"""What the evaluations and metrics API gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.base.lists import ListQuery
from apps.base.schema import shown
from apps.evidence.cases import CaseResult
from apps.evidence.effects import Effect
from apps.evidence.models import Evaluation, MustPassCase
from apps.evidence.services import Item
from apps.labeling.models import LabelCounter
from apps.policies.models import Policy
from apps.policies.serializers import WholeTextField

FIGURES = ("precision", "recall", "false_positive_rate", "f1")


class FigureShape(serializers.Serializer):
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField()
    needed = serializers.IntegerField()


class LabelCountsShape(serializers.Serializer):
    train = serializers.IntegerField()
    audit = serializers.IntegerField()
    unsure = serializers.IntegerField()


class MetricsShape(serializers.Serializer):
    policy_version = serializers.IntegerField(allow_null=True)
    model_version = serializers.IntegerField(allow_null=True)
    threshold = serializers.FloatField(allow_null=True)
    evaluation = serializers.UUIDField(allow_null=True)
    precision = FigureShape()
    recall = FigureShape()
    false_positive_rate = FigureShape()
    f1 = FigureShape()
    labels = LabelCountsShape()
    labels_since_training = serializers.IntegerField()
    counted = serializers.IntegerField()
    unresolved = serializers.IntegerField()
    imported_until = serializers.DateTimeField(allow_null=True)
    previous = serializers.DictField(allow_null=True)


class EvaluationShape(serializers.Serializer):
    id = serializers.UUIDField()
    policy = serializers.CharField()
    policy_version = serializers.IntegerField()
    model_version = serializers.IntegerField()
    threshold = serializers.FloatField()
    watermark = serializers.IntegerField()
    imported_until = serializers.DateTimeField(allow_null=True)
    counted = serializers.IntegerField()
    unresolved = serializers.IntegerField()
    unsure = serializers.IntegerField()
    under_older_versions = serializers.IntegerField()
    figures = serializers.DictField()
    previous = serializers.DictField(allow_null=True)
    bounds = serializers.DictField()
    curve = serializers.ListField()
    histogram = serializers.DictField()
    created_at = serializers.DateTimeField()


class ItemShape(serializers.Serializer):
    example = serializers.UUIDField()
    external_id = serializers.CharField()
    label = serializers.CharField()
    score = serializers.FloatField()
    flagged = serializers.BooleanField()
    weight = serializers.FloatField()


class CaseIn(serializers.Serializer):
    text = WholeTextField()
    expected = serializers.ChoiceField(choices=MustPassCase.Expected.choices)
    why = WholeTextField(max_length=2000)


class CaseQuery(ListQuery):
    run = serializers.BooleanField(required=False, default=False)


class CaseShape(serializers.Serializer):
    id = serializers.UUIDField()
    text = serializers.CharField()
    expected = serializers.CharField()
    why = serializers.CharField()
    made_by = serializers.CharField()
    made_at = serializers.DateTimeField()
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    passes = serializers.BooleanField(allow_null=True)
    found_by = serializers.ListField(
        child=serializers.CharField(), help_text="The checks that found something in it."
    )


class CalibrationShape(serializers.Serializer):
    """c = 1 / (1 + exp(-(slope * mean + offset)))."""

    slope = serializers.FloatField()
    offset = serializers.FloatField()
    labels = serializers.IntegerField()


class PromoteIn(serializers.Serializer):
    threshold = serializers.FloatField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Above 0, at most 1; without one the version keeps its own.",
    )


class FlipShape(serializers.Serializer):
    example = serializers.UUIDField()
    label = serializers.CharField()
    before = serializers.BooleanField()
    after = serializers.BooleanField()


class EffectShape(serializers.Serializer):
    counted = serializers.IntegerField()
    left = serializers.IntegerField()
    undecided = serializers.IntegerField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    better = serializers.IntegerField()
    worse = serializers.IntegerField()
    flips = FlipShape(many=True)
    remote_left_out = serializers.BooleanField()


def show_case(case: MustPassCase, result: CaseResult | None) -> dict[str, Any]:
    return shown(
        CaseShape,
        case,
        passes=result.passes if result else None,
        found_by=list(result.found_by) if result else [],
    )


def show_effect(effect: Effect) -> dict[str, Any]:
    return shown(
        EffectShape,
        effect,
        before=effect.before.as_dict() if effect.before else None,
        after=effect.after.as_dict() if effect.after else None,
        flips=[
            {
                "example": flip.example,
                "label": "violates" if flip.violates else "complies",
                "before": flip.before,
                "after": flip.after,
            }
            for flip in effect.flips
        ],
        remote_left_out=effect.remote,
    )


_NOTHING = {"value": None, "low": None, "high": None, "n": 0, "needed": 10}


def show_metrics(
    policy: Policy, evaluation: Evaluation | None, counts: LabelCounter
) -> dict[str, Any]:
    figures = evaluation.figures if evaluation else dict.fromkeys(FIGURES, _NOTHING)
    version = policy.current_version
    return {
        "policy_version": version.number if version else None,
        "model_version": evaluation.model_version.number if evaluation else None,
        "threshold": evaluation.threshold if evaluation else None,
        "evaluation": evaluation.pk if evaluation else None,
        **{name: figures[name] for name in FIGURES},
        "labels": {"train": counts.train, "audit": counts.audit, "unsure": counts.unsure},
        "labels_since_training": counts.since_frozen,
        "counted": evaluation.counted if evaluation else 0,
        "unresolved": evaluation.unresolved if evaluation else 0,
        "imported_until": evaluation.imported_until if evaluation else None,
        "previous": evaluation.previous if evaluation else None,
    }


def show_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return shown(
        EvaluationShape,
        evaluation,
        policy=evaluation.policy.slug,
        policy_version=evaluation.policy_version.number,
        model_version=evaluation.model_version.number,
    )


def show_item(item: Item) -> dict[str, Any]:
    return shown(ItemShape, item)
