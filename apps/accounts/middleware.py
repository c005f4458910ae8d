"""Gives every page request its actor: the signed-in person in one workspace."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from apps.accounts.actor import Actor
from apps.accounts.models import Membership, User

SESSION_KEY = "workspace"


class CurrentWorkspace:
    """Sets request.actor (None when nobody is signed in, or nowhere a member)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        bearer = "Authorization" in request.headers
        request.actor = None if bearer else _actor(request)  # type: ignore[attr-defined]
        return self.get_response(request)


def _actor(request: HttpRequest) -> Actor | None:
    user = request.user
    if not isinstance(user, User) or not user.is_active:
        return None
    memberships = (
        Membership.objects.filter(user=user, is_active=True)
        .select_related("workspace")
        .order_by("created_at")
    )
    chosen = request.session.get(SESSION_KEY)
    found = next((m for m in memberships if str(m.workspace_id) == chosen), None)
    found = found or next(iter(memberships), None)
    if found is None:
        return None
    found.user = user
    return Actor(found.workspace, found)
