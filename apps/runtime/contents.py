"""What a request holds: a text, a conversation, a tool call or passages, as texts to judge.

Whatever a caller's tool or model would read has to be in them: an escape, a second key of the same
name or a call inside a message hides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apps.base.gate import parse_json
from apps.base.problems import FieldError, Problem
from apps.guardrails.checks.interface import Subject

CONTENTS = ("text", "messages", "tool_call", "passages")
_AT = {"tool_call": ("text", "tool_call"), "retrieval": ("text", "passages")}
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_DEEPEST = 3


def subjects_of(content: Mapping[str, Any], *, stage: str = "") -> list[Subject]:
    """What is judged: one `text`, every turn of `messages`, a tool call, or all passages.

    Raises:
        Problem: unless exactly one of them is given, and its stage takes it.
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
    if name == "text":
        return [Subject(value)]
    if name == "messages":
        return [Subject(message["content"], role=message["role"]) for message in value]
    if name == "tool_call":
        tool, arguments = value["name"], read_arguments(value.get("arguments", {}))
        return [Subject(call_text(tool, arguments), tool=tool, arguments=arguments)]
    return [
        Subject(passage)
        if isinstance(passage, str)
        else Subject(passage["text"], source=passage.get("source", ""))
        for passage in value
    ]


def read_arguments(arguments: Any) -> Any:
    """Arguments that came as JSON inside a string, as OpenAI has them, or as they are.

    A string that is no strict JSON stays one: its tool may read it otherwise than we would.
    """
    if isinstance(arguments, str):
        try:
            return parse_json(arguments.encode())
        except Problem:
            return arguments
    return arguments


def call_text(tool: str, arguments: Any) -> str:
    """A call as one text: its tool and arguments as JSON, then every text inside of them.

    As JSON a line break is a backslash and an n: what the tool will read stands below it.
    """
    unread = isinstance(arguments, str)
    written = arguments if unread else json.dumps(arguments, ensure_ascii=False, sort_keys=True)
    inside = list(_literals(arguments)) if unread else list(_strings(arguments))
    return "\n".join([f"{tool} {written}", *inside, *_hidden(inside)])


def _hidden(texts: Sequence[str]) -> Iterator[str]:
    """The texts inside texts that are JSON themselves."""
    for _ in range(_DEEPEST):
        texts = [one for text in texts if "\\" in text for one in _literals(text)]
        yield from texts


def _literals(text: str) -> Iterator[str]:
    """Everything between quotes, as any reader of JSON would take it."""
    for match in _LITERAL.finditer(text):
        try:
            yield json.loads(match[0], strict=False)
        except ValueError:
            yield match[0][1:-1]


def _strings(value: Any) -> Iterable[str]:
    """Every key and every string, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *_strings(item))]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []
