"""One text against all policies of a bundle: what ran, what did not and why, and one action.

No Django, and nothing is asked of the database: a bundle holds all that is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from apps.guardrails.learning import artifact, features
from apps.runtime.decide import Finding, Outcome, decide

CLASSIFIER = "classifier"
DEADLINE = 0.150
"""Seconds that a decision may take; what has not run by then has failed."""


@dataclass(frozen=True, eq=False)
class Guard:
    """One policy as it is served.

    Args:
        action: the most restrictive action of the policy's disallowed rules, for which its
            classifier speaks together.
        model: None when there is nothing to judge by; `problem` says why.
    """

    policy: str
    policy_version: int
    level: str
    stages: tuple[str, ...]
    mode: str
    on_failure: str
    action: str
    model: artifact.Model | None = None
    model_version: int | None = None
    model_sha256: str = ""
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a workspace serves: never changed, only replaced as a whole. `id` hashes all of it."""

    id: str
    guards: tuple[Guard, ...] = ()

    @property
    def models(self) -> dict[str, int]:
        return {g.policy: g.model_version for g in self.guards if g.model_version is not None}


@dataclass(frozen=True)
class Entry:
    """A line of the receipt: one check of one policy, and whether it ran.

    Args:
        status: ran, skipped or failed.
        why: what skipped it or made it fail; "" when it ran.
        action: what it asked for, also in shadow; "" when it found nothing.
        turn: the place of the text it found most in, among those that were given.
    """

    policy: str
    policy_version: int
    check: str
    mode: str
    status: str
    why: str = ""
    score: float | None = None
    threshold: float | None = None
    action: str = ""
    turn: int | None = None


@dataclass(frozen=True)
class Judgement:
    """A decision.

    Args:
        action: what to do; when not finished, what the failed policies advise.
        finished: False when an enforced policy failed and nothing found before blocks anyway.
        degraded: why this is less than a whole judgement, in codes; empty when it is whole.
    """

    action: str
    finished: bool
    degraded: tuple[str, ...]
    reasons: tuple[dict[str, Any], ...]
    receipt: tuple[Entry, ...] = field(default=())

    def receipt_as_data(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.receipt]


def judge(
    bundle: Bundle,
    *,
    stage: str,
    texts: Sequence[str],
    clock: Callable[[], float] = time.perf_counter,
) -> Judgement:
    """Judge texts of one stage: every turn of a conversation, or the one output.

    A policy's score is its highest over the texts. Whatever fails is told, and never passes for
    a policy that found nothing.
    """
    until = clock() + DEADLINE
    guards = [guard for guard in bundle.guards if stage in guard.stages]
    counts = _counts(guards, texts)
    receipt = [_look(guard, counts, clock() > until) for guard in guards]
    return _conclude(guards, receipt)


def _counts(guards: list[Guard], texts: Sequence[str]) -> features.Counts | None:
    """The texts' n-grams, once for all policies; None when they cannot be had, or nobody asks."""
    if not any(guard.model is not None and guard.mode != "off" for guard in guards):
        return None
    try:
        return features.extract(list(texts))
    except Exception:  # whatever it is, each policy says that it failed
        return None


def _look(guard: Guard, counts: features.Counts | None, late: bool) -> Entry:
    def entry(status: str, why: str = "", **found: Any) -> Entry:
        return Entry(
            guard.policy, guard.policy_version, CLASSIFIER, guard.mode, status, why, **found
        )

    if guard.mode == "off":
        return entry("skipped", "mode_off")
    if guard.model is None:
        return entry("failed", guard.problem)
    if late:
        return entry("failed", "deadline")
    if counts is None:
        return entry("failed", "features_failed")
    try:
        scores = artifact.score(guard.model, counts)
        turn = int(scores.argmax())
        score = float(scores[turn])
    except Exception:  # a policy that cannot judge must not take the others with it
        return entry("failed", "classifier_failed")
    flagged = score >= guard.model.threshold
    return entry(
        "ran",
        score=score,
        threshold=guard.model.threshold,
        action=guard.action if flagged else "",
        turn=turn if flagged else None,
    )


def _conclude(guards: list[Guard], receipt: list[Entry]) -> Judgement:
    found = {}
    failed = []
    for guard, entry in zip(guards, receipt, strict=True):
        if guard.mode != "enforce":
            continue
        if entry.status == "failed":
            failed.append(guard)
        elif entry.action:
            finding = Finding(guard.policy, guard.level, "disallowed", entry.action, entry.check)
            found[finding] = entry
    outcome = decide(found)
    codes = sorted({entry.why for entry in receipt if entry.status == "failed"})
    finished = not failed or outcome.action == "block"
    closed = any(guard.on_failure == "closed" for guard in failed)
    return Judgement(
        action="block" if closed and not finished else outcome.action,
        finished=finished,
        degraded=tuple(codes),
        reasons=_reasons(outcome, found),
        receipt=tuple(receipt),
    )


def _reasons(outcome: Outcome, found: dict[Finding, Entry]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "policy": reason.finding.policy,
            "policy_version": found[reason.finding].policy_version,
            "rule": reason.finding.rule or None,
            "check": reason.finding.check,
            "score": found[reason.finding].score,
            "threshold": found[reason.finding].threshold,
            "action": reason.finding.action,
            "level": reason.finding.level,
            "turn": found[reason.finding].turn,
            "spans": [],
            "lifted_by": reason.lifted_by or None,
        }
        for reason in outcome.reasons
    )
