"""Which model is live, and what the learning stream should ask next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.audit import history, record
from apps.guardrails import artifacts
from apps.guardrails.models import ModelVersion
from apps.labeling.queue import EXPLORATION_SHARE, set_priorities
from apps.policies.models import Policy

MOST_RANKED = 20_000
LEAST_RANKED = 2_000
RANKED_FOR_EACH_LABEL = 40
_CHUNK = 500
BY_HAND = "by_hand"

# Called with a policy and what guards it anew ("model 4"), after commit; wiring.py fills it.
on_change: list[Callable[[Policy, str], None]] = []
# Called with another model that went live, after commit; wiring.py fills it.
on_live: list[Callable[[ModelVersion], None]] = []


def live_model(policy: Policy) -> ModelVersion | None:
    """The one model version that speaks for the policy now."""
    return (
        ModelVersion.objects.filter(policy=policy, status=ModelVersion.Status.LIVE)
        .select_related("dataset", "policy_version")
        .first()
    )


def given_way(live: ModelVersion) -> ModelVersion | None:
    """The model before this one, where a retrain took it with the threshold chosen by hand."""
    if live.threshold_rule == BY_HAND or live.live_since is None:
        return None
    before = ModelVersion.objects.filter(policy=live.policy_id, live_since__lt=live.live_since)
    last = before.order_by("-live_since").first()
    if last is None or last.threshold_rule != BY_HAND:
        return None
    served = history(live.policy.workspace, live, ("model.live",)).last()
    return last if served is not None and served.actor.startswith("task ") else None


def served_as(policy: Policy) -> str:
    """A word that changes when another model, or the same at another threshold, is served."""
    live = live_model(policy)
    return f"{live.pk}:{live.threshold!r}" if live else ""


def fit_refusal(version: ModelVersion) -> str:
    """Why a model's fit may not be served, whatever its threshold; "" when it may."""
    unknown = "it was rejected" if version.status == ModelVersion.Status.REJECTED else ""
    return str(version.report.get("refusal", unknown))


def held_back(policy: Policy) -> ModelVersion | None:
    """The newest model, where must-pass cases kept it from being served when it was trained."""
    newest = ModelVersion.objects.filter(policy=policy).order_by("-number").first()
    if newest is None or newest.status != ModelVersion.Status.REJECTED or fit_refusal(newest):
        return None
    return newest


def make_live(actor: Actor, version: ModelVersion) -> None:
    """Move the live pointer, in the caller's transaction; the old model retires."""
    ModelVersion.objects.filter(
        policy_id=version.policy_id, status=ModelVersion.Status.LIVE
    ).exclude(pk=version.pk).update(status=ModelVersion.Status.RETIRED)
    version.status, version.live_since = ModelVersion.Status.LIVE, timezone.now()
    version.save(update_fields=["status", "live_since"])
    record(actor, "model.live", version, number=version.number)
    for listener in on_live:
        transaction.on_commit(partial(listener, version), robust=True)
    tell_change(version.policy, f"model {version.number}")


def choose_threshold(actor: Actor, version: ModelVersion, threshold: float) -> None:
    """Move a model version's threshold by hand, in the caller's transaction; recorded as such."""
    note = f"was chosen by hand by {actor.label[:200]}; it was {version.threshold:.4g}"
    set_threshold(
        actor,
        version,
        {
            "threshold": threshold,
            "threshold_rule": BY_HAND,
            "threshold_note": note,
            "threshold_provisional": False,
        },
    )


def set_threshold(actor: Actor, version: ModelVersion, choice: Mapping[str, Any]) -> None:
    """Give a saved model version a threshold and how it came about, in the caller's transaction."""
    before = version.threshold
    for name, value in choice.items():
        setattr(version, name, value)
    version.save(update_fields=list(choice))
    record(
        actor,
        "model.threshold",
        version,
        number=version.number,
        before=before,
        after=version.threshold,
        rule=version.threshold_rule,
    )


def tell_change(policy: Policy, what: str) -> None:
    """Let the apps to the right look at what guards a policy now, once it is committed."""
    for listener in on_change:
        transaction.on_commit(partial(listener, policy, what), robust=True)


def rank_learning_stream(policy: Policy) -> int:
    """Score a uniform draw of free train-side examples and rank them by uncertainty.

    As many as give the next model's labels a choice, no more: at the next model all is redrawn.

    The priority is the entropy of c in bits, (0, 1]: most uncertain first. Returns how many
    were ranked. Nobody waits for this: until it is done the older ranking stands.

    Exploration draws go up from u = 0 and must stay a random sample, so what is ranked starts
    above the share of u that is left to them.
    """
    version = live_model(policy)
    if version is None:
        return 0
    wanted = RANKED_FOR_EACH_LABEL * policy.retrain_after
    size = min(MOST_RANKED, max(LEAST_RANKED, wanted))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slot.id, there.example_id FROM labeling_slot slot"
            " JOIN corpus_policyexample there ON there.id = slot.policy_example_id"
            " WHERE slot.policy_id = %s AND slot.state = 'free' AND slot.side = 'train'"
            " AND slot.skips < 2 AND slot.position >= %s AND slot.position < 1"
            " ORDER BY slot.position LIMIT %s",
            [policy.pk, EXPLORATION_SHARE, size],
        )
        pool = cursor.fetchall()
        for start in range(0, len(pool), _CHUNK):
            part = pool[start : start + _CHUNK]
            cursor.execute(
                "SELECT output FROM unnest(%s::uuid[]) WITH ORDINALITY AS wanted(id, position)"
                " JOIN corpus_example USING (id) ORDER BY position",
                [[example for _, example in part]],
            )
            c = artifacts.score_texts(version, [text for (text,) in cursor.fetchall()])
            entropy = -(c * np.log2(c) + (1 - c) * np.log2(1 - c))
            priority = np.clip(np.nan_to_num(entropy), 1e-9, 1.0)
            set_priorities(policy, [slot for slot, _ in part], priority.tolist())
    return len(pool)
