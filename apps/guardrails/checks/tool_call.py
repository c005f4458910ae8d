"""Calls of tools: which ones, with what arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from apps.guardrails.checks.candidates import MOST, counted
from apps.guardrails.checks.escapes import undone
from apps.guardrails.checks.interface import (
    NOTHING,
    Call,
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    merged,
    wrong,
)
from apps.guardrails.checks.json_schema import Schema, SchemaRefused, begin_work
from apps.guardrails.checks.matching import PatternRefused, Patterns, TooMuchWork
from apps.guardrails.checks.normalising import fold

_MOST_SCHEMAS = 100


def build(settings: Mapping[str, Any]) -> Evaluate:
    allowed = {name.strip() for name in settings["allowed"] if name.strip()}
    # a forbidden tool is forbidden however its name is written; an allowed one has one name
    forbidden = {fold(name.strip()) for name in settings["forbidden"] if name.strip()}
    schemas = _schemas(settings["schemas"])
    values = _values([pattern for pattern in settings["values"] if pattern])
    if not (allowed or forbidden or schemas or values):
        raise wrong("allowed", "Say what is allowed or forbidden: tools, arguments or values.")
    if any(fold(name) in forbidden for name in allowed):
        raise wrong("forbidden", "A tool is allowed and forbidden; choose one.")

    def evaluate(subject: Subject) -> Found:
        reasons: list[str] = []
        spans: list[Span] = []
        begin_work()
        try:
            for call in subject.calls:
                for reason, places in broken(call, subject.text):
                    reasons.append(reason)
                    spans += places
        except TooMuchWork:
            return Found(0.0, failed="too_much_work")
        told = ", ".join(dict.fromkeys(reasons))
        return Found(1.0, merged(spans), told) if reasons else NOTHING

    def broken(call: Call, text: str) -> Iterator[tuple[str, list[Span]]]:
        """Every rule that a call breaks, in words, and where that can be seen in the text."""
        if fold(call.tool.strip()) in forbidden:
            yield "a forbidden tool", _places(text, call.tool)
        elif allowed and call.tool not in allowed:
            yield "a tool that is not allowed", _places(text, call.tool)
        arguments = {} if call.arguments is None else call.arguments
        its_own = schemas.get(fold(call.tool.strip()), [])
        said = next(filter(None, (schema.problem_of(arguments) for schema in its_own)), "")
        if said:
            yield f"arguments {said}", []
        elif isinstance(arguments, str) or not (its_own or isinstance(arguments, Mapping)):
            # whoever reads them may read them in another way than we would
            yield "arguments that are no JSON object", []
        hits = [one for one in _strings(arguments) if values and _matches(values, one)]
        if hits:
            told = counted(len(hits), "forbidden value", "forbidden values")
            yield told, [span for one in hits[:MOST] for span in _places(text, one)]

    return evaluate


def _matches(values: Patterns, text: str) -> bool:
    """Whether a text matches as it is, or as whoever reads JSON within it will read it."""
    return any(values.spans(Subject(form)) for form in (text, *undone(text)))


def _schemas(schemas: Any) -> dict[str, list[Schema]]:
    """Schemas by the folded names of their tools; all that are written for one hold."""
    if not isinstance(schemas, dict) or len(schemas) > _MOST_SCHEMAS:
        raise wrong("schemas", f"Give an object: a JSON Schema by tool, at most {_MOST_SCHEMAS}.")
    built: dict[str, list[Schema]] = {}
    for name, schema in schemas.items():
        try:
            built.setdefault(fold(name.strip()), []).append(Schema(schema))
        except SchemaRefused as refused:
            raise wrong("schemas", f"{name[:60]}: {refused}") from None
    return built


def _values(patterns: list[str]) -> Patterns | None:
    try:
        compiled = Patterns(patterns, ignore_case=True) if patterns else None
    except PatternRefused as refused:
        raise wrong("values", str(refused)) from None
    if compiled and compiled.spans(Subject("")):
        raise wrong("values", "A pattern matches the empty text, so it matches all values.")
    return compiled


def _strings(value: Any) -> Iterator[str]:
    """Every text inside, keys too, and every number as it is written."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, int | float) and not isinstance(one, bool):
            yield json.dumps(one)
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one


def _places(text: str, value: str) -> list[Span]:
    """Where a value stands in the call as it is written, if it can be told."""
    for written in (value, json.dumps(value, ensure_ascii=False)[1:-1]):
        at = text.find(written) if written else -1
        if at >= 0:
            return [(at, at + len(written))]
    return []


def _patterns(settings: Mapping[str, Any]) -> list[str]:
    schemas = [one for each in _schemas(settings["schemas"]).values() for one in each]
    within = [pattern for schema in schemas for pattern in schema.patterns]
    return [*filter(None, settings["values"]), *within]


KIND = Kind(
    name="tool_call",
    title="Tool calls",
    about="Finds calls of tools, arguments and values in them that are not allowed.",
    fields=(
        Field("allowed", "lines", "Allowed tools", "One a line. Empty: any.", []),
        Field("forbidden", "lines", "Forbidden tools", "One a line.", []),
        Field(
            "schemas",
            "json",
            "Arguments",
            'A JSON Schema (draft 2020-12) by tool: {"send_mail": {...}}.',
            {},
        ),
        Field(
            "values",
            "lines",
            "Forbidden values",
            "Patterns (RE2) that no text in the arguments may match, one a line.",
            [],
        ),
    ),
    build=build,
    patterns=_patterns,
    needs_call=True,
)
