"""Decisions and what hangs on them: bundles, kept texts, feedback, incidents, canaries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import ClassVar

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.lookups import Exact
from django.utils import timezone

from apps.accounts.actor import Actor
from apps.accounts.models import Membership, Workspace
from apps.base.ids import uuid7
from apps.corpus.models import PolicyExample
from apps.evidence.models import MustPassCase
from apps.policies.models import Policy
from apps.runtime.partitions import first_id

_SAID = '((@.action != "" && @.advisory == false) || @.status == "failed")'


class _Said(models.Func):
    """1 if, in a receipt, a check with a vote found something, or one failed.

    In these words, to the letter, it is the condition of the index `decision_said`; and a number,
    since PostgreSQL takes a third of all rows to fulfil a function that is true or false.
    """

    template = f"jsonb_path_exists(%(expressions)s, '$[*] ? {_SAID}')::int"
    output_field = models.IntegerField()


class _SaidBy(models.Func):
    """The same of a policy: of a receipt and {"policy": its slug, or "" for any, "mode": likewise}.

    Of those in shadow only what they found counts.
    """

    function = "jsonb_path_exists"
    arg_joiner = (
        f""", '$[*] ? ({_SAID} && ($policy == "" || @.policy == $policy)"""
        """ && ($mode == "" || (@.mode == $mode && @.action != "")))', """
    )
    output_field = models.BooleanField()


class DecisionQuerySet(models.QuerySet["Decision"]):
    def visible_to(self, actor: Actor) -> DecisionQuerySet:
        return self.filter(workspace=actor.workspace)

    def narrowed(
        self,
        *,
        action: str,
        stage: str,
        policy: str,
        since: datetime | None = None,
        until: datetime | None = None,
        degraded: bool = False,
        shadow: bool = False,
        canary: bool | None = None,
    ) -> DecisionQuerySet:
        """Those of an action, of a stage, and of a policy; "" asks for none.

        Args:
            policy: only those in which it found something, or failed.
            since, until: only those made from the one moment on, and before the other.
            degraded: only those that were less than a whole judgement.
            shadow: only those in which it (or any) found something and did not act.
            canary: only those about canaries, or none of them.
        """
        asked = {
            "action": action,
            "stage": stage,
            # an id begins with its moment, and tells the month's partition
            "id__gte": since and first_id(since),
            "id__lt": until and first_id(until),
        }
        rows = self.filter(**{name: value for name, value in asked.items() if value})
        if canary is not None:
            rows = rows.filter(canary=canary)
        if degraded:
            rows = rows.exclude(degraded=[])
        if not shadow and not policy:
            return rows
        by = {"policy": policy, "mode": "shadow" if shadow else ""}
        said = Exact(_Said("receipt"), 1)
        return rows.filter(said, _SaidBy("receipt", models.Value(by, models.JSONField())))


class Decision(models.Model):
    """One answer of the check API. Append-only; its table is partitioned by month, through `id`.

    Args:
        caller: how the audit trail names who asked.
        canary: whether it was about a canary, which is no traffic.
        finished: False when the answer was advice only, because an enforced policy failed.
        degraded: why it was less than a whole judgement; [] when it was whole.
        text_hash: keyed hash of what was judged, by the workspace's own key; never the text.
        length: code points judged.
        would: of each shadow policy that has a say, what it asks for, and the action with it
            enforced; counted when the decision is written, and not kept with it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    caller = models.CharField(max_length=400)
    canary = models.BooleanField(default=False, db_default=False)
    stage = models.CharField(max_length=10)
    action = models.CharField(max_length=10)
    finished = models.BooleanField()
    degraded = models.JSONField()
    bundle = models.CharField(max_length=32)
    text_hash = models.BinaryField()
    length = models.PositiveIntegerField()
    latency_ms = models.FloatField()
    reasons = models.JSONField()
    receipt = models.JSONField()
    would: Mapping[str, tuple[str, str]] = MappingProxyType({})

    objects: ClassVar[DecisionQuerySet] = DecisionQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            # the list of decisions, by keyset
            models.Index(fields=["workspace", "id"], name="decision_list"),
            # what is looked for and rare; migration 0008 adds `decision_said`
            models.Index(
                fields=["workspace", "action", "id"],
                name="decision_action",
                condition=~models.Q(action="allow"),
            ),
            models.Index(
                fields=["workspace", "stage", "id"],
                name="decision_stage",
                condition=~models.Q(stage__in=["input", "output"]),
            ),
            models.Index(
                fields=["workspace", "id"],
                name="decision_degraded",
                condition=~models.Q(degraded=[]),
            ),
            # canaries are nearly all of a quiet site's decisions, and nearly none of a busy one's
            models.Index(
                fields=["workspace", "id"],
                name="decision_traffic",
                condition=models.Q(canary=False),
            ),
            models.Index(
                fields=["workspace", "id"],
                name="decision_canary",
                condition=models.Q(canary=True),
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="decision_append_only", operation=pgtrigger.Update | pgtrigger.Delete
            )
        ]

    def __str__(self) -> str:
        return f"{self.action} ({self.id})"

    @property
    def found_in_shadow(self) -> list[dict[str, str]]:
        """What each policy that did not act found: its policy, rule (or check) and action, once."""
        found = {
            (entry["policy"], entry["rule"] or entry["check"], entry["action"]): None
            for entry in self.receipt
            if entry["mode"] == "shadow" and entry["action"] and not entry.get("advisory")
        }
        return [dict(zip(("policy", "rule", "action"), one, strict=True)) for one in found]


class ServedBundle(models.Model):
    """What a bundle's id stands for: versions, modes and thresholds, so that it can be replayed."""

    id = models.CharField(primary_key=True, max_length=32)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    manifest = models.JSONField()
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id


