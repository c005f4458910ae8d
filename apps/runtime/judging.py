"""Texts against all policies of a bundle: what ran, what did not and why, and one action.

No Django, and nothing is asked of the database: a bundle holds all that is needed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field, replace
from typing import Any

from apps.guardrails import exemptions, gate
from apps.guardrails.checks.interface import Evaluate, Found, Span, Subject, merged
from apps.guardrails.configuration import CLASSIFIER
from apps.guardrails.exemptions import Exemption
from apps.guardrails.gate import Gate, Vote
from apps.guardrails.learning.panel import Panel
from apps.runtime.decide import Finding, Outcome, Reason, decide

DEADLINE = 0.150
"""Seconds that a decision may take; what has not begun by then has failed.

A remote check has its own deadline, and the decision waits for it.
"""
REDACTED = "[redacted]"
GATE = "gate"
_LONGEST_REMOTE = 11.0
_remote = ThreadPoolExecutor(max_workers=32, thread_name_prefix="judges")


@dataclass(frozen=True, eq=False)
class Check:
    """A check of a policy as it is served.

    Args:
        polarity: of the rule it speaks for; what a check of an allowed rule finds, allows.
        action: what its rule asks for, or the most restrictive of the policy's.
        evaluate: None where it could not be built; `problem` says why.
    """

    key: str
    kind: str
    action: str
    evaluate: Evaluate | None
    rule: str = ""
    polarity: str = "disallowed"
    threshold: float = 0.5
    weight: float = 1.0
    advisory: bool = False
    remote: bool = False
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Guard:
    """One policy as it is served.

    Args:
        action: the most restrictive action of the policy's disallowed rules, for which its
            classifier and its gate speak together.
        rollout: percent of traffic it acts on where it is enforced.
    """

    policy: str
    policy_version: int
    level: str
    stages: tuple[str, ...]
    mode: str
    on_failure: str
    action: str
    checks: tuple[Check, ...]
    gate: Gate = field(default_factory=Gate)
    exemptions: tuple[Exemption, ...] = ()
    rollout: int = 100
    safe_completion: str = ""
    guardrail_version: int = 0
    model_version: int | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a workspace serves: never changed, only replaced as a whole. `id` hashes all of it.

    Args:
        panel: the classifiers of all policies, by slug.
        key: the workspace's, for texts that are excepted by their hash.
        stopped: whether the kill switch is on: everything runs, nothing acts.
        kept_share, kept_days: of decisions whose text is kept, and for how long.
    """

    id: str
    guards: tuple[Guard, ...] = ()
    panel: Panel | None = None
    key: bytes = b""
    stopped: bool = False
    kept_share: float = 0.0
    kept_days: int = 0

    @property
    def models(self) -> dict[str, int]:
        return {g.policy: g.model_version for g in self.guards if g.model_version is not None}


@dataclass(frozen=True)
class Entry:
    """A line of the receipt: one check of one policy, and whether it ran.

    Args:
        mode: off, shadow or enforce, as it was for this text.
        status: ran, skipped or failed.
        why: what skipped it or made it fail, or why an enforced policy did not act; else "".
        action: what it asks for, also in shadow; "" when it found nothing.
        turn: the place of the text it found most in, among those that were given.
        places: every text it found something in, and where, in code points; no spans where it
            cannot say.
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


@dataclass(frozen=True)
class Judgement:
    """A decision.

    Args:
        action: what to do; when not finished, what the failed policies advise.
        finished: False when an enforced policy failed and nothing found before blocks anyway.
        degraded: why this is less than a whole judgement, in codes; empty when it is whole.
        output: the texts as they may pass where the action is redact or rewrite.
        scores: each policy's c where it is known, whatever its mode.
    """

    action: str
    finished: bool
    degraded: tuple[str, ...]
    reasons: tuple[dict[str, Any], ...]
    receipt: tuple[Entry, ...] = field(default=())
    output: tuple[str, ...] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    def receipt_as_data(self) -> list[dict[str, Any]]:
        # vars, for dataclasses.asdict copies deeply and takes ten times as long
        return [{**vars(entry), "places": _places(entry)} for entry in self.receipt]


@dataclass(eq=False)
class _Round:
    """One policy while it is looked at: the entries of its checks come in by key."""

    guard: Guard
    mode: str
    why: str
    entries: dict[str, Entry] = field(default_factory=dict)

    def verdict(self) -> gate.Verdict:
        """The gate's, on what is known by now."""
        return gate.combine(
            self.guard.gate, [_vote(c, self.entries.get(c.key)) for c in self._voters]
        )

    @property
    def _voters(self) -> list[Check]:
        """Advisory checks are told only, and what allows does not vote on what to disallow."""
        return [c for c in self.guard.checks if not c.advisory and c.polarity == "disallowed"]

    def entry(self, check: Check, status: str, why: str = "", **said: Any) -> Entry:
        guard = self.guard
        return Entry(
            policy=guard.policy,
            policy_version=guard.policy_version,
            check=check.key,
            kind=check.kind,
            mode=self.mode,
            status=status,
            why=why or self.why,
            rule=check.rule,
            advisory=check.advisory,
            **said,
        )


