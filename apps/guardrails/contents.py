"""What a request holds: a text, a conversation, a tool call or passages, as texts to judge.

Whatever a caller's tool or model would read has to be in them: an escape, a second key of the same
name or a call inside a message hides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.base.problems import FieldError, Problem
from apps.guardrails.checks.escapes import LAYERS, is_escaped, undone
from apps.guardrails.checks.interface import Call, Subject

CONTENTS = ("text", "messages", "tool_call", "passages")
MAXIMUM_BYTES = 64 * 1024
MAXIMUM_TURNS = 200
_AT = {"tool_call": ("text", "tool_call"), "retrieval": ("text", "passages")}


def subjects_of(content: Mapping[str, Any], *, stage: str = "") -> list[Subject]:
    """What is judged: one `text`, every turn of `messages`, a tool call, or all passages.

    Raises:
        Problem: unless exactly one of them is given, its stage takes it, and it is not too large.
    """
    given = [name for name in CONTENTS if name in content]
    if len(given) != 1:
        raise Problem(f"Send exactly one of: {', '.join(CONTENTS)}.", code="content")
    name = given[0]
    taken = _AT.get(stage, CONTENTS)
    if name not in taken:
        raise Problem(
            f"Stage {stage} takes {' or '.join(taken)}.",
            code="content",
            errors=[FieldError(f"/{name}", f"Send it as {taken[-1]}, or name another stage.")],
        )
    value = content[name]
    hold_number(value)
    if name == "tool_call":
        value = [{"calls": [value]}]
    parts = value if isinstance(value, list) else [value]
    read = [_read(part) for part in parts]
    # what was sent, before anything is derived from it
    if sum(len(text.encode(errors="replace")) for one in read for text in one.sent) > MAXIMUM_BYTES:
        raise Problem("At most 64 KiB of text at once.", code="too_large", status=413)
    return [one.subject() for one in read]


def hold_number(value: Any) -> None:
    """Refuse more texts than are judged at once, before anything is read of them."""
    if isinstance(value, list) and len(value) > MAXIMUM_TURNS:
        raise Problem(f"At most {MAXIMUM_TURNS} texts at once.", code="too_large", status=413)


@dataclass(frozen=True)
class _Part:
    """A part of what was sent: a text, and calls with their arguments as they are written."""

    text: str
    role: str = ""
    source: str = ""
    calls: tuple[tuple[Call, str], ...] = ()

    @property
    def sent(self) -> list[str]:
        return [self.text, *(text for call, written in self.calls for text in (call.tool, written))]

    def subject(self) -> Subject:
        texts = [self.text] if self.text or not self.calls else []
        texts += [_call_text(call, written) for call, written in self.calls]
        calls = tuple(call for call, _ in self.calls)
        beside = len(self.text) if calls else 0
        return Subject(
            "\n".join(texts), role=self.role, source=self.source, calls=calls, beside=beside
        )


def _read(part: Any) -> _Part:
    if isinstance(part, str):
        return _Part(part)
    calls = [Call.read(call["name"], call.get("arguments", {})) for call in part.get("calls", ())]
    text = part.get("text", part.get("content", ""))
    written = tuple((call, _written(call)) for call in calls)
    return _Part(text, part.get("role", ""), part.get("source", ""), written)


def _written(call: Call) -> str:
    """A call's arguments as JSON; as they came where they are none."""
    if isinstance(call.arguments, str):
        return call.arguments
    return json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)


def _call_text(call: Call, written: str) -> str:
    """A call as one text: its tool and arguments, then every text inside, escapes undone.

    As JSON a line break is a backslash and an n: what the tool will read stands below it.
    """
    inside = [] if isinstance(call.arguments, str) else list(_strings(call.arguments))
    hidden = "\n".join(inside) if inside else written
    return "\n".join([f"{call.tool} {written}", *inside, *_undone(hidden)])


def _undone(text: str) -> Iterator[str]:
    """The text with its escapes undone, each layer of them."""
    layer = text
    for layer in undone(text):
        yield layer
    if is_escaped(layer):
        raise Problem(
            f"Arguments have more than {LAYERS} layers of escapes: who could say what they mean?",
            code="too_deep",
            errors=[FieldError("/tool_call/arguments", "Send them with fewer escapes.")],
        )


def _strings(value: Any) -> Iterable[str]:
    """Every key and every string, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *_strings(item))]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []
