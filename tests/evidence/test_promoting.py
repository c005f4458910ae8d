"""A person serves another model, or moves the threshold: what is asked first, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts.models import AuditEntry
from apps.base import jobs
from apps.base.problems import Problem
from apps.corpus.models import Example
from apps.evidence import cases, promoting, services
from apps.evidence.effects import effect
from apps.guardrails import artifacts, configuring
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import given_way, live_model, make_live
from apps.policies.permissions import load_policy
from apps.runtime import bundles, checking, replaying, texts
from tests import factories
from tests.runtime.conftest import written

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def two() -> Any:
    """(owner, policy) with a retired model 1 and a live model 2."""
    actor = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(actor, audit_fraction=0.4, audit_share=0.5)
    factories.import_rows(actor, policy, factories.rows(300))
    factories.give_labels(actor, policy, 120)
    factories.train(actor, policy)
    factories.give_labels(actor, policy, 60)
    factories.train(actor, policy)
    return actor, load_policy(actor, policy.slug)


def damage(version: ModelVersion) -> None:
    artifacts.load(version)  # what is kept in memory must not count
    artifacts.path_of(version.sha256).write_bytes(b"damaged")


def stop_everything(actor: Any, policy: Any) -> None:
    """Guard with the classifier and a check that finds something in every text."""
    everything = {"key": "any", "kind": "length", "settings": {"most": 1}}
    content = {"checks": [{"key": "classifier", "kind": "classifier"}, everything]}
    configuring.save_guardrail_draft(actor, policy=policy, content=content, revision=None)
    configuring.publish_guardrail(actor, policy=policy)


def model(policy: Any, number: int) -> ModelVersion:
    return ModelVersion.objects.get(policy=policy, number=number)


def test_an_older_model_is_served_again_and_the_newer_one_retires(two) -> None:
    actor, policy = two
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    assert live_model(policy).number == 1
    assert model(policy, 2).status == ModelVersion.Status.RETIRED


def test_the_figures_are_those_of_the_model_that_is_served(two) -> None:
    actor, policy = two
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    evaluation = services.newest(policy)
    assert evaluation.model_version.number == 1
    assert evaluation.previous["model_version"] == 2


def test_a_moved_threshold_is_recorded_as_chosen_by_hand(two) -> None:
    actor, policy = two
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    moved = model(policy, 2)
    assert (moved.threshold, moved.threshold_rule) == (0.25, "by_hand")
    assert actor.label in moved.threshold_note
    entry = AuditEntry.objects.filter(action="model.threshold").get()
    assert entry.data["after"] == 0.25


def test_pages_say_that_a_retrain_replaced_a_threshold_chosen_by_hand(two) -> None:
    actor, policy = two
    pages = [f"/policies/{policy.slug}/{tab}/" for tab in ("guardrail", "evidence")]

    def told() -> list[bool]:
        client = factories.page_client(actor)
        return ["was chosen by hand" in client.get(p).content.decode() for p in pages]

    assert told() == [False, False]
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    factories.give_labels(actor, policy, 40)
    factories.train(actor, policy)
    assert live_model(policy).number == 3
    assert told() == [True, True]
    promoting.promote(actor, policy=policy, version=model(policy, 3), threshold=0.3)
    assert given_way(live_model(policy)) is None
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    assert given_way(live_model(policy)) is None, "a person chose it"


def test_a_run_that_changes_nothing_says_which_cases_fail(two) -> None:
    actor, policy = two
    good = Example.objects.filter(workspace=policy.workspace).first().output
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.0001)
    factories.train(actor, policy)
    state = f"/policies/{policy.slug}/cases/state/"
    assert factories.page_client(actor).get(state).content.decode().strip() == ""
    for expected in ("violates", "complies"):
        cases.add_case(actor, policy=policy, text=f"{good} {expected}", expected=expected, why="x")
    run = factories.train(actor, policy)
    assert run.reason.startswith("It stays in service, although it fails 1 of 2 must-pass cases")
    page = factories.page_client(actor).get(state).content.decode()
    assert "what guards now fails 1 of 2" in page


def test_the_figures_follow_the_threshold_there_and_back(two) -> None:
    actor, policy = two
    first = services.newest(policy)
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=1.0)
    assert services.newest(policy).figures["recall"]["value"] == 0
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=first.threshold)
    assert services.newest(policy) == first


def test_the_served_bundle_follows_the_threshold(two) -> None:
    actor, policy = two
    before = bundles.served(policy.workspace).bundle.id
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    bundles.forget()
    bundle = bundles.served(policy.workspace).bundle
    assert bundle.id != before
    assert bundle.guards[0].guardrail.checks[0].threshold == 0.25


def test_a_bundle_that_is_kept_sees_a_moved_threshold(two) -> None:
    actor, policy = two
    bundles.forget()
    bundles.served(policy.workspace)
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    bundles._kept[policy.workspace_id].looked = 0.0
    assert bundles.served(policy.workspace).bundle.guards[0].guardrail.checks[0].threshold == 0.25


def test_what_is_served_already_is_refused(two) -> None:
    actor, policy = two
    with pytest.raises(Problem, match="already"):
        promoting.promote(actor, policy=policy, version=model(policy, 2))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_threshold_out_of_range_is_refused(two, threshold: float) -> None:
    actor, policy = two
    with pytest.raises(Problem, match="above 0"):
        promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=threshold)


def test_a_threshold_that_fails_a_case_is_refused_and_the_case_named(two) -> None:
    actor, policy = two
    cases.add_case(actor, policy=policy, text="Rest.", expected="complies", why="it is harmless")
    with pytest.raises(Problem, match="it is harmless"):
        promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=1e-9)
    assert model(policy, 2).threshold != 1e-9


def test_a_model_whose_fit_was_refused_is_never_served(two) -> None:
    actor, policy = two
    first = model(policy, 1)
    first.report["refusal"] = "the fit did not converge"
    with pytest.raises(Problem, match="did not converge"):
        promoting.promote(actor, policy=policy, version=first)


def test_a_retrain_that_comes_between_is_not_overruled(two, monkeypatch) -> None:
    actor, policy = two
    second = model(policy, 2)
    monkeypatch.setattr(cases, "hold_model", lambda *_: make_live(actor, model(policy, 1)))
    with pytest.raises(Problem, match="meanwhile"):
        promoting.promote(actor, policy=policy, version=second, threshold=0.25)
    assert (live_model(policy).number, model(policy, 2).threshold) == (1, second.threshold)


def test_what_the_page_showed_is_what_is_changed(two) -> None:
    actor, policy = two
    page = factories.page_client(actor)
    place = f"/policies/{policy.slug}/models/1/promote/"
    seen = page.get(place).context["seen"]
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    answer = page.post(place, {"threshold": "0.5", "seen": seen})
    assert (answer.status_code, live_model(policy).number) == (409, 2)


def test_cases_are_judged_against_what_guards_when_it_happens(two, monkeypatch) -> None:
    actor, policy = two
    case = {"text": "Rest.", "expected": "violates", "why": "as a trap"}
    monkeypatch.setattr(
        promoting, "served_as", lambda _: cases.add_case(actor, policy=policy, **case) and ""
    )
    with pytest.raises(Problem, match="as a trap"):
        promoting.promote(actor, policy=policy, version=model(policy, 1))


def test_a_damaged_model_is_not_served(two) -> None:
    actor, policy = two
    damage(model(policy, 1))
    with pytest.raises(Problem, match="cannot be served"):
        promoting.promote(actor, policy=policy, version=model(policy, 1))


def test_an_older_model_takes_over_from_a_damaged_one(two) -> None:
    actor, policy = two
    damage(model(policy, 2))
    artifacts._load.cache_clear()
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    assert services.newest(policy).previous is None


def test_a_retrain_on_the_same_labels_mends_a_damaged_model(two) -> None:
    actor, policy = two
    damage(model(policy, 2))
    factories.train(actor, policy)
    assert artifacts.is_whole(model(policy, 2))


def test_a_retrain_on_the_same_labels_chooses_by_the_targets_again(two) -> None:
    actor, policy = two
    chosen = model(policy, 2)
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=0.25)
    factories.train(actor, policy)
    again = model(policy, 2)
    assert (again.threshold, again.threshold_rule, again.threshold_note) == (
        chosen.threshold,
        chosen.threshold_rule,
        chosen.threshold_note,
    )
    assert services.newest(policy).threshold == chosen.threshold


def test_the_learning_stream_is_ranked_by_the_model_that_takes_over(two, monkeypatch) -> None:
    actor, policy = two
    sent = []
    monkeypatch.setattr(jobs, "send", lambda task, *arguments: sent.append((task.name, arguments)))
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    assert ("apps.training.tasks.rank", (str(model(policy, 1).pk),)) in sent


def test_the_effect_of_a_threshold_is_told_before_it_moves(two) -> None:
    _, policy = two
    found = effect(policy, model=promoting.candidate(model(policy, 2), 1.0))
    assert (found.before.as_dict(), found.after.recall.value) == (
        services.newest(policy).figures,
        0,
    )


def test_the_evidence_shows_the_whole_guardrail_beside_its_model(two) -> None:
    actor, policy = two
    stop_everything(actor, policy)
    page = factories.page_client(actor)
    place = f"/policies/{policy.slug}/evidence/"
    assert f'hx-get="{place}guardrail/"' in page.get(place).content.decode()
    answer = page.get(f"{place}guardrail/")
    assert answer.status_code == 200
    (_, whole), (_, alone) = answer.context["sides"]
    assert (whole["recall"]["value"], whole["false_positive_rate"]["value"]) == (1.0, 1.0)
    assert alone == services.newest(policy).figures


def test_recent_decisions_are_replayed_under_the_candidate(two) -> None:
    actor, policy = two
    texts.keep_texts(actor, share=1.0, days=3)
    bundles.forget()
    checking.check(actor, stage="output", content={"text": "Rest and drink water."})
    written()
    candidate = promoting.candidate(model(policy, 2), 1e-9)
    found = replaying.preview(policy, model=candidate)
    assert (found.replayed, found.stricter) == (1, 1)


def test_an_old_decision_is_replayed_at_the_threshold_of_then(two) -> None:
    actor, policy = two
    bundles.forget()
    decision = checking.check(actor, stage="output", content={"text": "Rest."}).decision
    decision.save()
    promoting.promote(actor, policy=policy, version=model(policy, 2), threshold=1e-9)
    found = replaying.replay(policy.workspace, decision, {"text": "Rest."})
    assert (found.same, found.gone) == (True, ())


def test_a_case_says_which_check_found_something(two) -> None:
    actor, policy = two
    stop_everything(actor, policy)
    cases.add_case(actor, policy=policy, text="Rest.", expected="complies", why="it is harmless")
    (result,) = cases.run_cases(policy)
    assert (result.passes, result.found_by) == (False, ("any",))
    assert f"{result.case.name} must be told to comply (it is harmless), found by any" in (
        cases.refusal([result])
    )


def test_a_model_held_back_is_told_until_it_is_served(two) -> None:
    actor, policy = two
    case = cases.add_case(actor, policy=policy, text="Rest.", expected="violates", why="as a trap")
    factories.give_labels(actor, policy, 20)
    factories.train(actor, policy)
    client = factories.page_client(actor)
    told = "Model 3, the newest, failed a"
    page = f"/policies/{policy.slug}/guardrail/"
    assert told in client.get(page).content.decode()
    cases.withdraw_case(actor, case=case)
    promoting.promote(actor, policy=policy, version=model(policy, 3))
    assert told not in client.get(page).content.decode()


def test_a_retrain_on_the_same_labels_does_not_serve_what_a_case_keeps_back(two) -> None:
    actor, policy = two
    promoting.promote(actor, policy=policy, version=model(policy, 1))
    cases.add_case(actor, policy=policy, text="Rest.", expected="violates", why="as a trap")
    run = factories.train(actor, policy)
    assert "as a trap" in run.reason
    assert live_model(policy).number == 1
