"""What the pages of a guardrail at work say, and what they find."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.accounts.models import Role
from apps.base.ids import uuid7
from apps.base.problems import NotFound
from apps.guardrails import configuring
from apps.guardrails.models import GuardrailDraft
from apps.runtime import permissions
from tests import factories
from tests.runtime.conftest import WORDS, Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."
EDITOR = "/policies/doses/guardrail/checks/"


def page(space: Space, path: str) -> str:
    answer = factories.page_client(space.admin).get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def sent(space: Space, path: str, **fields: Any) -> str:
    answer = factories.page_client(space.admin).post(path, fields)
    return " ".join(answer.content.decode().split())


def form(**more: str) -> dict[str, str]:
    """The editor's form with the one check of the space in it."""
    return {
        "checks-1-kind": "keywords",
        "checks-1-key": "doses",
        "checks-1-rule": "names-a-dose",
        "checks-1-words": "two tablets\n400 mg",
        "checks-1-weight": "1",
        "gate-kind": "any",
        **more,
    }


@pytest.mark.parametrize("kind", ["regex", ""])
def test_adding_a_check_saves_nothing(space: Space, kind: str) -> None:
    GuardrailDraft.objects.all().delete()
    sent(space, EDITOR, **form(adding="1", add=kind))
    assert not GuardrailDraft.objects.exists()


def test_adding_a_check_keeps_one_that_is_to_be_removed(space: Space) -> None:
    shown = sent(space, EDITOR, **form(adding="1", add="regex", **{"checks-1-remove": "on"}))
    assert 'value="doses"' in shown


def test_adding_no_kind_says_what_to_do(space: Space) -> None:
    assert "Choose a kind of check to add." in sent(space, EDITOR, **form(adding="1", add=""))


def test_saving_saves_although_a_kind_is_chosen(space: Space) -> None:
    sent(space, EDITOR, **form(save="1", add="regex", **{"checks-1-words": "three tablets"}))
    content, _ = configuring.draft_of(space.policy)
    assert content["checks"][0]["settings"]["words"] == ["three tablets"]


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("checks-1-weight", "much", "Above 0, at most 100."),
        ("checks-1-key", "Not a key", "1 to 60 lower-case letters"),
        ("checks-1-rule", "another", "The policy has no such rule"),
    ],
)
def test_what_is_wrong_with_a_check_is_said_at_its_field(
    space: Space, field: str, typed: str, message: str
) -> None:
    shown = sent(space, EDITOR, **form(save="1", **{field: typed}))
    told = field.replace("checks-", "check-") + "-wrong"
    assert f'aria-describedby="{told}"' in shown
    assert f'id="{told}"> <li>{message}' in shown
    assert typed in shown


def test_a_pattern_that_is_wrong_is_told_by_its_line(space: Space) -> None:
    regex = {"checks-2-kind": "regex", "checks-2-key": "more", "checks-2-patterns": "fine\n(open"}
    shown = sent(space, EDITOR, **form(save="1", **regex))
    assert 'id="check-2-patterns-wrong"> <li>Pattern 2' in shown


def test_a_number_that_is_none_is_not_passed_over(space: Space) -> None:
    gate = {"gate-kind": "at_least", "gate-least": "two"}
    shown = sent(space, EDITOR, **form(**{"save": "1", **gate}))
    assert 'value="two" aria-invalid="true"' in shown


def test_what_is_wrong_with_an_exception_is_said_at_its_field(space: Space) -> None:
    shown = sent(space, "/policies/doses/exceptions/", rule="", phrase="", reason="why", days="0")
    assert 'id="exception-phrase-wrong"> <li>Give a phrase' in shown
    assert 'id="exception-days-wrong"> <li>1 to 90 days' in shown


def test_settings_tell_above_what_is_wrong_below(space: Space) -> None:
    shown = sent(space, "/policies/doses/settings/", target_recall="7")
    assert '<a href="#id_target_recall">Recall wanted</a>: At most 0.9999: a share' in shown


def test_a_draft_that_differs_is_told(space: Space) -> None:
    assert "the draft differs" not in page(space, EDITOR)
    configuring.save_guardrail_draft(
        space.admin,
        policy=space.policy,
        content={"checks": [{**WORDS, "key": "others"}]},
        revision=None,
    )
    assert "the draft differs" in page(space, EDITOR)
    assert "its draft differs" in page(space, "/policies/doses/guardrail/")


def test_choices_in_another_order_are_no_change(space: Space) -> None:
    def drafted(*kinds: str) -> Any:
        mail = {"key": "mail", "kind": "pii", "settings": {"find": [*kinds]}}
        configuring.save_guardrail_draft(
            space.admin, policy=space.policy, content={"checks": [mail]}, revision=None
        )
        return configuring.draft_of(space.policy)[0]

    assert drafted("phone", "email") == drafted("email", "phone", "email")


