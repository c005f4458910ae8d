"""The members, tokens and audit API, and the health checks."""

from __future__ import annotations

from uuid import UUID

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import people, tokens
from apps.accounts import serializers as shapes
from apps.accounts.actor import Actor
from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.models import ApiToken, Membership, Role
from apps.base.found import the_one
from apps.base.lists import ListQuery
from apps.base.problems import Forbidden
from apps.base.schema import listed


def load_member(actor: Actor, member: UUID) -> Membership:
    """A membership of the actor's workspace."""
    return the_one(
        Membership.objects.select_related("user").filter(pk=member, workspace=actor.workspace)
    )


def load_token(actor: Actor, token: UUID) -> ApiToken:
    """A token of the actor's workspace."""
    return the_one(
        ApiToken.objects.select_related("membership__user").filter(
            pk=token, membership__workspace=actor.workspace
        )
    )


def _hold_role(actor: Actor, role: str) -> None:
    """Refuse a token: with a person of more rights it would outlive its own end."""
    if actor.token is not None and role != Role.ANNOTATOR:
        raise Forbidden("A token adds annotators only, and makes nobody more; sign in for that.")


class MemberList(Endpoint):
    requires = {"GET": "people.manage", "POST": "people.manage"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.MemberShape))
    def get(self, request: Request) -> Response:
        rows = Membership.objects.filter(workspace=self.actor.workspace).select_related("user")
        return self.page_of(request, rows, shapes.show_member)

    @extend_schema(request=shapes.MemberIn, responses={201: shapes.MemberShape})
    def post(self, request: Request) -> Response:
        data = validated(shapes.MemberIn, request.data)
        _hold_role(self.actor, data["role"])
        membership, password = people.add_member(self.actor, **data)
        answer = {**shapes.show_member(membership), "one_time_password": password}
        return Response(answer, status=201)


class MemberDetail(Endpoint):
    requires = {"GET": "people.manage", "PATCH": "people.manage", "DELETE": "people.manage"}
    load = staticmethod(load_member)

    @extend_schema(responses=shapes.MemberShape)
    def get(self, request: Request, member: UUID) -> Response:
        return Response(shapes.show_member(self.target))

    @extend_schema(request=shapes.MemberPatch, responses=shapes.MemberShape)
    def patch(self, request: Request, member: UUID) -> Response:
        data = validated(shapes.MemberPatch, request.data)
        _hold_role(self.actor, data["role"])
        people.change_role(self.actor, membership=self.target, role=data["role"])
        return Response(shapes.show_member(self.target))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, member: UUID) -> Response:
        people.deactivate_member(self.actor, membership=self.target)
        return Response(status=204)


class TokenList(Endpoint):
    requires = {"GET": "people.manage", "POST": "people.manage"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.TokenShape))
    def get(self, request: Request) -> Response:
        rows = ApiToken.objects.filter(membership__workspace=self.actor.workspace)
        return self.page_of(request, rows, shapes.show_token)

    @extend_schema(request=shapes.TokenIn, responses={201: shapes.TokenShape})
    def post(self, request: Request) -> Response:
        if self.actor.token is not None:
            raise Forbidden("A token cannot make tokens; sign in, or use manage.py issue_token.")
        data = validated(shapes.TokenIn, request.data)
        membership = load_member(self.actor, data.pop("member"))
        token, key = tokens.issue_token(self.actor, membership=membership, **data)
        return Response({**shapes.show_token(token), "token": key}, status=201)


class TokenDetail(Endpoint):
    requires = {"DELETE": "people.manage"}
    load = staticmethod(load_token)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, token: UUID) -> Response:
        tokens.revoke_token(self.actor, token=self.target)
        return Response(status=204)


class AuditList(Endpoint):
    requires = {"GET": "audit.view"}

    @extend_schema(parameters=[shapes.AuditQuery], responses=listed(shapes.AuditShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.AuditQuery, request.query_params.dict())
        rows = self.actor.workspace.audit_entries.all()
        if query["action"]:
            rows = rows.filter(action=query["action"])
        return self.page_of(request, rows, shapes.show_entry, query=query, order=("-sequence",))


@require_safe
def health_live(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
def health_ready(request: HttpRequest) -> JsonResponse:
    """The process answers and reaches its database."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:  # whatever is wrong with the database: not ready
        return JsonResponse({"status": "the database does not answer"}, status=503)
    return JsonResponse({"status": "ok"})
