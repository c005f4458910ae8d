"""Who acts: the first argument of every domain function and of every permission."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from apps.accounts.models import ApiToken, Membership, Role, User, Workspace

SCOPES = {
    "check": "ask for decisions, and say where one was wrong",
    "ingest": "send texts to be labelled",
    "read": "read policies, figures and runs",
    "label": "take items from the queue and label them",
    "train": "start retrains",
    "policies:write": "change policies, guardrails and cases",
    "admin": "people, tokens, kept texts, the kill switch",
}

_ROLE_SCOPES = {
    Role.ANNOTATOR: {"read", "label"},
    Role.OWNER: {"check", "ingest", "read", "label", "train", "policies:write"},
    Role.ADMIN: set(SCOPES),
}


@dataclass(frozen=True)
class Actor:
    """A member of a workspace, or a task that acts in it.

    Args:
        scopes: what a token is limited to; None for a page session and for tasks.
        task: the task's name when no person acts.
    """

    workspace: Workspace
    membership: Membership | None = None
    token: ApiToken | None = None
    scopes: frozenset[str] | None = None
    task: str = ""

    @property
    def user(self) -> User:
        return self.person.user

    @property
    def person(self) -> Membership:
        """The membership, where only a person can act."""
        if self.membership is None:
            raise RuntimeError("A task is not a person.")
        return self.membership

    @property
    def membership_id(self) -> UUID | None:
        return self.membership.id if self.membership else None

    @property
    def is_admin(self) -> bool:
        return self.membership is not None and self.membership.role == Role.ADMIN

    @property
    def is_canary(self) -> bool:
        return self.token is not None and self.token.of_canaries

    @property
    def label(self) -> str:
        """How the audit trail names this actor."""
        if self.membership is None:
            return f"task {self.task}"
        via = f" with token {self.token.prefix}" if self.token else ""
        return f"{self.membership.user.email}{via}"

    def has_scope(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


def role_scopes(role: str) -> set[str]:
    """The scopes a person of this role may give to a token."""
    return set(_ROLE_SCOPES[Role(role)])


def task_actor(workspace: Workspace, task: str) -> Actor:
    """The actor for what a Celery task or a command does by itself."""
    return Actor(workspace=workspace, task=task)
