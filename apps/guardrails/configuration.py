"""What a guardrail consists of, as plain data: parsing, checking, and building its checks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from apps.base.problems import FieldError, Problem
from apps.guardrails.checks import KINDS
from apps.guardrails.checks.interface import Call, Evaluate, Subject, validate
from apps.guardrails.checks.matching import TooMuchWork, worst_seconds
from apps.guardrails.gate import KINDS as GATES
from apps.guardrails.gate import Gate

MAXIMUM_CHECKS = 30
MAXIMUM_WEIGHT = 100.0
MOST_PATTERNS = 200
"""Regular expressions of a workspace's guardrails together (safety.md 3.5)."""
CLASSIFIER = "classifier"
_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,59}\Z")


@dataclass(frozen=True)
class CheckSettings:
    """One check of a guardrail.

    Args:
        key: its name within the guardrail, told in reasons and receipts.
        rule: key of the rule it speaks for; "" for the policy as a whole. A check of an
            explicitly allowed rule has no vote in the gate: what it finds allows.
        advisory: told, but without a vote.
        weight: in the weighted gate.
    """

    key: str
    kind: str
    rule: str = ""
    advisory: bool = False
    weight: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """All that a version of a guardrail fixes."""

    checks: tuple[CheckSettings, ...]
    gate: Gate = field(default_factory=Gate)

    @property
    def asks_classifier(self) -> bool:
        """Whether the policy's classifier has a vote."""
        return any(check.kind == CLASSIFIER and not check.advisory for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "checks": [
                {**asdict(check), "settings": dict(check.settings)} for check in self.checks
            ],
            "gate": asdict(self.gate),
        }


DEFAULT = Configuration((CheckSettings(CLASSIFIER, CLASSIFIER),))
"""What guards a policy that nobody configured: its classifier alone."""


def parse(data: Mapping[str, Any], *, rules: Mapping[str, str]) -> Configuration:
    """Check a configuration, its checks' settings included.

    Args:
        rules: polarity of each rule of the policy, by key.

    Raises:
        Problem: with a pointer to every wrong field.
    """
    errors: list[FieldError] = []
    _unknown(data, {"checks", "gate"}, "", errors)
    rows = data.get("checks", [])
    if not isinstance(rows, list) or len(rows) > MAXIMUM_CHECKS:
        errors.append(FieldError("/checks", f"A list of at most {MAXIMUM_CHECKS} checks."))
        rows = []
    checks = [_check(row, f"/checks/{place}", rules, errors) for place, row in enumerate(rows)]
    keys = [check.key for check in checks]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            errors.append(FieldError(f"/checks/{place}/key", "Another check has this key."))
    if sum(check.kind == CLASSIFIER for check in checks) > 1:
        errors.append(FieldError("/checks", "A policy has one classifier; name it once."))
    gate = _gate(data.get("gate", {}), errors)
    if not errors and sum(number_of_patterns(asdict(check)) for check in checks) > MOST_PATTERNS:
        errors.append(FieldError("/checks", f"At most {MOST_PATTERNS} patterns altogether."))
    if not errors:
        errors += _slow_ones(checks)
    if errors:
        raise Problem("The guardrail is not right yet.", errors=errors)
    return Configuration(tuple(checks), gate)


def number_of_patterns(check: Mapping[str, Any]) -> int:
    """How many regular expressions a check that is right has."""
    return len(KINDS[check["kind"]].patterns(check["settings"]))


def stored(data: Mapping[str, Any]) -> Configuration:
    """A published version's content, which was right when it was published."""
    checks = tuple(CheckSettings(**check) for check in data["checks"])
    return Configuration(checks, Gate(**data["gate"]))


def built(check: CheckSettings, workspace: UUID) -> Evaluate:
    """The check as a function of a subject; not for the classifier, which the bundle evaluates.

    Args:
        workspace: whose it is; what a remote check remembers is for nobody else.

    Raises:
        Problem: for settings that its kind does not take.
    """
    whose = workspace if KINDS[check.kind].remote else None
    return _built(check.kind, json.dumps(check.settings, sort_keys=True), whose)


# the same settings are the same check, with whatever it keeps (a judge's answers and its rests)
@lru_cache(maxsize=500)
def _built(kind: str, settings: str, _whose: UUID | None) -> Evaluate:
    return KINDS[kind].build(validate(KINDS[kind], json.loads(settings)))


def threshold(check: CheckSettings) -> float:
    """From which score a check fires (the classifier's stands in its model)."""
    return float(check.settings.get("threshold", KINDS[check.kind].threshold))


