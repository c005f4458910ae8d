"""Texts against all policies of a bundle: what ran, what did not and why, and one action.

No Django, and nothing is asked of the database: a bundle holds all that is needed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

from apps.guardrails import gate
from apps.guardrails.checks.interface import Span, Subject, merged
from apps.guardrails.configuration import CLASSIFIER
from apps.guardrails.guarding import Check, Guardrail, Heard, look, score_all
from apps.guardrails.learning.panel import Panel
from apps.policies.specification import ACTIONS
from apps.runtime.decide import Finding, restricts_more
from apps.runtime.judgement import (
    Entry,
    Judgement,
    by_turn,
    reason_as_data,
    redactions,
    together,
    with_each_shadow,
)

DEADLINE = 0.150
SECONDS_A_KILOBYTE = 0.005
"""Seconds that a decision may take, and what each kilobyte of text adds to them; a check that has
not begun by then has failed.

A remote check has its own deadline, and the decision waits for it.
"""
GATE = "gate"
_LONGEST_REMOTE = 11.0
_AT_ONCE = 16


@cache
def _remote(workspace: UUID | None) -> ThreadPoolExecutor:
    """Where a workspace's remote checks wait: slow judges of one must not hold up another's."""
    return ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="judges")


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
    guardrail: Guardrail
    rollout: int = 100
    safe_completion: str = ""
    categories: tuple[str, ...] = ()
    guardrail_version: int = 0
    model_version: int | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a workspace serves: never changed, only replaced as a whole. `id` hashes what decides.

    Args:
        panel: the classifiers of all policies, by slug.
        stopped: whether the kill switch is on: everything runs, nothing acts.
        mappings: what categories mean in other taxonomies.
        kept_share, kept_days: of decisions whose text is kept, and for how long.
        workspace: whose it is; its remote checks wait for each other, not for those of others.
    """

    id: str
    guards: tuple[Guard, ...] = ()
    panel: Panel | None = None
    stopped: bool = False
    mappings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kept_share: float = 0.0
    kept_days: int = 0
    workspace: UUID | None = None

    @property
    def models(self) -> dict[str, int]:
        return {g.policy: g.model_version for g in self.guards if g.model_version is not None}


