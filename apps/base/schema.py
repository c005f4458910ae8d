"""Shapes that only the OpenAPI schema needs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers


class ProblemShape(serializers.Serializer):
    """An RFC 9457 problem document."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = serializers.ListField(child=serializers.DictField())
    request_id = serializers.CharField()


def listed(row: type[serializers.Serializer]) -> Any:
    """The answer of a list whose rows have this shape."""
    return inline_serializer(
        name=f"{row.__name__.removesuffix('Shape')}List",
        fields={
            "results": row(many=True),
            "next": serializers.CharField(allow_null=True),
            "previous": serializers.CharField(allow_null=True),
        },
    )
