"""What a bundle says of texts, and what it says when part of it cannot judge."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from apps.guardrails.checks import KINDS
from apps.guardrails.checks.classifier import evaluate_for
from apps.guardrails.checks.interface import Found, Subject, validate
from apps.guardrails.exemptions import Exemption, phrase_of, text_hash
from apps.guardrails.gate import Gate
from apps.guardrails.guarding import Check, Guardrail
from apps.guardrails.learning import artifact, features
from apps.guardrails.learning.panel import Panel
from apps.runtime import judgement, judging
from apps.runtime.judgement import Judgement
from apps.runtime.judging import Bundle, Guard, judge


def model(word: str = "overdose") -> artifact.Model:
    """One that flags whatever has this word in it, and nothing else."""
    weights = np.zeros(features.COLUMNS, np.float32)
    columns = features.extract([word]).columns
    weights[columns[columns < features.BLOCK]] = 1.0
    return artifact.Model(
        idf=np.ones(features.COLUMNS, np.float32),
        weights=weights,
        intercept=-0.2,
        slope=50.0,
        offset=0.0,
        threshold=0.5,
    )


def classifier(policy: str, **values: Any) -> Check:
    given: dict[str, Any] = {
        "key": "classifier",
        "kind": "classifier",
        "action": "block",
        "evaluate": evaluate_for(policy),
    }
    return Check(**{**given, **values})


def words(*listed: str, **values: Any) -> Check:
    """A check that finds words, for one rule."""
    kind = KINDS["keywords"]
    given: dict[str, Any] = {
        "key": "words",
        "kind": "keywords",
        "action": "block",
        "rule": "no-words",
        "evaluate": kind.build(validate(kind, {"words": list(listed)})),
    }
    return Check(**{**given, **values})


def saying(found: Found, **values: Any) -> Check:
    return words("-", **{"key": "saying", "evaluate": lambda subject: found, **values})


def guard(policy: str = "doses", *checks: Check, **values: Any) -> Guard:
    given: dict[str, Any] = {
        "policy_version": 1,
        "level": "application",
        "stages": ("output",),
        "mode": "enforce",
        "on_failure": "closed",
        "action": "block",
        "guardrail": Guardrail(
            checks or (classifier(policy, action=values.get("action", "block")),),
            gate=values.pop("gate", Gate()),
            exemptions=values.pop("exemptions", ()),
            key=values.pop("key", b""),
        ),
        "model_version": 1,
    }
    return Guard(policy=policy, **{**given, **values})


def bundle(*guards: Guard, **values: Any) -> Bundle:
    models = {guard.policy: model() for guard in guards}
    return Bundle("b", guards, Panel(models) if models else None, **values)


def broken(policy: str = "broken", problem: str = "no_model", **values: Any) -> Guard:
    return guard(policy, classifier(policy, evaluate=None, problem=problem), **values)


def judged(what: Bundle, *texts: str, stage: str = "output", **options: Any) -> Judgement:
    return judge(what, stage=stage, subjects=[Subject(text) for text in texts], **options)


BAD, GOOD = "an overdose", "a walk by the sea"


def test_a_text_over_the_threshold_gets_the_policys_action_with_the_reason() -> None:
    found = judged(bundle(guard()), BAD)
    assert (found.action, found.finished, found.degraded) == ("block", True, ())
    (reason,) = found.reasons
    assert (reason["policy"], reason["check"], reason["rule"]) == ("doses", "classifier", None)
    assert reason["score"] >= reason["threshold"]


def test_a_text_below_it_is_allowed_and_the_receipt_says_that_the_check_ran() -> None:
    found = judged(bundle(guard()), GOOD)
    assert (found.action, found.reasons) == ("allow", ())
    (entry,) = found.receipt
    assert (entry.status, entry.action) == ("ran", "")
    assert entry.score is not None


def test_every_turn_is_looked_at_and_the_one_that_tripped_is_told() -> None:
    found = judged(bundle(guard()), GOOD, BAD, GOOD)
    assert found.reasons[0]["turn"] == 1


def test_only_policies_of_the_stage_are_asked() -> None:
    found = judged(bundle(guard(stages=("input",))), BAD)
    assert (found.action, found.receipt) == ("allow", ())


def test_shadow_decides_and_is_told_but_never_acts() -> None:
    found = judged(bundle(guard(mode="shadow")), BAD)
    assert (found.action, found.reasons) == ("allow", ())
    assert found.receipt[0].action == "block"


def test_what_does_not_act_takes_no_time_of_what_acts() -> None:
    def slow(subject: Subject) -> Found:
        nonlocal now
        now += 1000.0
        return Found(0.0)

    now = 0.0
    late = words("overdose", key="words-too")
    found = judged(
        bundle(
            guard("a-shadow", words("-", evaluate=slow), mode="shadow"),
            guard("b", words("-", key="told", evaluate=slow, advisory=True), late),
        ),
        BAD,
        clock=lambda: now,
    )
    assert (found.action, found.finished, found.degraded) == ("block", True, ())
    said = {entry.check: entry.why for entry in found.receipt}
    assert said == {"words": "", "told": "deadline", "words-too": ""}


def test_off_is_skipped_and_says_so() -> None:
    found = judged(bundle(guard(mode="off")), BAD)
    assert (found.receipt[0].status, found.receipt[0].why) == ("skipped", "mode_off")
    assert found.finished


def fail_features(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setattr(Panel, "score", lambda panel, texts: 1 / 0)
    return guard("broken")


def fail_model(monkeypatch: pytest.MonkeyPatch) -> Guard:
    return guard("broken", classifier("broken", evaluate=lambda subject: Found(1 / 0)))


def fail_deadline(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setattr(judging, "DEADLINE", -1.0)
    return guard("broken")


CAUSES = {
    "no_model": lambda _: broken(),
    "model_refused": lambda _: broken(problem="model_refused"),
    "check_refused": lambda _: broken(problem="check_refused"),
    "features_failed": fail_features,
    "classifier_failed": fail_model,
    "deadline": fail_deadline,
}


@pytest.mark.parametrize(("cause", "side"), list(product(CAUSES, ["open", "closed"])))
def test_a_failure_is_told_and_advises_what_the_policy_says(
    monkeypatch: pytest.MonkeyPatch, cause: str, side: str
) -> None:
    failing = replace(CAUSES[cause](monkeypatch), on_failure=side)
    found = judged(bundle(failing), BAD)
    assert (found.finished, found.degraded) == (False, (cause,))
    assert found.action == {"open": "allow", "closed": "block"}[side]
    assert (found.receipt[0].status, found.receipt[0].why) == ("failed", cause)


@pytest.mark.parametrize("side", ["open", "closed"])
def test_a_block_that_was_found_wins_whatever_else_failed(side: str) -> None:
    found = judged(bundle(guard(), broken(on_failure=side)), BAD)
    assert (found.action, found.finished, found.degraded) == ("block", True, ("no_model",))


def test_open_advises_what_the_others_found() -> None:
    others = guard(action="flag")
    found = judged(bundle(others, broken(on_failure="open")), BAD)
    assert (found.action, found.finished) == ("flag", False)


def test_one_that_fails_closed_outweighs_one_that_fails_open() -> None:
    failing = [broken("a", on_failure="open"), broken("b", on_failure="closed")]
    assert judged(bundle(*failing), GOOD).action == "block"


def test_a_failure_in_shadow_stands_in_the_receipt_and_changes_nothing() -> None:
    found = judged(bundle(broken(mode="shadow")), BAD)
    assert (found.action, found.finished, found.degraded) == ("allow", True, ())
    assert [(entry.status, entry.why) for entry in found.receipt] == [("failed", "no_model")]


def test_a_check_that_knows_its_rule_says_it_with_the_rules_action() -> None:
    found = judged(bundle(guard("doses", words("tablets", action="redact"))), "two tablets of it")
    (reason,) = found.reasons
    assert (reason["rule"], reason["action"], reason["spans"]) == ("no-words", "redact", [[4, 11]])


def test_what_is_redacted_leaves_the_rest_untouched() -> None:
    found = judged(bundle(guard("doses", words("tablets", action="redact"))), "two tablets of it")
    assert (found.action, found.output) == ("redact", ("two [redacted] of it",))


def test_every_turn_is_redacted_not_only_the_worst() -> None:
    policy = guard("doses", words("tablets", action="redact"))
    found = judged(bundle(policy), "tablets", "none", "my tablets")
    assert found.output == ("[redacted]", "none", "my [redacted]")


def test_a_finding_without_a_place_redacts_its_whole_text() -> None:
    policy = guard("doses", classifier("doses", action="redact"))
    assert judged(bundle(policy), BAD, GOOD).output == ("[redacted]", GOOD)


def test_rewriting_gives_the_deciding_policys_safe_completion() -> None:
    policy = guard("doses", words("tablets", action="rewrite"), safe_completion="Ask a doctor.")
    found = judged(bundle(policy), "two tablets")
    assert (found.action, found.output) == ("rewrite", ("Ask a doctor.",))


def test_an_advisory_check_is_told_and_has_no_vote() -> None:
    found = judged(bundle(guard("doses", words("tablets", advisory=True))), "tablets")
    assert (found.action, found.receipt[0].action) == ("allow", "block")


@pytest.mark.parametrize(("text", "action"), [("red", "allow"), ("red and blue", "block")])
def test_a_gate_of_all_wants_every_check(text: str, action: str) -> None:
    checks = words("red", key="one"), words("blue", key="two")
    assert judged(bundle(guard("p", *checks, gate=Gate("all"))), text).action == action


@pytest.mark.parametrize(
    "gate", [Gate("all"), Gate("at_least", least=2), Gate("weighted", threshold=0.8)]
)
def test_a_gate_does_not_add_up_what_stands_in_several_texts(gate: Gate) -> None:
    served = bundle(guard("p", words("red"), words("blue", key="blue"), gate=gate))
    apart, both = judged(served, "red", "blue"), judged(served, "red", "blue", "red and blue")
    assert (apart.action, apart.reasons) == ("allow", ())
    assert both.action == "block"
    assert {reason["turn"] for reason in both.reasons} == {2}


def test_a_judge_that_failed_in_part_leaves_a_weighted_gate_undecided() -> None:
    judge = saying(Found(0.6, partly="judge_timeout"), threshold=0.5)
    served = bundle(guard("p", judge, words("red"), gate=Gate("weighted", threshold=0.4)))
    found = judged(served, "blue")
    assert (found.action, found.finished, found.scores) == ("block", False, {})


def test_a_reason_tells_the_score_of_the_text_that_it_names() -> None:
    def evaluate(subject: Subject) -> Found:
        return Found(0.6 if "red" in subject.text else 0.99, reason=subject.text)

    checks = (words("-", key="any", evaluate=evaluate), words("red", key="red"))
    found = judged(bundle(guard("p", *checks, gate=Gate("all"))), "blue", "red")
    told = {r["check"]: (r["turn"], r["score"], r["reason"]) for r in found.reasons}
    assert told["any"] == (1, 0.6, "")


def test_a_gate_redacts_only_the_texts_on_which_it_fires() -> None:
    checks = [words(w, key=w, action="redact") for w in ("red", "blue")]
    served = bundle(guard("p", *checks, gate=Gate("all"), action="redact"))
    found = judged(served, "a red one", "a red and a blue one")
    assert found.output == ("a red one", "a [redacted] and a [redacted] one")


def test_a_check_that_fails_on_a_text_leaves_the_gate_undecided_there_alone() -> None:
    def evaluate(subject: Subject) -> Found:
        return Found(0.0, failed="judge_slow") if "odd" in subject.text else Found(0.0)

    fails = words("-", key="fails", evaluate=evaluate)
    served = bundle(guard("p", words("red"), fails, gate=Gate("all")))
    assert judged(served, "red", "odd").finished
    assert not judged(served, "red", "odd red").finished


def test_a_gate_of_its_own_has_a_line_in_the_receipt() -> None:
    checks = words("red", key="one"), words("blue", key="two")
    found = judged(bundle(guard("p", *checks, gate=Gate("at_least", least=2))), "red and blue")
    assert [(e.check, e.kind, e.score) for e in found.receipt][-1] == ("gate", "at_least", 1.0)


def test_a_failed_check_that_cannot_change_the_gate_leaves_the_judgement_finished() -> None:
    checks = words("red", key="one"), saying(Found(0.0, failed="gone"), key="two")
    found = judged(bundle(guard("p", *checks)), "red")
    assert (found.action, found.finished, found.degraded) == ("block", True, ("gone",))


def test_a_failed_check_that_could_have_changed_it_does_not() -> None:
    checks = words("red", key="one"), saying(Found(0.0, failed="gone"), key="two")
    assert not judged(bundle(guard("p", *checks)), "blue").finished


def test_an_allowed_rule_of_a_higher_level_lifts_a_block_below() -> None:
    allowing = words("hospital", polarity="allowed", action="allow", key="allowing")
    above = guard("above", allowing, level="organisation")
    found = judged(bundle(above, guard("doses")), "an overdose in the hospital")
    assert found.action == "allow"
    assert {r["policy"]: r["lifted_by"] for r in found.reasons}["doses"] == "above"


def test_an_allowing_check_that_failed_leaves_the_judgement_unfinished() -> None:
    lost = saying(Found(0.0, failed="gone"), polarity="allowed", action="allow")
    assert not judged(bundle(guard("p", lost)), GOOD).finished


def test_the_kill_switch_runs_everything_and_acts_on_nothing() -> None:
    found = judged(bundle(guard(), stopped=True), BAD)
    assert (found.action, found.degraded) == ("allow", ("kill_switch",))
    assert (found.receipt[0].action, found.receipt[0].mode) == ("block", "shadow")


def test_a_rollout_acts_on_its_share_of_keys_and_says_so_for_the_others() -> None:
    served = bundle(guard(rollout=30))
    found = [judged(served, BAD, rollout_key=f"user {n}") for n in range(600)]
    acted = [f for f in found if f.action == "block"]
    assert 0.22 < len(acted) / len(found) < 0.38
    assert {f.receipt[0].why for f in found if f.action == "allow"} == {"rollout"}


def test_a_key_stays_on_its_side_when_the_rollout_grows() -> None:
    small, large = bundle(guard(rollout=20)), bundle(guard(rollout=60))
    keys = [f"user {n}" for n in range(100)]
    acted = {k for k in keys if judged(small, BAD, rollout_key=k).action == "block"}
    assert acted
    assert acted <= {k for k in keys if judged(large, BAD, rollout_key=k).action == "block"}


def exempting(phrase: str, rule: str = "no-words", expires: float = 2e10) -> Exemption:
    return Exemption("e", rule, expires, phrase=phrase_of(phrase))


def test_an_excepted_phrase_is_let_through_and_the_receipt_says_why() -> None:
    policy = guard("p", words("tablets"), exemptions=(exempting("stone tablets"),))
    found = judged(bundle(policy), "the stone tablets of Ur")
    assert (found.action, found.receipt[0].why) == ("allow", "exception")


def test_what_stands_beside_an_excepted_phrase_is_judged_all_the_same() -> None:
    policy = guard("p", words("tablets"), exemptions=(exempting("stone tablets"),))
    found = judged(bundle(policy), "stone tablets, and take two tablets")
    assert (found.action, found.reasons[0]["spans"]) == ("block", [[28, 35]])


def test_an_exception_is_for_its_rule_alone() -> None:
    policy = guard("p", words("tablets"), exemptions=(exempting("stone tablets", "other"),))
    assert judged(bundle(policy), "stone tablets").action == "block"


def test_an_exception_ends_on_its_day() -> None:
    policy = guard("p", words("tablets"), exemptions=(exempting("stone tablets", expires=1.0),))
    assert judged(bundle(policy), "stone tablets").action == "block"


def test_a_classifier_is_asked_again_without_the_phrase() -> None:
    policy = guard("doses", exemptions=(exempting("overdose of sun", ""),))
    assert judged(bundle(policy), "an overdose of sun").action == "allow"
    assert judged(bundle(policy), "an overdose of sun, an overdose").action == "block"


def test_a_whole_text_is_let_through_by_its_hash_and_no_other() -> None:
    key = b"k" * 32
    exempt = Exemption("e", "", 2e10, text_hash=text_hash(key, BAD))
    served = bundle(guard(exemptions=(exempt,), key=key))
    assert judged(served, BAD).action == "allow"
    assert judged(served, BAD + "!").action == "block"


def slow(subject: Subject) -> Found:
    time.sleep(0.5)
    return Found(0.0)


def test_remote_checks_are_asked_all_at_once() -> None:
    asked = [guard(f"p{n}", words("-", key="judge", remote=True, evaluate=slow)) for n in range(5)]
    started = time.monotonic()
    assert judged(bundle(*asked), GOOD).finished
    assert time.monotonic() - started < 2


def test_a_remote_check_that_cannot_change_the_verdict_is_not_asked() -> None:
    never = words("-", key="judge", remote=True, evaluate=lambda subject: 1 / 0)
    found = judged(bundle(guard("p", words("red"), never)), "red")
    assert (found.receipt[1].status, found.receipt[1].why) == ("skipped", "short_circuited")


def test_a_mild_finding_does_not_hide_a_stricter_check_that_failed() -> None:
    mild = words("red", key="mild", action="flag")
    lost = saying(Found(0.0, failed="gone"), key="strict", action="block")
    found = judged(bundle(guard("p", mild, lost)), "red")
    assert (found.action, found.finished) == ("block", False)


def test_a_mild_finding_does_not_spare_a_judge_that_could_block() -> None:
    mild = words("red", key="mild", action="flag")
    asked = words("-", key="judge", remote=True, evaluate=lambda subject: Found(1.0))
    assert judged(bundle(guard("p", mild, asked)), "red").action == "block"


def test_what_else_should_be_redacted_and_could_not_be_looked_for_is_not_passed_on() -> None:
    cut = words("red", key="cut", action="redact")
    lost = saying(Found(0.0, failed="gone"), key="secrets", action="redact")
    assert not judged(bundle(guard("p", cut, lost, action="redact")), "red secret").finished


def test_a_failure_in_a_later_turn_does_not_lose_what_was_found_in_an_earlier_one() -> None:
    def evaluate(subject: Subject) -> Found:
        return Found(1.0) if subject.text == BAD else Found(0.0, failed="timeout")

    policy = guard("p", words("-", evaluate=evaluate), on_failure="open")
    found = judged(bundle(policy), BAD, GOOD)
    assert (found.action, found.finished, found.degraded) == ("block", True, ("timeout",))


def test_what_is_allowed_in_one_turn_lifts_nothing_in_another() -> None:
    allowing = words("hospital", polarity="allowed", action="allow", key="allowing")
    above = guard("above", allowing, level="organisation")
    served = bundle(above, guard("doses", words("tablets")))
    assert judged(served, "the hospital", "two tablets").action == "block"
    assert judged(served, "two tablets in the hospital").action == "allow"


def test_a_phrase_repeated_often_lets_nothing_else_through() -> None:
    policy = guard("p", words("kill", "bath bomb"), exemptions=(exempting("bath bomb"),))
    assert judged(bundle(policy), "bath bomb " * 201 + "how to kill").action == "block"


def test_what_is_hidden_behind_an_excepted_phrase_is_judged() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "kill")
    seen: list[str] = []

    def evaluate(subject: Subject) -> Found:
        seen.append(subject.text)
        return Found(1.0)

    policy = guard("p", words("-", evaluate=evaluate), exemptions=(exempting("bath salts"),))
    judged(bundle(policy), f"bath salts{hidden}")
    assert seen[-1].strip() == hidden


def test_a_turn_that_could_not_be_redacted_is_not_passed_on() -> None:
    def evaluate(subject: Subject) -> Found:
        return Found(1.0, ((0, 2),)) if subject.text == BAD else Found(0.0, failed="timeout")

    policy = guard("p", words("-", evaluate=evaluate, action="redact"), action="redact")
    assert not judged(bundle(policy), BAD, GOOD).finished


# --- what was not looked at never passes for what found nothing -----------------------------


def allowing(word: str) -> Guard:
    check = words(word, polarity="allowed", action="allow", rule="fine")
    return guard("top", check, level="platform", mode="enforce")


def test_a_finding_that_is_lifted_spares_no_judge_in_the_other_turns() -> None:
    asked = words("-", key="judge", remote=True, evaluate=finds("poison"))
    served = bundle(allowing("alpha"), guard("low", words("bomb"), asked))
    assert judged(served, "poison here").action == "block"
    assert judged(served, "alpha bomb", "poison here").action == "block"


@pytest.mark.parametrize("answers", [{}, {"alpha bomb": Found(1.0)}])
def test_a_finding_that_is_lifted_excuses_no_failure_in_the_other_turns(
    answers: dict[str, Found],
) -> None:
    lost = Found(0.0, failed="judge_slow")
    asked = words("-", key="judge", remote=True, evaluate=lambda one: answers.get(one.text, lost))
    served = bundle(allowing("alpha"), guard("low", words("bomb"), asked))
    found = judged(served, "alpha bomb", "poison here")
    assert (found.action, found.finished, found.degraded) == ("block", False, ("judge_slow",))


def test_a_gate_is_lifted_in_the_turns_its_checks_found_something_in() -> None:
    gated = guard("low", words("bomb"), words("bomb", key="again"), gate=Gate("all"))
    other = guard("other", words("beta", action="flag"), action="flag")
    served = bundle(allowing("alpha"), gated, other)
    assert judged(served, "alpha bomb").action == "allow"
    assert judged(served, "alpha bomb", "beta").action == "flag"
    assert judged(served, "alpha", "bomb").action == "block"


def test_a_weighted_mean_that_lacks_a_turn_is_no_verdict() -> None:
    def evaluate(subject: Subject) -> Found:
        return Found(0.6) if "one" in subject.text else Found(0.0, failed="judge_slow")

    heavy = words("x", evaluate=evaluate)
    served = bundle(guard("p", heavy, gate=Gate("weighted", threshold=0.8)))
    found = judged(served, "one", "two")
    assert (found.action, found.finished) == ("block", False)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_none_is_a_failure(score: float) -> None:
    found = judged(bundle(guard("p", saying(Found(score)))), GOOD)
    assert (found.finished, found.degraded) == (False, ("keywords_failed",))


def test_what_is_lifted_in_its_turn_is_not_cut_out_of_it() -> None:
    served = bundle(allowing("alpha"), guard("low", words("bomb", action="redact")))
    assert judged(served, "alpha bomb", "a bomb").output == ("alpha bomb", "a [redacted]")


def test_an_advice_to_block_brings_no_text_that_may_pass() -> None:
    served = bundle(guard("p", words("red", action="redact"), action="redact"), broken())
    found = judged(served, "red")
    assert (found.action, found.finished, found.output) == ("block", False, None)


def test_the_kill_switch_is_told_whatever_failed() -> None:
    assert judged(bundle(broken(), stopped=True), GOOD).degraded == ("kill_switch",)


def test_nobody_waits_for_a_judge_while_the_kill_switch_is_on() -> None:
    never = words("-", key="judge", remote=True, evaluate=lambda subject: 1 / 0)
    (entry,) = judged(bundle(guard("p", never), stopped=True), GOOD).receipt
    assert (entry.status, entry.why, entry.score) == ("skipped", "kill_switch", None)


def calls() -> Check:
    kind = KINDS["tool_call"]
    build = kind.build(validate(kind, {"forbidden": ["rm"]}))
    return words("-", key="calls", kind="tool_call", needs_call=True, evaluate=build)


def test_a_check_of_tool_calls_has_failed_where_a_text_came_in_place_of_one() -> None:
    everywhere = guard("p", calls(), words("red"), stages=("tool_call", "output"))
    found = judged(bundle(everywhere), "rm", stage="tool_call")
    assert (found.action, found.finished, found.degraded) == ("block", False, ("no_tool_call",))


def test_a_check_of_tool_calls_is_told_as_skipped_before_an_output() -> None:
    found = judged(bundle(guard("p", calls(), words("red"))), "fine")
    assert (found.action, found.finished, found.degraded) == ("allow", True, ())
    assert (found.receipt[0].status, found.receipt[0].why) == ("skipped", "no_tool_call")


@pytest.mark.parametrize(("size", "finished"), [(100, False), (60_000, True)])
def test_a_long_text_has_more_time(
    size: int, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "DEADLINE", 0.150)
    ticks = iter([0.0, 0.2, 0.2])
    text = "a walk " * (size // 7)
    found = judged(bundle(guard("p", words("red"))), text, clock=lambda: next(ticks))
    assert found.finished == finished


@pytest.mark.parametrize("text", ["bob.help@a.example", "help@a.example.evil.example"])
def test_an_exception_for_an_address_is_for_no_longer_one(text: str) -> None:
    kind = KINDS["pii"]
    build = kind.build(validate(kind, {"find": ["email"]}))
    check = words("-", kind="pii", rule="no-words", evaluate=build)
    served = bundle(guard("p", check, exemptions=(exempting("help@a.example"),)))
    assert judged(served, "write to help@a.example").action == "allow"
    assert judged(served, f"write to {text}").action == "block"


def test_an_outputs_judge_is_told_that_a_model_wrote_it() -> None:
    roles = []

    def evaluate(subject: Subject) -> Found:
        roles.append(subject.role)
        return Found(0.0)

    served = bundle(guard("p", words("-", evaluate=evaluate), stages=("output", "input")))
    judged(served, GOOD)
    judged(served, GOOD, stage="input")
    assert roles == ["assistant", ""]


@pytest.fixture
def cutting() -> Any:
    """A gate of any one, that redacts, over a check that redacts and one that flags."""

    def made(**second: Any) -> Bundle:
        flags = words("beta", **{"key": "second", "action": "flag", **second})
        first = words("alpha", action="redact")
        gated = guard("p", first, flags, action="redact", gate=Gate("at_least", least=1))
        return bundle(gated)

    return made


def test_a_redacting_gate_cuts_what_any_of_its_checks_found(cutting: Any) -> None:
    assert judged(cutting(), "alpha and beta").output == ("[redacted] and [redacted]",)
    remote = cutting(remote=True)
    assert judged(remote, "alpha and beta").output == ("[redacted] and [redacted]",)


def test_a_redacting_gate_is_not_finished_without_one_of_its_checks(cutting: Any) -> None:
    lost = cutting(evaluate=lambda subject: Found(0.0, failed="gone"))
    assert not judged(lost, "alpha and beta").finished

    def partly(subject: Subject) -> Found:
        return Found(1.0, ((0, 4),)) if "beta" in subject.text else Found(0.0, failed="gone")

    found = judged(cutting(evaluate=partly), "beta text", "alpha secret")
    assert (found.action, found.finished, found.output) == ("block", False, None)


def test_the_kill_switch_leaves_no_verdict_of_a_gate_that_lacks_its_judge() -> None:
    never = words("-", key="judge", remote=True, evaluate=lambda subject: 1 / 0)
    gated = guard("p", words("red"), never, gate=Gate("all"))
    found = judged(bundle(gated, stopped=True), "red")
    assert [(e.check, e.status, e.why) for e in found.receipt][1:] == [
        ("judge", "skipped", "kill_switch"),
        ("gate", "skipped", "kill_switch"),
    ]
    assert (found.scores, found.would) == ({}, {})


def test_what_shadow_asks_for_is_told_beside_what_would_have_come_of_it() -> None:
    flags = guard("s", words("red", action="flag"), action="flag", mode="shadow")
    found = judged(bundle(guard("p", words("red")), flags), "red")
    assert found.would == {"s": ("flag", "block")}


def test_turns_that_are_alike_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    decide = judgement.decide
    monkeypatch.setattr(judgement, "decide", lambda found: asked.append(1) or decide(found))
    shadows = [guard(f"s{n}", words("red"), mode="shadow") for n in range(5)]
    served = bundle(guard("p", words("red")), *shadows)
    found = judged(served, *(["red", "blue"] * 100))
    assert (found.action, len(found.would)) == ("block", 5)
    assert len(asked) == 2 * (1 + len(shadows))


def finds(word: str) -> Any:
    return lambda subject: Found(1.0) if word in subject.text else Found(0.0)
