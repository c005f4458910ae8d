"""The policies API."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.actor import Actor
from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.models import Membership
from apps.accounts.permissions import require
from apps.base.found import the_one
from apps.base.lists import (
    ListQuery,
    if_match,
    if_match_given,
    precondition,
)
from apps.base.problems import NotFound, Problem
from apps.base.schema import listed
from apps.policies import serializers as shapes
from apps.policies import services, taxonomies
from apps.policies.models import Policy, PolicyVersion
from apps.policies.permissions import load_policy
from apps.policies.specification import compare

_DRAFT_FIELDS = ("stages", "definition", "scope", "rationale", "rules")


def _hold_authority(actor: Actor, data: dict[str, Any], policy: Policy) -> None:
    """Only admins change what owners may not say of their own policy."""
    given = data.get("settings", {})
    if any(
        given.get(name, getattr(policy, name)) != getattr(policy, name)
        for name in services.ADMIN_SETTINGS
    ):
        require(actor, "policies.set_authority")


class PolicyList(Endpoint):
    requires = {"GET": "policies.list", "POST": "policies.create"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.PolicyShape))
    def get(self, request: Request) -> Response:
        rows = (
            Policy.objects.visible_to(self.actor)
            .with_role_of(self.actor)
            .select_related("current_version")
        )
        return self.page_of(request, rows, shapes.show_policy)

    @extend_schema(request=shapes.PolicyIn, responses={201: shapes.PolicyWithDraftShape})
    def post(self, request: Request) -> Response:
        data = validated(shapes.PolicyIn, request.data)
        _hold_authority(self.actor, data, Policy())
        policy = services.create_policy(
            self.actor,
            slug=data["slug"],
            name=data["name"],
            specification={name: data[name] for name in _DRAFT_FIELDS if name in data},
            targets=data.get("targets"),
            settings=data.get("settings"),
        )
        answer = {**shapes.show_policy(policy), "draft": shapes.show_draft(policy.draft)}
        return Response(answer, status=201)


class PolicyDetail(Endpoint):
    requires = {"GET": "policies.view", "PATCH": "policies.edit"}
    load = staticmethod(load_policy)

    @extend_schema(responses=shapes.PolicyShape)
    def get(self, request: Request, slug: str) -> Response:
        return Response(shapes.show_policy(self.target))

    @extend_schema(request=shapes.PolicyPatch, responses=shapes.PolicyShape)
    def patch(self, request: Request, slug: str) -> Response:
        data = validated(shapes.PolicyPatch, request.data)
        _hold_authority(self.actor, data, self.target)
        with transaction.atomic():
            services.change_settings(
                self.actor,
                policy=self.target,
                targets=data.get("targets", {}),
                settings=data.get("settings", {}),
                name=data.get("name"),
            )
            if "categories" in data:
                services.set_categories(
                    self.actor, policy=self.target, categories=data["categories"]
                )
            if "retired" in data:
                services.retire_policy(self.actor, policy=self.target, retired=data["retired"])
        return Response(shapes.show_policy(self.target))


class PolicyDraftDetail(Endpoint):
    """The draft; send If-Match with its revision, or * to write over whatever is there."""

    requires = {"GET": "policies.edit", "PUT": "policies.edit"}
    load = staticmethod(load_policy)

    @extend_schema(responses=shapes.DraftShape)
    def get(self, request: Request, slug: str) -> Response:
        draft = self.target.draft
        return Response(shapes.show_draft(draft), headers={"ETag": f'"{draft.revision}"'})

    @extend_schema(
        parameters=[precondition(required=True)],
        request=shapes.SpecificationIn,
        responses=shapes.DraftShape,
    )
    def put(self, request: Request, slug: str) -> Response:
        data = validated(shapes.SpecificationIn, request.data)
        draft = services.save_draft(
            self.actor, policy=self.target, specification=data, revision=if_match(request)
        )
        return Response(shapes.show_draft(draft), headers={"ETag": f'"{draft.revision}"'})


class PolicyPublish(Endpoint):
    """Make the draft the next version. Where a second person publishes, If-Match is needed."""

    requires = {"POST": "policies.edit"}
    load = staticmethod(load_policy)

    @extend_schema(
        parameters=[precondition(required=False)],
        request=None,
        responses={201: shapes.VersionShape},
    )
    def post(self, request: Request, slug: str) -> Response:
        seen = if_match_given(request, needed=self.target.second_approver)
        version = services.publish_version(self.actor, policy=self.target, revision=seen)
        return Response(shapes.show_version(version), status=201)


class VersionList(Endpoint):
    requires = {"GET": "policies.view"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.VersionShape))
    def get(self, request: Request, slug: str) -> Response:
        rows = self.target.versions.prefetch_related("rules")
        return self.page_of(request, rows, shapes.show_version, order=("-number",))


def load_version(actor: Actor, slug: str, number: int) -> PolicyVersion:
    """A published version of a policy the actor can see; its policy carries the actor's role."""
    policy = load_policy(actor, slug)
    version = the_one(policy.versions.filter(number=number))
    version.policy = policy
    return version


