"""From what checks found to a judgement: turn by turn, then all turns together. No Django."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

from apps.guardrails.checks.interface import UNUSED, Span, Subject, Usage, merged
from apps.policies.specification import ACTIONS
from apps.runtime.decide import Finding, Outcome, Reason, decide, weight

REDACTED = "[redacted]"


class Entry(NamedTuple):
    """A line of the receipt: one check of one policy, and whether it ran.

    Args:
        mode: off, shadow or enforce, as it was for this text.
        status: ran, skipped or failed.
        why: what skipped it or made it fail, or why an enforced policy did not act; else "".
        action: what it asks for, also in shadow; "" when it found nothing.
        turn: the place of the text it found most in, among those that were given.
        places: every text it found something in, and where, in code points; no spans where it
            cannot say.
        usage: of a remote check: what asking came to.
    """

    policy: str
    policy_version: int
    check: str
    kind: str
    mode: str
    status: str
    why: str = ""
    rule: str = ""
    advisory: bool = False
    score: float | None = None
    threshold: float | None = None
    action: str = ""
    turn: int | None = None
    places: tuple[tuple[int, tuple[Span, ...]], ...] = ()
    reason: str = ""
    usage: Usage = UNUSED


@dataclass(frozen=True)
class Judgement:
    """A decision.

    Args:
        action: what to do; when not finished, what the failed policies advise.
        finished: False when an enforced policy failed and nothing found before blocks anyway.
        failed: the policies that did.
        degraded: why this is less than a whole judgement, in codes; empty when it is whole. What
            failed in a policy that does not act stands in the receipt alone.
        output: the texts as they may pass where the action is redact or rewrite.
        scores: each policy's c where it is known, whatever its mode.
        would: of each policy in shadow that has a say, what it asks for, and what the action were
            if it was enforced.
    """

    action: str
    finished: bool
    degraded: tuple[str, ...]
    reasons: tuple[dict[str, Any], ...]
    failed: tuple[str, ...] = ()
    receipt: tuple[Entry, ...] = field(default=())
    output: tuple[str, ...] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    would: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def receipt_as_data(self) -> list[dict[str, Any]]:
        return [
            {**entry._asdict(), "places": _places(entry), "usage": _usage(entry)}
            for entry in self.receipt
        ]


def with_each_shadow(
    shadows: Mapping[str, Mapping[Finding, Entry]], found: Mapping[Finding, Entry], turns: int
) -> dict[str, tuple[str, str]]:
    """What each policy in shadow asks for, and the action with it enforced, where it has a say."""
    would = {}
    for policy, asks in shadows.items():
        outcome = together(by_turn({**found, **asks}, turns))
        standing = [r for r in outcome.reasons if not r.lifted_by and r.finding.action != "allow"]
        own = [r.finding.action for r in standing if r.finding.policy == policy]
        if own:
            would[policy] = max(own, key=ACTIONS.index), outcome.action
    return would


def by_turn(found: Mapping[Finding, Entry], turns: int) -> list[Outcome]:
    """Conflict resolution turn by turn: what is allowed in one turn lifts nothing in another.

    A finding that cannot say where is in all of them.
    """
    if not found:
        return [Outcome("allow", ())]
    where = {finding: {turn for turn, _ in entry.places} for finding, entry in found.items()}
    # most turns of a long conversation are alike: each kind of them is decided once
    decided: dict[tuple[bool, ...], Outcome] = {}
    outcomes = []
    for turn in range(turns):
        here = tuple(not at or turn in at for at in where.values())
        if here not in decided:
            decided[here] = decide(compress(where, here))
        outcomes.append(decided[here])
    return outcomes


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The most restrictive of all turns'. A finding stands if it stands in any of them."""
    lifted: dict[Finding, list[str]] = {}
    for outcome in {id(outcome): outcome for outcome in outcomes}.values():
        for reason in outcome.reasons:
            lifted.setdefault(reason.finding, []).append(reason.lifted_by)
    reasons = [Reason(f, "" if "" in by else by[0]) for f, by in lifted.items()]
    return Outcome(
        max((outcome.action for outcome in outcomes), key=ACTIONS.index),
        tuple(sorted(reasons, key=weight)),
    )


def stands(reason: Mapping[str, Any]) -> bool:
    """Whether a reason, as data, asks for something that nothing lifted."""
    return not reason["lifted_by"] and reason["action"] != "allow"


def reason_as_data(reason: Reason, entry: Entry) -> dict[str, Any]:
    return {
        "policy": entry.policy,
        "policy_version": entry.policy_version,
        "rule": entry.rule or None,
        "check": entry.check,
        "score": entry.score,
        "threshold": entry.threshold,
        "action": entry.action,
        "level": reason.finding.level,
        "turn": entry.turn,
        "spans": [list(span) for span in dict(entry.places).get(entry.turn or 0, ())],
        "places": _places(entry),
        "reason": entry.reason,
        "lifted_by": reason.lifted_by or None,
    }


def _usage(entry: Entry) -> dict[str, float] | None:
    return entry.usage._asdict() if entry.usage != UNUSED else None


def _places(entry: Entry) -> list[dict[str, Any]]:
    return [{"turn": turn, "spans": list(map(list, spans))} for turn, spans in entry.places]


def redactions(
    outcomes: Sequence[Outcome], found: Mapping[Finding, Entry], subjects: Sequence[Subject]
) -> tuple[str, ...]:
    """The texts as they may pass: of each, what stands in its turn is cut out.

    A finding that cannot say where leaves nothing of its text.
    """
    where = {finding: dict(entry.places) for finding, entry in found.items()}
    texts = []
    for turn, (subject, outcome) in enumerate(zip(subjects, outcomes, strict=True)):
        spans: list[Span] = []
        for reason in outcome.reasons:
            if reason.lifted_by or reason.finding.action != "redact":
                continue
            # what is found in a tool call cannot be cut out of its arguments
            places = where[reason.finding].get(turn) if not subject.calls else ()
            spans += places or [(0, len(subject.text))]
        # a call is no part of what is said
        said = subject.text if spans or not subject.beside else subject.text[: subject.beside]
        texts.append(redacted(said, spans))
    return tuple(texts)


def redacted(text: str, spans: Sequence[Span]) -> str:
    """The text with each span replaced; what is outside of them is untouched."""
    for start, end in reversed(merged(spans)):
        text = text[:start] + REDACTED + text[end:]
    return text