class KillSwitch(models.Model):
    """Whether nothing may act in a workspace: every enforced policy is in shadow while it is on."""

    workspace = models.OneToOneField(
        Workspace, models.CASCADE, primary_key=True, related_name="kill_switch"
    )
    on = models.BooleanField(default=False)
    reason = models.CharField(max_length=500, blank=True)
    changed_by = models.CharField(max_length=300)
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return "on" if self.on else "off"


class Retention(models.Model):
    """Which texts of decisions a workspace keeps: none without a row.

    Args:
        share: of decisions whose text is kept, in (0, 1], drawn at random.
        days: after which it is deleted.
        for_owners: whether owners see what their changes would do to them, with samples.
    """

    workspace = models.OneToOneField(
        Workspace, models.CASCADE, primary_key=True, related_name="retention"
    )
    share = models.FloatField()
    days = models.PositiveSmallIntegerField()
    for_owners = models.BooleanField(default=False, db_default=False)

    def __str__(self) -> str:
        return f"{self.share:.0%} for {self.days} days"


class DecisionText(models.Model):
    """What a decision judged, encrypted by a key that is not in the database, until it expires."""

    decision = models.UUIDField(primary_key=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    content = models.BinaryField()
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            # the newest texts of a workspace, for replays before a change
            models.Index(fields=["workspace", "decision"], name="decision_text_list"),
            # what the sweep deletes
            models.Index(fields=["expires_at"], name="decision_text_expiry"),
        ]

    def __str__(self) -> str:
        return str(self.decision)


class Feedback(models.Model):
    """Somebody says that a decision was right or wrong."""

    class Kind(models.TextChoices):
        WRONGLY_BLOCKED = "wrongly_blocked"
        WRONGLY_ALLOWED = "wrongly_allowed"
        RIGHT = "right"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    # not a foreign key: a month of decisions can be dropped, what people said of it stays
    decision = models.UUIDField(db_index=True)
    verdict = models.CharField(max_length=15, choices=Kind.choices)
    note = models.CharField(max_length=2000, blank=True)
    given_by = models.CharField(max_length=400)
    given_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["workspace", "id"], name="feedback_list")]

    def __str__(self) -> str:
        return f"{self.verdict}: {self.decision}"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def visible_to(self, actor: Actor) -> IncidentQuerySet:
        """Those of policies the actor owns; a canary's has no policy and is for admins."""
        rows = self.filter(workspace=actor.workspace)
        if actor.membership is None or actor.is_admin:
            return rows
        return rows.filter(policy__in=Policy.objects.owned_by(actor))

    def unresolved(self) -> IncidentQuerySet:
        return self.exclude(status__in=Incident.CLOSED)


