"""Who may do what. Each app adds its permissions here; pages, API and the matrix ask `require`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rules

from apps.accounts.actor import Actor
from apps.base.problems import Forbidden

_scopes: dict[str, str] = {}


def permission(name: str, *, scope: str, rule: Callable[[Actor, Any], bool]) -> None:
    """Declare a permission: the role rule, and the scope a token needs for it as well."""
    _scopes[name] = scope
    rules.add_rule(name, rules.predicate(rule, name=name))


def needed_scope(name: str) -> str:
    """The scope that a token needs for a permission, besides its person's role."""
    return _scopes[name]


def allowed(actor: Actor | None, name: str, target: Any = None) -> bool:
    """Whether the actor may do this to the target (the target is already known to be visible)."""
    if actor is None or not actor.has_scope(_scopes[name]):
        return False
    return bool(rules.test_rule(name, actor, target))


def require(actor: Actor | None, name: str, target: Any = None) -> None:
    """Raise Forbidden unless allowed."""
    if not allowed(actor, name, target):
        if actor is not None and not actor.has_scope(_scopes[name]):
            raise Forbidden(f"This token lacks the scope {_scopes[name]}.")
        raise Forbidden()


def is_member(actor: Actor, target: Any) -> bool:
    return actor.membership is not None


def is_admin(actor: Actor, target: Any) -> bool:
    return actor.is_admin


permission("workspace.view", scope="read", rule=is_member)
permission("people.manage", scope="admin", rule=is_admin)
permission("audit.view", scope="admin", rule=is_admin)
