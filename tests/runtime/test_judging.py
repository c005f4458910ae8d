"""What a bundle says of texts, and what it says when part of it cannot judge."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from apps.guardrails.learning import artifact, features
from apps.runtime import judging
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


def guard(policy: str = "doses", **values: Any) -> Guard:
    given: dict[str, Any] = {
        "policy_version": 1,
        "level": "application",
        "stages": ("output",),
        "mode": "enforce",
        "on_failure": "closed",
        "action": "block",
        "model": model(),
        "model_version": 1,
    }
    return Guard(policy=policy, **{**given, **values})


def bundle(*guards: Guard) -> Bundle:
    return Bundle("b", guards)


def broken(policy: str = "broken", **values: Any) -> Guard:
    return guard(policy, model=None, problem="no_model", **values)


BAD, GOOD = "an overdose", "a walk by the sea"


def test_a_text_over_the_threshold_gets_the_policys_action_with_the_reason() -> None:
    found = judge(bundle(guard()), stage="output", texts=[BAD])
    assert (found.action, found.finished, found.degraded) == ("block", True, ())
    (reason,) = found.reasons
    assert (reason["policy"], reason["check"], reason["rule"]) == ("doses", "classifier", None)
    assert reason["score"] >= reason["threshold"]


def test_a_text_below_it_is_allowed_and_the_receipt_says_that_the_check_ran() -> None:
    found = judge(bundle(guard()), stage="output", texts=[GOOD])
    assert (found.action, found.reasons) == ("allow", ())
    (entry,) = found.receipt
    assert (entry.status, entry.action) == ("ran", "")
    assert entry.score is not None


def test_every_turn_is_looked_at_and_the_one_that_tripped_is_told() -> None:
    found = judge(bundle(guard()), stage="output", texts=[GOOD, BAD, GOOD])
    assert found.reasons[0]["turn"] == 1


def test_only_policies_of_the_stage_are_asked() -> None:
    found = judge(bundle(guard(stages=("input",))), stage="output", texts=[BAD])
    assert (found.action, found.receipt) == ("allow", ())


def test_shadow_decides_and_is_told_but_never_acts() -> None:
    found = judge(bundle(guard(mode="shadow")), stage="output", texts=[BAD])
    assert (found.action, found.reasons) == ("allow", ())
    assert found.receipt[0].action == "block"


def test_off_is_skipped_and_says_so() -> None:
    found = judge(bundle(guard(mode="off")), stage="output", texts=[BAD])
    assert (found.receipt[0].status, found.receipt[0].why) == ("skipped", "mode_off")
    assert found.finished


def fail_features(monkeypatch: pytest.MonkeyPatch) -> Guard:
    failing = guard("broken")
    monkeypatch.setattr(features, "extract", lambda texts: 1 / 0)
    return failing


def fail_model(monkeypatch: pytest.MonkeyPatch) -> Guard:
    return guard("broken", model=replace(model(), weights=np.zeros(3, np.float32)))


def fail_deadline(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setattr(judging, "DEADLINE", -1.0)
    return guard("broken")


CAUSES = {
    "no_model": lambda _: broken(),
    "model_refused": lambda _: guard("broken", model=None, problem="model_refused"),
    "features_failed": fail_features,
    "classifier_failed": fail_model,
    "deadline": fail_deadline,
}


@pytest.mark.parametrize(("cause", "side"), list(product(CAUSES, ["open", "closed"])))
def test_a_failure_is_told_and_advises_what_the_policy_says(
    monkeypatch: pytest.MonkeyPatch, cause: str, side: str
) -> None:
    failing = replace(CAUSES[cause](monkeypatch), on_failure=side)
    found = judge(bundle(failing), stage="output", texts=[BAD])
    assert (found.finished, found.degraded) == (False, (cause,))
    assert found.action == {"open": "allow", "closed": "block"}[side]
    assert (found.receipt[0].status, found.receipt[0].why) == ("failed", cause)


@pytest.mark.parametrize("side", ["open", "closed"])
def test_a_block_that_was_found_wins_whatever_else_failed(side: str) -> None:
    found = judge(bundle(guard(), broken(on_failure=side)), stage="output", texts=[BAD])
    assert (found.action, found.finished, found.degraded) == ("block", True, ("no_model",))


def test_open_advises_what_the_others_found() -> None:
    others = guard(action="flag")
    found = judge(bundle(others, broken(on_failure="open")), stage="output", texts=[BAD])
    assert (found.action, found.finished) == ("flag", False)


def test_one_that_fails_closed_outweighs_one_that_fails_open() -> None:
    failing = [broken("a", on_failure="open"), broken("b", on_failure="closed")]
    assert judge(bundle(*failing), stage="output", texts=[GOOD]).action == "block"


def test_a_failure_in_shadow_is_told_and_changes_nothing() -> None:
    found = judge(bundle(broken(mode="shadow")), stage="output", texts=[BAD])
    assert (found.action, found.finished, found.degraded) == ("allow", True, ("no_model",))
