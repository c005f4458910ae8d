"""Canaries: texts with a known action, sent through the real path every minute.

A guardrail that silently stopped to judge looks like one that finds nothing; a canary tells them
apart. They go over HTTP, with a token of their own, as any caller's text does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.accounts.actor import Actor, role_scopes, task_actor
from apps.accounts.audit import record
from apps.accounts.models import Membership, Role
from apps.accounts.tokens import issue_token
from apps.base.gate import check_text
from apps.base.invisible import says_nothing
from apps.base.problems import FieldError, Problem
from apps.guardrails.content_serializers import written
from apps.policies.specification import ACTIONS, STAGES
from apps.runtime.models import Canary, Incident

MOST_CANARIES = 50
TIMEOUT = 5.0
AT_ONCE = 8
_CALL = 'At this stage a call, as JSON: {"name": "search", "arguments": {"query": "tides"}}.'
_WHOLE_BUNDLE = ("kill_switch", "database", "refused")
_KEY_FOR = 20 * 3600.0

# keys live in this process alone; a restarted worker makes itself new ones
_keys: dict[UUID, tuple[str, float]] = {}


@transaction.atomic
def add_canary(actor: Actor, *, stage: str, text: str, expected: str) -> Canary:
    """A text whose action is known from now on."""
    errors = []
    if stage not in STAGES:
        errors.append(FieldError("/stage", f"Stages are: {', '.join(STAGES)}."))
    if expected not in ACTIONS:
        errors.append(FieldError("/expected", f"Actions are: {', '.join(ACTIONS)}."))
    if says_nothing(text) or len(text) > 10_000:
        errors.append(FieldError("/text", "1 to 10,000 characters that say something."))
    elif stage == "tool_call":
        try:
            _content(stage, text)
        except Problem:
            errors.append(FieldError("/text", _CALL))
    if errors:
        raise Problem("The canary was not added.", errors=errors)
    check_text(text)
    if Canary.objects.filter(workspace=actor.workspace).count() >= MOST_CANARIES:
        raise Problem(f"At most {MOST_CANARIES} canaries.", code="too_many", status=409)
    canary = Canary.objects.create(
        workspace=actor.workspace,
        stage=stage,
        text=text,
        expected=expected,
        made_by=actor.person,
    )
    record(actor, "canary.add", canary, stage=stage, expected=expected)
    return canary


@transaction.atomic
def remove_canary(actor: Actor, *, canary: Canary) -> None:
    """Send it no more; what it opened is closed with it."""
    _close_incidents(actor, canary, Incident.Status.DISMISSED, "the canary was removed")
    record(actor, "canary.remove", canary, stage=canary.stage, expected=canary.expected)
    canary.delete()


def send_all() -> int:
    """Send every canary once; returns how many had a wrong answer or none."""
    canaries = list(
        Canary.objects.select_related("workspace", "made_by__user", "made_by__workspace")
    )
    # where the site hangs, one after the other would take longer than until the next round
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(_answer, [_asking(canary) for canary in canaries]))
    rights = [_noted(*each) for each in zip(canaries, answers, strict=True)]
    return rights.count(False)


def _noted(canary: Canary, answer: httpx.Response | str) -> bool:
    """Whether the answer is the expected one; kept on the canary, with an incident if not."""
    action, problem = ("", answer) if isinstance(answer, str) else _read(canary, answer)
    right = action == canary.expected and not problem
    now = timezone.now()
    with transaction.atomic():
        locked = Canary.objects.select_for_update().filter(pk=canary.pk).first()
        if locked is None:
            return right
        began = locked.failing_since is None and not right
        ended = locked.failing_since is not None and right
        locked.last_at, locked.last_action = now, action
        locked.last_problem = problem
        locked.failing_since = None if right else locked.failing_since or now
        locked.save()
        actor = task_actor(canary.workspace, "canaries")
        if began:
            incident = Incident.objects.create(
                workspace=canary.workspace,
                canary=canary,
                text=canary.text,
                note=f"Canary: expected {canary.expected}; {locked.last_problem}.",
                opened_by=actor.label,
            )
            record(actor, "incident.open", incident, canary=str(canary.pk))
        if ended:
            _close_incidents(actor, canary, Incident.Status.VERIFIED, "the canary passes again")
    return right


def _close_incidents(actor: Actor, canary: Canary, status: Incident.Status, because: str) -> None:
    for incident in Incident.objects.filter(canary=canary).exclude(status__in=Incident.CLOSED):
        incident.status, incident.fixed_by = status, because
        incident.save(update_fields=["status", "fixed_by"])
        record(actor, f"incident.{status}", incident, canary=str(canary.pk))


def _content(stage: str, text: str) -> dict[str, Any]:
    """What is sent: a text, or the call that it writes out."""
    return written("tool_call" if stage == "tool_call" else "text", text)


def _asking(canary: Canary) -> dict[str, Any] | str:
    """What to post, or why that cannot be."""
    if not settings.SITE_URL:
        return "PARAPET_URL is not set, so the site cannot be asked"
    try:
        content = _content(canary.stage, canary.text)
    except Problem:  # of before calls were written as calls
        content = {"text": canary.text}
    try:
        key = _key(_sender(canary))
    except Problem as problem:
        return f"not sent: {problem.detail}"[:200]
    headers = {"Authorization": f"Bearer {key}"}
    return {"json": {"stage": canary.stage, **content}, "headers": headers}


def _answer(asking: dict[str, Any] | str) -> httpx.Response | str:
    """What came of it, or why nothing did."""
    if isinstance(asking, str):
        return asking
    try:
        url = f"{settings.SITE_URL}/api/v1/check"
        return httpx.post(url, **asking, timeout=TIMEOUT, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"no answer ({type(error).__name__})"


def _read(canary: Canary, answer: httpx.Response) -> tuple[str, str]:
    """The action that came, "" for none, and what was wrong with the answer."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return "", "an answer that is none"
    if answer.status_code == 401:  # somebody revoked its token: the next time it has another
        _keys.pop(_sender(canary).pk, None)
    if answer.status_code != 200:
        return "", f"status {answer.status_code} ({str(body.get('code', ''))[:60]})"
    action, receipt = body.get("action"), body.get("receipt")
    if action not in ACTIONS or not isinstance(receipt, list):
        return "", "an answer that is none"
    wrong = _not_judged(body, receipt)
    if not wrong and action != canary.expected:
        wrong = f"answered {action}{_not_acting(receipt)}"[:200]
    return str(action), wrong


