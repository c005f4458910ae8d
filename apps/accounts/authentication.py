"""How the API knows its caller: a bearer token, or the session of a same-origin page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.actor import Actor
from apps.accounts.tokens import actor_of, known_actor_of


def bearer_key(request: HttpRequest | Request) -> str | None:
    """What the Authorization header brings as a bearer's key; None where it is none."""
    kind, _, key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


class BearerToken(BaseAuthentication):
    """Authorization: Bearer gk_..., never in the URL."""

    find = staticmethod(actor_of)

    def authenticate(self, request: Request) -> tuple[Actor, None] | None:
        key = bearer_key(request)
        if key is None:
            return None
        actor = self.find(key)
        if actor is None:
            raise AuthenticationFailed("This token is not valid (any more); ask for a new one.")
        return actor, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="parapet"'


class KnownBearerToken(BearerToken):
    """The same for the check API: a token that was good a moment ago is not looked up again."""

    find = staticmethod(known_actor_of)


class PageSession(BaseAuthentication):
    """The signed-in person of the page that calls, with its CSRF token on unsafe methods."""

    def authenticate(self, request: Request) -> tuple[Actor, None] | None:
        actor: Actor | None = getattr(request._request, "actor", None)
        if actor is None:
            return None
        reason = _Csrf(lambda _: None).process_view(request._request, lambda: None, (), {})  # type: ignore[arg-type, return-value]
        if reason:
            raise PermissionDenied(f"CSRF: {reason}")
        if actor.user.must_change_password:
            raise PermissionDenied("Choose a password of your own first, at /password/.")
        return actor, None


class _Csrf(CsrfViewMiddleware):
    def _reject(self, request: Any, reason: str) -> str:  # type: ignore[override]
        return reason


class DenyAll(BasePermission):
    """A view that states no permission answers nobody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class SignedIn(BasePermission):
    """Any member of any workspace."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, Actor)
