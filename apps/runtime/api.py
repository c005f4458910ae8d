"""The check API, and the decisions it made."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.actor import Actor
from apps.accounts.endpoint import Endpoint, document_of, known_only, validated
from apps.accounts.permissions import require
from apps.base.lists import ListQuery
from apps.base.problems import FieldError, Problem
from apps.base.schema import listed, sent, shown
from apps.guardrails.contents import CONTENTS
from apps.runtime import (
    canaries,
    checking,
    incidents,
    replaying,
    streams,
    switches,
    texts,
    traffic,
)
from apps.runtime import serializers as shapes
from apps.runtime.checking import Checked
from apps.runtime.endpoint import CheckEndpoint
from apps.runtime.models import Canary, Decision, Incident, Retention
from apps.runtime.permissions import load_canary, load_decision, load_incident

MOST_IN_A_BATCH = 256


class Check(CheckEndpoint):
    """Judge a text, a conversation, a tool call or passages by all active policies of its stage.

    200 is a finished decision. Where an enforced policy failed, and nothing found before blocks
    anyway, the answer is a 503 problem whose `action` is what the failed policies advise: block
    where one of them fails closed, else what the others found.
    """

    @extend_schema(
        request=shapes.CheckIn,
        responses=shapes.CheckedShape,
        examples=[
            sent(
                "A text, and whose it is",
                stage="output",
                text="Take two tablets every morning.",
                context={"key": "user-17"},
            ),
            sent(
                "A conversation: every turn is looked at",
                stage="input",
                messages=[
                    {"role": "user", "content": "My head aches."},
                    {"role": "assistant", "content": "For how long?"},
                    {"role": "user", "content": "How many tablets may I take?"},
                ],
            ),
            sent(
                "A call of a tool",
                stage="tool_call",
                tool_call={"name": "send_mail", "arguments": {"to": "a@b.example"}},
            ),
            sent(
                "Passages that were retrieved",
                stage="retrieval",
                passages=[{"text": "Ask a pharmacist.", "source": "https://health.example/pain"}],
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        return Response(shapes.finished(_check(self.actor, shapes.check_in(request.data))))


class CheckBatch(CheckEndpoint):
    """Up to 256 checks at once, each with its own answer: `results[i]`, or else `errors[i]`."""

    @extend_schema(
        request=shapes.BatchIn,
        responses=shapes.BatchShape,
        examples=[
            sent(
                "Two checks at once",
                items=[
                    {"stage": "input", "text": "How many may I take?"},
                    {"stage": "output", "text": "Take two tablets every morning."},
                ],
            )
        ],
    )
    def post(self, request: Request) -> Response:
        data = request.data if isinstance(request.data, dict) else {}
        known_only(shapes.BatchIn(), dict.fromkeys(data))
        given = data.get("items")
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_IN_A_BATCH:
            raise Problem(
                f"Send items: a list of 1 to {MOST_IN_A_BATCH} checks.",
                errors=[FieldError("/items", f"1 to {MOST_IN_A_BATCH} checks.")],
            )
        self.spend(len(given) - 1)
        results: list[Any] = []
        errors: list[Any] = []
        budget = checking.Budget()
        for item in given:
            try:
                budget.spend()
                results.append(shapes.finished(_check(self.actor, shapes.check_in(item))))
                errors.append(None)
            except Exception as error:  # one that cannot be judged must not take the others
                results.append(None)
                errors.append(document_of(request._request, error))
        return Response({"results": results, "errors": errors})


class CheckStream(CheckEndpoint):
    """The next chunk of an output that is still being made.

    Text is checked whenever a sentence ends, always all whole sentences so far; `release` says how
    many of its code points may be shown. Where the action is redact, `check.output` may be shown in
    place of all that came so far, and the stream goes on; anything stronger stops it. The last
    chunk (`final`) is always checked.
    """

    @extend_schema(
        request=shapes.ChunkIn,
        responses=shapes.StreamedShape,
        examples=[
            sent("The first chunk", stream="answer-9041", number=1, chunk="Ask a pharmacist. Then"),
            sent("The last one", stream="answer-9041", number=2, chunk=" rest.", final=True),
        ],
    )
    def post(self, request: Request) -> Response:
        data = validated(shapes.ChunkIn, request.data)
        streamed = streams.take_chunk(
            self.actor,
            name=data["stream"],
            number=data["number"],
            chunk=data["chunk"],
            final=data["final"],
            stage=data["stage"],
            policies=data.get("policies"),
            key=data.get("context", {}).get("key", ""),
        )
        where = {"release": streamed.release, "next": streamed.chunks + 1}
        checked = shapes.finished(streamed.checked, **where) if streamed.checked else None
        return Response({"action": streamed.action, **where, "check": checked})


def _check(actor: Actor, data: dict[str, Any]) -> Checked:
    return checking.check(
        actor,
        stage=data["stage"],
        content=data,
        policies=data.get("policies"),
        key=data.get("context", {}).get("key", ""),
    )


class DecisionList(Endpoint):
    """Decisions of the workspace, newest first; narrowed by what was decided, where and when."""

    requires = {"GET": "decisions.view"}

    @extend_schema(parameters=[shapes.DecisionQuery], responses=listed(shapes.DecisionShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.DecisionQuery, request.query_params.dict())
        return self.page_of(
            request,
            Decision.objects.visible_to(self.actor).narrowed(
                **{name: query[name] for name in shapes.NARROWED}
            ),
            shapes.show_decision,
            query=query,
        )


class DecisionDetail(Endpoint):
    """One decision with its receipt; it is there a moment after its answer."""

    requires = {"GET": "decisions.view"}
    load = staticmethod(load_decision)

    @extend_schema(responses=shapes.DecisionShape)
    def get(self, request: Request, decision: UUID) -> Response:
        return Response(shapes.show_decision(self.target))


class DecisionReplay(Endpoint):
    """Judge a decision again by the versions it was judged by; `gone` says what is missing."""

    requires = {"POST": "decisions.replay"}
    load = staticmethod(load_decision)

    @extend_schema(request=shapes.ContentIn, responses=shapes.ReplayShape)
    def post(self, request: Request, decision: UUID) -> Response:
        require(self.actor, "decisions.view", self.target)  # it tells what the decision tells
        content = validated(shapes.ContentIn, request.data)
        found = replaying.replay(self.actor.workspace, self.target, content or None)
        return Response(shapes.show_replay(found))


class DecisionFeedback(CheckEndpoint):
    """Say that a decision was wrong, or right. A wrong one goes to people, as an incident."""

    # it counts among the checks of its token: it fills a queue
    requires = {"POST": "decisions.feedback"}
    load = staticmethod(load_decision)

    @extend_schema(
        request=shapes.FeedbackIn,
        responses={201: shapes.FeedbackShape},
        examples=[
            sent(
                "A miss, with its text, which may not be kept with the decision",
                verdict="wrongly_allowed",
                policy="medical-dosage",
                text="Take two tablets every morning.",
                note="a dose",
            ),
            sent("A false alarm", verdict="wrongly_blocked", text="Ask a pharmacist."),
        ],
    )
    def post(self, request: Request, decision: UUID) -> Response:
        data = validated(shapes.FeedbackIn, request.data)
        content = {name: data[name] for name in CONTENTS if name in data}
        feedback, opened = incidents.give_feedback(
            self.actor,
            decision=self.target,
            verdict=data["verdict"],
            note=data["note"],
            policy=data["policy"],
            turn=data["turn"],
            content=content or None,
        )
        answer = {
            "id": feedback.pk,
            "verdict": feedback.verdict,
            "incidents": [shapes.show_opened(incident) for incident in opened],
        }
        return Response(answer, status=201)


class IncidentList(Endpoint):
    """Misses and false alarms seen in the wild, newest first."""

    requires = {"GET": "incidents.list"}

    @extend_schema(parameters=[shapes.IncidentQuery], responses=listed(shapes.IncidentShape))
    def get(self, request: Request) -> Response:
        query = validated(shapes.IncidentQuery, request.query_params.dict())
        rows = Incident.objects.visible_to(self.actor).select_related("policy")
        if query["status"]:
            rows = rows.filter(status=query["status"])
        return self.page_of(request, rows, shapes.show_incident, query=query)


class IncidentDetail(Endpoint):
    """One incident. PATCH moves it on: make its case, verify that it is fixed, or dismiss it."""

    requires = {"GET": "incidents.view", "PATCH": "incidents.edit"}
    load = staticmethod(load_incident)

    @extend_schema(responses=shapes.IncidentShape)
    def get(self, request: Request, incident: UUID) -> Response:
        return Response(shapes.show_incident(self.target))

    @extend_schema(request=shapes.IncidentPatch, responses=shapes.IncidentShape)
    def patch(self, request: Request, incident: UUID) -> Response:
        data = validated(shapes.IncidentPatch, request.data)
        incidents.move(self.actor, incident=self.target, act=data["act"], why=data["why"])
        self.target.refresh_from_db()
        return Response(shapes.show_incident(self.target))


class CanaryList(Endpoint):
    """Texts with a known action, sent through the real path every minute."""

    requires = {"GET": "canaries.view", "POST": "canaries.edit"}

    @extend_schema(parameters=[ListQuery], responses=listed(shapes.CanaryShape))
    def get(self, request: Request) -> Response:
        return self.page_of(
            request, Canary.objects.filter(workspace=self.actor.workspace), shapes.show_canary
        )

    @extend_schema(request=shapes.CanaryIn, responses={201: shapes.CanaryShape})
    def post(self, request: Request) -> Response:
        data = validated(shapes.CanaryIn, request.data)
        return Response(shapes.show_canary(canaries.add_canary(self.actor, **data)), status=201)


class CanaryDetail(Endpoint):
    requires = {"DELETE": "canaries.edit"}
    load = staticmethod(load_canary)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, canary: UUID) -> Response:
        canaries.remove_canary(self.actor, canary=self.target)
        return Response(status=204)


class KillSwitchDetail(Endpoint):
    """PUT on: every enforced policy is in shadow within a second, until it is off again."""

    requires = {"GET": "kill_switch.view", "PUT": "kill_switch.turn"}

    @extend_schema(responses=shapes.KillSwitchShape)
    def get(self, request: Request) -> Response:
        return Response(shapes.show_kill_switch(switches.kill_switch_of(self.actor.workspace)))

    @extend_schema(request=shapes.KillSwitchIn, responses=shapes.KillSwitchShape)
    def put(self, request: Request) -> Response:
        data = validated(shapes.KillSwitchIn, request.data)
        switch = switches.turn_kill_switch(self.actor, on=data["on"], reason=data["reason"])
        return Response(shapes.show_kill_switch(switch))


class RetentionDetail(Endpoint):
    """Which share of decisions keep their text (encrypted), and for how many days."""

    requires = {"GET": "decisions.view", "PUT": "decisions.keep_texts"}

    @extend_schema(responses=shapes.RetentionShape)
    def get(self, request: Request) -> Response:
        workspace = self.actor.workspace
        kept = Retention.objects.filter(workspace=workspace).first()
        return Response(shown(shapes.RetentionShape, kept or Retention(share=0.0, days=30)))

    @extend_schema(request=shapes.RetentionShape, responses=shapes.RetentionShape)
    def put(self, request: Request) -> Response:
        data = validated(shapes.RetentionShape, request.data)
        texts.keep_texts(self.actor, **data)
        return Response(data)


class TrafficSummary(Endpoint):
    """What was decided in the last 24 hours."""

    requires = {"GET": "traffic.view"}

    @extend_schema(responses=shapes.TrafficShape)
    def get(self, request: Request) -> Response:
        return Response(shapes.show_traffic(traffic.summary(self.actor.workspace)))
