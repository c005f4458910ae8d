"""The evaluations and metrics API."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.base.keyset import paginate, paginate_sequence
from apps.base.lists import ListQuery, cursor_of, list_answer
from apps.base.schema import listed
from apps.evidence import serializers as shapes
from apps.evidence import services
from apps.evidence.models import Evaluation
from apps.evidence.permissions import load_evaluation
from apps.labeling.labels import counts
from apps.policies.permissions import load_policy


class Metrics(Endpoint):
    """The live model's figures, from audit labels only."""

    requires = {"GET": "evidence.view"}
    load = staticmethod(load_policy)

    @extend_schema(responses=shapes.MetricsShape)
    def get(self, request: Request, slug: str) -> Response:
        policy = self.target
        return Response(shapes.show_metrics(policy, services.newest(policy), counts(policy)))


class EvaluationList(Endpoint):
    requires = {"GET": "evidence.view"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.EvaluationShape))
    def get(self, request: Request, slug: str) -> Response:
        query = validated(ListQuery, request.query_params.dict())
        rows = Evaluation.objects.filter(policy=self.target).select_related(
            "policy", "model_version", "policy_version"
        )
        page = paginate(rows, cursor=cursor_of(query["cursor"]), size=query["page_size"])
        return Response(list_answer(request, page, shapes.show_evaluation))


class EvaluationDetail(Endpoint):
    requires = {"GET": "evaluation.view"}
    load = staticmethod(load_evaluation)

    @extend_schema(responses=shapes.EvaluationShape)
    def get(self, request: Request, evaluation: UUID) -> Response:
        return Response(shapes.show_evaluation(self.target))


class EvaluationItems(Endpoint):
    """Every counted item with label, score and weight: whoever doubts a figure can recompute it."""

    requires = {"GET": "evaluation.view"}
    load = staticmethod(load_evaluation)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.ItemShape))
    def get(self, request: Request, evaluation: UUID) -> Response:
        query = validated(ListQuery, request.query_params.dict())
        page = paginate_sequence(
            services.items_of(self.target),
            cursor=cursor_of(query["cursor"]),
            size=query["page_size"],
        )
        return Response(list_answer(request, page, shapes.show_item))
