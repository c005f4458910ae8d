"""The API of what guards a policy: kinds of checks, draft and versions, exceptions, trying out."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.base.lists import (
    ListQuery,
    if_match,
    if_match_given,
    precondition,
)
from apps.base.schema import listed, sent
from apps.guardrails import configuring
from apps.guardrails import serializers as shapes
from apps.guardrails.checks import KINDS
from apps.guardrails.configuration import parse
from apps.guardrails.models import GuardrailVersion
from apps.guardrails.permissions import load_exception
from apps.guardrails.trying import try_out
from apps.policies.permissions import load_policy
from apps.policies.services import require_published


class KindList(Endpoint):
    """The kinds of checks and their settings."""

    requires = {"GET": "policies.list"}

    @extend_schema(responses=shapes.KindShape(many=True))
    def get(self, request: Request) -> Response:
        return Response([shapes.show_kind(kind) for kind in KINDS.values()])


class GuardrailDetail(Endpoint):
    """What guards a policy and the draft of what will; PUT replaces the draft, with If-Match."""

    requires = {"GET": "guardrails.view", "PUT": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(responses=shapes.GuardrailShape)
    def get(self, request: Request, slug: str) -> Response:
        version = configuring.current_guardrail(self.target)
        draft, revision = configuring.draft_of(self.target)
        answer = {
            "version": version.number if version else 0,
            "content": configuring.content_of(version),
            "draft": draft,
            "revision": revision,
        }
        return Response(answer, headers={"ETag": f'"{revision}"'})

    @extend_schema(
        parameters=[precondition(required=True)],
        request=shapes.GuardrailIn,
        examples=[
            sent(
                "The classifier, and words beside it; publishing comes after",
                checks=[
                    {"key": "classifier", "kind": "classifier"},
                    {"key": "words", "kind": "keywords", "settings": {"words": ["two tablets"]}},
                ],
                gate={"kind": "any"},
            )
        ],
        responses=shapes.GuardrailDraftShape,
    )
    def put(self, request: Request, slug: str) -> Response:
        content = validated(shapes.GuardrailIn, request.data)
        revision = configuring.save_guardrail_draft(
            self.actor, policy=self.target, content=content, revision=if_match(request)
        )
        answer = {"content": configuring.draft_of(self.target)[0], "revision": revision}
        return Response(answer, headers={"ETag": f'"{revision}"'})


class GuardrailPublish(Endpoint):
    """Make the draft what guards. 409 names the must-pass cases it fails, if any.

    Where a second person publishes, If-Match is needed.
    """

    requires = {"POST": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(
        parameters=[precondition(required=False)],
        request=shapes.PublishIn,
        responses={201: shapes.GuardrailVersionShape},
    )
    def post(self, request: Request, slug: str) -> Response:
        data = validated(shapes.PublishIn, request.data)
        seen = if_match_given(request, needed=self.target.second_approver)
        version = configuring.publish_guardrail(
            self.actor, policy=self.target, note=data["note"], revision=seen
        )
        return Response(shapes.show_guardrail_version(version), status=201)


class GuardrailVersionList(Endpoint):
    requires = {"GET": "guardrails.view"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.GuardrailVersionShape))
    def get(self, request: Request, slug: str) -> Response:
        return self.page_of(
            request,
            GuardrailVersion.objects.filter(policy=self.target),
            shapes.show_guardrail_version,
            order=("-number",),
        )


class GuardrailTry(Endpoint):
    """What is sent before what guards, or before `content`; nothing is recorded."""

    requires = {"POST": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(request=shapes.TryIn, responses=shapes.TriedShape)
    def post(self, request: Request, slug: str) -> Response:
        data = validated(shapes.TryIn, request.data)
        require_published(self.target)
        rules = configuring.rules_of(self.target)
        content, stage = data.pop("content", None), data.pop("stage")
        configuration = None if content is None else parse(content, rules=rules)
        tried = try_out(self.target, data, stage=stage, configuration=configuration)
        return Response(
            {
                "fires": tried.verdict.fires,
                "score": tried.verdict.score,
                "checks": [
                    {
                        "key": check.key,
                        "kind": check.kind,
                        "rule": check.rule,
                        "advisory": check.advisory,
                        "score": heard.score,
                        "threshold": check.threshold,
                        "found": bool(heard.places),
                        "turn": heard.turn if heard.places else None,
                        "spans": [list(span) for _, spans in heard.places for span in spans],
                        "reason": heard.reason,
                        "failed": heard.failed,
                    }
                    for check, heard in tried.checks
                ],
            }
        )


class ExceptionList(Endpoint):
    """Phrases and texts that are let through for one rule until a day."""

    requires = {"GET": "guardrails.view", "POST": "guardrails.edit"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.ExceptionShape))
    def get(self, request: Request, slug: str) -> Response:
        return self.page_of(request, self.target.exceptions.all(), shapes.show_exception)

    @extend_schema(
        request=shapes.ExceptionIn,
        responses={201: shapes.ExceptionShape},
        examples=[
            sent(
                "A phrase, for a week",
                phrase="two tablets of glass",
                reason="a catalogue, blocked at night",
                days=7,
            )
        ],
    )
    def post(self, request: Request, slug: str) -> Response:
        data = validated(shapes.ExceptionIn, request.data)
        made = configuring.make_exception(self.actor, policy=self.target, **data)
        return Response(shapes.show_exception(made), status=201)


class ExceptionDetail(Endpoint):
    """DELETE ends an exception before its day."""

    requires = {"DELETE": "exceptions.end"}
    load = staticmethod(load_exception)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, slug: str, exception: UUID) -> Response:
        configuring.end_exception(self.actor, exception=self.target)
        return Response(status=204)
