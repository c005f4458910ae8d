"""Texts that must be JSON of a given shape: JSON Schema, draft 2020-12.

Patterns of the schema are run by RE2, nothing is fetched, and the work for a text is bounded.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import re2
from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from apps.base.gate import parse_json
from apps.base.problems import Problem
from apps.guardrails.checks.candidates import compiled
from apps.guardrails.checks.interface import (
    NOTHING,
    Evaluate,
    Field,
    Found,
    Kind,
    Subject,
    wrong,
)
from apps.guardrails.checks.matching import MOST_SECONDS, PatternRefused, Patterns, TooMuchWork

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MOST_STEPS = 40_000
"""Keywords that are looked at for a text: about half a second."""
_FENCE = "```"
_LONGEST_PATH = 120
_steps = threading.local()


class SchemaRefused(ValueError):
    """What is wrong with a schema, in words for its writer."""


class Schema:
    """A schema that values are held against.

    patterns: all that are within it.

    Raises:
        SchemaRefused: when it is no schema, or one that this check does not take.
    """

    def __init__(self, schema: Any) -> None:
        if not isinstance(schema, dict):
            raise SchemaRefused('Give a JSON Schema: an object such as {"type": "object"}.')
        if str(schema.get("$schema", _DIALECT)).rstrip("#") != _DIALECT:
            raise SchemaRefused(f"Use draft 2020-12: {_DIALECT}.")
        # a part with one of these would be run by another class, with Python's `re`
        root = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
        self.patterns = _check(root)
        self._validator = _VALIDATOR(root, registry=Registry())

    def problem_of(self, value: Any) -> str:
        """Which part of the schema a value does not keep; "" when it keeps all.

        Raises:
            TooMuchWork: when that is too much of it, with all values since `begin_work`.
        """
        try:
            error = next(self._validator.iter_errors(value), None)
        except (RecursionError, OverflowError, Unresolvable):
            raise TooMuchWork from None
        if error is None:
            return ""
        # the schema's own words; the message would have those of the text
        path = "/".join(str(part) for part in error.absolute_schema_path)
        return f"not valid by /{path[:_LONGEST_PATH]}"


def begin_work() -> None:
    """A text begins, whose values share the work that may be done for it."""
    _steps.left, _steps.until = _MOST_STEPS, time.thread_time() + MOST_SECONDS


def build(settings: Mapping[str, Any]) -> Evaluate:
    try:
        schema = Schema(settings["schema"])
    except SchemaRefused as refused:
        raise wrong("schema", str(refused)) from None
    fenced = settings["fenced"]

    def evaluate(subject: Subject) -> Found:
        if any(isinstance(call.arguments, str) for call in subject.calls):
            # whoever reads them may read them in another way than we would
            return Found(1.0, reason="arguments that are no JSON object")
        values = [{} if call.arguments is None else call.arguments for call in subject.calls]
        # what is read of a call is more than its JSON
        text = subject.text[: subject.beside] if subject.calls else subject.text
        begin_work()
        try:
            if text or not subject.calls:
                values.append(parse_json((_inside(text) if fenced else text).encode()))
            said = next(filter(None, map(schema.problem_of, values)), "")
        except Problem as problem:
            return Found(1.0, reason=problem.detail)
        except TooMuchWork:
            return Found(0.0, failed="too_much_work")
        return Found(1.0, reason=f"JSON, but {said}") if said else NOTHING

    return evaluate


def _inside(text: str) -> str:
    """What stands in a fence that is all of the text; else the text."""
    bare = text.strip()
    if len(bare) < 2 * len(_FENCE) or not (bare.startswith(_FENCE) and bare.endswith(_FENCE)):
        return text
    name, _, body = bare[len(_FENCE) : -len(_FENCE)].partition("\n")
    return body if name.strip().lower() in ("", "json") else text


# what a schema may be


def _check(root: dict[str, Any]) -> list[str]:
    """Refuse what is not taken; returns the patterns within."""
    try:
        parts = list(_parts(root))
    except RecursionError:
        raise SchemaRefused("The schema is nested too deep.") from None
    keywords = {keyword for part in parts for keyword in part}
    if {"unevaluatedProperties", "patternProperties"} <= keywords:
        raise SchemaRefused(
            "unevaluatedProperties together with patternProperties is not supported; use "
            "additionalProperties."
        )
    patterns = [pattern for part in parts for pattern in part.get("patternProperties", ())]
    patterns += [part["pattern"] for part in parts if "pattern" in part]
    for pattern in patterns:
        try:
            Patterns([pattern], ignore_case=False)
        except PatternRefused as refused:
            raise SchemaRefused(f"A pattern of the schema: {refused}") from None
    return patterns


def _parts(root: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every schema within the schema, and all that it refers to."""
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
    _check_form(root)
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or not isinstance(part, dict):
            continue
        seen.add(id(part))
        yield part
        if part is not root and ("$id" in part or "$schema" in part):
            raise SchemaRefused("Only the schema itself may have $id and $schema, no part of it.")
        waiting += DRAFT202012.subresources_of(part)
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in part:
                waiting.append(_target(resolver, part[keyword]))


