"""A wrong decision on its way back: feedback, label, case, fix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role
from apps.base.problems import Problem
from apps.evidence.cases import cases_of, withdraw_case
from apps.guardrails.checks.interface import Subject
from apps.labeling.labels import LabelEvent, submit_label, undo_label
from apps.labeling.permissions import load_own_lease
from apps.labeling.queue import next_item
from apps.policies.permissions import load_policy
from apps.runtime import bundles, canaries, incidents, texts
from apps.runtime.models import Incident
from tests import factories
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
    found.refresh_from_db()
    assert (found.status, found.fixed_by) == ("fixed", "guardrail 2")
    assert patch(space, found, "verify").json()["status"] == "verified"


def test_its_history_tells_who_or_what_moved_it(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    patch(space, found, "make_case")
    told = [(entry.action, entry.actor.split(" with ")[0]) for entry in incidents.history(found)]
    admin = space.admin.label
    assert told == [
        ("incident.open", admin),
        ("incident.reproduced", admin),
        ("incident.labelled", admin),
        ("incident.case", admin),
    ]


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


# --- the circumstances of a wrong decision stay with it --------------------------------------

CALLS = {"key": "calls", "kind": "tool_call", "settings": {"forbidden": ["rm"]}}
CALL = {"name": "rm", "arguments": {"path": "/tmp/a"}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told after a commit is told now: a test's transaction never commits."""
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, *_, **__: call())


@pytest.fixture
def calling(space: Space) -> Space:
    space.publish(stages=["tool_call"])
    space.guard(CALLS)
    return space


def wronged(space: Space, verdict: str, **content: Any) -> Incident:
    answer = space.api.post("check", {"stage": "tool_call", **content}).json()
    row = next(row for row in written() if str(row.pk) == answer["decision_id"])
    found = say(space, row, verdict=verdict, **content).json()
    return Incident.objects.get(pk=found["incidents"][0]["id"])


def test_a_blocked_call_is_fixed_by_what_lets_the_call_through(calling: Space) -> None:
    found = wronged(calling, "wrongly_blocked", tool_call=CALL)
    assert (found.status, found.facts["calls"][0][0]) == ("reproduced", "rm")
    label(calling, "complies")
    patch(calling, found, "make_case")
    assert status(found) == "case", "it is blocked as before"
    calling.guard({**CALLS, "settings": {"forbidden": ["dd"]}})
    assert status(found) == "fixed"
    assert patch(calling, found, "verify").json()["status"] == "verified"


def test_a_missed_call_is_fixed_by_what_forbids_it(calling: Space) -> None:
    found = wronged(calling, "wrongly_allowed", tool_call={**CALL, "name": "dd"})
    label(calling, "violates")
    patch(calling, found, "make_case")
    calling.guard({**CALLS, "settings": {"forbidden": ["rm", "dd"]}})
    assert status(found) == "fixed"


def status(found: Incident) -> str:
    found.refresh_from_db()
    return found.status


def test_each_policy_gets_the_turn_that_it_stopped(space: Space) -> None:
    other = factories.make_policy(space.admin, "second")
    Space(space.admin, load_policy(space.admin, other.slug)).guard(
        {**WORDS, "settings": {"words": ["by the sea"]}}
    )
    Space(space.admin, load_policy(space.admin, other.slug)).set(mode="enforce")
    turns = [
        {"role": "user", "content": "Take two tablets."},
        {"role": "assistant", "content": "A walk by the sea."},
    ]
    answer = space.api.post("check", {"stage": "output", "messages": turns}).json()
    row = next(row for row in written() if str(row.pk) == answer["decision_id"])
    say(space, row, verdict="wrongly_blocked", messages=turns)
    assert {(i.policy.slug, i.text, i.facts["role"]) for i in Incident.objects.all()} == {
        ("doses", "Take two tablets.", "user"),
        ("second", "A walk by the sea.", "assistant"),
    }


