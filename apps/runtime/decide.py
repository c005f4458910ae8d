"""One action out of what all policies found: conflict resolution, pure and total. No Django.

Levels are in the order of authority: what the platform says binds the organisation, what the
organisation says binds the application.

1. The most restrictive action of all disallowing findings wins, so a lower level may be stricter
   than a higher one, and never milder.
2. A finding of an explicitly allowed rule lifts the disallowing findings of every *lower* level;
   those of its own level and of higher ones stand. A lifted finding is still told, with what
   lifted it.
3. With no disallowing finding left the action is allow.

So the order of findings never matters, adding a disallowing finding never weakens the action, and
no level can undo what a higher one forbids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from apps.policies.specification import ACTIONS, POLARITIES

LEVELS = ("platform", "organisation", "application")
_RESTRICTS = {action: place for place, action in enumerate(ACTIONS)}
_AUTHORITY = {level: place for place, level in enumerate(LEVELS)}


@dataclass(frozen=True, order=True)
class Finding:
    """What one check of one policy says of a text.

    Args:
        rule: the rule it speaks for, "" where the check cannot tell (a classifier speaks for all
            disallowed rules of its policy).
        action: what the policy asks for; an allowed finding asks for allow.
    """

    policy: str
    level: str
    polarity: str
    action: str
    check: str
    rule: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS or self.polarity not in POLARITIES:
            raise ValueError(f"No such level or polarity: {self.level}, {self.polarity}.")
        if self.action not in ACTIONS:
            raise ValueError(f"No such action: {self.action}.")


@dataclass(frozen=True)
class Reason:
    """A finding and what became of it: `lifted_by` names the policy that allowed it, or is ""."""

    finding: Finding
    lifted_by: str = ""


@dataclass(frozen=True)
class Outcome:
    """The action, and every finding that took part, what decided first."""

    action: str
    reasons: tuple[Reason, ...]


def decide(findings: Iterable[Finding]) -> Outcome:
    """The one action that follows from the findings (none: allow)."""
    found = sorted(set(findings))
    allowing = [finding for finding in found if finding.polarity == "allowed"]
    reasons = [
        Reason(finding, "" if finding in allowing else _lifted_by(finding, allowing))
        for finding in found
    ]
    standing = [
        reason.finding.action
        for reason in reasons
        if reason.finding.polarity == "disallowed" and not reason.lifted_by
    ]
    action = max(standing, key=_RESTRICTS.__getitem__, default="allow")
    return Outcome(action, tuple(sorted(reasons, key=weight)))


def restricts_more(one: str, other: str) -> bool:
    """Whether the first action restricts more than the second."""
    return _RESTRICTS[one] > _RESTRICTS[other]


def _lifted_by(finding: Finding, allowing: list[Finding]) -> str:
    """The policy of the highest level above the finding's that explicitly allows it."""
    above = [
        allowed for allowed in allowing if _AUTHORITY[allowed.level] < _AUTHORITY[finding.level]
    ]
    return min(above, key=lambda a: (_AUTHORITY[a.level], a.policy)).policy if above else ""


def weight(reason: Reason) -> tuple[bool, int, int, Finding]:
    """Standing before lifted, the most restrictive first, then by authority and name."""
    finding = reason.finding
    return (
        bool(reason.lifted_by) or finding.polarity == "allowed",
        -_RESTRICTS[finding.action],
        _AUTHORITY[finding.level],
        finding,
    )


def table() -> str:
    """What happens when two policies disagree, as Markdown: every pair of levels, from the code."""
    lines = [
        "| higher or same level says | lower or same level says | action | why |",
        "| --- | --- | --- | --- |",
    ]
    for (one, other), first, second in product(_pairs(), _SAYINGS, _SAYINGS):
        outcome = decide([_finding("first", one, first), _finding("second", other, second)])
        lifted = [reason.lifted_by for reason in outcome.reasons if reason.lifted_by]
        why = "lifted by the explicitly allowed rule" if lifted else "the most restrictive stands"
        if (first, second) == ("allowed", "allowed"):
            why = "nothing disallows it"
        lines.append(f"| {one}: {first} | {other}: {second} | {outcome.action} | {why} |")
    return "\n".join(lines)


_SAYINGS = ("allowed", "flag", "block")


def _pairs() -> list[tuple[str, str]]:
    return [(a, b) for a in LEVELS for b in LEVELS if _AUTHORITY[a] <= _AUTHORITY[b]]


def _finding(policy: str, level: str, says: str) -> Finding:
    if says == "allowed":
        return Finding(policy, level, "allowed", "allow", "example")
    return Finding(policy, level, "disallowed", says, "example")
