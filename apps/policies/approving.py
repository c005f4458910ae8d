"""Who wrote a draft, and who may publish it: where two people are asked for, nobody alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from django.db.models import Q, QuerySet

from apps.accounts.actor import Actor
from apps.accounts.models import Membership, Role
from apps.base.problems import Problem
from apps.policies.models import Policy

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import ManyRelatedManager


class Draft(Protocol):
    """A policy's draft, or its guardrail's."""

    @property
    def authors(self) -> ManyRelatedManager[Membership, Any]: ...


def note_author(actor: Actor, draft: Draft, *, differs: bool) -> None:
    """Note that a person has written some of a draft; a task is nobody.

    Args:
        differs: from what is in force; a draft that is the same again is nobody's.
    """
    if not differs:
        draft.authors.clear()
    elif actor.membership is not None:
        draft.authors.add(actor.membership)


def approved(actor: Actor, *, policy: Policy, draft: Draft) -> list[str]:
    """The addresses of a draft's authors, where the actor may publish it.

    Raises:
        Problem: 409 with who could, where the actor wrote some of it and a second person has to.
    """
    if told := held_for(actor, policy=policy, draft=draft):
        raise Problem(told, code="second_approver", status=409)
    return written_by(draft)


def written_by(draft: Draft | None) -> list[str]:
    """The addresses of a draft's authors."""
    return [author.user.email for author in _authors(draft)] if draft else []


def held_for(actor: Actor, *, policy: Policy, draft: Draft | None) -> str:
    """Who has to publish a draft in the actor's place, in words; "" where the actor may."""
    authors = _authors(draft) if draft and policy.second_approver else []
    if actor.membership not in authors:
        return ""
    others = [person.user.email for person in _approvers(policy, authors)]
    if not others:
        return (
            "You wrote some of this draft and somebody else has to publish it, but nobody else "
            "may: make another person an owner of the policy."
        )
    return f"You wrote some of this draft; somebody else has to publish it: {_either(others)}."


def _authors(draft: Draft) -> Sequence[Membership]:
    return list(draft.authors.select_related("user").order_by("user__email"))


def _approvers(policy: Policy, authors: Sequence[Membership]) -> QuerySet[Membership]:
    """The policy's owners and the workspace's admins who wrote none of a draft."""
    owners = policy.roles.filter(role=Role.OWNER).exclude(membership__role=Role.ANNOTATOR)
    return (
        Membership.objects.filter(workspace=policy.workspace, is_active=True, user__is_active=True)
        .filter(Q(pk__in=owners.values("membership")) | Q(role=Role.ADMIN))
        .exclude(pk__in=[author.pk for author in authors])
        .select_related("user")
        .order_by("user__email")
    )


def _either(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