def test_only_a_text_that_was_stopped_was_stopped_wrongly(space: Space) -> None:
    turns = [
        {"role": "user", "content": "Take two tablets."},
        {"role": "assistant", "content": "A walk by the sea."},
        {"role": "assistant", "content": "And 400 mg of it."},
    ]
    answer = space.api.post("check", {"stage": "output", "messages": turns}).json()
    row = next(row for row in written() if str(row.pk) == answer["decision_id"])
    told = say(space, row, verdict="wrongly_blocked", messages=turns, turn=1)
    assert (told.status_code, told.json()["code"]) == (400, "nothing_stopped")
    say(space, row, verdict="wrongly_blocked", messages=turns, turn=2)
    assert Incident.objects.get().text == "And 400 mg of it."


def test_a_miss_among_passages_is_one_of_them_with_its_source(space: Space) -> None:
    passages = [{"text": "Tides.", "source": "a.example"}, {"text": MISSED, "source": "b.example"}]
    answer = space.api.post("check", {"stage": "output", "passages": passages}).json()
    row = next(row for row in written() if str(row.pk) == answer["decision_id"])
    told = say(space, row, verdict="wrongly_allowed", passages=passages)
    assert (told.status_code, told.json()["code"]) == (400, "turn_needed")
    assert told.json()["errors"] == [{"pointer": "/turn", "message": "From 0, the first, to 1."}]
    say(space, row, verdict="wrongly_allowed", passages=passages, turn=1)
    incident = Incident.objects.get()
    assert (incident.text, incident.facts["source"]) == (MISSED, "b.example")


def test_nothing_was_stopped_where_nothing_was(space: Space) -> None:
    answer = say(space, decided(space, "Fine."), verdict="wrongly_blocked", text="Fine.")
    assert (answer.status_code, answer.json()["code"]) == (400, "nothing_stopped")


def test_what_a_label_did_is_undone_with_it(space: Space) -> None:
    found = incident(space)
    label(space, "complies")
    assert status(found) == "dismissed"
    item, _ = undo_label(space.admin, policy=load_policy(space.admin, space.policy.slug))
    assert status(found) == "reproduced"
    submit_label(space.admin, lease=load_own_lease(space.admin, item.lease), verdict="violates")
    assert status(found) == "labelled"
    refused = patch(space, found, "dismiss")
    assert (refused.status_code, refused.json()["code"]) == (409, "labelled")


def reported_again(space: Space, before: Incident) -> Incident:
    """An incident of a text that was labelled for an earlier one."""
    return Incident.objects.create(
        workspace=space.admin.workspace,
        policy=space.policy,
        status="reproduced",
        expected="violates",
        text=MISSED,
        policy_example=before.policy_example,
        opened_by="x",
    )


def test_a_text_that_was_labelled_before_needs_no_second_label(space: Space) -> None:
    label_first = incident(space)
    label(space, "violates")
    patch(space, label_first, "make_case")
    space.guard(STRICTER)
    patch(space, label_first, "verify")
    assert status(label_first) == "verified"
    again = reported_again(space, label_first)
    assert patch(space, again, "make_case").json()["status"] == "fixed"


def test_a_label_that_says_otherwise_is_named(space: Space) -> None:
    first = incident(space)
    label(space, "complies")
    again = reported_again(space, first)
    assert "otherwise (complies)" in patch(space, again, "make_case").json()["detail"]


