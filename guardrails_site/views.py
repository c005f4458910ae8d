"""What belongs to no app: Home and the API's description."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
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
from guardrails_site import api_docs as api

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
    """Every operation of the API, with its fields and examples."""
    context = {"groups": api.operations(), "origin": request.build_absolute_uri("/").rstrip("/")}
    return render(request, "api_docs.html", context)


class SchemaView(SpectacularAPIView):
    """The OpenAPI document; `?format=` is json or yaml, and nothing else can be asked."""

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        if set(request.query_params) - {"format"}:
            raise Problem("Known names: format.", code="unknown_field")
        answer: Response = super().get(request, *args, **kwargs)
        return answer


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
