"""Outputs that come in chunks: checked sentence by sentence, always as the whole text so far.

A caller sends each chunk as its model makes it and shows what the answer releases, or the redacted
text that the answer has in its place. What was not checked is never released; the last chunk is
always checked, whatever it ends with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.base.gate import check_text
from apps.base.invisible import says_nothing
from apps.base.problems import FieldError, Problem
from apps.guardrails.contents import MAXIMUM_BYTES
from apps.policies.specification import ACTIONS
from apps.runtime import texts
from apps.runtime.checking import Checked, check
from apps.runtime.judgement import stands
from apps.runtime.models import StreamBuffer

LIFETIME = timedelta(minutes=10)
_PASS = ("allow", "flag")
_GO_ON = (*_PASS, "redact")
ENDED = "ended"
_SENTENCE_END = re.compile(r"[.!?\u2026]['\")\]]*\s|[\u3002\uff01\uff1f\n]")


@dataclass(frozen=True)
class Streamed:
    """The answer to a chunk.

    Args:
        release: code points of the stream's text, from its start, that may be shown as they are.
        checked: the check of all whole sentences so far; None while one is still going on.
    """

    action: str
    release: int
    chunks: int
    checked: Checked | None


def take_chunk(
    actor: Actor,
    *,
    name: str,
    number: int,
    chunk: str,
    final: bool,
    stage: str = "output",
    policies: Collection[str] | None = None,
    key: str = "",
) -> Streamed:
    """Take the next chunk of a stream and check all whole sentences so far where one has ended.

    Args:
        number: 1, 2, 3...: none may be missing, and none counts twice. The last one may be sent
            again, where its answer was lost or none was possible.

    Raises:
        Problem: 409 for a chunk out of turn, of a stream that was stopped, or one that is asked
            for otherwise than the first; 413 when the text grows beyond what can be checked.
    """
    check_text(chunk)
    asked = {"stage": stage, "policies": sorted(policies or ()), "key": key}
    buffer, text = _take(actor, name, number, chunk, asked, final=final)
    if not final and not _SENTENCE_END.search(text, buffer.looked):
        return Streamed("allow", buffer.checked, number, None)
    end = len(text) if final else _last_end(text)
    judged = text[:end]
    if says_nothing(judged):
        if final:
            buffer.delete()
            errors = [FieldError("/chunk", "Nothing that says something came.")]
            raise Problem("There is no text to judge.", errors=errors)
        return Streamed("allow", 0, number, None)
    checked = check(
        actor, stage=stage, content={"text": judged}, policies=policies, key=key or name
    )
    action = checked.decision.action
    # of what is not finished this is the advice: a policy that fails open lets the text pass
    # what was redacted is not shown because a policy that fails open could not look again
    hidden = buffer.action == "redact" and not checked.judgement.finished
    release = end if action in _PASS and not hidden else buffer.checked
    here = StreamBuffer.objects.filter(pk=buffer.pk)
    if final and action in _GO_ON:
        stopped = here.exclude(action__in=[*_GO_ON, ENDED]).first()
        if stopped is not None:
            action, release = stopped.action, stopped.checked
    if final and checked.judgement.finished:
        here.update(action=ENDED)
    else:
        # a later chunk may have been checked meanwhile: a stop stays, whatever came after it
        here.filter(action__in=_GO_ON).update(
            checked=Greatest(F("checked"), release),
            looked=Greatest(F("looked"), end),
            action=max(_definite(checked), "redact" if hidden else "allow", key=ACTIONS.index),
        )
    return Streamed(action, release, number, checked)


def _take(
    actor: Actor, name: str, number: int, chunk: str, asked: dict[str, Any], *, final: bool
) -> tuple[StreamBuffer, str]:
    """Keep a chunk; returns its stream's buffer and all of its text."""
    with transaction.atomic():
        buffer = _buffer(actor, name)
        came = texts.decrypt(actor.workspace, buffer) if buffer.chunks else {"text": "", "last": ""}
        if came is None:
            raise Problem(
                "What came of this stream cannot be read any more; begin it under another name.",
                code="key_lost",
                status=409,
            )
        last = number == buffer.chunks and chunk == came["last"]
        again = last and (final or buffer.action != ENDED)
        if buffer.action == ENDED and number == 1 and not again:  # its name is free again
            buffer.delete()
            buffer, came = _buffer(actor, name), {"text": "", "last": ""}
        if number != buffer.chunks + 1 and not again:
            raise Problem(
                f"Chunk {buffer.chunks + 1} is the next one of this stream.",
                code="out_of_turn",
                status=409,
                extra={"next": buffer.chunks + 1},
            )
        if buffer.action == ENDED and not again:
            raise Problem("This stream has ended.", code="ended", status=409)
        if buffer.action not in (*_GO_ON, ENDED):
            raise Problem(
                "This stream was stopped; show nothing more of it.",
                code="stopped",
                status=409,
                extra={"action": buffer.action, "release": buffer.checked},
            )
        if number > 1 and asked != came["asked"]:
            raise Problem(
                "A stream keeps the stage, policies and context of its first chunk.",
                code="another_stream",
                status=409,
                extra={"next": buffer.chunks + 1},
            )
        if again:  # nobody knows what came of it
            buffer.looked = buffer.checked
        text = came["text"] if again else came["text"] + chunk
        if len(text.encode()) > MAXIMUM_BYTES:
            raise Problem("At most 64 KiB a stream.", code="too_large", status=413)
        kept = {"text": text, "last": chunk, "asked": asked}
        buffer.content = texts.encrypt(actor.workspace, kept)
        buffer.chunks = number
        buffer.expires_at = timezone.now() + LIFETIME
        buffer.save()
    return buffer, text


def _definite(checked: Checked) -> str:
    """What was found, also where a policy that failed advises more: that may be asked again."""
    if checked.judgement.finished:
        return checked.judgement.action
    found = [reason["action"] for reason in checked.judgement.reasons if stands(reason)]
    return max(found, key=ACTIONS.index, default="allow")


def delete_expired() -> int:
    """Forget streams that nobody ended; returns how many."""
    deleted, _ = StreamBuffer.objects.filter(expires_at__lte=timezone.now()).delete()
    return deleted


def _buffer(actor: Actor, name: str) -> StreamBuffer:
    if not 1 <= len(name) <= 200:
        raise Problem("Name the stream.", errors=[FieldError("/stream", "1 to 200 characters.")])
    check_text(name)
    # names are a caller's own: two of them may number their chats alike
    caller = actor.token.pk if actor.token else actor.person.pk
    name = hashlib.sha256(f"{caller} {name}".encode()).hexdigest()
    rows = StreamBuffer.objects.select_for_update()
    rows.filter(workspace=actor.workspace, name=name, expires_at__lte=timezone.now()).delete()
    buffer, _ = rows.get_or_create(
        workspace=actor.workspace,
        name=name,
        defaults={"content": b"", "expires_at": timezone.now() + LIFETIME},
    )
    return buffer


def _last_end(text: str) -> int:
    """Where the last whole sentence ends."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return ends[-1] if ends else 0