def test_an_incident_whose_case_was_withdrawn_can_be_dismissed(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    patch(space, found, "make_case")
    found.refresh_from_db()
    assert found.case is not None
    withdraw_case(space.admin, case=found.case)
    assert patch(space, found, "dismiss").json()["status"] == "dismissed"


def test_an_exception_fixes_nothing(space: Space) -> None:
    found = incident(space, "Moses had two tablets.", "wrongly_blocked")
    label(space, "complies")
    patch(space, found, "make_case")
    space.api.post(
        f"policies/{space.policy.slug}/exceptions",
        {"rule": "names-a-dose", "phrase": "two tablets", "reason": "3 a.m.", "days": 1},
    )
    space.guard(WORDS, {"key": "mail", "kind": "regex", "settings": {"patterns": ["@"]}})
    assert status(found) == "case"
    space.guard({**WORDS, "settings": {"words": ["400 mg"]}})
    assert status(found) == "fixed"


def test_a_policy_version_fixes_an_incident_as_well(space: Space) -> None:
    found = incident(space, "Moses had two tablets.", "wrongly_blocked")
    label(space, "complies")
    patch(space, found, "make_case")
    space.guard({"key": "mail", "kind": "regex", "settings": {"patterns": ["@"]}})
    assert status(found) == "fixed"
    Incident.objects.update(status="case")
    space.publish(scope="Answers to patients.")
    found.refresh_from_db()
    assert (found.status, found.fixed_by) == ("fixed", "policy version 2")


def test_nothing_is_verified_while_the_policy_is_off(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    patch(space, found, "make_case")
    space.guard(STRICTER)
    space.set(mode="off")
    answer = patch(space, found, "verify")
    assert (answer.status_code, answer.json()["code"], status(found)) == (409, "off", "fixed")


def test_what_cannot_be_judged_now_moves_no_incident(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = incident(space)
    label(space, "violates")
    patch(space, found, "make_case")
    space.guard(STRICTER)
    monkeypatch.setattr(incidents, "verdict_on", lambda *_: SimpleNamespace(fires=None))
    answer = patch(space, found, "verify")
    assert (answer.status_code, answer.json()["code"], status(found)) == (
        503,
        "not_judged",
        "fixed",
    )
    assert incident(space, "Another text.").status == "open"


def test_a_canarys_incident_is_not_dismissed(space: Space) -> None:
    canary = canaries.add_canary(space.admin, stage="output", text=BAD, expected="block")
    found = Incident.objects.create(
        workspace=space.admin.workspace, canary=canary, text=BAD, opened_by="x"
    )
    answer = space.api.patch(f"incidents/{found.pk}", {"act": "dismiss", "why": "tired of it"})
    assert (answer.status_code, answer.json()["code"]) == (409, "canary")


def test_an_answer_beside_the_one_that_counts_moves_nothing(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    found.refresh_from_db()
    policy, example = load_policy(space.admin, space.policy.slug), found.policy_example
    assert example is not None
    late = LabelEvent(policy, "train", example.pk, "complies", True, False, 0, space.admin.person)
    incidents.after_label(late)
    found.refresh_from_db()
    assert found.status == "labelled"


def test_two_who_make_its_case_at_once_make_one(space: Space) -> None:
    found = incident(space)
    label(space, "violates")
    one, other = (Incident.objects.get(pk=found.pk) for _ in range(2))
    incidents.make_case(space.admin, incident=one, why="the first")
    with pytest.raises(Problem, match="moved meanwhile"):
        incidents.make_case(space.admin, incident=other, why="the second")
    assert [case.why for case in cases_of(space.policy)] == ["the first"]


def test_why_it_was_dismissed_is_in_the_audit_trail(space: Space) -> None:
    found = incident(space)
    patch(space, found, "dismiss", "nobody was harmed")
    assert incidents.history(found).last().data["why"] == "nobody was harmed"


def test_whoever_reports_what_another_policy_did_is_not_led_to_its_incident(space: Space) -> None:
    other = factories.make_member(space.admin.workspace, "owner")
    factories.make_policy(other, "theirs")
    browser = factories.page_client(other)
    browser.post("/playground/", {"text": BAD, "shape": "text", "stage": "output"})
    decision = written()[0]
    answer = browser.post(
        f"/decisions/{decision.pk}/feedback/", {"verdict": "wrongly_blocked", "text": BAD}
    )
    assert answer.status_code == 302
    assert answer["Location"] == "/playground/"


def test_a_kept_text_is_given_to_nobody_who_may_not_read_it(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    decision = decided(space, MISSED)
    stranger = factories.api(factories.make_member(space.admin.workspace, Role.OWNER))
    place = f"decisions/{decision.pk}/feedback"
    refused = stranger.post(place, {"verdict": "wrongly_allowed", "policy": "doses"})
    assert (refused.status_code, refused.json()["code"]) == (400, "text_needed")
    told = stranger.post(place, {"verdict": "wrongly_allowed", "text": MISSED, "note": "n"})
    (opened,) = told.json()["incidents"]
    assert set(opened) == {"id", "policy", "status", "expected"}


def test_whoever_asked_needs_not_send_a_kept_text_again(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    owner = factories.api(factories.make_member(space.admin.workspace, Role.OWNER))
    asked = owner.post("check", {"stage": "output", "text": MISSED}).json()
    written()
    place = f"decisions/{asked['decision_id']}/feedback"
    assert owner.post(place, {"verdict": "wrongly_allowed"}).status_code == 201


def test_refused_feedback_keeps_what_was_written(space: Space) -> None:
    asked = "Ask a pharmacist."
    factories.make_policy(space.admin, "other")
    bundles.forget()
    space.check(asked)
    (decision,) = written()
    sent = {"verdict": "wrongly_allowed", "policy": "", "text": asked, "note": "my own words"}
    answer = factories.page_client(space.admin).post(f"/decisions/{decision.pk}/feedback/", sent)
    page = answer.content.decode()
    assert answer.status_code == 400
    assert "Name the policy whose verdict was wrong." in page
    assert 'value="my own words"' in page
    assert asked in page


def test_what_a_policy_did_not_allow_was_not_wrongly_allowed_by_it(space: Space) -> None:
    answer = say(space, decided(space, BAD), verdict="wrongly_allowed", text=BAD)
    assert (answer.status_code, answer.json()["code"]) == (400, "found")
    assert answer.json()["detail"] == "doses did not allow it: it asked to block."


def test_an_incident_leads_to_its_own_text(space: Space) -> None:
    workbench = f"/label/{space.policy.slug}/"
    labeller = factories.page_client(space.admin)
    other = factories.import_rows(space.admin, space.policy, factories.rows(5))
    assert other is not None
    held = labeller.get(workbench).context["item"].output
    found = incident(space)
    assert f'href="{workbench}?asked"' in labeller.get(f"/incidents/{found.pk}/").content.decode()
    assert labeller.get(workbench).context["item"].output == held
    led = labeller.get(f"{workbench}?asked", follow=True)
    assert (led.redirect_chain, led.context["item"].output) == ([(workbench, 302)], MISSED)


def home_of(actor: Any) -> str:
    return factories.page_client(actor).get("/").content.decode()


def test_home_says_how_many_incidents_wait(space: Space) -> None:
    assert "unresolved" not in home_of(space.admin)
    incident(space)
    assert "1 unresolved" in home_of(space.admin)


def test_home_tells_nobody_of_incidents_that_are_not_theirs(space: Space) -> None:
    incident(space)
    stranger = factories.make_member(space.policy.workspace, "owner")
    factories.make_policy(stranger, slug="another")
    assert "unresolved" not in home_of(stranger)


def test_a_second_report_says_that_the_incident_is_known(space: Space) -> None:
    decision = decided(space, MISSED)
    browser = factories.page_client(space.admin)
    sent = {"verdict": "wrongly_allowed", "text": MISSED}
    for told in ("An incident was opened", "That is known"):
        answer = browser.post(f"/decisions/{decision.pk}/feedback/", sent, follow=True)
        assert told in answer.content.decode()


def test_a_decision_tells_what_people_said_of_it_and_by_what_it_was_judged(space: Space) -> None:
    decision = decided(space, MISSED)
    say(space, decision, verdict="wrongly_allowed", text=MISSED, note="<b>a dose</b>")
    page = factories.page_client(space.admin).get(f"/decisions/{decision.pk}/").content.decode()
    opened = Incident.objects.get()
    assert "&lt;b&gt;a dose&lt;/b&gt;" in page
    assert f'href="/incidents/{opened.pk}/"' in page
    assert "version 1," in page
    assert "guardrail 1," in page


def test_a_decision_with_many_incidents_asks_no_more_of_the_database(space: Space) -> None:
    decision = decided(space, MISSED)
    page = factories.page_client(space.admin)
    asked = []
    for slug in ("", "second", "third"):
        policy = factories.make_policy(space.admin, slug) if slug else space.policy
        incidents.open_incident(
            space.admin,
            policy=policy,
            subject=Subject(MISSED),
            expected="violates",
            decision=decision,
        )
        page.get(f"/decisions/{decision.pk}/")
        with CaptureQueriesContext(connection) as queries:
            page.get(f"/decisions/{decision.pk}/")
        asked.append(len(queries))
    assert asked[0] == asked[1] == asked[2]
