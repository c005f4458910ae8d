"""What every page view shares: sign-in, its object, its permission, problems as pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from apps.accounts.actor import Actor
from apps.accounts.endpoint import problem_response, told
from apps.accounts.permissions import require
from apps.base.problems import Problem

View = Callable[..., HttpResponseBase]


def viewer(request: HttpRequest) -> Actor:
    """Who looks at a page: inside `page` there always is somebody."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def page(
    permission: str,
    *,
    load: Callable[..., Any] | None = None,
    methods: tuple[str, ...] = ("GET",),
    one_time_password: bool = False,
) -> Callable[[View], View]:
    """Declare a page.

    The view is called as view(request) or, with `load`, as view(request, target), where
    load(actor, **url_arguments) found the target among what the actor can see.
    Signed out: to the sign-in page. Problems become pages that say what to do.

    Args:
        one_time_password: open also to whoever has to choose their own password first.
    """

    def decorate(view: View) -> View:
        @require_http_methods([*methods, "HEAD"] if "GET" in methods else list(methods))
        @wraps(view)
        def wrapped(request: HttpRequest, **url_arguments: Any) -> HttpResponseBase:
            actor: Actor | None = request.actor  # type: ignore[attr-defined]
            if actor is None:
                return _to_sign_in(request)
            if actor.user.must_change_password and not one_time_password:
                return _to_password(request)
            try:
                target = load(actor, **url_arguments) if load else None
                require(actor, permission, target)
                return view(request, target) if load else view(request)
            except (Problem, DatabaseError) as error:
                return problem_response(request, told(request, error))

        wrapped.permission = permission  # type: ignore[attr-defined]
        return wrapped

    return decorate


_SIGNED_OUT = Problem(
    "You are signed out. Sign in in another tab and come back: what you typed is still here.",
    code="signed_out",
    status=401,
)


def _to_password(request: HttpRequest) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return HttpResponse(status=403, headers={"HX-Redirect": "/password/"})
    return redirect("accounts:password")


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if request.headers.get("HX-Request"):
        if request.method == "POST":
            return problem_response(request, _SIGNED_OUT)  # the page stays, with what was typed
        response = HttpResponse(status=401)
        response["HX-Redirect"] = "/sign-in/"
        return response
    return redirect_to_login(request.get_full_path())