def judge(
    bundle: Bundle,
    *,
    stage: str,
    subjects: Sequence[Subject],
    rollout_key: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Judgement:
    """Judge texts of one stage: every turn of a conversation, or the one output.

    A check's score is its highest over the texts. Whatever fails is told, and never passes for
    a check that found nothing.

    Args:
        rollout_key: whose traffic this is; the same key is always on the same side of a rollout.
    """
    until = clock() + DEADLINE
    guards = [guard for guard in bundle.guards if stage in guard.stages]
    scored, problem = _scored(bundle, guards, subjects)
    rounds = [_Round(guard, *_mode(bundle, guard, rollout_key)) for guard in guards]
    for one in rounds:
        for check in one.guard.checks:
            if one.mode == "off":
                one.entries[check.key] = one.entry(check, "skipped")
            elif check.evaluate is None:
                one.entries[check.key] = one.entry(check, "failed", check.problem)
            elif clock() > until and not check.remote:
                one.entries[check.key] = one.entry(check, "failed", "deadline")
            elif check.kind == CLASSIFIER and problem:
                one.entries[check.key] = one.entry(check, "failed", problem)
            elif not check.remote:
                one.entries[check.key] = _look(bundle, one, check, scored)
    _ask(bundle, rounds, scored)
    return _conclude(rounds, subjects)


def _mode(bundle: Bundle, guard: Guard, rollout_key: str) -> tuple[str, str]:
    """How a policy takes part, and why it does not act where it is enforced otherwise."""
    if guard.mode == "off":
        return "off", "mode_off"
    if guard.mode == "shadow":
        return "shadow", ""
    if bundle.stopped:
        return "shadow", "kill_switch"
    if guard.rollout < 100 and share_of(guard.policy, rollout_key) >= guard.rollout:
        return "shadow", "rollout"
    return "enforce", ""


def share_of(policy: str, rollout_key: str) -> float:
    """Where a key falls in a policy's rollout, in [0, 100): always at the same place."""
    digest = hashlib.sha256(f"rollout\0{policy}\0{rollout_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


def _scored(
    bundle: Bundle, guards: Sequence[Guard], subjects: Sequence[Subject]
) -> tuple[list[Subject], str]:
    """The subjects with all classifiers' scores, worked out once; and why there are none."""
    asked = any(
        check.kind == CLASSIFIER and guard.mode != "off"
        for guard in guards
        for check in guard.checks
    )
    if not asked or bundle.panel is None:
        return list(subjects), ""
    try:
        scores = bundle.panel.score([subject.text for subject in subjects]).tolist()
    except Exception:  # whatever it is, each policy says that it failed
        return list(subjects), "features_failed"
    names = bundle.panel.names
    return [
        replace(subject, scores=dict(zip(names, row, strict=True)))
        for subject, row in zip(subjects, scores, strict=True)
    ], ""


def _look(bundle: Bundle, one: _Round, check: Check, subjects: Sequence[Subject]) -> Entry:
    """What a check finds: the highest score of all turns, exceptions taken out."""
    assert check.evaluate is not None
    highest, turn, excepted = Found(0.0), 0, False
    places = []
    try:
        for place, subject in enumerate(subjects):
            said = check.evaluate(subject)
            if not said.failed and said.score >= check.threshold:
                after = _excepted(bundle, one.guard, check, subject, said)
                excepted = excepted or after is not said
                said = after
            if said.failed:
                return one.entry(check, "failed", said.failed)
            if said.score >= check.threshold:
                places.append((place, said.spans))
            if place == 0 or said.score > highest.score:
                highest, turn = said, place
    except Exception:  # a check that cannot judge must not take the others with it
        return one.entry(check, "failed", f"{check.kind}_failed")
    return one.entry(
        check,
        "ran",
        "exception" if excepted and not places else "",
        score=highest.score,
        threshold=check.threshold,
        action=check.action if places else "",
        turn=turn if places else None,
        places=tuple(places),
        reason=highest.reason if places else "",
    )


def _excepted(bundle: Bundle, guard: Guard, check: Check, subject: Subject, said: Found) -> Found:
    """What remains of a finding once the exceptions to its rule are taken out."""
    now = time.time()
    standing = [e for e in guard.exemptions if e.rule == check.rule and e.expires > now]
    if not standing:
        return said
    if exemptions.lets_through(standing, bundle.key, subject.text):
        return Found(0.0)
    text = exemptions.blanked(standing, subject.text)
    if text == subject.text:
        return said
    assert check.evaluate is not None
    without = replace(subject, text=text, scores={})
    if check.kind == CLASSIFIER:
        (without,), problem = _scored(bundle, [guard], [without])
        if problem:
            return Found(0.0, failed=problem)
    return check.evaluate(without)


def _ask(bundle: Bundle, rounds: Sequence[_Round], subjects: Sequence[Subject]) -> None:
    """Remote checks, all at once, and only where they can still change their policy's verdict."""
    asked: list[tuple[_Round, Check, Future[Entry]]] = []
    for one in rounds:
        for check in one.guard.checks:
            if check.key in one.entries:
                continue
            if not check.advisory and one.verdict().fires is not None and one.mode != "shadow":
                one.entries[check.key] = one.entry(check, "skipped", "short_circuited")
            else:
                future = _remote.submit(_look, bundle, one, check, subjects)
                asked.append((one, check, future))
    until = time.monotonic() + _LONGEST_REMOTE
    for one, check, future in asked:
        try:
            entry = future.result(timeout=max(0.0, until - time.monotonic()))
        except TooLate:
            future.cancel()
            entry = one.entry(check, "failed", "deadline")
        one.entries[check.key] = entry


def _vote(check: Check, entry: Entry | None) -> Vote:
    if entry is None or entry.status != "ran":
        return Vote(None, weight=check.weight)
    return Vote(entry.score, bool(entry.action), check.weight)


def _conclude(rounds: Sequence[_Round], subjects: Sequence[Subject]) -> Judgement:
    found: dict[Finding, Entry] = {}
    failed = []
    receipt: list[Entry] = []
    scores = {}
    for one in rounds:
        entries = [one.entries[check.key] for check in one.guard.checks]
        verdict = one.verdict()
        if one.guard.gate.kind != "any" and one.mode != "off":
            entries.append(_gate_entry(one, verdict))
        receipt += entries
        if one.mode == "off":
            continue
        if verdict.score is not None:
            scores[one.guard.policy] = verdict.score
        if one.mode == "enforce":
            found |= _findings(one, verdict, entries)
            allowing = [c for c in one.guard.checks if c.polarity == "allowed"]
            lost = any(one.entries[check.key].status == "failed" for check in allowing)
            if verdict.fires is None or lost:
                failed.append(one.guard)
    outcome = decide(found)
    codes = {entry.why for entry in receipt if entry.status == "failed"}
    codes |= {entry.why for entry in receipt if entry.why == "kill_switch"}
    finished = not failed or outcome.action == "block"
    closed = any(guard.on_failure == "closed" for guard in failed)
    return Judgement(
        action="block" if closed and not finished else outcome.action,
        finished=finished,
        degraded=tuple(sorted(codes)),
        reasons=tuple(_reason(reason, found[reason.finding]) for reason in outcome.reasons),
        receipt=tuple(receipt),
        output=_output(outcome, found, {r.guard.policy: r.guard for r in rounds}, subjects),
        scores=scores,
    )


def _gate_entry(one: _Round, verdict: gate.Verdict) -> Entry:
    """A gate that is more than "any of them" has a line of its own."""
    rules = one.guard.gate
    whole = Check(GATE, rules.kind, one.guard.action, None)
    if verdict.fires is None:
        return one.entry(whole, "failed", "gate_undecided")
    return one.entry(
        whole,
        "ran",
        score=verdict.score,
        threshold=rules.threshold if rules.kind == "weighted" else None,
        action=one.guard.action if verdict.fires else "",
    )


def _findings(one: _Round, verdict: gate.Verdict, entries: Sequence[Entry]) -> dict[Finding, Entry]:
    """What the policy says to conflict resolution.

    Where the gate fires, every check that found something speaks for its rule; what an advisory
    check found does not count. A check of an allowed rule needs no gate.
    """
    polarity = {check.key: check.polarity for check in one.guard.checks}
    found = {}
    for entry in entries:
        side = polarity.get(entry.check, "disallowed")
        if not entry.action or entry.advisory:
            continue
        if side == "disallowed" and verdict.fires is not True:
            continue
        finding = Finding(
            entry.policy, one.guard.level, side, entry.action, entry.check, entry.rule
        )
        found[finding] = entry
    return found


def _reason(reason: Reason, entry: Entry) -> dict[str, Any]:
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


def _places(entry: Entry) -> list[dict[str, Any]]:
    return [{"turn": turn, "spans": list(map(list, spans))} for turn, spans in entry.places]


def _output(
    outcome: Outcome,
    found: Mapping[Finding, Entry],
    guards: Mapping[str, Guard],
    subjects: Sequence[Subject],
) -> tuple[str, ...] | None:
    """What may pass instead: redacted texts, or the safe completion of the policy that decided.

    A finding that cannot say where leaves nothing of its text.
    """
    if outcome.action == "rewrite":
        return (guards[outcome.reasons[0].finding.policy].safe_completion,)
    if outcome.action != "redact":
        return None
    spans: dict[int, list[Span]] = {}
    for reason in outcome.reasons:
        entry = found[reason.finding]
        if reason.lifted_by or entry.action != "redact":
            continue
        for turn, places in entry.places or [(t, ()) for t in range(len(subjects))]:
            whole = (0, len(subjects[turn].text))
            spans.setdefault(turn, []).extend(places or [whole])
    return tuple(redacted(s.text, spans.get(turn, [])) for turn, s in enumerate(subjects))


def redacted(text: str, spans: Sequence[Span]) -> str:
    """The text with each span replaced; what is outside of them is untouched."""
    for start, end in reversed(merged(spans)):
        text = text[:start] + REDACTED + text[end:]
    return text
