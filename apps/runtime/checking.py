"""From a request to a recorded decision."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from apps.accounts.actor import Actor
from apps.base.gate import check_text
from apps.base.ids import uuid7
from apps.base.problems import FieldError, Problem
from apps.runtime import bundles
from apps.runtime.judging import Bundle, Judgement, judge
from apps.runtime.models import Decision
from apps.runtime.recording import recorder, text_hash

MAXIMUM_BYTES = 64 * 1024
MAXIMUM_TURNS = 200


@dataclass(frozen=True)
class Checked:
    """A judgement and where it is on record."""

    judgement: Judgement
    decision: Decision
    bundle: Bundle
    recorded: bool


def check(
    actor: Actor, *, stage: str, texts: Sequence[str], policies: Collection[str] | None = None
) -> Checked:
    """Judge texts of one stage by the workspace's policies (or those named) and record it.

    Raises:
        Problem: 400 or 413 for texts that cannot be judged, 404 for a policy that does not exist,
            503 when nothing was ever read of the policies.
    """
    started = time.perf_counter()
    _check_texts(texts)
    served = bundles.served(actor.workspace)
    bundle = _narrow(served.bundle, policies)
    judgement = judge(bundle, stage=stage, texts=texts)
    if served.stale:
        judgement = replace(judgement, degraded=(*judgement.degraded, served.stale))
    decision = Decision(
        id=uuid7(),
        workspace_id=actor.workspace.pk,
        at=timezone.now(),
        caller=actor.label,
        stage=stage,
        action=judgement.action,
        finished=judgement.finished,
        degraded=list(judgement.degraded),
        bundle=bundle.id,
        text_hash=text_hash(actor.workspace, texts),
        length=sum(map(len, texts)),
        reasons=list(judgement.reasons),
        receipt=judgement.receipt_as_data(),
        latency_ms=round((time.perf_counter() - started) * 1000, 3),
    )
    return Checked(judgement, decision, bundle, recorder.put(decision))


def texts_of(content: dict[str, Any]) -> list[str]:
    """The texts of a request: one `text`, every turn of `messages`, a tool call, all passages.

    Raises:
        Problem: unless exactly one of them is given.
    """
    given = [name for name in ("text", "messages", "tool_call", "passages") if name in content]
    if len(given) != 1:
        raise Problem("Send exactly one of: text, messages, tool_call, passages.", code="content")
    name = given[0]
    value = content[name]
    if name == "text":
        return [value]
    if name == "messages":
        return [message["content"] for message in value]
    if name == "tool_call":
        arguments = json.dumps(value.get("arguments", {}), ensure_ascii=False, sort_keys=True)
        return [f"{value['name']} {arguments}"]
    return list(value)


def _check_texts(texts: Sequence[str]) -> None:
    if not any(text.strip() for text in texts):
        raise Problem("There is no text to judge.", errors=[FieldError("/text", "Send some text.")])
    if len(texts) > MAXIMUM_TURNS:
        raise Problem(f"At most {MAXIMUM_TURNS} texts at once.", code="too_large", status=413)
    for text in texts:
        check_text(text)
    if sum(len(text.encode()) for text in texts) > MAXIMUM_BYTES:
        raise Problem("At most 64 KiB of text at once.", code="too_large", status=413)


def _narrow(bundle: Bundle, policies: Collection[str] | None) -> Bundle:
    if policies is None:
        return bundle
    unknown = sorted(set(policies) - {guard.policy for guard in bundle.guards})
    if unknown:
        raise Problem(
            "Some of the named policies are not active here.",
            code="unknown_policy",
            status=404,
            errors=[FieldError("/policies", "No such active policy.") for _ in unknown],
        )
    return replace(bundle, guards=tuple(g for g in bundle.guards if g.policy in policies))