@dataclass(eq=False)
class _Round:
    """One policy while it is looked at: what its checks say comes in by their keys.

    Args:
        liftable: whether what it finds in one text may be lifted there, so that it says nothing
            of what was not looked for in the others.
        spared: checks that were not asked, and why.
    """

    guard: Guard
    mode: str
    why: str
    liftable: bool = False
    heard: dict[str, Heard] = field(default_factory=dict)
    spared: dict[str, str] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[Check, ...]:
        return self.guard.guardrail.checks

    def verdict(self) -> gate.Verdict:
        return self.guard.guardrail.verdict(self.heard)

    def matters(self, check: Check) -> bool:
        """Whether what this check has not said could still change what the policy asks for.

        It does not where the gate stays shut whatever it says, nor where something stricter was
        found already and stands. Of two that redact, each redacts its own places.
        """
        if check.advisory or check.polarity == "allowed":
            return True
        fires = self.verdict().fires
        if fires is None:
            return True
        if fires and self.liftable:
            return True
        asked = [self._asks(c) for c in self.checks if self._speaks(c)]
        if self._gated:  # the gate speaks for itself
            asked.append(self.guard.action)
        strictest = max(asked, key=ACTIONS.index, default="allow")
        stricter = restricts_more(self._asks(check), strictest)
        return fires and (stricter or self._asks(check) == strictest == "redact")

    @property
    def _gated(self) -> bool:
        return self.guard.guardrail.gate.kind != "any"

    def _asks(self, check: Check) -> str:
        """What a finding of the check asks for; together with others at least the policy's."""
        both = (check.action, self.guard.action) if self._gated else (check.action,)
        return max(both, key=ACTIONS.index)

    def undecided(self) -> bool:
        """Whether a check that failed could have made the policy ask for more than it does.

        One that failed on some turns has said what it asks for; missing is only what it would
        have cut out of those turns, and what nothing would have lifted there.
        """
        for check in self.checks:
            heard = self.heard.get(check.key)
            if heard is None or check.advisory:
                continue
            if heard.partly and (self._asks(check) == "redact" or self.liftable):
                return True
            if heard.failed and self.matters(check):
                return True
        return False

    def _speaks(self, check: Check) -> bool:
        heard = self.heard.get(check.key)
        voting = not check.advisory and check.polarity == "disallowed"
        return voting and heard is not None and bool(heard.places)

    def entries(self) -> list[Entry]:
        return [self._entry(check, self.heard.get(check.key)) for check in self.checks]

    def _entry(self, check: Check, heard: Heard | None) -> Entry:
        guard = self.guard
        said = heard or Heard()
        status = "failed" if said.failed else "ran"
        why = said.failed or said.partly or self.why or ("exception" if said.excepted else "")
        if self.mode == "off":
            status, why = "skipped", self.why
        elif check.key in self.spared:
            status, why = "skipped", self.spared[check.key]
        return Entry(
            policy=guard.policy,
            policy_version=guard.policy_version,
            check=check.key,
            kind=check.kind,
            mode=self.mode,
            status=status,
            why=why,
            rule=check.rule,
            advisory=check.advisory,
            score=said.score if status == "ran" else None,
            threshold=check.threshold if status == "ran" else None,
            action=check.action if said.places else "",
            turn=said.turn,
            places=said.places,
            reason=said.reason,
            usage=said.usage,
        )

    def gate_places(self, turns: Sequence[int]) -> tuple[tuple[int, tuple[Span, ...]], ...]:
        """Where on these its voting checks found something; no spans where one cannot say."""
        places: dict[int, list[tuple[Span, ...]]] = {turn: [] for turn in turns}
        for check in self.checks:
            if self._speaks(check):
                for turn, spans in self.heard[check.key].places:
                    if turn in places:
                        places[turn].append(spans)
        return tuple(
            (turn, merged([span for spans in found for span in spans]) if all(found) else ())
            for turn, found in places.items()
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
        rollout_key: whose traffic this is, always on the same side of a rollout; what is judged
            stands in where none is given.
    """
    kilobytes = sum(len(subject.text) for subject in subjects) / 1000
    until = clock() + DEADLINE + SECONDS_A_KILOBYTE * kilobytes
    guards = [guard for guard in bundle.guards if stage in guard.stages]
    subjects = [subject.at(stage) for subject in subjects]
    scored, problem = _scored(bundle, guards, subjects)
    allowing = len(subjects) > 1 and any(
        check.polarity == "allowed" for guard in guards for check in guard.guardrail.checks
    )
    key = rollout_key or "\n".join(subject.text for subject in subjects)
    rounds = [_Round(guard, *_mode(bundle, guard, key), allowing) for guard in guards]
    acting_first = sorted(rounds, key=lambda one: one.mode != "enforce")
    for one, check in _in_turn(acting_first):
        if check.kind == CLASSIFIER and problem:
            one.heard[check.key] = Heard(failed=check.problem or problem)
        elif check.needs_call and not any(subject.calls for subject in subjects):
            _without_call(one, check, stage)
        elif check.remote and one.why == "kill_switch":
            one.spared[check.key] = one.why  # nobody waits for a judge while nothing may act
        elif check.remote and check.evaluate is not None:
            continue
        elif clock() > until and check.evaluate is not None:
            one.heard[check.key] = Heard(failed="deadline")
        else:
            one.heard[check.key] = look(one.guard.guardrail, check, scored, bundle.panel)
    _ask(bundle, acting_first, scored)
    return _conclude(rounds, subjects)


def _in_turn(rounds: Sequence[_Round]) -> Iterator[tuple[_Round, Check]]:
    """Every check that is to look, those that are only told last: they take nobody's time."""
    for advisory in (False, True):
        for one in rounds:
            if one.mode != "off":
                yield from ((one, check) for check in one.checks if check.advisory == advisory)


def _without_call(one: _Round, check: Check, stage: str) -> None:
    """A check of tool calls before texts: it has failed where a call should have come."""
    if stage == "tool_call":
        one.heard[check.key] = Heard(failed="no_tool_call")
    else:
        one.heard[check.key] = Heard(score=0.0)
        one.spared[check.key] = "no_tool_call"


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
    asked = [c for guard in guards if guard.mode != "off" for c in guard.guardrail.checks]
    if not any(check.kind == CLASSIFIER for check in asked):
        return list(subjects), ""
    try:
        return score_all(bundle.panel, subjects), ""
    except Exception:  # whatever it is, each policy says that it failed
        return list(subjects), "features_failed"


def _ask(bundle: Bundle, rounds: Sequence[_Round], subjects: Sequence[Subject]) -> None:
    """Remote checks, all at once, and only where they can still change their policy's verdict."""
    asked: list[tuple[_Round, Check, Future[Heard]]] = []
    until = time.monotonic() + _LONGEST_REMOTE
    for one in rounds:
        waiting = [c for c in one.checks if c.key not in one.heard and c.key not in one.spared]
        for check in waiting if one.mode != "off" else ():
            if one.mode == "enforce" and not one.matters(check):
                one.spared[check.key] = "short_circuited"
            else:
                future = _remote(bundle.workspace).submit(
                    look, one.guard.guardrail, check, subjects, bundle.panel, until
                )
                asked.append((one, check, future))
    for one, check, future in asked:
        try:
            one.heard[check.key] = future.result(timeout=max(0.0, until - time.monotonic()))
        except TooLate:
            future.cancel()
            one.heard[check.key] = Heard(failed="deadline")


def _conclude(rounds: Sequence[_Round], subjects: Sequence[Subject]) -> Judgement:
    found: dict[Finding, Entry] = {}
    shadows: dict[str, dict[Finding, Entry]] = {}
    failed = []
    receipt: list[Entry] = []
    scores = {}
    for one in rounds:
        entries = one.entries()
        verdict = one.verdict()
        if one.guard.guardrail.gate.kind != "any" and one.mode != "off":
            entries.append(_gate_entry(one, verdict))
        receipt += entries
        if one.mode == "off":
            continue
        if verdict.score is not None:
            scores[one.guard.policy] = verdict.score
        asks = _findings(one, verdict, entries)
        if one.mode == "shadow" and asks:
            shadows[one.guard.policy] = asks
        if one.mode == "enforce":
            found |= asks
            if verdict.fires is None or one.undecided():
                failed.append(one.guard)
    outcomes = by_turn(found, len(subjects))
    outcome = together(outcomes)
    acting = [one for one in rounds if one.mode == "enforce"]
    # of an advisory check nothing is missed that could act
    codes = {
        entry.why
        for entry in receipt
        if (entry.status, entry.mode, entry.advisory) == ("failed", "enforce", False)
    }
    codes |= {one.why for one in rounds if one.why == "kill_switch"}
    codes |= {
        one.heard[check.key].partly
        for one in acting
        for check in one.checks
        if not check.advisory and check.key in one.heard
    } - {""}
    finished = not failed or outcome.action == "block"
    closed = any(guard.on_failure == "closed" for guard in failed)
    action = "block" if closed and not finished else outcome.action
    output: tuple[str, ...] | None = None
    if action == "rewrite":
        decided = outcome.reasons[0].finding.policy
        output = (next(r.guard for r in rounds if r.guard.policy == decided).safe_completion,)
    elif action == "redact":
        output = redactions(outcomes, found, subjects)
    return Judgement(
        action=action,
        finished=finished,
        failed=tuple(guard.policy for guard in failed),
        degraded=tuple(sorted(codes)),
        reasons=tuple(reason_as_data(reason, found[reason.finding]) for reason in outcome.reasons),
        receipt=tuple(receipt),
        output=output,
        scores=scores,
        would=with_each_shadow(shadows, found, len(subjects)),
    )


def _of_turn(one: _Round, entry: Entry, turn: int) -> Entry:
    """A line of the receipt for another text than the one that it tells most of."""
    heard = one.heard.get(entry.check)  # a gate is not heard
    score = heard.scores[turn] if heard is not None and heard.scores else entry.score
    return entry._replace(turn=turn, score=score, reason="")


def _gate_entry(one: _Round, verdict: gate.Verdict) -> Entry:
    """A gate that is more than "any of them" has a line of its own."""
    guard, rules = one.guard, one.guard.guardrail.gate
    status, why = "ran", one.why
    if verdict.fires is None:
        spared = one.why == "kill_switch" and one.spared
        status, why = ("skipped", one.why) if spared else ("failed", "gate_undecided")
    return Entry(
        policy=guard.policy,
        policy_version=guard.policy_version,
        check=GATE,
        kind=rules.kind,
        mode=one.mode,
        status=status,
        why=why,
        score=verdict.score,
        threshold=rules.threshold if rules.kind == "weighted" else None,
        action=guard.action if verdict.fires else "",
        places=one.gate_places(verdict.turns),
    )


def _findings(one: _Round, verdict: gate.Verdict, entries: Sequence[Entry]) -> dict[Finding, Entry]:
    """What the policy says to conflict resolution.

    On the texts where the gate fires, every check that found something speaks for its rule; what
    an advisory check found does not count. A check of an allowed rule needs no gate.
    """
    polarity = {check.key: check.polarity for check in one.checks}
    found = {}
    for entry in entries:
        side = polarity.get(entry.check, "disallowed")
        if not entry.action or entry.advisory:
            continue
        if side == "disallowed":
            places = tuple(place for place in entry.places if place[0] in verdict.turns)
            if not places:
                continue
            entry = entry._replace(places=places)
            if entry.turn not in verdict.turns:
                entry = _of_turn(one, entry, places[0][0])
        finding = Finding(
            entry.policy, one.guard.level, side, entry.action, entry.check, entry.rule
        )
        found[finding] = entry
    return found
