"""How much was decided, and how: counted hour by hour as decisions are written."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.guardrails.checks.interface import UNUSED, Usage
from apps.policies.models import Policy
from apps.policies.specification import ACTIONS
from apps.runtime.decide import restricts_more
from apps.runtime.judgement import stands
from apps.runtime.models import CheckTraffic, Decision, Traffic

LATENCIES = Traffic.LATENCIES
HOURS = 24
KEPT = timedelta(days=90)
"""How long hours are told apart; Serving tells the last HOURS."""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = ("count", "degraded", "unfinished", "changed", "dropped", "milliseconds")
_Key = tuple[UUID, datetime, str, str, str, str]
_NO_SAY = ("allow", "allow")


@dataclass
class _Row:
    count: int = 0
    degraded: int = 0
    unfinished: int = 0
    changed: int = 0
    dropped: int = 0
    milliseconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES) + 1))


def count(decisions: Iterable[Decision], *, dropped: Mapping[UUID, int]) -> None:
    """Add decisions to their hours, in the transaction that writes them.

    Args:
        dropped: decisions that were lost, by workspace; of one that is gone nobody asks.
    """
    rows: dict[_Key, _Row] = defaultdict(_Row)
    for decision in decisions:
        workspace, hour = decision.workspace_id, decision.at.replace(**_WHOLE)
        mode = Traffic.CANARY if decision.canary else ""
        whole = rows[workspace, hour, "", mode, "", decision.action]
        whole.count += 1
        whole.degraded += bool(decision.degraded)
        whole.unfinished += not decision.finished
        whole.milliseconds += decision.latency_ms
        whole.buckets[bisect_left(LATENCIES, decision.latency_ms)] += 1
        for key, changed in () if decision.canary else _said(decision):
            rows[workspace, hour, *key].count += 1
            rows[workspace, hour, *key].changed += changed
    there = Workspace.objects.filter(pk__in=[*dropped]) if dropped else Workspace.objects.none()
    hour = timezone.now().replace(**_WHOLE)
    for workspace in there.values_list("pk", flat=True):
        rows[workspace, hour, "", "", "", "allow"].dropped += dropped[workspace]
    values = [
        [*key, *(getattr(row, name) for name in _NUMBERS), row.buckets]
        for key, row in sorted(rows.items())  # in one order, so that two writers cannot deadlock
    ]
    checks: list[list[Any]] = [
        [*key, *numbers] for key, numbers in sorted(_checked(decisions).items())
    ]
    with connection.cursor() as cursor:
        if values:
            cursor.executemany(_UPSERT, values)
        if checks:
            cursor.executemany(_UPSERT_CHECK, checks)


def _checked(decisions: Iterable[Decision]) -> dict[_Key, list[int]]:
    """What checks came to, as CheckTraffic counts it: numbers in the order of _CHECK_NUMBERS."""
    rows: dict[_Key, list[float]] = defaultdict(lambda: [0] * len(_CHECK_NUMBERS))
    for decision in decisions:
        workspace, hour = decision.workspace_id, decision.at.replace(**_WHOLE)
        for entry in decision.receipt:
            if entry["mode"] == "off":
                continue
            key = entry["policy"], entry["check"], entry["status"], entry["why"]
            row = rows[workspace, hour, *key]
            row[0] += 1
            row[1] += bool(entry["action"])
            for place, name in enumerate(Usage._fields, 2) if entry.get("usage") else ():
                row[place] += entry["usage"][name]
    return {key: list(map(round, row)) for key, row in rows.items()}


_WHOLE: dict[str, Any] = {"minute": 0, "second": 0, "microsecond": 0}
_CHECK_NUMBERS = ("count", "found", *Usage._fields)


def _upsert(table: str, key: Sequence[str], numbers: Sequence[str], **more: str) -> str:
    """SQL that adds numbers to the row of a key; more: columns that are added up otherwise."""
    sums = {name: f"there.{name} + excluded.{name}" for name in numbers} | more
    columns = [*key, *sums]
    return (
        f"INSERT INTO {table} AS there ({', '.join(columns)})"
        f" VALUES ({', '.join(['%s'] * len(columns))}) ON CONFLICT ({', '.join(key)})"
        f" DO UPDATE SET {', '.join(f'{name} = {total}' for name, total in sums.items())}"
    )


_KEY = ("workspace_id", "hour", "policy", "mode", "rule", "action")
_CHECK_KEY = ("workspace_id", "hour", "policy", "key", "status", "why")
_UPSERT = _upsert(
    Traffic._meta.db_table,
    _KEY,
    _NUMBERS,
    buckets="ARRAY(SELECT a + b FROM unnest(there.buckets, excluded.buckets) AS pair(a, b))",
)
_UPSERT_CHECK = _upsert(CheckTraffic._meta.db_table, _CHECK_KEY, _CHECK_NUMBERS)


@transaction.atomic
def fold_old(most: int = 10_000) -> int:
    """Add hours longer ago than KEPT to one row a key, so many at most; returns how many.

    Metrics count from the beginning, and must not read every hour since then.
    """
    folded = 0
    tables: list[tuple[type[Traffic | CheckTraffic], tuple[str, ...], str]] = [
        (Traffic, (*_KEY, *_NUMBERS, "buckets"), _UPSERT),
        (CheckTraffic, (*_CHECK_KEY, *_CHECK_NUMBERS), _UPSERT_CHECK),
    ]
    for model, columns, upsert in tables:
        old = model._default_manager.select_for_update(skip_locked=True).filter(
            hour__gt=_BEGINNING, hour__lt=timezone.now() - KEPT
        )
        rows = list(old.values("pk", *columns)[:most])
        if rows:
            values = [[(row | {"hour": _BEGINNING})[name] for name in columns] for row in rows]
            values.sort(key=lambda row: row[: len(_KEY)])  # as `count` does, and for its reason
            with connection.cursor() as cursor:
                cursor.executemany(upsert, values)
            model._default_manager.filter(pk__in=[row["pk"] for row in rows]).delete()
        folded += len(rows)
    return folded


def _said(decision: Decision) -> list[tuple[tuple[str, str, str, str], bool]]:
    """What each policy that looked asked for, once; and each rule of which something was found.

    ((policy, mode, rule, action), whether a shadow policy would have made the decision stricter);
    the rule is "" for the policy itself, its action allow where it asked for nothing. One of which
    a check failed may have missed something: it asked for nothing is not said of it.
    """

    def stricter(policy: str) -> bool:
        enforced = decision.would.get(policy, _NO_SAY)[1]
        return restricts_more(enforced, decision.action)

    asked: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str, str], str] = {}
    failed: set[tuple[str, str]] = set()
    for entry in decision.receipt:
        if entry["mode"] == "off":
            continue
        policy = entry["policy"], entry["mode"]
        asked.setdefault(policy, decision.would.get(entry["policy"], _NO_SAY)[0])
        if entry["status"] == "failed" and not entry["advisory"]:
            failed.add(policy)
        if entry["rule"] and entry["action"] and not entry["advisory"]:
            key = (*policy, entry["rule"])
            rules[key] = max(rules.get(key, "allow"), entry["action"], key=ACTIONS.index)
    for reason in decision.reasons:
        if stands(reason):
            policy = reason["policy"], "enforce"
            asked[policy] = max(asked.get(policy, "allow"), reason["action"], key=ACTIONS.index)
    return [
        *(
            ((policy, mode, "", action), mode == "shadow" and stricter(policy))
            for (policy, mode), action in asked.items()
            if action != "allow" or (policy, mode) not in failed
        ),
        *(((*key, action), False) for key, action in rules.items()),
    ]


@dataclass
class CheckSummary:
    """What became of a check.

    Args:
        found: of the times that it ran, how often it found something.
        noted: of the times that it ran, those with a why: what failed of it although it found
            something, or what kept its policy from acting.
        failed, skipped: how often, by why.
        usage: of a remote check, what asking came to.
    """

    policy: str
    check: str
    ran: int = 0
    found: int = 0
    noted: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    usage: Usage = UNUSED

    @property
    def share_failed(self) -> float:
        failed = sum(self.failed.values())
        return failed / (failed + self.ran) if failed else 0.0

    @property
    def is_remote(self) -> bool:
        return self.usage != UNUSED

    @property
    def tokens(self) -> int:
        return self.usage.prompt_tokens + self.usage.completion_tokens

    @property
    def seconds_a_call(self) -> float | None:
        calls, milliseconds = self.usage.calls, self.usage.milliseconds
        return milliseconds / calls / 1000 if calls else None

    def add(self, status: str, why: str, count: int, found: int, *usage: int) -> None:
        self.found += found
        self.usage = self.usage.plus(Usage(*usage))
        if status == "ran":
            self.ran += count
        if why:
            by_why = {"ran": self.noted, "failed": self.failed, "skipped": self.skipped}[status]
            by_why[why] = by_why.get(why, 0) + count


@dataclass(frozen=True)
class Summary:
    """The traffic of a workspace in the last hours.

    Args:
        total: decisions, without those about canaries, which all else leaves out as well, but for
            checks: what failed, and what asking came to.
        hours: of each hour that had traffic, its decisions by action, oldest first.
        policies: by policy and mode, of how many decisions it was a part, how often it asked for
            something, and how often a shadow one would have made the decision stricter.
        rules: how often something was found of each, by the mode of its policy then.
        checks: what became of each check (see `checks_of`), those that fail most first.
    """

    total: int
    canaries: int
    actions: dict[str, int]
    degraded: int
    unfinished: int
    dropped: int
    p50: float | None
    p99: float | None
    hours: list[tuple[datetime, dict[str, int]]]
    policies: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    checks: list[CheckSummary]


def summary(workspace: Workspace, *, hours: int = HOURS) -> Summary:
    """What was decided since so many hours; nothing is asked of the decisions themselves."""
    rows = list(Traffic.objects.filter(**_recent(workspace, hours)).order_by("hour"))
    of_canaries = [row for row in rows if row.mode == Traffic.CANARY]
    whole = [row for row in rows if row.policy == row.mode == ""]
    by_hour: dict[datetime, dict[str, int]] = {}
    actions: dict[str, int] = {}
    for row in whole:
        by_hour.setdefault(row.hour, {})[row.action] = row.count
        actions[row.action] = actions.get(row.action, 0) + row.count
    buckets = [sum(column) for column in zip(*(row.buckets for row in whole), strict=True)]
    return Summary(
        total=sum(actions.values()),
        canaries=sum(row.count for row in of_canaries),
        actions={action: actions[action] for action in ACTIONS if action in actions},
        degraded=sum(row.degraded for row in whole),
        unfinished=sum(row.unfinished for row in whole),
        dropped=sum(row.dropped for row in whole),
        p50=quantile(buckets, 0.5),
        p99=quantile(buckets, 0.99),
        hours=sorted(by_hour.items()),
        policies=_grouped([row for row in rows if not row.rule], "policy", "mode"),
        rules=_grouped([row for row in rows if row.rule], "policy", "rule", "mode")[:20],
        checks=by_check(CheckTraffic.objects.filter(**_recent(workspace, hours))),
    )


def of_policy(policy: Policy, *, hours: int = HOURS) -> list[dict[str, Any]]:
    """What one policy was a part of, by its mode: as `Summary.policies` has it."""
    recent = _recent(policy.workspace, hours)
    return _grouped(Traffic.objects.filter(**recent, policy=policy.slug, rule=""), "mode")


def checks_of(policy: Policy, *, hours: int = HOURS) -> list[CheckSummary]:
    """What became of each of its checks, those that fail most first."""
    recent = _recent(policy.workspace, hours)
    return by_check(CheckTraffic.objects.filter(**recent, policy=policy.slug))


def last_hours(hours: int = HOURS) -> list[datetime]:
    """So many hours, oldest first, the present one among them."""
    now = timezone.now().replace(**_WHOLE)
    return [now - timedelta(hours=ago) for ago in reversed(range(hours))]


def _recent(workspace: Workspace, hours: int) -> dict[str, Any]:
    """The conditions for the rows of a workspace's last hours."""
    return {"workspace": workspace, "hour__gte": last_hours(hours)[0]}


