"""The sources and imports API. (Examples are in guardrails: they come with scores.)"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import Endpoint, validated
from apps.accounts.permissions import require
from apps.base.gate import check_form, parse_json
from apps.base.jobs import Status
from apps.base.lists import ListQuery
from apps.base.problems import FieldError, Problem
from apps.base.schema import listed
from apps.corpus import importing
from apps.corpus import serializers as shapes
from apps.corpus.models import Import, Source
from apps.corpus.permissions import load_import
from apps.policies.permissions import load_policy

_CHUNK = 2**16


class SourceList(Endpoint):
    requires = {"GET": "sources.list"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.SourceShape))
    def get(self, request: Request) -> Response:
        rows = Source.objects.filter(workspace=self.actor.workspace)
        return self.page_of(request, rows, shapes.show_source)


class _Untouched(MultiPartParser):
    """Leaves a stream of rows to the view, which sends it to disk chunk by chunk."""

    media_type = "application/x-ndjson"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        return {}


class ImportList(Endpoint):
    """Bring rows in: an NDJSON body, or a multipart form with `file` and `mapping`."""

    requires = {"GET": "imports.list", "POST": "imports.send"}
    accepts = frozenset({"application/x-ndjson", "multipart/form-data"})
    parser_classes = [_Untouched, MultiPartParser]

    @extend_schema(parameters=[shapes.ImportListQuery], responses=listed(shapes.ImportShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.ImportListQuery, request.query_params.dict())
        rows = (
            Import.objects.owned_by(self.actor)
            .exclude(status=Status.DRAFT)
            .select_related("policy", "source")
        )
        if query["policy"]:
            policy = load_policy(self.actor, query["policy"])
            require(self.actor, "imports.of_policy", policy)
            rows = rows.filter(policy=policy)
        return self.page_of(request, rows, shapes.show_import, query=query)

    @extend_schema(
        parameters=[shapes.ImportQuery],
        request={
            "application/x-ndjson": OpenApiTypes.STR,
            "multipart/form-data": OpenApiTypes.OBJECT,
        },
        responses={202: shapes.ImportShape},
    )
    def post(self, request: Request) -> Response:
        fields = {**request.query_params.dict()}
        form: Any = request.data
        kind = request._request.content_type
        if kind == "multipart/form-data":
            check_form(form)
        if kind != "application/x-ndjson":
            fields |= {name: text for name, text in form.items() if name != "file"}
        query = validated(shapes.ImportQuery, fields)
        policy = load_policy(self.actor, query["policy"])
        require(self.actor, "imports.create", policy)
        if kind == "application/x-ndjson":
            mapping = {name: name for name in importing.FIELDS}
            file_name, chunks = f"{query['source']}.ndjson", _body(request)
        else:
            file_name, chunks, mapping = _multipart(request, query.get("mapping"))
        source = importing.get_source(
            self.actor,
            name=query["source"],
            licence=query["licence"],
            may_train=query["may_train"],
        )
        job = importing.upload(self.actor, policy=policy, file_name=file_name, chunks=chunks)
        job = importing.start_import(self.actor, job=job, mapping=mapping, source=source)
        return Response(shapes.show_import(job), status=202)


class ImportDetail(Endpoint):
    requires = {"GET": "imports.view"}
    load = staticmethod(load_import)

    @extend_schema(responses=shapes.ImportShape)
    def get(self, request: Request, import_id: UUID) -> Response:
        return Response(shapes.show_import(self.target))


class ImportErrors(Endpoint):
    """The rejected rows, in the order of the file."""

    requires = {"GET": "imports.view"}
    load = staticmethod(load_import)

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.RejectedRowShape))
    def get(self, request: Request, import_id: UUID) -> Response:
        return self.page_of(
            request, self.target.rejected_rows.all(), shapes.show_rejected, order=("row",)
        )


class ImportCancel(Endpoint):
    requires = {"POST": "imports.change"}
    load = staticmethod(load_import)

    @extend_schema(request=None, responses={202: shapes.ImportShape})
    def post(self, request: Request, import_id: UUID) -> Response:
        importing.request_cancel(self.actor, job=self.target)
        return Response(shapes.show_import(load_import(self.actor, import_id)), status=202)


def _body(request: Request) -> Iterator[bytes]:
    """The request's body as it comes, exactly Content-Length bytes of it."""
    length = request.META.get("CONTENT_LENGTH") or ""
    left = int(length) if length.isdecimal() else 0
    if not left:
        raise Problem("Send the rows with a Content-Length.", code="length", status=411)
    while left:
        chunk = request._request.read(min(_CHUNK, left))
        if not chunk:
            raise Problem("The body ended before its Content-Length.", code="cut_off")
        left -= len(chunk)
        yield chunk


def _multipart(request: Request, mapping: Any) -> tuple[str, Iterator[bytes], dict[str, str]]:
    file = request.FILES.get("file")
    if file is None:
        raise Problem(
            "Send the file in the form field `file`.",
            errors=[FieldError("/file", "Missing.")],
        )
    if isinstance(mapping, str):
        mapping = parse_json(mapping.encode())
    if mapping is None:
        mapping = {name: name for name in importing.FIELDS}
    if not isinstance(mapping, dict):
        raise Problem(
            "mapping is a JSON object from Parapet's fields to the file's columns.",
            errors=[FieldError("/mapping", json.dumps({"output": "name of the column"}))],
        )
    return file.name or "", file.chunks(_CHUNK), mapping