def _target(resolver: Any, reference: str) -> Any:
    if not reference.startswith("#"):
        raise SchemaRefused(
            "$ref must lead to a part of this schema, as #/$defs/name does: nothing is fetched."
        )
    try:
        target = resolver.lookup(reference).contents
    except Unresolvable:
        raise SchemaRefused("A $ref leads to nothing in this schema.") from None
    _check_form(target)
    return target


def _check_form(schema: Any) -> None:
    try:
        # without formats: one of them gives patterns to Python's `re`
        Draft202012Validator.check_schema(schema, format_checker=None)
    except SchemaError as error:
        path = "/".join(str(part) for part in error.absolute_path)
        raise SchemaRefused(f"Not a valid schema at /{path}: {error.message[:200]}") from None


# keywords that are not run as the library has them


@lru_cache(maxsize=1_000)
def _expression(pattern: str) -> re2._Regexp:
    return compiled(pattern)


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and _expression(pattern).search(value) is None:
        yield ValidationError("pattern")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, _: Any
) -> Iterator[ValidationError]:
    if validator.is_type(value, "object"):
        for pattern, schema in patterns.items():
            for key, item in value.items():
                if _expression(pattern).search(key) is not None:
                    yield from validator.descend(item, schema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    expressions = [_expression(pattern) for pattern in schema.get("patternProperties", ())]
    for key, item in value.items():
        if key in schema.get("properties", ()) or any(one.search(key) for one in expressions):
            continue
        yield from validator.descend(item, allowed, path=key)


def _unique_items(validator: Any, wanted: bool, value: Any, _: Any) -> Iterator[ValidationError]:
    # the library compares each with each
    if wanted and validator.is_type(value, "array"):
        written = {json.dumps(_canonical(item), sort_keys=True) for item in value}
        if len(written) != len(value):
            yield ValidationError("uniqueItems")


def _canonical(value: Any) -> Any:
    """A value with 1.0 as 1, which are equal in JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return value


Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _counted(keyword: Keyword) -> Keyword:
    """The keyword, as often as a text is worth: a short schema can mean endless work."""

    def run(validator: Any, setting: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        _steps.left -= 1
        if _steps.left < 0 or time.thread_time() > _steps.until:
            raise TooMuchWork
        yield from keyword(validator, setting, value, schema) or ()

    return run


_OWN: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_VALIDATOR = extend(
    Draft202012Validator,
    {
        name: _counted(_OWN.get(name, keyword))
        for name, keyword in Draft202012Validator.VALIDATORS.items()
    },
)


KIND = Kind(
    name="json_schema",
    title="JSON Schema",
    about="Finds texts that are not JSON, or not valid by a JSON Schema (draft 2020-12); of calls "
    "of tools it looks at the arguments, and at what is said beside them.",
    fields=(
        Field(
            "schema",
            "json",
            "Schema",
            "$ref leads to parts of the schema only; patterns are RE2's; format says nothing.",
        ),
        Field("fenced", "yes_no", "May stand in a ```json fence", default=True),
    ),
    build=build,
    patterns=lambda settings: Schema(settings["schema"]).patterns,
)
