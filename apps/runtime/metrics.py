"""GET /metrics for Prometheus: a workspace's counters since its first decision, and its canaries.

They are read from the hourly counts in the database, so every web process says the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet, Sum
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from rest_framework.request import Request

from apps.accounts.endpoint import Endpoint
from apps.accounts.models import ApiToken, Workspace
from apps.runtime.endpoint import refused
from apps.runtime.models import Canary, CheckTraffic, Incident, KillSwitch, Traffic
from apps.runtime.traffic import LATENCIES, by_check


class Metrics(Endpoint):
    """Counters for Prometheus, by an admin's token."""

    requires = {"GET": "traffic.view"}

    @extend_schema(responses={(200, "text/plain"): str})
    def get(self, request: Request) -> HttpResponse:
        registry = CollectorRegistry()
        registry.register(_Workspace(self.actor.workspace))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Workspace:
    """What prometheus_client asks of a collector."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def collect(self) -> Iterator[Metric]:
        rows = Traffic.objects.filter(workspace=self._workspace)
        yield from _whole(rows.filter(policy="", mode=""))
        asked = rows.filter(policy="", mode=Traffic.CANARY).aggregate(asked=Sum("count"))["asked"]
        yield CounterMetricFamily(
            "parapet_canary_decisions", "Decisions about canaries, counted apart", asked or 0
        )
        found = CounterMetricFamily(
            "parapet_findings",
            "Decisions by what each policy asked for; allow where it asked for nothing",
            labels=["policy", "mode", "action"],
        )
        by_policy = rows.exclude(policy="").filter(rule="").values_list("policy", "mode", "action")
        for policy, mode, action, number in by_policy.annotate(Sum("count")).order_by():
            found.add_metric([policy, mode, action], number)
        yield found
        yield from _checks(CheckTraffic.objects.filter(workspace=self._workspace))
        canaries = Canary.objects.filter(workspace=self._workspace)
        yield GaugeMetricFamily(
            "parapet_canaries_failing",
            "Canaries with a wrong answer, none, or not sent for minutes",
            sum(bool(one.failing_since) or one.is_late for one in canaries),
        )
        tokens = ApiToken.objects.usable().filter(membership__workspace=self._workspace)
        beyond = CounterMetricFamily(
            "parapet_refused",
            "Checks beyond a token's limit, refused on this machine",
            labels=["token"],
        )
        for token, prefix in tokens.values_list("pk", "prefix"):
            beyond.add_metric([prefix], refused(token))
        yield beyond
        opened = Incident.objects.filter(workspace=self._workspace)
        opened = opened.exclude(status__in=Incident.CLOSED)
        yield GaugeMetricFamily("parapet_incidents_open", "Open incidents", opened.count())
        stopped = KillSwitch.objects.filter(workspace=self._workspace, on=True).exists()
        yield GaugeMetricFamily("parapet_kill_switch", "1 while nothing acts", int(stopped))


def _checks(rows: QuerySet[CheckTraffic]) -> Iterator[Metric]:
    """What became of each check, and what asking judges came to."""
    ended = CounterMetricFamily(
        "parapet_checks",
        "Checks in decisions, by what became of them",
        labels=["policy", "check", "status", "why"],
    )
    judge = ["policy", "check"]
    calls = CounterMetricFamily("parapet_judge_calls", "Judges asked for decisions", labels=judge)
    remembered = CounterMetricFamily(
        "parapet_judge_remembered", "Judges' answers that needed no call", labels=judge
    )
    seconds = CounterMetricFamily("parapet_judge_seconds", "Spent in these calls", labels=judge)
    tokens = CounterMetricFamily(
        "parapet_judge_tokens", "What judges say that calls took", labels=[*judge, "of"]
    )
    for one in by_check(rows):
        names, used = [one.policy, one.check], one.usage
        ended.add_metric([*names, "ran", ""], one.ran - sum(one.noted.values()))
        by_status = {"ran": one.noted, "failed": one.failed, "skipped": one.skipped}
        for status, whys in by_status.items():
            for why, number in whys.items():
                ended.add_metric([*names, status, why], number)
        if one.is_remote:
            calls.add_metric(names, used.calls)
            remembered.add_metric(names, used.remembered)
            seconds.add_metric(names, used.milliseconds / 1000)
            tokens.add_metric([*names, "prompt"], used.prompt_tokens)
            tokens.add_metric([*names, "completion"], used.completion_tokens)
    yield from (ended, calls, remembered, seconds, tokens)


def _whole(rows: QuerySet[Traffic]) -> Iterator[Metric]:
    """Of whole decisions: by action, what was degraded, failed or lost, and how long they took."""
    actions = CounterMetricFamily("parapet_decisions", "Decisions by action", labels=["action"])
    failed = CounterMetricFamily(
        "parapet_unfinished", "Answers that were advice only, by action", labels=["action"]
    )
    degraded = dropped = 0
    by_action = rows.values("action").order_by("action")
    for row in by_action.annotate(
        decided=Sum("count"), advised=Sum("unfinished"), less=Sum("degraded"), lost=Sum("dropped")
    ):
        actions.add_metric([row["action"]], row["decided"])
        failed.add_metric([row["action"]], row["advised"])
        degraded += row["less"]
        dropped += row["lost"]
    yield actions
    yield failed
    yield CounterMetricFamily("parapet_degraded", "Decisions on less than everything", degraded)
    yield CounterMetricFamily("parapet_dropped", "Decisions answered and never written", dropped)
    places = range(len(LATENCIES) + 1)
    summed = rows.aggregate(
        took=Sum("milliseconds"), **{f"at_{n}": Sum(f"buckets__{n}") for n in places}
    )
    buckets = [summed[f"at_{n}"] or 0 for n in places]
    bounds = [*(str(bound / 1000) for bound in LATENCIES), "+Inf"]
    running = [sum(buckets[: place + 1]) for place in range(len(bounds))]
    latency = HistogramMetricFamily("parapet_latency_seconds", "Time inside the check")
    if running[-1]:
        # counted in microseconds: a sum in another order must not look like a counter gone back
        seconds = round(summed["took"] / 1000, 6)
        latency.add_metric([], list(zip(bounds, running, strict=True)), seconds)
    yield latency
