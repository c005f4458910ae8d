"""The editor of a guardrail: its form, from the fields that kinds declare, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.http import QueryDict

from apps.base.gate import parse_json
from apps.base.problems import FieldError, Problem, by_field
from apps.guardrails.checks import KINDS
from apps.guardrails.checks.interface import Field, Kind
from apps.guardrails.configuration import MAXIMUM_CHECKS
from apps.guardrails.gate import Gate

_NUMBERED = re.compile(r"checks-(\d{1,3})-kind\Z")


def content_from(post: QueryDict, *, removing: bool = True) -> dict[str, Any]:
    """The configuration that the form describes, unchecked; removed checks are left out."""
    numbers = sorted(int(m.group(1)) for name in post if (m := _NUMBERED.match(name)))
    kept = [n for n in numbers if not removing or f"checks-{n}-remove" not in post]
    gate: dict[str, Any] = {"kind": post.get("gate-kind", "any")}
    used = {"at_least": ["least"], "weighted": ["threshold"]}
    for name in used.get(gate["kind"], ()):
        if (number := _number(post.get(f"gate-{name}", ""), whole=name == "least")) is not None:
            gate[name] = number
    return {"checks": [_check(post, n) for n in kept[: MAXIMUM_CHECKS + 1]], "gate": gate}


def new_check(kind: str, taken: Mapping[str, Any]) -> dict[str, Any]:
    """A check of a kind with its defaults, under a key that is free."""
    keys = {check.get("key") for check in taken["checks"]}
    plain = kind.replace("_", "-")
    names = [plain, *(f"{plain}-{n}" for n in range(2, MAXIMUM_CHECKS + 2))]
    settings = {one.name: one.default for one in KINDS[kind].fields if one.default is not None}
    return {"key": next(n for n in names if n not in keys), "kind": kind, "settings": settings}


def rows_of(content: Mapping[str, Any], errors: Sequence[FieldError] = ()) -> list[dict[str, Any]]:
    """Each check as the form shows it.

    Of each: check, kind, weight, `at` (what the ids of its fields begin with), `wrong` (what is
    wrong with its own fields, by name), and its settings as (field, value, what is wrong).
    """
    rows = []
    for place, check in enumerate(content["checks"]):
        kind = KINDS.get(check.get("kind"))
        if kind is not None:
            settings = check.get("settings", {})
            wrong = by_field(errors, f"/checks/{place}/settings/")
            fields = [
                (one, _shown(one, settings.get(one.name, one.default)), wrong.get(one.name))
                for one in kind.fields
            ]
            rows.append(
                {
                    "check": check,
                    "kind": kind,
                    "weight": _plain(check.get("weight", 1)),
                    "at": f"check-{place + 1}",
                    "fields": fields,
                    "wrong": by_field(errors, f"/checks/{place}/"),
                }
            )
    return rows


def gate_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The gate as the form shows it."""
    gate = {**asdict(Gate()), **content["gate"]}
    return gate | {"threshold": _plain(gate["threshold"])}


def _check(post: QueryDict, number: int) -> dict[str, Any]:
    prefix = f"checks-{number}-"
    kind = post.get(f"{prefix}kind", "")
    check: dict[str, Any] = {
        "key": post.get(f"{prefix}key", "").strip(),
        "kind": kind,
        "rule": post.get(f"{prefix}rule", ""),
        "advisory": f"{prefix}advisory" in post,
        "settings": _settings(post, KINDS[kind], prefix) if kind in KINDS else {},
    }
    if (weight := _number(post.get(f"{prefix}weight", ""))) is not None:
        check["weight"] = weight
    return check


def _settings(post: QueryDict, kind: Kind, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in kind.fields:
        name = f"{prefix}{one.name}"
        value = post.get(name, "").replace("\r\n", "\n")
        if one.kind == "yes_no":
            found[one.name] = name in post
        elif one.kind == "choices":
            found[one.name] = post.getlist(name)
        elif one.kind == "lines":
            found[one.name] = [line for line in value.split("\n") if line.strip()]
        elif one.kind in ("number", "whole"):
            found[one.name] = _number(value, whole=one.kind == "whole")
        elif one.kind == "json":
            found[one.name] = _json(value)
        else:
            found[one.name] = value
    return found


def _shown(one: Field, value: Any) -> Any:
    if one.kind == "lines":
        return "\n".join(value or [])
    if one.kind == "json" and not isinstance(value, str):
        return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2)
    return value


def _number(text: str, *, whole: bool = False) -> float | str | None:
    """The number it is; the text itself where it is none, to be refused; None for nothing."""
    number = number_in(text)
    if number is None:
        return text.strip() or None
    return int(number) if whole and number.is_integer() else number


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, int | float) else value


def _json(text: str) -> Any:
    """What the text says; the text itself where it is no JSON, for its kind to refuse."""
    try:
        return parse_json(text.encode()) if text.strip() else None
    except Problem:
        return text


def number_in(text: str) -> float | None:
    """A number as somebody typed it into a form; None for anything else."""
    try:
        found = float(text) if len(text) < 30 else None
    except ValueError:
        return None
    return found if found is not None and abs(found) < 1e12 else None
