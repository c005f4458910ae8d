"""The API's page, read off its OpenAPI schema; no script of another house."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

Part = dict[str, Any]


@cache
def operations() -> dict[str, list[Part]]:
    """Every operation, under the first word of its path.

    Of each: method, path, summary, description, scope, parameters, media_types, body and answers
    (as fields), and examples of bodies. A field: name, type, whether it is optional, note, and the
    fields inside.
    """
    schema = SchemaGenerator().get_schema(request=None, public=True)
    groups: dict[str, list[Part]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict):
                group = path.removeprefix("/api/v1/").strip("/").split("/")[0]
                group = "moderations" if group == "v1" else group
                groups.setdefault(group, []).append(_operation(schema, path, method, operation))
    return groups


def _operation(schema: Part, path: str, method: str, operation: Part) -> Part:
    bodies = operation.get("requestBody", {}).get("content", {})
    about, _, scope = operation.get("description", "").partition("Needs the scope `")
    return {
        "method": method.upper(),
        "path": path,
        "summary": about.split("\n\n")[0].replace("`", ""),
        "description": about.strip(),
        "scope": scope.removesuffix("`."),
        # what every write takes stands in the common rules
        "parameters": [
            {"where": one["in"], **_field(schema, one["name"], one, (), not one.get("required"))}
            for one in operation.get("parameters", [])
            if one["name"] != "Idempotency-Key"
        ],
        "media_types": list(bodies),
        "body": _fields(schema, _schema_of(bodies)),
        "examples": list(_examples(bodies)),
        "answers": [
            {"status": status, "fields": _fields(schema, _schema_of(answer.get("content", {})))}
            for status, answer in operation.get("responses", {}).items()
        ],
    }


def _schema_of(contents: Part) -> Part:
    first: Part = next(iter(contents.values()), {})
    return first.get("schema", {})


def _examples(bodies: Part) -> Iterator[Part]:
    """Each example of a JSON body: what it is of, and the body."""
    for name, example in bodies.get("application/json", {}).get("examples", {}).items():
        yield {
            "about": example.get("summary", name),
            "body": json.dumps(example["value"], ensure_ascii=False),
        }


def _fields(schema: Part, part: Part, above: tuple[str, ...] = ()) -> list[Part]:
    """The fields of the objects that a part of the schema speaks of, those inside them as well."""
    found = []
    for name in _references(part):
        if name not in above:  # a shape inside itself is told once
            shape = schema["components"]["schemas"][name]
            found += _fields(schema, shape, (*above, name))
    required = part.get("required", [])
    for name, value in part.get("properties", {}).items():
        found.append(_field(schema, name, value, above, name not in required))
    return found


def _field(schema: Part, name: str, value: Part, above: tuple[str, ...], optional: bool) -> Part:
    kind = value.get("schema", value)
    note = "" if "enum" in kind else str(value.get("description", ""))
    return {
        "name": name,
        "type": _type(kind),
        "optional": optional,
        "note": note,
        "fields": _fields(schema, kind, above),
    }


def _references(part: Part) -> Iterator[str]:
    if "$ref" in part:
        yield part["$ref"].rpartition("/")[2]
    for inner in _inside(part):
        yield from _references(inner)


def _inside(part: Part) -> Iterable[Part]:
    lists = [part.get("oneOf", []), part.get("allOf", [])]
    single = [part.get("items"), part.get("additionalProperties")]
    return [
        *(one for each in lists for one in each),
        *(one for one in single if isinstance(one, dict) and one),
    ]


def _type(part: Part) -> str:
    if "enum" in part:
        values = [str(value) for value in part["enum"] if value not in ("", None)]
        return f"one of {', '.join(values)}"
    if "oneOf" in part:
        return " or ".join(_type(one) for one in part["oneOf"])
    if part.get("items"):
        return f"list of {_type(part['items'])}"
    if "$ref" in part or "allOf" in part:
        return "object"
    kind = part.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
