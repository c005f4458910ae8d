"""What a policy says, as plain data: parsing, checking and comparing. No Django."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from apps.base.gate import check_text
from apps.base.problems import FieldError, Problem
from apps.policies.differences import Change, difference, word_by_word

STAGES = ("input", "output", "tool_call", "retrieval")
POLARITIES = ("disallowed", "allowed")
ACTIONS = ("allow", "flag", "redact", "rewrite", "escalate", "block")
MAXIMUM_RULES = 100
MAXIMUM_EXAMPLES = 20
MAXIMUM_TEXT = 10_000
_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,59}\Z")


@dataclass(frozen=True)
class RuleExample:
    """A short text on one side of a rule's line, and why it is there."""

    text: str
    violates: bool
    why: str = ""


@dataclass(frozen=True)
class RuleText:
    """One rule; its key stays the same over versions, whatever its text becomes."""

    key: str
    polarity: str
    text: str
    severity: int
    action: str
    examples: tuple[RuleExample, ...] = ()


@dataclass(frozen=True)
class Specification:
    """Everything a version of a policy fixes."""

    stages: tuple[str, ...] = ("output",)
    definition: str = ""
    scope: str = ""
    rationale: str = ""
    rules: tuple[RuleText, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["stages"] = list(self.stages)
        data["rules"] = [{**rule, "examples": list(rule["examples"])} for rule in data["rules"]]
        return data


def parse(data: Mapping[str, Any]) -> Specification:
    """Check the shape of a draft. An unfinished draft (no rules yet) is fine: see `missing`.

    Raises:
        Problem: with a pointer to every wrong field.
    """
    reader = _Reader()
    known = {"stages", "definition", "scope", "rationale", "rules"}
    for name in sorted(set(data) - known):
        reader.wrong(f"/{name}", f"Unknown; known are: {', '.join(sorted(known))}.")
    stages = reader.items(data, "", "stages", ["output"], len(STAGES))
    for position, stage in enumerate(stages):
        if stage not in STAGES:
            reader.wrong(f"/stages/{position}", f"Stages are: {', '.join(STAGES)}.")
    rules = []
    for position, row in enumerate(reader.items(data, "", "rules", [], MAXIMUM_RULES)):
        rules.append(_rule(reader, row, f"/rules/{position}"))
    keys = [rule.key for rule in rules]
    for position, key in enumerate(keys):
        if key in keys[:position]:
            reader.wrong(f"/rules/{position}/key", "Another rule has this key.")
    specification = Specification(
        stages=tuple(str(stage) for stage in stages),
        definition=reader.text(data, "", "definition"),
        scope=reader.text(data, "", "scope"),
        rationale=reader.text(data, "", "rationale"),
        rules=tuple(rules),
    )
    reader.finish()
    return specification


def missing(specification: Specification) -> list[FieldError]:
    """What a draft still lacks before it can be published."""
    errors = []
    if not specification.definition.strip():
        errors.append(FieldError("/definition", "Say what the policy is about."))
    if not specification.stages:
        errors.append(FieldError("/stages", "Choose at least one stage."))
    if not any(rule.polarity == "disallowed" for rule in specification.rules):
        errors.append(FieldError("/rules", "Write at least one disallowed rule."))
    for position, rule in enumerate(specification.rules):
        if not rule.text.strip():
            errors.append(FieldError(f"/rules/{position}/text", "Write the rule."))
        if rule.polarity == "disallowed" and rule.action == "allow":
            at = f"/rules/{position}/action"
            errors.append(FieldError(at, "A disallowed rule asks for more than allow."))
    return errors


def _rule(reader: _Reader, row: Any, at: str) -> RuleText:
    if not isinstance(row, Mapping):
        reader.wrong(at, "A rule is an object.")
        row = {}
    known = {"key", "polarity", "text", "severity", "action", "examples"}
    for name in sorted(set(row) - known):
        reader.wrong(f"{at}/{name}", f"Unknown; known are: {', '.join(sorted(known))}.")
    key = reader.text(row, at, "key")
    if not _KEY.match(key):
        reader.wrong(f"{at}/key", "1 to 60 lower-case letters, digits and hyphens.")
    polarity = row.get("polarity", "disallowed")
    if polarity not in POLARITIES:
        reader.wrong(f"{at}/polarity", f"Polarities are: {', '.join(POLARITIES)}.")
    severity = row.get("severity", 1)
    if type(severity) is not int or not 1 <= severity <= 4:
        reader.wrong(f"{at}/severity", "Severity is 1, 2, 3 or 4.")
        severity = 1
    action = row.get("action", "allow" if polarity == "allowed" else "block")
    if action not in ACTIONS:
        reader.wrong(f"{at}/action", f"Actions are: {', '.join(ACTIONS)}.")
    examples = []
    for position, example in enumerate(reader.items(row, at, "examples", [], MAXIMUM_EXAMPLES)):
        examples.append(_example(reader, example, f"{at}/examples/{position}"))
    return RuleText(
        key, str(polarity), reader.text(row, at, "text"), severity, str(action), tuple(examples)
    )


def _example(reader: _Reader, row: Any, at: str) -> RuleExample:
    if not isinstance(row, Mapping):
        reader.wrong(at, "An example is an object with text, violates and why.")
        row = {}
    for name in sorted(set(row) - {"text", "violates", "why"}):
        reader.wrong(f"{at}/{name}", "Unknown; known are: text, violates, why.")
    violates = row.get("violates")
    if not isinstance(violates, bool):
        reader.wrong(f"{at}/violates", "Say true or false.")
    return RuleExample(reader.text(row, at, "text"), bool(violates), reader.text(row, at, "why"))


class _Reader:
    """Collects every wrong field, so that its writer sees them all at once."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def wrong(self, pointer: str, message: str) -> None:
        self.errors.append(FieldError(pointer, message))

    def text(self, data: Mapping[str, Any], at: str, name: str) -> str:
        value = data.get(name, "")
        if not isinstance(value, str):
            self.wrong(f"{at}/{name}", "This is text.")
            return ""
        try:
            check_text(value)
        except Problem as problem:
            self.wrong(f"{at}/{name}", problem.detail)
            return ""
        if len(value) > MAXIMUM_TEXT:
            self.wrong(f"{at}/{name}", f"At most {MAXIMUM_TEXT:,} characters.")
        return value

    def items(
        self, data: Mapping[str, Any], at: str, name: str, default: list[Any], most: int
    ) -> Sequence[Any]:
        value = data.get(name, default)
        if not isinstance(value, list):
            self.wrong(f"{at}/{name}", "This is a list.")
            return []
        if len(value) > most:
            self.wrong(f"{at}/{name}", f"At most {most}.")
        return value

    def finish(self) -> None:
        if self.errors:
            raise Problem("Some fields are wrong.", code="invalid", errors=self.errors)


def compare(before: Specification, after: Specification) -> list[Change]:
    """What changed, field by field and rule by rule (matched by key, in the new order)."""
    changes = []
    for name in ("definition", "scope", "rationale"):
        changes += difference(name, getattr(before, name), getattr(after, name))
    changes += difference("stages", ", ".join(before.stages), ", ".join(after.stages))
    old = {rule.key: rule for rule in before.rules}
    new = {rule.key: rule for rule in after.rules}
    for key, rule in new.items():
        if key not in old:
            changes.append(Change("added", f"rule {key}", "", _whole(rule)))
            continue
        for name in ("text", "polarity", "severity", "action"):
            changes += difference(
                f"rule {key}: {name}", str(getattr(old[key], name)), str(getattr(rule, name))
            )
        changes += difference(f"rule {key}: examples", _examples(old[key]), _examples(rule))
    for key, rule in old.items():
        if key not in new:
            changes.append(Change("removed", f"rule {key}", _whole(rule), ""))
    common_before = [key for key in old if key in new]
    common_after = [key for key in new if key in old]
    changes += difference("order of rules", ", ".join(common_before), ", ".join(common_after))
    return word_by_word(changes)


def _whole(rule: RuleText) -> str:
    stated = rule.polarity
    if rule.polarity == "disallowed":
        stated += f", severity {rule.severity}, {rule.action}"
    return "\n".join([rule.text, stated, _examples(rule)]).strip()


def _examples(rule: RuleText) -> str:
    return "\n".join(
        f"{'breaks' if example.violates else 'fine'}: {example.text}"
        + (f" ({example.why})" if example.why else "")
        for example in rule.examples
    )
