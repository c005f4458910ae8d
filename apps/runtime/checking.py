"""From a request to a recorded decision."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from apps.accounts.actor import Actor
from apps.accounts.models import Workspace
from apps.base.gate import check_text
from apps.base.ids import uuid7
from apps.base.invisible import says_nothing
from apps.base.problems import FieldError, Problem
from apps.guardrails.checks.interface import Subject
from apps.guardrails.contents import CONTENTS, subjects_of
from apps.runtime import bundles, texts
from apps.runtime.judgement import Judgement
from apps.runtime.judging import Bundle, judge
from apps.runtime.models import Decision, DecisionText
from apps.runtime.partitions import moment_of
from apps.runtime.recording import recorder, text_hash

STAGE = "moderation"
"""What stands for the stage of a text that came to /v1/moderations."""


@dataclass(frozen=True)
class Checked:
    """A judgement and where it is on record.

    Args:
        output: what may pass instead, in the shape of what was sent: one text or a list.
    """

    judgement: Judgement
    decision: Decision
    bundle: Bundle
    recorded: bool
    output: str | list[str] | None


def check(
    actor: Actor,
    *,
    stage: str,
    content: Mapping[str, Any],
    policies: Collection[str] | None = None,
    key: str = "",
) -> Checked:
    """Judge what a request holds by the workspace's policies (or those named) and record it.

    Args:
        content: exactly one of CONTENTS.
        key: whose traffic this is, for rollouts; what is judged stands in where none is given.

    Raises:
        Problem: 400 or 413 for texts that cannot be judged, 404 for a policy that does not exist,
            503 when nothing was ever read of the policies.
    """
    return check_with(
        actor, stage=stage, content=content, key=key, narrow=lambda b: _narrow(b, policies, stage)
    )


class Budget:
    """How long a request over many texts may go on, where remote checks are slow.

    A caller who waits longer has given up, and holds a thread that others need.
    """

    SECONDS = 30.0

    def __init__(self) -> None:
        self._until = time.monotonic() + self.SECONDS

    def spend(self) -> None:
        """Raise Problem when the time is up: what comes now was not judged, and is told so."""
        if time.monotonic() > self._until:
            raise Problem(
                f"Not judged: the texts before it took {self.SECONDS:.0f} s. Send it again.",
                code="out_of_time",
                status=503,
                extra={"action": "block", "degraded": True},
            )


def check_with(
    actor: Actor,
    *,
    stage: str,
    content: Mapping[str, Any],
    narrow: Callable[[Bundle], Bundle],
    key: str = "",
) -> Checked:
    """The same, by what `narrow` leaves of the bundle."""
    started = time.perf_counter()
    subjects = subjects_of(content, stage=stage)
    _check_texts(subjects, next(name for name in CONTENTS if name in content))
    served = bundles.served(actor.workspace)
    bundle = narrow(served.bundle)
    judgement = judge(bundle, stage=stage, subjects=subjects, rollout_key=key)
    if served.stale:
        judgement = replace(judgement, degraded=(*judgement.degraded, served.stale))
    made = uuid7()
    decision = Decision(
        id=made,
        workspace_id=actor.workspace.pk,
        at=moment_of(made),
        caller=actor.label,
        canary=actor.is_canary,
        stage=stage,
        action=judgement.action,
        finished=judgement.finished,
        degraded=list(judgement.degraded),
        bundle=served.bundle.id,
        text_hash=text_hash(actor.workspace, subjects),
        length=sum(len(subject.text) for subject in subjects),
        reasons=list(judgement.reasons),
        receipt=judgement.receipt_as_data(),
        latency_ms=round((time.perf_counter() - started) * 1000, 3),
    )
    decision.would = dict(judgement.would)
    kept = _kept_text(actor.workspace, served.bundle, decision, content)
    return Checked(
        judgement, decision, bundle, recorder.put(decision, kept), _shaped(judgement, content)
    )


def judged_subjects(
    workspace: Workspace, decision: Decision, content: Mapping[str, Any] | None
) -> list[Subject] | None:
    """What a decision judged: as it is sent again, or as it was kept; None when it is gone.

    Raises:
        Problem: 409 when what was sent is not what was judged.
    """
    known = content or texts.kept_content(workspace, decision.pk)
    if not known:
        return None
    subjects = subjects_of(known)
    # what we kept ourselves is what was judged
    if content is not None and text_hash(workspace, subjects) != bytes(decision.text_hash):
        raise Problem("This is not what the decision judged.", code="another_text", status=409)
    return subjects


def _check_texts(subjects: Sequence[Subject], name: str) -> None:
    if all(says_nothing(subject.text) for subject in subjects):
        errors = [FieldError(f"/{name}", "Send some text.")]
        raise Problem("There is no text to judge.", errors=errors)
    for subject in subjects:
        check_text(subject.text)


def _narrow(bundle: Bundle, policies: Collection[str] | None, stage: str) -> Bundle:
    if policies is None:
        return bundle
    there = {guard.policy for guard in bundle.guards if stage in guard.stages}
    unknown = [place for place, slug in enumerate(policies) if slug not in there]
    if unknown:
        raise Problem(
            "Some of the named policies do not guard this stage, or are not active here.",
            code="unknown_policy",
            status=404,
            errors=[
                FieldError(f"/policies/{place}", "No such active policy.") for place in unknown
            ],
        )
    return replace(bundle, guards=tuple(g for g in bundle.guards if g.policy in policies))


def _shaped(judgement: Judgement, content: Mapping[str, Any]) -> str | list[str] | None:
    if judgement.output is None:
        return None
    if judgement.action == "rewrite" or "text" in content or "tool_call" in content:
        return judgement.output[0]
    return list(judgement.output)


def _kept_text(
    workspace: Workspace, bundle: Bundle, decision: Decision, content: Mapping[str, Any]
) -> DecisionText | None:
    if decision.canary or random.random() >= bundle.kept_share:
        return None
    given = {name: content[name] for name in CONTENTS if name in content}
    return DecisionText(
        decision=decision.pk,
        workspace_id=workspace.pk,
        content=texts.encrypt(workspace, {"stage": decision.stage, **given}),
        expires_at=decision.at + timedelta(days=bundle.kept_days),
    )
