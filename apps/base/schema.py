"""Shapes that only the OpenAPI schema needs."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, inline_serializer
from rest_framework import serializers

_PROBLEM = {
    "type": {"type": "string"},
    "title": {"type": "string"},
    "status": {"type": "integer"},
    "detail": {"type": "string"},
    "code": {"type": "string"},
    "errors": {"type": "array", "items": {"type": "object"}},
    "request_id": {"type": "string"},
}
_MORE = {
    "action": {"type": "string", "description": "Of a 503: what the failed policies advise."},
    "degraded": {"type": "boolean"},
    "degraded_by": {"type": "array", "items": {"type": "string"}},
    "receipt": {"type": "array", "items": {"type": "object"}},
    "next": {"type": "integer", "description": "Of a stream: the number of its next chunk."},
    "release": {"type": "integer", "description": "Of a stream: code points that may be shown."},
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 200},
    "description": "The same key with the same body, byte for byte, gets the first answer again, "
    "for 24 hours.",
}


def sent(about: str, **body: Any) -> OpenApiExample:
    """An example of a body, for the description of an operation."""
    return OpenApiExample(about, value=body, request_only=True, media_type="application/json")


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


def shown(shape: type[serializers.Serializer], row: Any, /, **more: Any) -> dict[str, Any]:
    """A row in a shape: each of its fields from `more`, or else the row's own of that name.

    What the schema tells and what is answered cannot differ so.
    """
    return {name: more[name] if name in more else getattr(row, name) for name in _names(shape)}


@cache
def _names(shape: type[serializers.Serializer]) -> tuple[str, ...]:
    return tuple(shape().fields)


class Schema(AutoSchema):
    """Names operations after their view."""

    def get_operation_id(self) -> str:
        return f"{type(self.view).__name__}_{self.method.lower()}"

    def get_description(self) -> str:  # type: ignore[override]
        """What the handler or its view says of itself; never what the view inherits."""
        handler = getattr(self.view, self.method.lower(), None)
        own = getattr(handler, "__doc__", None) or vars(type(self.view)).get("__doc__")
        scope_of = getattr(self.view, "scope_of", None)
        needs = f"Needs the scope `{scope_of(self.method)}`." if scope_of else ""
        return "\n\n".join(filter(None, (inspect.cleandoc(own or ""), needs)))


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Every operation may also answer with a problem; "anything or null" is anything."""
    shape = {"type": "object", "properties": _PROBLEM | _MORE, "required": list(_PROBLEM)}
    result["components"].setdefault("schemas", {})["Problem"] = shape
    reference = {"$ref": "#/components/schemas/Problem"}
    problem = {
        "description": "A problem (RFC 9457); `code` is a stable word for programs.",
        "content": {"application/problem+json": {"schema": reference}},
    }
    openai = {
        "description": "An error in OpenAI's shape.",
        "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
    }
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                bodies = operation.get("requestBody", {}).get("content", {"application/json": {}})
                if method in ("post", "put", "patch") and "application/json" in bodies:
                    operation.setdefault("parameters", []).append(_IDEMPOTENCY)
                operation["responses"]["default"] = openai if path.startswith("/v1/") else problem
    return dict(_plain(result))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("oneOf") == [{}, {"type": "null"}]:
        value = {name: item for name, item in value.items() if name != "oneOf"}
    return {name: _plain(item) for name, item in value.items()}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema describes a token."""

    target_class = "apps.accounts.authentication.BearerToken"
    match_subclasses = True
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema describes a signed-in page."""

    target_class = "apps.accounts.authentication.PageSession"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
