"""The evaluations and metrics API."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.permissions import require
from apps.base.keyset import paginate, paginate_sequence
from apps.base.lists import ListQuery, cursor_of, list_answer
from apps.base.schema import listed
from apps.evidence import cases, promoting, services
from apps.evidence import serializers as shapes
from apps.evidence.calibrating import calibrate_gate
from apps.evidence.effects import effect
from apps.evidence.models import Evaluation, MustPassCase
from apps.evidence.permissions import load_case, load_evaluation
from apps.guardrails.configuration import parse
from apps.guardrails.configuring import rules_of
from apps.guardrails.permissions import load_model
from apps.guardrails.serializers import GuardrailIn, ModelShape, show_model
from apps.labeling.labels import counts
from apps.policies.permissions import load_policy
from apps.policies.services import require_published


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
        rows = Evaluation.objects.filter(policy=self.target).select_related(
            "policy", "model_version", "policy_version"
        )
        return self.page_of(request, rows, shapes.show_evaluation)


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


class CaseList(Endpoint):
    """Must-pass cases; with `?run=true` each with what guards now says of it."""

    requires = {"GET": "cases.view", "POST": "cases.add"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[shapes.CaseQuery], responses=listed(shapes.CaseShape))
    def get(self, request: Request, slug: str) -> Response:
        query = validated(shapes.CaseQuery, request.query_params.dict())
        rows = MustPassCase.objects.filter(policy=self.target)
        page = paginate(rows, cursor=cursor_of(query["cursor"]), size=query["page_size"])
        results = {}
        if query["run"]:
            require(self.actor, "cases.add", self.target)
        if query["run"] and self.target.current_version_id:
            counting = [row for row in page.rows if row.withdrawn_at is None]
            told = cases.run_cases(self.target, cases=counting)
            results = {result.case.pk: result for result in told}
        return Response(
            list_answer(request, page, lambda row: shapes.show_case(row, results.get(row.pk)))
        )

    @extend_schema(request=shapes.CaseIn, responses={201: shapes.CaseShape})
    def post(self, request: Request, slug: str) -> Response:
        data = validated(shapes.CaseIn, request.data)
        case = cases.add_case(self.actor, policy=self.target, **data)
        return Response(shapes.show_case(case, None), status=201)


class CaseDetail(Endpoint):
    """DELETE withdraws a case: it stays on record and holds no candidate back any more."""

    requires = {"DELETE": "cases.withdraw"}
    load = staticmethod(load_case)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, slug: str, case: UUID) -> Response:
        cases.withdraw_case(self.actor, case=self.target)
        return Response(status=204)


class GuardrailEffect(Endpoint):
    """What a guardrail would do to the audit labels, beside what guards now; nothing is saved."""

    requires = {"POST": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(request=GuardrailIn, responses=shapes.EffectShape)
    def post(self, request: Request, slug: str) -> Response:
        data = validated(GuardrailIn, request.data)
        require_published(self.target)
        configuration = parse(data, rules=rules_of(self.target))
        return Response(shapes.show_effect(effect(self.target, configuration=configuration)))


class GuardrailCalibrate(Endpoint):
    """Fit the calibration of the draft's weighted gate on the audit labels; the draft is saved."""

    requires = {"POST": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(request=None, responses=shapes.CalibrationShape)
    def post(self, request: Request, slug: str) -> Response:
        require_published(self.target)
        return Response(asdict(calibrate_gate(self.actor, policy=self.target)))


class ModelEffect(Endpoint):
    """What serving a model version would do to the audit labels, beside what guards now."""

    requires = {"POST": "models.promote"}
    load = staticmethod(load_model)

    @extend_schema(request=shapes.PromoteIn, responses=shapes.EffectShape)
    def post(self, request: Request, slug: str, number: int) -> Response:
        data = validated(shapes.PromoteIn, request.data)
        model = promoting.candidate(self.target, data["threshold"])
        return Response(shapes.show_effect(effect(self.target.policy, model=model)))


class ModelPromote(Endpoint):
    """Serve a model version from now on, at its threshold or at one chosen by hand."""

    requires = {"POST": "models.promote"}
    load = staticmethod(load_model)

    @extend_schema(request=shapes.PromoteIn, responses=ModelShape)
    def post(self, request: Request, slug: str, number: int) -> Response:
        data = validated(shapes.PromoteIn, request.data)
        promoting.promote(
            self.actor,
            policy=self.target.policy,
            version=self.target,
            threshold=data["threshold"],
        )
        return Response(show_model(self.target))
