"""The check API, and the decisions it made."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.base.keyset import paginate
from apps.base.lists import ListQuery, cursor_of, list_answer
from apps.base.problems import Problem
from apps.base.schema import listed
from apps.runtime import checking
from apps.runtime import serializers as shapes
from apps.runtime.models import Decision
from apps.runtime.permissions import load_decision


class Check(Endpoint):
    """Judge a text, a conversation, a tool call or passages by all active policies of its stage.

    200 is a finished decision. Where an enforced policy failed, and nothing found before blocks
    anyway, the answer is a 503 problem whose `action` is what the failed policies advise: block
    where one of them fails closed, else what the others found.
    """

    requires = {"POST": "check.run"}

    @extend_schema(request=shapes.CheckIn, responses=shapes.CheckedShape)
    def post(self, request: Request) -> Response:
        data = validated(shapes.CheckIn, request.data)
        checked = checking.check(
            self.actor,
            stage=data["stage"],
            content=data,
            policies=data.get("policies"),
            key=data.get("context", {}).get("key", ""),
        )
        answer = shapes.show_checked(checked)
        if not checked.judgement.finished:
            raise Problem(
                f"Not finished: an enforced policy failed. Its advice is to {answer['action']}.",
                code="not_finished",
                status=503,
                extra=answer,
            )
        return Response(answer)


class DecisionList(Endpoint):
    """Decisions of the workspace, newest first."""

    requires = {"GET": "decisions.view"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.DecisionShape))
    def get(self, request: Request) -> Response:
        query = validated(ListQuery, request.query_params.dict())
        page = paginate(
            Decision.objects.visible_to(self.actor),
            cursor=cursor_of(query["cursor"]),
            size=query["page_size"],
            order=("-id",),
        )
        return Response(list_answer(request, page, shapes.show_decision))


class DecisionDetail(Endpoint):
    """One decision with its receipt; it is there a moment after its answer."""

    requires = {"GET": "decisions.view"}
    load = staticmethod(load_decision)

    @extend_schema(responses=shapes.DecisionShape)
    def get(self, request: Request, decision: UUID) -> Response:
        return Response(shapes.show_decision(self.target))
