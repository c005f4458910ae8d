"""The queue and labels API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.permissions import require
from apps.base.schema import listed
from apps.labeling import labels, queue
from apps.labeling import serializers as shapes
from apps.labeling.models import Label
from apps.labeling.permissions import load_own_lease
from apps.policies.permissions import load_policy


class QueueNext(Endpoint):
    """The next item to label, leased to the caller for 15 minutes; 204 when there is none."""

    requires = {"POST": "labels.give"}
    load = staticmethod(load_policy)

    @extend_schema(request=None, responses={200: shapes.QueueItemShape, 204: None})
    def post(self, request: Request, slug: str) -> Response:
        item = queue.next_item(self.actor, policy=self.target)
        return Response(shapes.show_item(item)) if item else Response(status=204)


class LabelList(Endpoint):
    requires = {"GET": "policies.list", "POST": "labels.submit"}

    @extend_schema(parameters=[shapes.LabelQuery], responses=listed(shapes.LabelShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.LabelQuery, request.query_params.dict())
        policy = load_policy(self.actor, query["policy"])
        require(self.actor, "labels.view", policy)
        rows = Label.objects.filter(policy=policy).select_related(
            "policy_example", "annotator__user"
        )
        return self.page_of(request, rows, shapes.show_label, query=query, order=("-sequence",))

    @extend_schema(request=shapes.LabelIn, responses={201: shapes.SubmittedShape})
    def post(self, request: Request) -> Response:
        data = validated(shapes.LabelIn, request.data)
        wants_next = data.pop("next")
        lease = load_own_lease(self.actor, data.pop("lease"))
        require(self.actor, "labels.give", lease.policy)
        label = labels.submit_label(self.actor, lease=lease, **data)
        answer: dict[str, Any] = {"id": label.pk}
        if wants_next:
            item = queue.next_item(self.actor, policy=lease.policy)
            answer["next"] = shapes.show_item(item) if item else None
        return Response(answer, status=201)


class Undo(Endpoint):
    """Take back the caller's last answer and lease its item to them again."""

    requires = {"POST": "labels.give"}
    load = staticmethod(load_policy)

    @extend_schema(request=None, responses=shapes.UndoneShape)
    def post(self, request: Request, slug: str) -> Response:
        item, label = labels.undo_label(self.actor, policy=self.target)
        return Response(
            {
                "item": shapes.show_item(item),
                "verdict": label.verdict,
                "rules": label.rules,
                "severity": label.severity,
                "rationale": label.rationale,
            }
        )


class LeaseSkip(Endpoint):
    """Pass an item on, with a reason; it goes to another person, then to an owner."""

    requires = {"POST": "leases.use"}
    load = staticmethod(load_own_lease)

    @extend_schema(request=shapes.SkipIn, responses={204: None})
    def post(self, request: Request, lease: UUID) -> Response:
        data = validated(shapes.SkipIn, request.data)
        queue.skip(self.actor, lease=self.target, reason=data["reason"])
        return Response(status=204)