class VersionDetail(Endpoint):
    requires = {"GET": "versions.view"}
    load = staticmethod(load_version)

    @extend_schema(responses=shapes.VersionShape)
    def get(self, request: Request, slug: str, number: int) -> Response:
        return Response(shapes.show_version(self.target))


class VersionDiff(Endpoint):
    """What a version changed against the one before it, or against `?against=`."""

    requires = {"GET": "versions.view"}
    load = staticmethod(load_version)

    @extend_schema(responses=shapes.ChangeShape(many=True))
    def get(self, request: Request, slug: str, number: int) -> Response:
        text = request.query_params.get("against", str(number - 1))
        if not text.isdecimal() or len(text) > 9:
            raise Problem("`against` is the number of a version.", code="against")
        other = self.target.policy.versions.filter(number=int(text)).first()
        if other is None and int(text) != 0:
            raise NotFound
        before = other.specification if other else services.NOTHING
        changes = compare(before, self.target.specification)
        return Response([shapes.show_change(change) for change in changes])


class RoleList(Endpoint):
    requires = {"GET": "policies.edit", "PUT": "policies.edit"}
    load = staticmethod(load_policy)

    @extend_schema(responses=shapes.RoleShape(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return Response(self._shown())

    @extend_schema(request=shapes.RoleIn, responses=shapes.RoleShape(many=True))
    def put(self, request: Request, slug: str) -> Response:
        data = validated(shapes.RoleIn, request.data)
        membership = the_one(
            Membership.objects.filter(pk=data["member"], workspace=self.actor.workspace)
        )
        role = "" if data["role"] == "none" else data["role"]
        services.set_role(self.actor, policy=self.target, membership=membership, role=role)
        return Response(self._shown())

    def _shown(self) -> list[dict[str, Any]]:
        rows = self.target.roles.select_related("membership__user").order_by("id")
        return [shapes.show_role(row) for row in rows]


class TaxonomyList(Endpoint):
    """The built-in taxonomies and the workspace's own."""

    requires = {"GET": "policies.list", "POST": "taxonomies.edit"}

    @extend_schema(responses=shapes.TaxonomyShape(many=True))
    def get(self, request: Request) -> Response:
        found = taxonomies.taxonomies_of(self.actor.workspace).values()
        return Response([shapes.show_taxonomy(one) for one in found])

    @extend_schema(request=shapes.TaxonomyIn, responses={201: shapes.TaxonomyShape})
    def post(self, request: Request) -> Response:
        data = validated(shapes.TaxonomyIn, request.data)
        made = taxonomies.add_taxonomy(self.actor, **data)
        found = taxonomies.taxonomies_of(self.actor.workspace)[made.slug]
        return Response(shapes.show_taxonomy(found), status=201)


class MappingList(Endpoint):
    """What each category means in other taxonomies; PUT says it for one, built in or own."""

    requires = {"GET": "policies.list", "PUT": "taxonomies.edit"}

    @extend_schema(responses=shapes.MappingShape(many=True))
    def get(self, request: Request) -> Response:
        found = sorted(taxonomies.mappings_of(self.actor.workspace).items())
        return Response([{"source": name, "targets": list(targets)} for name, targets in found])

    @extend_schema(request=shapes.MappingShape, responses=shapes.MappingShape)
    def put(self, request: Request) -> Response:
        data = validated(shapes.MappingShape, request.data)
        taxonomies.map_category(self.actor, **data)
        return Response({**data, "targets": sorted(set(data["targets"]))})
