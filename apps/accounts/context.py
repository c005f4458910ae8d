"""What every template may know about who looks at it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from apps.accounts.permissions import allowed


def workspace(request: HttpRequest) -> dict[str, Any]:
    actor = getattr(request, "actor", None)
    return {
        "actor": actor,
        "theme": actor.user.preferences.get("theme", "") if actor else "",
        "may_manage_people": allowed(actor, "people.manage") if actor else False,
    }