class Incident(models.Model):
    """A miss or a false alarm seen in the wild, until a version that passes its case closes it.

    Args:
        policy: whose verdict was wrong; none where a canary had a wrong answer or none.
        expected: what the right verdict on its text would have been.
        text: what was judged wrongly; it became an example and, once labelled, a case.
        facts: what else was judged with the text: role, source, calls of tools.
        policy_example: that example, on top of the policy's queue.
        fixed_by: what passes the case, in words: "model 4", "guardrail 2".
    """

    class Status(models.TextChoices):
        OPEN = "open"
        REPRODUCED = "reproduced"
        LABELLED = "labelled"
        CASE = "case"
        FIXED = "fixed"
        VERIFIED = "verified"
        DISMISSED = "dismissed"

    CLOSED = (Status.VERIFIED, Status.DISMISSED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    policy = models.ForeignKey(
        Policy, models.CASCADE, null=True, related_name="incidents", db_index=False
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    expected = models.CharField(max_length=8, choices=MustPassCase.Expected.choices, blank=True)
    text = models.TextField()
    facts = models.JSONField(default=dict, blank=True)
    note = models.CharField(max_length=2000, blank=True)
    decision = models.UUIDField(null=True)
    policy_example = models.ForeignKey(PolicyExample, models.SET_NULL, null=True, related_name="+")
    case = models.ForeignKey(MustPassCase, models.SET_NULL, null=True, related_name="+")
    canary = models.ForeignKey("Canary", models.SET_NULL, null=True, related_name="+")
    fixed_by = models.CharField(max_length=200, blank=True)
    opened_by = models.CharField(max_length=400)
    opened_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[IncidentQuerySet] = IncidentQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        indexes = [
            # the list of incidents, by keyset
            models.Index(fields=["workspace", "id"], name="incident_list"),
            # a policy's, and those that wait for a fix
            models.Index(fields=["policy", "status"], name="incident_of_policy"),
            # those that a decision's page tells
            models.Index(fields=["decision"], name="incident_of_decision"),
        ]

    def __str__(self) -> str:
        return f"incident of {self.policy} ({self.status})"


class Canary(models.Model):
    """A text whose action is known, sent through the real path every minute.

    Args:
        last_action: "" when the last try had no answer; `last_problem` says why.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+")
    stage = models.CharField(max_length=10)
    text = models.TextField()
    expected = models.CharField(max_length=10)
    made_by = models.ForeignKey(Membership, models.CASCADE, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)
    last_at = models.DateTimeField(null=True)
    last_action = models.CharField(max_length=10, blank=True)
    last_problem = models.CharField(max_length=200, blank=True)
    failing_since = models.DateTimeField(null=True)

    LATE = timedelta(minutes=3)

    def __str__(self) -> str:
        return f"canary {self.pk}"

    @property
    def is_late(self) -> bool:
        """Whether it was not sent for so long that nobody knows whether it would pass."""
        return timezone.now() - (self.last_at or self.made_at) > self.LATE


class StreamBuffer(models.Model):
    """What came so far of one streamed output, encrypted, until its end.

    Args:
        name: hash of whose it is and the caller's own name for it.
        chunks: how many came.
        checked: code points of the text that were checked and may be shown.
        looked: code points that were checked, whatever came of it.
        action: the last check's; a stream that was stopped stays stopped. "ended" after its last
            chunk, which may be sent again for a while.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    name = models.CharField(max_length=200)
    content = models.BinaryField()
    chunks = models.PositiveIntegerField(default=0)
    checked = models.PositiveIntegerField(default=0)
    looked = models.PositiveIntegerField(default=0)
    action = models.CharField(max_length=10, default="allow")
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="stream_name_unique")
        ]

    def __str__(self) -> str:
        return self.name


class Traffic(models.Model):
    """How many decisions of an hour were like this: counted as they are written.

    Args:
        policy: "" for whole decisions, by action, of which those of the mode CANARY are no traffic;
            else what one policy asked for, by its mode.
        rule: of a finding that knows it; "" for all that a policy asked for in one decision.
        changed: decisions that a shadow policy would have made more restrictive.
        buckets: of whole decisions, how many took up to each of LATENCIES milliseconds, then more.
        dropped: decisions that were answered and never written.
        milliseconds: of whole decisions, that all of them took together.
    """

    LATENCIES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
    CANARY = "canary"

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField()
    policy = models.CharField(max_length=60)
    mode = models.CharField(max_length=7)
    rule = models.CharField(max_length=60)
    action = models.CharField(max_length=10)
    count = models.BigIntegerField(default=0)
    degraded = models.BigIntegerField(default=0)
    unfinished = models.BigIntegerField(default=0)
    changed = models.BigIntegerField(default=0)
    dropped = models.BigIntegerField(default=0)
    milliseconds = models.FloatField(default=0)
    buckets = ArrayField(models.BigIntegerField())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "hour", "policy", "mode", "rule", "action"],
                name="traffic_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour}: {self.count} {self.action}"


class CheckTraffic(models.Model):
    """How often in an hour a check of a policy came to this: counted as decisions are written.

    Args:
        key: of the check.
        status, why: as in receipts: ran, skipped or failed, and the code that says why.
        found: of those that ran, how many found something.
        calls, remembered, milliseconds, prompt_tokens, completion_tokens: of a remote check, what
            asking came to.
    """

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField()
    policy = models.CharField(max_length=60)
    key = models.CharField(max_length=60)
    status = models.CharField(max_length=7)
    why = models.CharField(max_length=60)
    count = models.BigIntegerField()
    found = models.BigIntegerField()
    calls = models.BigIntegerField()
    remembered = models.BigIntegerField()
    milliseconds = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "hour", "policy", "key", "status", "why"],
                name="check_traffic_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour}: {self.policy}/{self.key} {self.status} {self.count} times"
