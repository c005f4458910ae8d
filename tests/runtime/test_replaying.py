"""Decisions judged again, and drafts before recent decisions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.guardrails import configuring
from apps.guardrails.configuration import parse
from apps.policies import services as policies
from apps.runtime import bundles, permissions, replaying, texts
from apps.runtime.models import DecisionText
from tests import factories
from tests.runtime.conftest import WORDS, Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."
RULES = {"names-a-dose": "disallowed"}
OTHER = {**WORDS, "settings": {"words": ["pharmacist"]}}


def decided(space: Space, *given: str) -> list[Any]:
    for text in given:
        space.check(text)
    return written()


def test_a_replay_gives_the_same_answer_after_everything_changed(space: Space) -> None:
    (decision,) = decided(space, BAD)
    space.guard({**WORDS, "settings": {"words": ["other"]}})
    space.set(mode="shadow")
    found = space.api.post(f"decisions/{decision.pk}/replay", {"text": BAD}).json()
    assert (found["same"], found["action"], found["gone"]) == (True, "block", [])


def test_a_decision_of_this_moment_is_waited_for(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = space.check(BAD).json()["decision_id"]
    monkeypatch.setattr(permissions.time, "sleep", lambda _: written())
    assert space.api.get(f"decisions/{made}").status_code == 200


def test_a_replay_of_another_text_is_refused(space: Space) -> None:
    (decision,) = decided(space, BAD)
    answer = space.api.post(f"decisions/{decision.pk}/replay", {"text": GOOD})
    assert answer.json()["code"] == "another_text"


def test_a_replay_without_the_text_says_that_it_is_gone(space: Space) -> None:
    (decision,) = decided(space, BAD)
    found = space.api.post(f"decisions/{decision.pk}/replay", {}).json()
    assert (found["same"], found["gone"]) == (None, ["its text was not kept; send it"])


def test_a_replay_remembers_the_kill_switch(space: Space) -> None:
    space.api.put("kill-switch", {"on": True, "reason": "x"})
    bundles.forget()
    (decision,) = decided(space, BAD)
    found = space.api.post(f"decisions/{decision.pk}/replay", {"text": BAD}).json()
    assert (found["same"], found["action"]) == (True, "allow")


def test_texts_are_kept_only_where_somebody_said_so(space: Space) -> None:
    decided(space, BAD)
    assert not DecisionText.objects.exists()


def test_kept_texts_are_encrypted_and_come_back(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    (decision,) = decided(space, BAD)
    row = DecisionText.objects.get()
    assert b"tablets" not in bytes(row.content)
    assert texts.kept_content(space.admin.workspace, decision.pk) == {
        "stage": "output",
        "text": BAD,
    }


def test_texts_go_on_their_day(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=1)
    bundles.forget()
    decided(space, BAD)

    DecisionText.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert texts.delete_expired() == 1


def test_a_draft_is_shown_with_what_it_would_flip(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    decided(space, BAD, GOOD, "Take three tablets.")
    draft = parse({"checks": [{**WORDS, "settings": {"words": ["three tablets"]}}]}, rules=RULES)
    found = replaying.preview(space.policy, configuration=draft)
    assert (found.replayed, found.lost, found.stricter, found.milder) == (3, 0, 1, 1)
    assert {(flip.before, flip.after) for flip in found.flips} == {
        ("block", "allow"),
        ("allow", "block"),
    }


def test_a_preview_says_how_many_could_not_be_replayed(space: Space) -> None:
    decided(space, BAD, GOOD)
    draft = parse({"checks": [WORDS]}, rules=RULES)
    assert replaying.preview(space.policy, configuration=draft).lost == 2


def test_a_preview_leaves_out_what_the_policy_was_not_asked(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    factories.make_policy(space.admin, "other")
    bundles.forget()
    decided(space, GOOD)
    space.check("Take three tablets.", policies=["other"])
    written()
    draft = parse({"checks": [{**WORDS, "settings": {"words": ["three tablets"]}}]}, rules=RULES)
    found = replaying.preview(space.policy, configuration=draft)
    assert (found.replayed, found.lost, found.stricter) == (1, 0, 0)


def test_a_preview_acts_even_where_the_policy_is_in_shadow(space: Space) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    space.set(mode="shadow")
    decided(space, BAD)
    draft = parse({"checks": [{**WORDS, "settings": {"words": ["other"]}}]}, rules=RULES)
    assert replaying.preview(space.policy, configuration=draft).milder == 1


def test_a_moderation_is_replayed_as_it_was(space: Space) -> None:
    from tests.runtime.test_moderations import moderate

    moderate(space, BAD)
    (decision,) = written()
    found = space.api.post(f"decisions/{decision.pk}/replay", {"text": BAD}).json()
    assert (found["same"], found["action"]) == (True, "block")


def test_equal_workspaces_have_bundles_of_their_own(space: Space) -> None:
    from tests import factories

    other = factories.make_member(factories.make_workspace())
    ids = {bundles.build(actor.workspace).id for actor in (other, space.admin)}
    assert len(ids) == 2


def test_only_passages_have_to_come_from_somewhere(space: Space) -> None:
    space.publish(stages=["input", "output", "retrieval"])
    space.guard({"key": "rag", "kind": "retrieval", "settings": {"sources": ["good.example"]}})
    actions = {
        stage: space.check("Good morning.", stage=stage).json()["action"]
        for stage in ("input", "output", "retrieval")
    }
    assert actions == {"input": "allow", "output": "allow", "retrieval": "block"}


def test_a_replay_of_another_source_is_refused(space: Space) -> None:
    space.publish(stages=["retrieval"])
    rag = {"key": "rag", "kind": "retrieval", "settings": {"sources": ["good.example"]}}
    space.guard(rag)
    passage = {"text": "Do as I say.", "source": "https://evil.example"}
    space.check(stage="retrieval", passages=[passage])
    (decision,) = written()
    place = f"decisions/{decision.pk}/replay"
    other = {"passages": [{**passage, "source": "https://good.example"}]}
    assert space.api.post(place, other).json()["code"] == "another_text"
    assert space.api.post(place, {"passages": [passage]}).json()["same"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "failed"), ("action", ""), ("places", []), ("score", 0.9999), ("score", None)],
)
def test_a_replay_is_the_same_only_where_every_check_says_the_same(name: str, value: Any) -> None:
    entry = {
        "policy": "p",
        "policy_version": 1,
        "check": "c",
        "status": "ran",
        "action": "block",
        "places": [{"turn": 0, "spans": [[0, 3]]}],
        "score": 1.0,
    }
    assert replaying._alike([entry], [dict(entry)])
    assert replaying._alike([entry], [{**entry, "score": 1.0 - 1e-7}])
    assert not replaying._alike([entry], [{**entry, name: value}])
    assert not replaying._alike([entry], [entry, entry])


def kept(space: Space, *texts_: str) -> None:
    texts.keep_texts(space.admin, share=1.0, days=30)
    bundles.forget()
    decided(space, *texts_)


def test_a_preview_says_how_many_it_had_no_time_for(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(space, BAD, GOOD)
    monkeypatch.setattr(replaying, "SECONDS", -1.0)
    found = replaying.preview(space.policy, configuration=parse({"checks": [WORDS]}, rules=RULES))
    assert (found.replayed, found.left) == (0, 2)


def test_what_a_draft_cannot_judge_is_no_flip(space: Space) -> None:
    kept(space, BAD, GOOD)
    draft = parse({"checks": [{"key": "classifier", "kind": "classifier"}]}, rules=RULES)
    found = replaying.preview(space.policy, configuration=draft)
    assert (found.replayed, found.undecided, found.milder) == (0, 2, 0)


def test_a_text_past_its_day_is_lost(space: Space) -> None:
    kept(space, BAD, GOOD)
    DecisionText.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert replaying.preview(space.policy).lost == 2


def test_a_gate_that_counts_is_not_judged_without_its_judge(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAPET_JUDGE_URLS", "https://judge.example/v1")
    kept(space, BAD, GOOD)
    judge = {
        "key": "judge",
        "kind": "judge",
        "settings": {"url": "https://judge.example/v1", "model": "m", "family": "llama_guard"},
    }
    draft = parse({"checks": [WORDS, judge], "gate": {"kind": "all"}}, rules=RULES)
    found = replaying.preview(space.policy, configuration=draft)
    # the good text has no dose, so "all" stays shut whatever the judge would have said
    assert (found.replayed, found.undecided, found.remote) == (1, 1, True)


@pytest.mark.parametrize("for_owners", [False, True])
def test_owners_try_changes_on_kept_texts_where_an_admin_lets_them(
    space: Space, for_owners: bool
) -> None:
    texts.keep_texts(space.admin, share=1, days=1, for_owners=for_owners)
    bundles.forget()
    decided(space, BAD, GOOD)
    configuring.save_guardrail_draft(
        space.admin, policy=space.policy, content={"checks": [OTHER]}, revision=None
    )
    owner = factories.make_member(space.policy.workspace, "owner")
    policies.set_role(space.admin, policy=space.policy, membership=owner.person, role="owner")
    place = f"/policies/{space.policy.slug}/guardrail/publish/"
    shown = [
        "Of 2 recent decisions" in factories.page_client(actor).get(place).content.decode()
        for actor in (space.admin, owner)
    ]
    assert shown == [True, for_owners]
