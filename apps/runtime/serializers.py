"""What the check API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.accounts.endpoint import validated
from apps.base.lists import ListQuery
from apps.base.problems import Problem
from apps.base.schema import shown
from apps.guardrails.content_serializers import ContentIn
from apps.policies.serializers import WholeTextField
from apps.policies.specification import ACTIONS, STAGES
from apps.runtime.checking import STAGE, Checked
from apps.runtime.incidents import ACTS as INCIDENT_ACTS
from apps.runtime.models import Canary, Decision, Feedback, Incident, KillSwitch
from apps.runtime.replaying import Replay
from apps.runtime.traffic import Summary


class ContextIn(serializers.Serializer):
    key = serializers.CharField(
        max_length=200, help_text="Whose traffic this is, e.g. a user's id: fixes rollouts."
    )


class CheckIn(ContentIn):
    stage = serializers.ChoiceField(choices=STAGES)
    policies = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        min_length=1,
        max_length=200,
    )
    context = ContextIn(required=False)


_PLAIN = ({"stage", "text"}, {"stage", "text", "context"})


def is_plain(data: Any) -> bool:
    """Whether this is a right check of one text at its stage, as nearly every caller sends it."""
    return (
        isinstance(data, dict)
        and data.keys() in _PLAIN
        and isinstance(data["stage"], str)
        and data["stage"] in STAGES
        and isinstance(data["text"], str)
        and ("context" not in data or _is_plain_context(data["context"]))
    )


def _is_plain_context(data: Any) -> bool:
    key = data.get("key") if isinstance(data, dict) and len(data) == 1 else None
    return isinstance(key, str) and 0 < len(key) <= 200 and key.isprintable() and " " not in key


def check_in(data: Any) -> dict[str, Any]:
    """A check, validated."""
    return data if is_plain(data) else validated(CheckIn, data)


class BatchIn(serializers.Serializer):
    items = CheckIn(many=True)


class ChunkIn(serializers.Serializer):
    stream = serializers.CharField(max_length=200, help_text="The caller's name of this output.")
    number = serializers.IntegerField(min_value=1, help_text="1, 2, 3..., none missing.")
    chunk = WholeTextField()
    final = serializers.BooleanField(required=False, default=False)
    stage = serializers.ChoiceField(choices=STAGES, required=False, default="output")
    policies = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        min_length=1,
        max_length=200,
    )
    context = ContextIn(required=False)


class FeedbackIn(ContentIn):
    verdict = serializers.ChoiceField(
        choices=Feedback.Kind.choices,
        error_messages={"invalid_choice": f"Choose one of: {', '.join(Feedback.Kind.values)}."},
    )
    note = WholeTextField(required=False, default="", max_length=2000)
    policy = serializers.CharField(required=False, default="", max_length=60, allow_blank=True)
    turn = serializers.IntegerField(
        required=False,
        default=None,
        allow_null=True,
        min_value=0,
        help_text="The text that was judged wrongly, from 0, of several.",
    )


class SpansField(serializers.ListField):
    """[[start, end]] in code points of the text as received."""

    child = serializers.ListField(child=serializers.IntegerField(), min_length=2, max_length=2)


class PlaceShape(serializers.Serializer):
    turn = serializers.IntegerField()
    spans = SpansField()


class ReasonShape(serializers.Serializer):
    policy = serializers.CharField()
    policy_version = serializers.IntegerField()
    rule = serializers.CharField(allow_null=True)
    check = serializers.CharField()
    score = serializers.FloatField(allow_null=True)
    threshold = serializers.FloatField(allow_null=True)
    action = serializers.CharField()
    level = serializers.CharField()
    turn = serializers.IntegerField(allow_null=True)
    spans = SpansField()
    places = PlaceShape(many=True)
    reason = serializers.CharField()
    lifted_by = serializers.CharField(allow_null=True)


class UsageShape(serializers.Serializer):
    calls = serializers.IntegerField()
    remembered = serializers.IntegerField(help_text="Answers that needed no call.")
    milliseconds = serializers.FloatField(help_text="Of all calls together.")
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()


class EntryShape(serializers.Serializer):
    policy = serializers.CharField()
    policy_version = serializers.IntegerField()
    check = serializers.CharField()
    kind = serializers.CharField()
    mode = serializers.CharField()
    status = serializers.ChoiceField(choices=["ran", "skipped", "failed"])
    why = serializers.CharField()
    rule = serializers.CharField()
    advisory = serializers.BooleanField()
    score = serializers.FloatField(allow_null=True)
    threshold = serializers.FloatField(allow_null=True)
    action = serializers.CharField()
    turn = serializers.IntegerField(allow_null=True)
    places = PlaceShape(many=True)
    reason = serializers.CharField()
    usage = UsageShape(allow_null=True, required=False, help_text="Of a remote check.")


class BundleShape(serializers.Serializer):
    id = serializers.CharField()
    models = serializers.DictField(child=serializers.IntegerField())


class AnswerShape(serializers.Serializer):
    """What an answer and its record both say."""

    decision_id = serializers.UUIDField()
    action = serializers.CharField()
    degraded = serializers.BooleanField()
    degraded_by = serializers.ListField(child=serializers.CharField())
    reasons = ReasonShape(many=True)
    receipt = EntryShape(many=True)
    latency_ms = serializers.FloatField()


class CheckedShape(AnswerShape):
    output = serializers.JSONField(
        allow_null=True,
        help_text="What may pass instead where the action is redact or rewrite: one text, or for "
        "messages and passages a list of texts.",
    )
    bundle = BundleShape()
    recorded = serializers.BooleanField()


class DecisionShape(AnswerShape):
    at = serializers.DateTimeField()
    caller = serializers.CharField()
    canary = serializers.BooleanField()
    stage = serializers.CharField()
    finished = serializers.BooleanField()
    bundle = serializers.CharField()
    length = serializers.IntegerField()


class BatchShape(serializers.Serializer):
    results = serializers.ListField(child=serializers.JSONField(allow_null=True))
    errors = serializers.ListField(child=serializers.JSONField(allow_null=True))


class StreamedShape(serializers.Serializer):
    action = serializers.CharField()
    release = serializers.IntegerField()
    next = serializers.IntegerField()
    check = CheckedShape(allow_null=True)


class ReplayShape(serializers.Serializer):
    same = serializers.BooleanField(allow_null=True, help_text="null: it was not judged; see gone.")
    gone = serializers.ListField(child=serializers.CharField())
    action = serializers.CharField(allow_null=True)
    reasons = ReasonShape(many=True)
    receipt = EntryShape(many=True)


class IncidentShape(serializers.Serializer):
    id = serializers.UUIDField()
    policy = serializers.CharField(allow_null=True)
    status = serializers.CharField()
    expected = serializers.CharField(allow_blank=True)
    text = serializers.CharField()
    facts = serializers.DictField(help_text="What was judged with the text: role, source, calls.")
    note = serializers.CharField()
    decision = serializers.UUIDField(allow_null=True)
    case = serializers.UUIDField(allow_null=True)
    fixed_by = serializers.CharField()
    opened_by = serializers.CharField()
    opened_at = serializers.DateTimeField()


NARROWED = ("action", "stage", "policy", "since", "until", "degraded", "shadow", "canary")


class DecisionQuery(ListQuery):
    action = serializers.ChoiceField(choices=ACTIONS, required=False, default="")
    stage = serializers.ChoiceField(choices=(*STAGES, STAGE), required=False, default="")
    policy = serializers.CharField(
        max_length=60,
        required=False,
        default="",
        help_text="One that found something, or failed, by its slug.",
    )
    since = serializers.DateTimeField(
        required=False, default=None, help_text="Only those made from then on."
    )
    until = serializers.DateTimeField(
        required=False, default=None, help_text="Only those made before."
    )
    degraded = serializers.BooleanField(
        required=False, default=False, help_text="Only those that were less than a whole judgement."
    )
    shadow = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Only those in which the policy (or any) found something and did not act.",
    )
    canary = serializers.BooleanField(
        required=False,
        default=None,
        allow_null=True,
        help_text="Only those about canaries, or none of them.",
    )


class IncidentQuery(ListQuery):
    status = serializers.ChoiceField(choices=Incident.Status.choices, required=False, default="")


class IncidentPatch(serializers.Serializer):
    act = serializers.ChoiceField(choices=INCIDENT_ACTS)
    why = WholeTextField(required=False, default="", max_length=2000)


class OpenedShape(serializers.Serializer):
    id = serializers.UUIDField()
    policy = serializers.CharField()
    status = serializers.CharField()
    expected = serializers.CharField()


class FeedbackShape(serializers.Serializer):
    id = serializers.UUIDField()
    verdict = serializers.CharField()
    incidents = OpenedShape(many=True)


class CanaryIn(serializers.Serializer):
    stage = serializers.ChoiceField(choices=STAGES)
    text = WholeTextField(max_length=10_000)
    expected = serializers.ChoiceField(choices=ACTIONS)


class CanaryShape(serializers.Serializer):
    id = serializers.UUIDField()
    stage = serializers.CharField()
    text = serializers.CharField()
    expected = serializers.CharField()
    last_at = serializers.DateTimeField(allow_null=True)
    last_action = serializers.CharField()
    last_problem = serializers.CharField()
    failing_since = serializers.DateTimeField(allow_null=True)


class KillSwitchIn(serializers.Serializer):
    on = serializers.BooleanField()
    reason = WholeTextField(max_length=500)


class KillSwitchShape(serializers.Serializer):
    on = serializers.BooleanField()
    reason = serializers.CharField()
    changed_by = serializers.CharField()
    changed_at = serializers.DateTimeField(allow_null=True)


class RetentionShape(serializers.Serializer):
    share = serializers.FloatField()
    days = serializers.IntegerField()
    for_owners = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Whether owners see what their changes would do to kept texts, with samples.",
    )


class CheckSummaryShape(serializers.Serializer):
    policy = serializers.CharField()
    check = serializers.CharField()
    ran = serializers.IntegerField()
    noted = serializers.DictField(
        child=serializers.IntegerField(), help_text="Of the times it ran, those with a why."
    )
    found = serializers.IntegerField()
    failed = serializers.DictField(child=serializers.IntegerField(), help_text="By why.")
    skipped = serializers.DictField(child=serializers.IntegerField(), help_text="By why.")
    usage = UsageShape()


class TrafficShape(serializers.Serializer):
    total = serializers.IntegerField()
    actions = serializers.DictField(child=serializers.IntegerField())
    degraded = serializers.IntegerField()
    unfinished = serializers.IntegerField()
    dropped = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
    hours = serializers.ListField(child=serializers.DictField())
    policies = serializers.ListField(child=serializers.DictField())
    rules = serializers.ListField(child=serializers.DictField())
    checks = CheckSummaryShape(many=True)


def show_replay(replay: Replay) -> dict[str, Any]:
    judged = replay.judgement
    return {
        "same": replay.same,
        "gone": list(replay.gone),
        "action": judged.action if judged else None,
        "reasons": list(judged.reasons) if judged else [],
        "receipt": judged.receipt_as_data() if judged else [],
    }


def show_incident(incident: Incident) -> dict[str, Any]:
    return shown(
        IncidentShape,
        incident,
        policy=incident.policy.slug if incident.policy else None,
        case=incident.case_id,
    )


def show_opened(incident: Incident) -> dict[str, Any]:
    """An incident for whoever reported it, who may not see those of its policy."""
    shown = show_incident(incident)
    return {name: shown[name] for name in ("id", "policy", "status", "expected")}


def show_canary(canary: Canary) -> dict[str, Any]:
    return shown(CanaryShape, canary)


def show_kill_switch(switch: KillSwitch) -> dict[str, Any]:
    return shown(KillSwitchShape, switch)


def show_traffic(found: Summary) -> dict[str, Any]:
    def finite(milliseconds: float | None) -> float | None:
        return None if milliseconds == float("inf") else milliseconds

    return {
        "total": found.total,
        "actions": found.actions,
        "degraded": found.degraded,
        "unfinished": found.unfinished,
        "dropped": found.dropped,
        "p50_ms": finite(found.p50),
        "p99_ms": finite(found.p99),
        "hours": [{"hour": hour, "actions": actions} for hour, actions in found.hours],
        "policies": found.policies,
        "rules": [
            {name: row[name] for name in ("policy", "rule", "mode", "found")} for row in found.rules
        ],
        "checks": [{**vars(one), "usage": one.usage._asdict()} for one in found.checks],
    }


def show_checked(checked: Checked) -> dict[str, Any]:
    return {
        **_show_answer(checked.decision),
        "output": checked.output,
        "bundle": {"id": checked.bundle.id, "models": checked.bundle.models},
        "recorded": checked.recorded,
    }


def finished(checked: Checked, **more: Any) -> dict[str, Any]:
    """The answer to a finished decision; raises the 503 of one that is not, which says `more`."""
    answer = show_checked(checked)
    if not checked.judgement.finished:
        raise Problem(
            why_not_finished(checked), code="not_finished", status=503, extra={**answer, **more}
        )
    return answer


def why_not_finished(checked: Checked) -> str:
    """Which enforced policies failed, in codes why, and what to do."""
    judged = checked.judgement
    told = f"Not finished: {', '.join(judged.failed)} failed ({', '.join(judged.degraded)})."
    if "no_model" in judged.degraded:
        told += " A classifier that has a vote needs a model: train one, or leave enforce."
    return f"{told} The advice is to {judged.action}."


def show_decision(decision: Decision) -> dict[str, Any]:
    return {
        **_show_answer(decision),
        "at": decision.at,
        "caller": decision.caller,
        "canary": decision.canary,
        "stage": decision.stage,
        "finished": decision.finished,
        "bundle": decision.bundle,
        "length": decision.length,
    }


def _show_answer(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.pk,
        "action": decision.action,
        "degraded": bool(decision.degraded),
        "degraded_by": decision.degraded,
        "reasons": decision.reasons,
        "receipt": decision.receipt,
        "latency_ms": decision.latency_ms,
    }