def _check(row: Any, at: str, rules: Mapping[str, str], errors: list[FieldError]) -> CheckSettings:
    if not isinstance(row, Mapping):
        errors.append(FieldError(at, "A check is an object."))
        row = {}
    _unknown(row, {"key", "kind", "rule", "advisory", "weight", "settings"}, at, errors)
    kind = row.get("kind")
    if kind not in KINDS:
        errors.append(FieldError(f"{at}/kind", f"Kinds are: {', '.join(KINDS)}."))
        kind = CLASSIFIER
    key = row.get("key")
    if not isinstance(key, str) or not _KEY.match(key) or key == "gate":
        errors.append(
            FieldError(f"{at}/key", "1 to 60 lower-case letters, digits and hyphens, not gate.")
        )
    rule = row.get("rule", "")
    if rule != "" and rule not in rules:
        errors.append(FieldError(f"{at}/rule", "The policy has no such rule; publish it first."))
    advisory = row.get("advisory", False)
    if not isinstance(advisory, bool):
        errors.append(FieldError(f"{at}/advisory", "Say true or false."))
    weight = row.get("weight", 1.0)
    if not _is_number(weight) or not 0 < weight <= MAXIMUM_WEIGHT:
        errors.append(FieldError(f"{at}/weight", f"Above 0, at most {MAXIMUM_WEIGHT:g}."))
        weight = 1.0
    settings = row.get("settings", {})
    if not isinstance(settings, Mapping):
        errors.append(FieldError(f"{at}/settings", "Settings are an object."))
        settings = {}
    check = CheckSettings(str(key), kind, str(rule), bool(advisory), float(weight), dict(settings))
    try:
        complete = validate(KINDS[kind], settings)
        if kind != CLASSIFIER:
            KINDS[kind].build(complete)
    except Problem as problem:
        errors += [FieldError(f"{at}/settings{e.pointer}", e.message) for e in problem.errors]
        return check
    return CheckSettings(check.key, kind, check.rule, check.advisory, check.weight, complete)


def _slow_ones(checks: Sequence[CheckSettings]) -> list[FieldError]:
    """Checks whose patterns are slow on long texts: linear time can be long."""
    until = time.thread_time() + _LONGEST_TRIAL
    errors = []
    for place, check in enumerate(checks):
        if time.thread_time() > until:
            errors.append(FieldError("/checks", "Trying all patterns takes too long; use fewer."))
            break
        try:
            _try_patterns(check.kind, json.dumps(check.settings, sort_keys=True))
        except TooMuchWork:
            name = next(one.name for one in KINDS[check.kind].fields if one.name in _PATTERNS)
            pointer = f"/checks/{place}/settings/{name}"
            slow = "Its patterns are too slow on long texts; simplify them."
            errors.append(FieldError(pointer, slow))
    return errors


@lru_cache(maxsize=1_000)
def _try_patterns(kind: str, settings: str) -> None:
    """Raise TooMuchWork where its patterns are slow; what was found quick is not tried again."""
    given = json.loads(settings)
    patterns = KINDS[kind].patterns(given)
    if not patterns:
        return
    if worst_seconds(patterns, _MOST_SECONDS) > _MOST_SECONDS:
        raise TooMuchWork
    evaluate = KINDS[kind].build(given)
    if any(_is_slow(evaluate, subject) for subject in _long_subjects()):
        raise TooMuchWork


def _is_slow(evaluate: Evaluate, subject: Subject) -> bool:
    # the thread's own time: what else the machine does is no fault of the patterns
    started = time.thread_time()
    try:
        evaluate(subject)
    except TooMuchWork:
        return True
    return time.thread_time() - started > _MOST_SECONDS


@lru_cache(maxsize=1)
def _long_subjects() -> tuple[Subject, ...]:
    """Short ones first, so that the slowest patterns are refused at once."""
    texts = ("a" * 65_536, "\u00e9" * 32_768, "12 " * 21_845, "the quick brown fox, " * 3_120)
    subjects = tuple(_long(text[:size]) for size in (1_024, 8_192, 65_536) for text in texts)
    for subject in subjects:
        # their normal forms are made once and are not the patterns' time
        _ = subject.plain, subject.folded
    return subjects


def _long(text: str) -> Subject:
    """As a text and, where it has no normal form to be made anew, inside a call."""
    return Subject(text, calls=(Call("", {"": text}),) if text.isascii() else ())


_PATTERNS = ("patterns", "values", "schema")
_MOST_SECONDS = 0.25
_LONGEST_TRIAL = 5.0
"""Seconds of the processor, after which no further check is tried: somebody waits for the page."""


def _gate(data: Any, errors: list[FieldError]) -> Gate:
    if not isinstance(data, Mapping):
        errors.append(FieldError("/gate", "The gate is an object."))
        return Gate()
    known = {"kind", "least", "threshold", "slope", "offset"}
    _unknown(data, known, "/gate", errors)
    values = {**asdict(Gate()), **{name: data[name] for name in known if name in data}}
    if values["kind"] not in GATES:
        errors.append(FieldError("/gate/kind", f"Gates are: {', '.join(GATES)}."))
    if type(values["least"]) is not int or not 1 <= values["least"] <= MAXIMUM_CHECKS:
        errors.append(FieldError("/gate/least", f"1 to {MAXIMUM_CHECKS}."))
    if not _is_number(values["threshold"]) or not 0 < values["threshold"] <= 1:
        errors.append(FieldError("/gate/threshold", "Above 0, at most 1."))
    slope = values["slope"]
    if slope is not None and (not _is_number(slope) or not 0 < slope <= 1e6):
        errors.append(FieldError("/gate/slope", "A positive number, or nothing."))
    if not _is_number(values["offset"]) or abs(values["offset"]) > 1e6:
        errors.append(FieldError("/gate/offset", "A number."))
    return Gate(**values) if not errors else Gate()


def _unknown(data: Mapping[str, Any], known: set[str], at: str, errors: list[FieldError]) -> None:
    for name in sorted(set(data) - known):
        listed = ", ".join(sorted(known))
        errors.append(FieldError(f"{at}/{name[:60]}", f"Unknown; known are: {listed}."))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
