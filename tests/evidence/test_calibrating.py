"""A weighted gate's score becomes a probability of the audit labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apps.base.problems import Problem
from apps.evidence import calibrating
from apps.evidence.effects import labelled_texts
from apps.evidence.services import audit_labels
from apps.guardrails import configuring
from apps.guardrails.assembling import standing
from apps.guardrails.configuration import stored
from apps.guardrails.guarding import verdict_on
from apps.policies.permissions import load_policy
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
CLASSIFIER = {"key": "classifier", "kind": "classifier", "weight": 2.0}
WORDS = {"key": "words", "kind": "keywords", "settings": {"words": ["tablets", "mg", "dose"]}}
WEIGHTED = {"kind": "weighted", "threshold": 0.5}


def draft(actor: Any, policy: Any, *checks: dict[str, Any], gate: Any = WEIGHTED) -> None:
    content = {"checks": list(checks), "gate": gate}
    configuring.save_guardrail_draft(actor, policy=policy, content=content, revision=None)


def test_it_promises_as_many_violations_as_there_are(live) -> None:
    actor, policy = live
    draft(actor, policy, CLASSIFIER, WORDS)
    fitted = calibrating.calibrate_gate(actor, policy=policy)
    guards = standing(policy)
    guardrail = guards.guardrail(configuration=stored(configuring.draft_of(policy)[0]))
    labelled = labelled_texts(audit_labels(policy))
    scores = [verdict_on(guardrail, subject, guards.panel).score for subject, _ in labelled]
    assert fitted.labels == len(labelled)
    # Platt's smoothed targets move the sum by less than one label a side
    assert abs(np.sum(scores) - sum(label.violates for _, label in labelled)) < 2


def test_it_is_saved_in_the_draft_and_published_with_it(live) -> None:
    actor, policy = live
    draft(actor, policy, CLASSIFIER, WORDS)
    fitted = calibrating.calibrate_gate(actor, policy=policy)
    version = configuring.publish_guardrail(actor, policy=policy)
    assert version.content["gate"]["slope"] == fitted.slope > 0


def test_a_gate_that_is_not_weighted_is_refused(live) -> None:
    actor, policy = live
    draft(actor, policy, CLASSIFIER, WORDS, gate={"kind": "any"})
    with pytest.raises(Problem, match="weighted"):
        calibrating.calibrate_gate(actor, policy=policy)


def test_checks_that_find_nothing_cannot_be_calibrated(live) -> None:
    actor, policy = live
    draft(actor, policy, {**WORDS, "settings": {"words": ["zyxwvut"]}})
    with pytest.raises(Problem, match="does not rise"):
        calibrating.calibrate_gate(actor, policy=policy)


def test_too_few_labels_are_told_with_how_many_more() -> None:
    actor = factories.make_member(factories.make_workspace())
    policy = load_policy(actor, factories.make_policy(actor).slug)
    draft(actor, policy, WORDS)
    with pytest.raises(Problem, match="10 more"):
        calibrating.calibrate_gate(actor, policy=policy)


def form(*, weight: str) -> dict[str, str]:
    return {
        "checks-1-kind": "keywords", "checks-1-key": "words", "checks-1-weight": weight,
        "checks-1-words": "tablets\nmg\ndose", "gate-kind": "weighted", "gate-threshold": "0.7",
        "save": "1",
    }  # fmt: skip


@pytest.mark.parametrize(("weight", "kept"), [("1", True), ("3", False)])
def test_the_editor_keeps_it_while_the_checks_are_the_same(live, weight: str, kept: bool) -> None:
    actor, policy = live
    page, place = factories.page_client(actor), f"/policies/{policy.slug}/guardrail/checks/"
    page.post(place, form(weight="1"))
    fitted = calibrating.calibrate_gate(actor, policy=policy)
    assert page.post(place, form(weight=weight)).status_code == 302
    gate = configuring.draft_of(policy)[0]["gate"]
    assert (gate["threshold"], gate["slope"] == fitted.slope) == (0.7, kept)


def test_the_page_calibrates_and_says_so(live) -> None:
    actor, policy = live
    draft(actor, policy, CLASSIFIER, WORDS)
    page, place = factories.page_client(actor), f"/policies/{policy.slug}/guardrail/publish/"
    answer = page.post(place, {"calibrate": "1"}, follow=True).content.decode()
    assert "Calibrated on" in answer
    assert "becomes the probability" in answer