def by_check(rows: QuerySet[CheckTraffic]) -> list[CheckSummary]:
    """What became of each check, those of which the largest share failed first."""
    found: dict[tuple[str, str], CheckSummary] = {}
    summed = rows.values_list("policy", "key", "status", "why").order_by("policy", "key")
    for policy, key, status, why, *numbers in summed.annotate(*map(Sum, _CHECK_NUMBERS)):
        here = found.setdefault((policy, key), CheckSummary(policy, key))
        here.add(status, why, *numbers)
    return sorted(found.values(), key=lambda one: (-one.share_failed, -one.ran))


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """The bound in milliseconds below which this share of decisions lies; inf beyond the last."""
    wanted = share * sum(buckets)
    if not wanted:
        return None
    seen = 0
    for bound, number in zip((*LATENCIES, float("inf")), buckets, strict=True):
        seen += number
        if seen >= wanted:
            return float(bound)
    return None


def _grouped(rows: Iterable[Traffic], *names: str) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if row.policy:
            key = tuple(getattr(row, name) for name in names)
            here = found.setdefault(
                key, {**dict(zip(names, key, strict=True)), "seen": 0, "found": 0, "changed": 0}
            )
            here["seen"] += row.count
            # a row of a rule is there only where something was found, be it to allow it
            here["found"] += row.count if row.rule or row.action != "allow" else 0
            here["changed"] += row.changed
    return sorted(found.values(), key=lambda row: -row["found"])
