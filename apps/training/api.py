"""The runs API."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint
from apps.base.lists import ListQuery
from apps.base.schema import listed
from apps.policies.permissions import load_policy
from apps.training import runs
from apps.training import serializers as shapes
from apps.training.models import TrainingRun
from apps.training.permissions import load_run


class RunList(Endpoint):
    """A policy's retrains; POST starts one, 409 with the running one when one runs."""

    requires = {"GET": "evidence.view", "POST": "runs.start"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.RunShape))
    def get(self, request: Request, slug: str) -> Response:
        rows = TrainingRun.objects.filter(policy=self.target).select_related(
            "policy", "model_version", "dataset"
        )
        return self.page_of(request, rows, shapes.show_run)

    @extend_schema(request=None, responses={202: shapes.RunShape})
    def post(self, request: Request, slug: str) -> Response:
        run = runs.request_run(self.actor, policy=self.target)
        return Response(shapes.show_run(run), status=202)


class RunDetail(Endpoint):
    requires = {"GET": "runs.view"}
    load = staticmethod(load_run)

    @extend_schema(responses=shapes.RunShape)
    def get(self, request: Request, run: UUID) -> Response:
        return Response(shapes.show_run(self.target))


class RunCancel(Endpoint):
    requires = {"POST": "runs.cancel"}
    load = staticmethod(load_run)

    @extend_schema(request=None, responses={202: shapes.RunShape})
    def post(self, request: Request, run: UUID) -> Response:
        runs.request_cancel(self.actor, run=self.target)
        return Response(shapes.show_run(load_run(self.actor, run)), status=202)
