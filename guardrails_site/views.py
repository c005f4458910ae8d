"""What belongs to no app: Home and the API's description."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.endpoint import problem_response
from apps.accounts.models import Membership
from apps.accounts.pages import page, viewer
from apps.accounts.permissions import allowed
from apps.base.problems import Malformed, NotFound, Problem, UnknownHost
from apps.labeling import progress
from apps.policies.models import Policy

SHOWN = 24


@page("workspace.view")
def home(request: HttpRequest) -> HttpResponseBase:
    """What a person does here: continue labelling, look after policies, look after the site."""
    actor = viewer(request)
    policies = list(
        Policy.objects.visible_to(actor)
        .with_role_of(actor)
        .select_related("current_version")
        .exclude(status=Policy.Status.RETIRED)
        .order_by("-id")[:SHOWN]
    )
    owned = [policy for policy in policies if policy.own_role != "annotator"]
    to_label = [policy for policy in policies if policy.status == Policy.Status.ACTIVE]
    context = {
        "policies": owned,
        "to_label": to_label,
        "progress": progress.of_policies(to_label, actor),
        "may_create": allowed(actor, "policies.create"),
        "may_see_system": allowed(actor, "system.view"),
        "workspaces": Membership.objects.filter(user=actor.user, is_active=True)
        .select_related("workspace")
        .order_by("workspace__name")[:100],
    }
    return render(request, "home.html", context)


@page("workspace.view")
def api_docs(request: HttpRequest) -> HttpResponseBase:
    """The API, rendered from its OpenAPI schema; no script of another house."""
    schema = _schema()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if not isinstance(operation, dict):
                continue
            group = path.removeprefix("/api/v1/").strip("/").split("/")[0]
            group = "moderations" if group == "v1" else group
            groups.setdefault(group, []).append(_operation(schema, path, method, operation))
    return render(request, "api_docs.html", {"groups": groups})


class SchemaView(SpectacularAPIView):
    """The OpenAPI document; `?format=` is json or yaml, and nothing else can be asked."""

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        if set(request.query_params) - {"format"}:
            raise Problem("Known names: format.", code="unknown_field")
        answer: Response = super().get(request, *args, **kwargs)
        return answer


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


def _operation(
    schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]
) -> dict[str, Any]:
    bodies = operation.get("requestBody", {}).get("content", {})
    answers = [
        {"status": status, "fields": _fields(schema, _schema_of(answer))}
        for status, answer in operation.get("responses", {}).items()
    ]
    return {
        "method": method.upper(),
        "path": path,
        "description": operation.get("description", ""),
        # what every write takes stands in the common rules
        "parameters": [
            one for one in operation.get("parameters", []) if one["name"] != "Idempotency-Key"
        ],
        "media_types": list(bodies),
        "body": _fields(schema, _schema_of({"content": bodies})),
        "answers": answers,
    }


def _schema_of(part: dict[str, Any]) -> dict[str, Any]:
    for content in part.get("content", {}).values():
        found: dict[str, Any] = content.get("schema", {})
        return found
    return {}


def _fields(schema: dict[str, Any], part: dict[str, Any]) -> list[dict[str, str]]:
    """The names, types and notes of an object's fields, references followed one step."""
    if "items" in part:
        part = part["items"]
    if "$ref" in part:
        part = schema["components"]["schemas"][part["$ref"].rpartition("/")[2]]
    required = part.get("required", [])
    return [
        {
            "name": name,
            "type": _type(value),
            "note": str(value.get("description", "")),
            "optional": "" if name in required else "optional",
        }
        for name, value in part.get("properties", {}).items()
    ]


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"].rpartition("/")[2])
    if "items" in value:
        return f"list of {_type(value['items'])}"
    kind = value.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


@csrf_exempt
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Whether this process answers and reaches its database, for load balancers; nothing else."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("The database does not answer.", "text/plain", status=503)
    return HttpResponse("ok", "text/plain")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response(request, NotFound())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    unknown = isinstance(exception, DisallowedHost)
    return problem_response(request, UnknownHost() if unknown else Malformed())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    found = Problem("This form is too old; reload the page and try again.", "csrf", 403)
    return problem_response(request, found)


def server_error(request: HttpRequest) -> HttpResponse:
    """No template context, no database: whatever is broken, this answers."""
    if request.path_info.startswith(("/api/", "/v1/")):
        failure = Problem("Parapet failed; the log has the reason.", code="internal", status=500)
        return problem_response(request, failure)
    return render(request, "500.html", status=500)
