"""What a draft changes in a guardrail, check by check and setting by setting. No Django."""

from __future__ import annotations

import json
from typing import Any

from apps.guardrails.checks import KINDS
from apps.guardrails.configuration import CheckSettings, Configuration
from apps.guardrails.gate import Gate
from apps.policies.differences import Change, difference, word_by_word

_COUNTS = {"any": "any check finds", "all": "all checks find"}


def compare(before: Configuration, after: Configuration) -> list[Change]:
    """What changed; checks are matched by key, in the new order. Their order changes nothing."""
    old = {check.key: check for check in before.checks}
    new = {check.key: check for check in after.checks}
    changes = []
    for key, check in new.items():
        if key in old:
            changes += _check(old[key], check)
        else:
            changes += difference(f"check {key}", "", _whole(check))
    for key, check in old.items():
        if key not in new:
            changes += difference(f"check {key}", _whole(check), "")
    changes += difference("gate", _gate(before.gate), _gate(after.gate))
    return word_by_word(changes)


def _check(old: CheckSettings, new: CheckSettings) -> list[Change]:
    before, after = _facts(old), _facts(new)
    return [
        change
        for name in {**before, **after}
        for change in difference(
            f"check {new.key}: {name}", before.get(name, ""), after.get(name, "")
        )
    ]


def _facts(check: CheckSettings) -> dict[str, str]:
    """All that is set of a check, by the names that its form shows."""
    kind = KINDS[check.kind]
    return {
        "kind": kind.title,
        "rule": check.rule,
        "vote": "advisory" if check.advisory else "has a vote",
        "weight": f"{check.weight:g}",
        **{one.label: _shown(check.settings.get(one.name, one.default)) for one in kind.fields},
    }


def _whole(check: CheckSettings) -> str:
    return "\n".join(f"{name}: {value}" for name, value in _facts(check).items() if value)


def _gate(gate: Gate) -> str:
    if gate.kind == "weighted":
        fitted = gate.slope is not None
        scale = f", calibrated by {gate.slope:.4g} and {gate.offset:+.4g}" if fitted else ""
        return f"the weighted mean of its checks reaches {gate.threshold:g}{scale}"
    several = "check finds" if gate.least == 1 else "checks find"
    count = f"at least {gate.least} {several}" if gate.kind == "at_least" else _COUNTS[gate.kind]
    return f"{count} something"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(row, str) for row in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False, indent=2)