def test_trying_says_that_the_policy_does_not_guard_a_stage(space: Space) -> None:
    trial = form(text=BAD, shape="text", stage="input", **{"try": "1"})
    assert "does not guard input" in sent(space, EDITOR, **trial)
    assert "does not guard" not in sent(space, EDITOR, **{**trial, "stage": "output"})


def test_trying_nothing_says_what_to_do(space: Space) -> None:
    trial = form(text=" ", shape="text", stage="output", **{"try": "1"})
    assert "Give something to try." in sent(space, EDITOR, **trial)


def test_trying_says_what_a_check_asks_for(space: Space) -> None:
    trial = form(text=BAD, shape="text", stage="output", **{"try": "1"})
    assert "asks to block" in sent(space, EDITOR, **trial)


def test_the_playground_says_what_a_shadow_policy_would_do(space: Space) -> None:
    space.set(mode="shadow")
    said = sent(space, "/playground/", text=BAD, stage="output", shape="text")
    assert "in shadow, asks to block; enforced, the action would be block" in said


def test_the_playground_says_that_nothing_guards_a_stage(space: Space) -> None:
    said = sent(space, "/playground/", text=BAD, stage="input", shape="text")
    assert "No active policy guards this stage" in said
    assert "Was this wrong?" not in said


def test_a_decision_is_found_by_its_id(space: Space) -> None:
    first, second = (space.check(text).json()["decision_id"] for text in (BAD, GOOD))
    written()
    found = page(space, f"/decisions/?id={first}")
    assert (first in found, second in found) == (True, False)


def test_an_id_of_nothing_finds_nothing(space: Space) -> None:
    space.check(BAD)
    written()
    assert "No decision is like this." in page(space, "/decisions/?id=no-id")


def test_degraded_decisions_are_found(space: Space) -> None:
    whole = space.check(GOOD).json()["decision_id"]
    space.guard({"key": "classifier", "kind": "classifier"})
    degraded = space.check(GOOD).json()["decision_id"]
    written()
    found = page(space, "/decisions/?degraded=1")
    assert (degraded in found, whole in found) == (True, False)


def test_what_came_as_messages_can_be_judged_again(space: Space) -> None:
    turns = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": BAD}]
    decided = space.check(messages=turns).json()["decision_id"]
    written()
    place = f"/decisions/{decided}/replay/"
    assert "the same answer, block" in sent(space, place, text=json.dumps(turns), shape="messages")


def test_incidents_that_are_not_closed_are_together(space: Space) -> None:
    decided = space.check(GOOD).json()["decision_id"]
    written()
    feedback = {"verdict": "wrongly_allowed", "text": GOOD, "policy": "doses"}
    space.api.post(f"decisions/{decided}/feedback", feedback)
    assert GOOD in page(space, "/incidents/?status=unresolved")
    assert "None of them is verified." in page(space, "/incidents/?status=verified")


def test_the_playground_keeps_the_checks_of_others_to_them(space: Space) -> None:
    owner = factories.make_member(space.admin.workspace, Role.OWNER)
    sending = {"text": BAD, "stage": "output", "shape": "text"}
    said = factories.page_client(owner).post("/playground/", sending).content.decode()
    assert "asks to block" in " ".join(said.split())
    assert "names-a-dose" not in said
    assert "names-a-dose" in sent(space, "/playground/", **sending)


def test_what_shadow_found_can_be_looked_at(space: Space) -> None:
    space.check(BAD)
    space.set(mode="shadow")
    space.check(GOOD)
    wanted = space.check(BAD).json()["decision_id"]
    written()
    for query in ("shadow=1", f"shadow=1&policy={space.policy.slug}"):
        shown = page(space, f"/decisions/?{query}")
        assert shown.count("/decisions/0") == 1
        assert wanted in shown
        assert "shadow: doses" in shown
    assert "No decision is like this" in page(space, "/decisions/?shadow=1&policy=other")
    answer = space.api.get("decisions?shadow=true").json()
    assert [row["decision_id"] for row in answer["results"]] == [wanted]


def test_only_who_may_report_a_decision_waits_for_it(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(permissions.time, "sleep", waits.append)
    monkeypatch.setattr(permissions, "_WRITTEN_WITHIN", 0.02)
    annotator = factories.make_member(space.admin.workspace, Role.ANNOTATOR)
    for actor, waited in ((annotator, False), (space.admin, True)):
        with pytest.raises(NotFound):
            permissions.load_decision(actor, uuid7())
        assert bool(waits) is waited
