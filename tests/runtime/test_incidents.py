"""A wrong decision on its way back: feedback, label, case, fix."""

from __future__ import annotations

from typing import Any

import pytest

from apps.labeling.labels import submit_label
from apps.labeling.permissions import load_own_lease
from apps.labeling.queue import next_item
from apps.policies.permissions import load_policy
from apps.runtime import bundles, texts
from apps.runtime.models import Incident
from tests.runtime.conftest import WORDS, Space, written

FALSE_BLOCK = "Moses had two tablets of stone."
BAD, MISSED = "Take two tablets.", "Swallow the whole strip."
STRICTER = {**WORDS, "settings": {"words": ["two tablets", "the whole strip"]}}


def decided(space: Space, text: str) -> Any:
    answer = space.check(text).json()
    return next(row for row in written() if str(row.pk) == answer["decision_id"])


def say(space: Space, decision: Any, **body: Any) -> Any:
    return space.api.post(f"decisions/{decision.pk}/feedback", body)


def label(space: Space, verdict: str) -> str:
    """Label whatever the queue gives first; returns its text."""
    policy = load_policy(space.admin, space.policy.slug)
    item = next_item(space.admin, policy=policy)
    assert item is not None
    submit_label(space.admin, lease=load_own_lease(space.admin, item.lease), verdict=verdict)
    return item.output


def incident(space: Space, text: str = MISSED, verdict: str = "wrongly_allowed") -> Incident:
    found = say(space, decided(space, text), verdict=verdict, text=text).json()
    return Incident.objects.get(pk=found["incidents"][0]["id"])


def test_feedback_opens_an_incident_and_puts_the_text_on_top_of_the_queue(space: Space) -> None:
    found = incident(space)
    assert (found.status, found.expected) == ("reproduced", "violates")
    assert label(space, "violates") == MISSED


def test_feedback_is_never_in_the_audit_stream(space: Space) -> None:
    found = incident(space)
    assert found.policy_example is not None
    assert found.policy_example.side == "train"
    given = label(space, "violates")
    from apps.labeling.models import Label

    assert given == MISSED
    assert Label.objects.get().stream == "learning"


def test_what_was_right_opens_nothing(space: Space) -> None:
    answer = say(space, decided(space, BAD), verdict="right")
    assert (answer.status_code, answer.json()["incidents"]) == (201, [])


def test_the_text_has_to_be_the_one_that_was_judged(space: Space) -> None:
    decision = decided(space, MISSED)
    answers = [
        say(space, decision, verdict="wrongly_allowed"),
        say(space, decision, verdict="wrongly_allowed", text="another"),
    ]
    assert [answer.json()["code"] for answer in answers] == ["text_needed", "another_text"]


def test_a_kept_text_need_not_be_sent_again(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    answer = say(space, decided(space, MISSED), verdict="wrongly_allowed")
    assert answer.status_code == 201


def test_a_label_that_agrees_confirms_it(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    found.refresh_from_db()
    assert found.status == "labelled"


def test_a_label_that_disagrees_dismisses_it(space: Space) -> None:
    found = incident(space)
    label(space, "complies")
    found.refresh_from_db()
    assert found.status == "dismissed"


def patch(space: Space, found: Incident, act: str, why: str = "seen in the wild") -> Any:
    return space.api.patch(f"incidents/{found.pk}", {"act": act, "why": why})


def test_no_case_before_a_person_has_labelled_it(space: Space) -> None:
    assert patch(space, incident(space), "make_case").json()["code"] == "not_labelled"


def test_only_the_version_that_passes_its_case_closes_an_incident(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    assert patch(space, found, "make_case").json()["status"] == "case"
    assert patch(space, found, "verify").json()["code"] == "not_fixed"
    space.guard(STRICTER)
    # told after the commit, which a test's transaction never reaches
    from apps.runtime.incidents import after_change

    after_change(space.policy, "guardrail 2")
    found.refresh_from_db()
    assert (found.status, found.fixed_by) == ("fixed", "guardrail 2")
    assert patch(space, found, "verify").json()["status"] == "verified"


def test_a_candidate_that_fails_a_case_does_not_go_live_and_names_it(space: Space) -> None:
    from apps.base.problems import Problem
    from apps.evidence.cases import add_case

    add_case(space.admin, policy=space.policy, text=BAD, expected="violates", why="the first one")
    harmless = {**WORDS, "settings": {"words": ["three tablets"]}}
    with pytest.raises(Problem, match="the first one") as refused:
        space.guard(harmless)
    assert refused.value.code == "case_failed"
    assert space.check(BAD).json()["action"] == "block"


def test_a_false_block_goes_the_same_way(space: Space) -> None:
    found = incident(space, FALSE_BLOCK, "wrongly_blocked")
    assert (found.expected, found.status) == ("complies", "reproduced")


def test_an_incident_with_a_case_cannot_be_dismissed(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    patch(space, found, "make_case")
    assert patch(space, found, "dismiss").json()["code"] == "has_case"


def test_the_same_text_is_one_incident(space: Space) -> None:
    assert incident(space).pk == incident(space).pk
