"""The models and examples API (examples come with the live model's scores)."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.permissions import allowed, require
from apps.base.keyset import paginate
from apps.base.lists import ListQuery, cursor_of, list_answer
from apps.base.problems import Forbidden
from apps.base.schema import listed
from apps.corpus.permissions import load_policy_example
from apps.corpus.search import Filters, examples, told_elsewhere
from apps.corpus.serializers import ExampleShape
from apps.guardrails import serializers as shapes
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.models import ModelVersion
from apps.guardrails.scores import live_score, live_scores
from apps.labeling.labels import current_verdicts
from apps.policies.permissions import load_policy

# what would colour an annotator's answer
_OWNERS_FILTERS = ("split", "label", "source", "model", "external_id")


class ExampleList(Endpoint):
    """A policy's examples: full text `q`, and filters that only owners and admins may use."""

    requires = {"GET": "policies.list"}

    @extend_schema(parameters=[shapes.ExampleQuery], responses=listed(ExampleShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.ExampleQuery, request.query_params.dict())
        policy = load_policy(self.actor, query["policy"])
        require(self.actor, "examples.list", policy)
        whole = allowed(self.actor, "examples.search", policy)
        told = [name for name in _OWNERS_FILTERS if query[name]]
        if not whole and told:
            raise Forbidden(f"Only the policy's owners may filter by {told[0].replace('_', ' ')}.")
        filters = Filters(
            text=query["q"],
            **{
                name: query[name]
                for name in ("label", "split", "source", "model", "language", "external_id")
            },
        )
        page = paginate(
            examples(policy, filters),
            cursor=cursor_of(query["cursor"]),
            size=query["page_size"],
            order=("id",),
        )
        scores = live_scores(policy, [row.example.output for row in page.rows]) if whole else []
        verdicts = current_verdicts([row.pk for row in page.rows]) if whole else {}
        elsewhere = told_elsewhere(self.actor, page.rows) if whole else set()
        by_row = dict(zip((row.pk for row in page.rows), scores, strict=False))
        return Response(
            list_answer(
                request,
                page,
                lambda row: shapes.show_example(
                    row,
                    label=verdicts.get(row.pk),
                    score=by_row.get(row.pk),
                    whole=whole,
                    facts=row.example_id not in elsewhere,
                ),
            )
        )


class ExampleDetail(Endpoint):
    """One example as a policy has it, with split, label and score."""

    requires = {"GET": "examples.view"}
    load = staticmethod(load_policy_example)

    @extend_schema(responses=ExampleShape)
    def get(self, request: Request, slug: str, example: UUID) -> Response:
        row = self.target
        try:
            score = live_score(row.policy, row.example.output)
        except ArtifactRefused:
            score = None
        label = current_verdicts([row.pk]).get(row.pk)
        facts = not told_elsewhere(self.actor, [row])
        return Response(shapes.show_example(row, label=label, score=score, whole=True, facts=facts))


class ModelList(Endpoint):
    requires = {"GET": "models.view"}
    load = staticmethod(load_policy)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.ModelShape))
    def get(self, request: Request, slug: str) -> Response:
        rows = ModelVersion.objects.filter(policy=self.target).select_related(
            "dataset", "policy_version"
        )
        return self.page_of(request, rows, shapes.show_model, order=("-number",))
