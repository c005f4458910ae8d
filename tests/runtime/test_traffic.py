"""What is counted of decisions, on the dashboard and for Prometheus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.guardrails.checks.interface import Usage
from apps.policies.permissions import load_policy
from apps.runtime import bundles
from apps.runtime.models import CheckTraffic, Traffic
from apps.runtime.recording import recorder
from apps.runtime.traffic import CheckSummary, checks_of, fold_old, quantile, summary
from tests import factories
from tests.answering import Server, says
from tests.runtime.conftest import WORDS, Space, written

BAD, GOOD = "Take two tablets.", "Ask a pharmacist."


def test_decisions_are_counted_by_action_policy_and_rule(space: Space) -> None:
    for text in (BAD, BAD, GOOD):
        space.check(text)
    written()
    found = summary(space.admin.workspace)
    assert (found.total, found.actions) == (3, {"allow": 1, "block": 2})
    assert found.policies == [
        {"policy": "doses", "mode": "enforce", "seen": 3, "found": 2, "changed": 0}
    ]
    (rule,) = found.rules
    assert (rule["policy"], rule["rule"], rule["found"]) == ("doses", "names-a-dose", 2)


def test_old_hours_become_one_and_counters_stay_what_they_were(space: Space) -> None:
    key = {"Authorization": f"Bearer {factories.make_token(space.admin, 'read')}"}

    def counted() -> list[str]:
        lines = factories.page_client(None).get("/metrics", headers=key).content.decode()
        return sorted(line for line in lines.splitlines() if line.startswith("parapet_"))

    for months in (5, 4, 0):
        for text in (BAD, GOOD):
            space.check(text)
        written()
        for model in (Traffic, CheckTraffic):
            new = model.objects.filter(hour__gt=timezone.now() - timedelta(hours=2))
            new.update(hour=timezone.now() - timedelta(days=30 * months))
    before, rows = counted(), Traffic.objects.count() + CheckTraffic.objects.count()
    assert fold_old() > 0
    assert Traffic.objects.count() + CheckTraffic.objects.count() < rows
    assert counted() == before
    assert 'parapet_decisions_total{action="block"} 3.0' in before
    assert fold_old() == 0


def test_what_shadow_would_have_changed_is_counted(space: Space) -> None:
    space.set(mode="shadow")
    space.check(BAD)
    written()
    (policy,) = summary(space.admin.workspace).policies
    assert (policy["mode"], policy["seen"], policy["changed"]) == ("shadow", 1, 1)


def test_a_gate_that_did_not_fire_would_have_changed_nothing(space: Space) -> None:
    mail = {"key": "mail", "kind": "regex", "settings": {"patterns": ["@"]}}
    space.guard(WORDS, mail, gate={"kind": "all"})
    space.set(mode="shadow")
    for text in (BAD, f"{BAD} a@b"):
        space.check(text)
    written()
    (policy,) = summary(space.admin.workspace).policies
    assert (policy["seen"], policy["found"], policy["changed"]) == (2, 1, 1)


def test_what_a_higher_level_lifts_would_have_changed_nothing(space: Space) -> None:
    top = factories.make_policy(space.admin, "top")
    allowing = Space(space.admin, load_policy(space.admin, top.slug))
    never = {**WORDS, "key": "never", "settings": {"words": ["never"]}}
    allowing.guard({**WORDS, "rule": "general-facts"}, never)
    allowing.set(mode="enforce", level="platform")
    space.set(mode="shadow")
    space.check(BAD)
    written()
    by_policy = {row["policy"]: row for row in summary(space.admin.workspace).policies}
    assert (by_policy["doses"]["found"], by_policy["doses"]["changed"]) == (0, 0)
    assert by_policy["top"]["found"] == 0


def test_two_rules_of_one_decision_are_one_decision_of_their_policy(space: Space) -> None:
    space.publish(rules=[*factories.RULES, {**factories.RULES[0], "key": "another"}])
    space.guard(WORDS, {**WORDS, "key": "again", "rule": "another"})
    space.check(BAD)
    written()
    found = summary(space.admin.workspace)
    assert (found.policies[0]["found"], len(found.rules)) == (1, 2)


def test_counts_of_two_batches_add_up(space: Space) -> None:
    for _ in range(2):
        space.check(BAD)
        written()
    assert summary(space.admin.workspace).total == 2


@pytest.mark.parametrize(
    ("buckets", "share", "bound"),
    [
        ([0] * 10, 0.5, None),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], 0.5, 1.0),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], 0.99, 2.0),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 0.5, float("inf")),
    ],
)
def test_a_quantile_is_the_bound_it_lies_below(
    buckets: list[int], share: float, bound: float | None
) -> None:
    assert quantile(buckets, share) == bound


def scraped(space: Space) -> str:
    key = factories.make_token(space.admin, "read")
    answer = factories.page_client(None).get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    return answer.content.decode()


def test_prometheus_reads_the_counters(space: Space) -> None:
    space.check(BAD)
    written()
    text = scraped(space)
    assert 'parapet_decisions_total{action="block"} 1.0' in text
    assert 'parapet_findings_total{action="block",mode="enforce",policy="doses"} 1.0' in text
    assert "parapet_latency_seconds_count 1.0" in text


def test_prometheus_reads_how_long_decisions_took(space: Space) -> None:
    space.check(BAD)
    ((decision, _),) = [recorder._waiting.queue[-1]]
    decision.latency_ms = 1_800.0
    written()
    assert "parapet_latency_seconds_sum 1.8" in scraped(space)


def asking(judge: Server) -> dict[str, Any]:
    settings = {"url": judge.url, "model": "guard", "family": "llama_guard"}
    return {"key": "judge", "kind": "judge", "settings": settings}


def judged(space: Space) -> CheckSummary:
    written()
    return next(one for one in checks_of(space.policy) if one.check == "judge")


def test_what_became_of_each_check_is_counted(space: Space) -> None:
    for text in (BAD, BAD, GOOD):
        space.check(text)
    written()
    (check,) = checks_of(space.policy)
    assert check == CheckSummary("doses", "doses", ran=3, found=2)


def test_a_check_that_fails_is_counted_by_why(space: Space, judge: Server) -> None:
    judge.answering = says("what?")
    space.guard(asking(judge))
    for text in ("one", "two"):
        space.check(text)
    assert judged(space).failed == {"no_verdict": 2}


def test_of_a_policy_that_failed_it_is_not_said_that_it_asked_for_nothing(
    space: Space, judge: Server
) -> None:
    judge.answering = says("what?")
    space.guard(asking(judge))
    assert space.check("one").status_code == 503
    written()
    assert summary(space.admin.workspace).policies == []


def test_a_check_that_is_spared_is_counted_by_why(space: Space, judge: Server) -> None:
    space.guard(WORDS, asking(judge))
    space.check(BAD)
    assert judged(space).skipped == {"short_circuited": 1}


def test_what_asking_a_judge_came_to_is_counted(space: Space, judge: Server) -> None:
    space.guard(asking(judge))
    for text in ("one", "one", "two"):
        space.check(text)
    usage = judged(space).usage
    assert usage == Usage(2, 1, usage.milliseconds, prompt_tokens=14, completion_tokens=4)


def test_a_check_of_a_policy_that_is_off_is_not_counted(space: Space) -> None:
    space.set(mode="off")
    space.check(BAD)
    written()
    assert checks_of(space.policy) == []


def test_checks_that_fail_come_first(space: Space, judge: Server) -> None:
    judge.answering = says("what?")
    space.guard({**WORDS, "key": "a-words"}, asking(judge))
    space.check(GOOD)
    written()
    assert [one.check for one in summary(space.admin.workspace).checks] == ["judge", "a-words"]


def test_a_receipt_tells_what_asking_came_to(space: Space, judge: Server) -> None:
    space.guard(WORDS, asking(judge))
    by_check = {entry["check"]: entry["usage"] for entry in space.check(GOOD).json()["receipt"]}
    assert (by_check["doses"], by_check["judge"]["calls"]) == (None, 1)


def test_prometheus_reads_what_became_of_checks(space: Space, judge: Server) -> None:
    space.guard(asking(judge))
    space.check(GOOD)
    written()
    text = scraped(space)
    where = 'check="judge",policy="doses"'
    assert f'parapet_checks_total{{{where},status="ran",why=""}} 1.0' in text
    assert f"parapet_judge_calls_total{{{where}}} 1.0" in text
    assert 'parapet_judge_tokens_total{check="judge",of="prompt",policy="doses"} 7.0' in text


def test_the_guardrails_page_tells_what_became_of_its_checks(space: Space, judge: Server) -> None:
    judge.answering = says("what?")
    space.guard(asking(judge))
    space.check(GOOD)
    written()
    page = factories.page_client(space.admin).get("/policies/doses/guardrail/checks/")
    assert "failed: no verdict 1" in page.content.decode()


def test_what_became_of_checks_adds_up_over_batches(space: Space, judge: Server) -> None:
    space.guard(asking(judge))
    for text in ("one", "two"):
        space.check(text)
        written()
    (check,) = checks_of(space.policy)
    assert (check.ran, check.usage.calls) == (2, 2)


def test_checks_of_other_policies_are_theirs(space: Space) -> None:
    other = Space(
        space.admin, load_policy(space.admin, factories.make_policy(space.admin, "b").slug)
    )
    other.guard({**WORDS, "key": "others"})
    space.check(BAD)
    written()
    assert [one.check for one in checks_of(space.policy)] == ["doses"]
    assert [one.check for one in checks_of(other.policy)] == ["others"]


def test_what_failed_in_one_turn_of_a_check_that_found_something_is_noted(
    space: Space, judge: Server
) -> None:
    judge.answering = lambda handler, body: says("unsafe\nS1" if "bad" in str(body) else "what?")(
        handler, body
    )
    space.guard(asking(judge))
    turns = [{"role": "user", "content": text} for text in ("bad", "good")]
    space.check(messages=turns)
    summed = judged(space)
    assert (summed.ran, summed.found, summed.noted) == (1, 1, {"no_verdict": 1})


def test_a_question_asked_again_without_what_is_excepted_is_counted(
    space: Space, judge: Server
) -> None:
    judge.answering = lambda handler, body: says("unsafe\nS1" if "400 mg" in str(body) else "safe")(
        handler, body
    )
    space.guard(asking(judge))
    exception = {"phrase": "400 mg", "reason": "As it is.", "days": 1}
    assert space.api.post("policies/doses/exceptions", exception).status_code == 201
    bundles.forget()
    space.check("Take 400 mg of it.")
    summed = judged(space)
    assert (summed.found, summed.usage.calls) == (0, 2)


def test_serving_shows_what_became_of_checks(space: Space) -> None:
    space.check(BAD)
    written()
    page = factories.page_client(space.admin).get("/serving/").content.decode()
    (told,) = space.api.get("traffic").json()["checks"]
    assert "What checks came to" in page
    assert (told["policy"], told["check"], told["ran"]) == ("doses", "doses", 1)


def test_what_an_allowed_rule_found_is_counted(space: Space) -> None:
    space.publish(
        rules=[
            *space.policy.current_version.specification.as_dict()["rules"],
            {"key": "a-quote", "text": "A quotation.", "polarity": "allowed"},
        ]
    )
    settings = {"words": ["quoth"]}
    quote = {"key": "quote", "kind": "keywords", "rule": "a-quote", "settings": settings}
    space.guard(WORDS, quote)
    space.check("quoth he")
    written()
    found = {row["rule"]: row["found"] for row in summary(space.admin.workspace).rules}
    assert found == {"a-quote": 1}
