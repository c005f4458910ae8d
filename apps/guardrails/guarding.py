"""One policy's checks on texts, and what its gate makes of them. No Django.

Nothing is asked of the database: what is served holds all that is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from apps.guardrails import exemptions
from apps.guardrails.checks.interface import NOTHING, UNUSED, Evaluate, Found, Span, Subject, Usage
from apps.guardrails.checks.matching import TooMuchWork
from apps.guardrails.configuration import CLASSIFIER
from apps.guardrails.exemptions import Exemption
from apps.guardrails.gate import Gate, Verdict, Vote, combine
from apps.guardrails.learning.panel import Panel


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
    needs_call: bool = False
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Guardrail:
    """A policy's runtime test.

    Args:
        key: the workspace's, for texts that are excepted by their hash.
    """

    checks: tuple[Check, ...]
    gate: Gate = field(default_factory=Gate)
    exemptions: tuple[Exemption, ...] = ()
    key: bytes = b""

    @property
    def local(self) -> Guardrail:
        """The same without asking another machine.

        Where any check is enough the others are left as they are. A gate that counts or weighs
        would be another one without them, so there nobody knows what they would have said.
        """
        if self.gate.kind == "any":
            return replace(self, checks=tuple(check for check in self.checks if not check.remote))
        checks = (
            replace(one, evaluate=None, remote=False, problem="left_out") if one.remote else one
            for one in self.checks
        )
        return replace(self, checks=tuple(checks))

    @property
    def unexcepted(self) -> Guardrail:
        """The same without exceptions: they let through, and mend nothing."""
        return replace(self, exemptions=())

    def verdict(self, heard: Mapping[str, Heard]) -> Verdict:
        """The gate's, on what is known by now of its checks, by key; text by text.

        Advisory checks are told only, and what allows does not vote on what to disallow.
        """
        texts = max((len(one.scores) for one in heard.values()), default=1) or 1
        said = [(check, heard.get(check.key, _SILENT)) for check in self._voters]
        votes = [tuple([_vote(*one, place) for one in said]) for place in range(texts)]
        return combine(self.gate, votes)

    def found_by(self, heard: Mapping[str, Heard]) -> tuple[str, ...]:
        """The keys of the voting checks that found something."""
        return tuple(c.key for c in self._voters if heard.get(c.key, Heard()).places)

    @cached_property
    def _voters(self) -> list[Check]:
        return [c for c in self.checks if not c.advisory and c.polarity == "disallowed"]


class Heard(NamedTuple):
    """What a check said of texts.

    Args:
        failed: why it could not say; "" when it could.
        score: its highest over the texts.
        turn: the place of the text it found most in; None when it found nothing.
        places: every text it found something in, and where; no spans where it cannot say.
        excepted: whether it would have found something without the exceptions to its rule.
        partly: what failed on some of the texts, where it found something in another.
        usage: of a remote check, over the texts.
        scores: of each text, None where it failed; () where all have `score`.
        least: the places of the texts of which it looked at a part only: more may be there.
    """

    failed: str = ""
    score: float | None = None
    turn: int | None = None
    places: tuple[tuple[int, tuple[Span, ...]], ...] = ()
    reason: str = ""
    excepted: bool = False
    partly: str = ""
    usage: Usage = UNUSED
    scores: tuple[float | None, ...] = ()
    least: tuple[int, ...] = ()


_SILENT = Heard()


def score_all(panel: Panel | None, subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects with the classifiers' scores, all worked out together."""
    if panel is None:
        return list(subjects)
    scores = panel.score([subject.text for subject in subjects]).tolist()
    return [
        replace(subject, scores=dict(zip(panel.names, row, strict=True)))
        for subject, row in zip(subjects, scores, strict=True)
    ]


def look(
    guardrail: Guardrail,
    check: Check,
    subjects: Sequence[Subject],
    panel: Panel | None,
    until: float = math.inf,
) -> Heard:
    """What a check finds in any of the texts, the exceptions to its rule taken out.

    It never raises: a check that cannot judge must not take the others with it. Where it fails on
    one text and finds something in another, it has found something.

    Args:
        until: by `time.monotonic`, after which no further text is begun.
    """
    if check.evaluate is None:
        return Heard(failed=check.problem)
    highest, turn, excepted, failed, usage = NOTHING, 0, False, "", UNUSED
    places: list[tuple[int, tuple[Span, ...]]] = []
    least: list[int] = []
    scores: list[float | None] = [None] * len(subjects)
    try:
        for place, subject in enumerate(subjects):
            if time.monotonic() > until:
                failed = failed or "deadline"
                break
            said = check.evaluate(subject)
            usage = usage.plus(said.usage)
            if not said.failed and said.score >= check.threshold:
                after = _excepted(guardrail, check, subject, said, panel)
                if after is not said:
                    excepted, usage = True, usage.plus(after.usage)
                said = after
            if not 0 <= said.score <= 1:  # NaN would pass for a check that found nothing
                said = Found(0.0, failed=f"{check.kind}_failed")
            failed = failed or said.failed or said.partly
            if said.failed:
                continue
            scores[place] = said.score
            if said.partly:
                least.append(place)
            if said.score >= check.threshold:
                places.append((place, said.spans))
            if said.score > highest.score:
                highest, turn = said, place
    except TooMuchWork:
        failed = failed or "too_much_work"
    except Exception:  # whatever it is, its policy says that it failed
        failed = failed or f"{check.kind}_failed"
    heard = Heard(usage=usage, scores=tuple(scores), least=tuple(least))
    if places:
        return heard._replace(
            score=highest.score,
            turn=turn,
            reason=highest.reason,
            places=tuple(places),
            partly=failed,
        )
    if failed:
        return heard._replace(failed=failed)
    return heard._replace(score=highest.score, excepted=excepted)


def verdict_on(guardrail: Guardrail, subject: Subject, panel: Panel | None) -> Verdict:
    """What the whole guardrail says of one text, remote checks included."""
    return guardrail.verdict(heard_on(guardrail, [subject], panel))


def heard_on(
    guardrail: Guardrail, subjects: Sequence[Subject], panel: Panel | None
) -> dict[str, Heard]:
    """What every check of the guardrail says of the texts, by key."""
    scored = score_all(panel, subjects)
    return {c.key: look(guardrail, c, scored, panel) for c in guardrail.checks}


def _excepted(
    guardrail: Guardrail, check: Check, subject: Subject, said: Found, panel: Panel | None
) -> Found:
    """What remains of a finding once the exceptions to its rule are taken out."""
    now = time.time()
    standing = [e for e in guardrail.exemptions if e.rule == check.rule and e.expires > now]
    if not standing:
        return said
    if exemptions.lets_through(standing, guardrail.key, subject.text):
        return NOTHING
    text = exemptions.blanked(standing, subject.text)
    # what reaches beyond a phrase is more than the phrase: it would hide behind it
    if text == subject.text or exemptions.cut(said.spans, text, subject.text):
        return said
    assert check.evaluate is not None
    without = replace(subject, text=text)
    if check.kind == CLASSIFIER:
        (without,) = score_all(panel, [without])
    return check.evaluate(without)


def _vote(check: Check, heard: Heard, place: int) -> Vote:
    """Its vote on a text; None where it failed or was not asked yet."""
    score = heard.scores[place] if heard.scores else heard.score
    fired = score is not None and score >= check.threshold
    return Vote(score, fired, check.weight, place in heard.least)