def _not_acting(receipt: Sequence[Any]) -> str:
    """That policies found something and did not act, where that is so."""
    entries = [one for one in receipt if isinstance(one, dict) and not one.get("advisory")]
    found = {
        str(one.get("policy")): "outside the rollout"
        if one.get("why") == "rollout"
        else "in shadow"
        for one in entries
        if one.get("mode") == "shadow" and one.get("action")
    }
    told = ", ".join(f"{policy} found it ({why})" for policy, why in sorted(found.items()))
    return f"; {told}" if told else ""


def _not_judged(body: Mapping[str, Any], receipt: Sequence[Any]) -> str:
    """Why the right action would prove nothing: it came without a whole judgement."""
    told = body.get("degraded_by")
    codes = {code for code in told if code in _WHOLE_BUNDLE} if isinstance(told, list) else set()
    entries = [one for one in receipt if isinstance(one, dict)]
    acting = [one for one in entries if one.get("mode") == "enforce" and not one.get("advisory")]
    codes |= {str(one.get("why")) for one in acting if one.get("status") == "failed"}
    if codes:
        return f"degraded: {', '.join(sorted(codes))}"[:200]
    return "" if any(one.get("status") == "ran" for one in entries) else "nothing was looked at"


def _sender(canary: Canary) -> Membership:
    """Who made it; an admin once that person has left or may check no more."""
    maker = canary.made_by
    if maker.is_active and maker.user.is_active and "check" in role_scopes(maker.role):
        return maker
    admins = Membership.objects.filter(
        workspace=canary.workspace, role=Role.ADMIN, is_active=True, user__is_active=True
    )
    return admins.select_related("user", "workspace").order_by("pk").first() or maker


def _key(membership: Membership) -> str:
    key, until = _keys.get(membership.pk, ("", 0.0))
    if time.monotonic() > until:
        actor = task_actor(membership.workspace, "canaries")
        _, key = issue_token(
            actor,
            membership=membership,
            name="canaries",
            scopes=["check"],
            days=1,
            of_canaries=True,
        )
        _keys[membership.pk] = key, time.monotonic() + _KEY_FOR
    return key
