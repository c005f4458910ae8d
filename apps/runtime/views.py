"""Playground, decisions, incidents, serving: what happens to messages now, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render

from apps.accounts.actor import Actor
from apps.accounts.pages import page, viewer
from apps.accounts.permissions import allowed
from apps.base.gate import moment_in, uuid_in, whole_number
from apps.base.keyset import paginate
from apps.base.problems import FieldError, Problem
from apps.guardrails.checks import KINDS
from apps.guardrails.content_serializers import stage_in, written
from apps.guardrails.contents import CONTENTS, subjects_of
from apps.guardrails.exemptions import suggested
from apps.guardrails.explaining import Move, moves
from apps.guardrails.learning.artifact import ArtifactRefused
from apps.guardrails.models import ModelVersion
from apps.policies.models import Policy
from apps.policies.specification import ACTIONS, STAGES
from apps.runtime import canaries, checking, incidents, replaying, switches, texts, traffic
from apps.runtime.judgement import stands
from apps.runtime.judging import GATE
from apps.runtime.models import Canary, Decision, Feedback, Incident, Retention, ServedBundle
from apps.runtime.permissions import load_canary, load_decision, load_incident, may_read
from apps.runtime.texts import kept_content

POLICIES_NAMED = 500
_CANARIES = {"only": True, "too": None}
_SAID = 50
_LIFE = ("open", "reproduced", "labelled", "case", "fixed", "verified")


@page("check.run", methods=("GET", "POST"))
def playground(request: HttpRequest) -> HttpResponseBase:
    """Something through the real path: every guardrail's say, the action, and why that one won."""
    actor = viewer(request)
    stage = request.POST.get("stage", "output")
    text, shape = _text(request, "text"), request.POST.get("shape", "text")
    context: dict[str, Any] = {"stages": STAGES, "stage": stage, "text": text}
    context |= {"shapes": CONTENTS, "shape": shape}
    status = 200
    if request.method == "POST":
        try:
            content = written(shape, text)
            checked = checking.check(actor, stage=stage_in(stage), content=content)
        except Problem as problem:
            context["problem"], status = problem, problem.status
        else:
            turns = _turns(content)
            context |= {
                "checked": checked,
                "policies": _by_policy(checked.decision.receipt),
                "turns": turns,
                "seen": _seen(actor, checked.decision),
                "explained": _explained(actor, checked, "\n".join(turns.values())),
                "exceptions": _exceptions(actor, checked.decision, turns),
                "may_view": checked.recorded and allowed(actor, "decisions.view", checked.decision),
            }
    return render(request, "runtime/playground.html", context, status=status)


@page("decisions.view")
def decision_list(request: HttpRequest) -> HttpResponseBase:
    """Decisions, newest first; by action, stage, policy, time, or what became of them."""
    names = ("action", "stage", "policy", "id", "since", "until", "degraded", "shadow", "canaries")
    chosen = {name: request.GET.get(name, "").strip()[:60] for name in names}
    decisions = Decision.objects.visible_to(viewer(request))
    rows = decisions.narrowed(
        action=chosen["action"],
        stage=chosen["stage"],
        policy=chosen["policy"],
        since=moment_in(chosen["since"]),
        until=moment_in(chosen["until"]),
        degraded=bool(chosen["degraded"]),
        shadow=bool(chosen["shadow"]),
        canary=_CANARIES.get(chosen["canaries"], False),
    )
    if chosen["id"]:
        found = uuid_in(chosen["id"])
        rows = decisions.filter(pk=found) if found else rows.none()
    query = request.GET.copy()
    query.pop("cursor", None)
    context = {
        "page": paginate(rows, cursor=request.GET.get("cursor", ""), size=50, order=("-id",)),
        "chosen": chosen,
        "actions": ACTIONS,
        "stages": (*STAGES, checking.STAGE),
        "policies": viewer(request).workspace.policies.values_list("slug", "name")[:POLICIES_NAMED],
        "query": query.urlencode(),
    }
    return render(request, "runtime/decisions.html", context)


@page("decisions.view", load=load_decision)
def decision(request: HttpRequest, found: Decision) -> HttpResponseBase:
    """One decision in full: versions, scores, receipt, and its text where it was kept."""
    return _decision(request, found)


@page("decisions.replay", load=load_decision, methods=("POST",))
def replay(request: HttpRequest, found: Decision) -> HttpResponseBase:
    """Judge a decision again by the versions it was judged by."""
    try:
        again = replaying.replay(viewer(request).workspace, found, _given(request))
    except Problem as problem:
        return _decision(request, found, problem=problem)
    return _decision(request, found, again=again)


@page("decisions.feedback", load=load_decision, methods=("POST",))
def feedback(request: HttpRequest, found: Decision) -> HttpResponseBase:
    """This was wrong, or right: a wrong one becomes an incident."""
    try:
        verdict = request.POST.get("verdict", "")
        if verdict not in Feedback.Kind.values:
            raise Problem("Say whether it was wrongly blocked, wrongly allowed, or right.")
        said, told = incidents.give_feedback(
            viewer(request),
            decision=found,
            verdict=verdict,
            note=_text(request, "note"),
            policy=request.POST.get("policy", ""),
            turn=_turn_in(request.POST.get("text_number", "")),
            content=_given(request),
        )
    except Problem as problem:
        if problem.code == "turn_needed":  # texts are numbered from 1 on pages
            wrong = FieldError("/text_number", f"From 1 to {problem.extra['texts']}.")
            problem = replace(problem, errors=[wrong])
        context = {
            "decision": found,
            "may_read": may_read(viewer(request), found),
            "policies": _by_policy(found.receipt),
            "kept": kept_content(viewer(request).workspace, found.pk) is not None,
            "seen": _seen(viewer(request), found),
            "exceptions": {},
            "shapes": CONTENTS,
            "shape": request.POST.get("shape", "text"),
            "given": request.POST,
            "problem": problem,
        }
        return render(request, "runtime/feedback.html", context, status=problem.status)
    if not told:
        messages.success(request, "Thank you; it is kept with the decision.")
        if allowed(viewer(request), "decisions.view", found):
            return redirect("runtime:decision", found.pk)
        return redirect("runtime:playground")
    opened = any(incident.opened_at >= said.given_at for incident in told)
    messages.success(
        request,
        "An incident was opened; its text is on top of the policy's queue."
        if opened
        else "That is known: an incident with this text is open already.",
    )
    theirs = Incident.objects.visible_to(viewer(request))
    seen = theirs.filter(pk__in=[incident.pk for incident in told]).first()
    return redirect("runtime:incident", seen.pk) if seen else redirect("runtime:playground")


def _turn_in(number: str) -> int | None:
    """A text's place, of its number on a page, where the first is 1."""
    given = whole_number(number)
    return given - 1 if given else None


_UNRESOLVED = "unresolved"


@page("incidents.list")
def incident_list(request: HttpRequest) -> HttpResponseBase:
    """Misses and false alarms seen in the wild."""
    rows = Incident.objects.visible_to(viewer(request)).select_related("policy")
    status = request.GET.get("status", "")
    statuses = (_UNRESOLVED, *Incident.Status.values)
    if status in Incident.Status.values:
        rows = rows.filter(status=status)
    elif status == _UNRESOLVED:
        rows = rows.unresolved()
    context = {
        "page": paginate(rows, cursor=request.GET.get("cursor", ""), size=25, order=("-id",)),
        "status": status,
        "statuses": statuses,
        "query": f"status={status}" if status in statuses else "",
    }
    return render(request, "runtime/incidents.html", context)


@page("incidents.view", load=load_incident)
def incident(request: HttpRequest, found: Incident) -> HttpResponseBase:
    """One incident, where it stands in its life, and what comes next."""
    return _incident(request, found)


@page("incidents.edit", load=load_incident, methods=("POST",))
def move_incident(request: HttpRequest, found: Incident) -> HttpResponseBase:
    """Make its case, verify that it is fixed, or dismiss it."""
    act = request.POST.get("act", "")
    try:
        if act not in incidents.ACTS or found.policy is None:
            raise Problem("There is no such act for this incident.")
        incidents.move(viewer(request), incident=found, act=act, why=_text(request, "why"))
    except Problem as problem:
        return _incident(request, found, problem=problem)
    messages.success(request, "Done.")
    return redirect("runtime:incident", found.pk)


@page("traffic.view")
def serving(request: HttpRequest) -> HttpResponseBase:
    """What is answered now: traffic, latency, canaries, the kill switch, kept texts."""
    return _serving(request)


@page("kill_switch.turn", methods=("POST",))
def kill_switch(request: HttpRequest) -> HttpResponseBase:
    """Stop everything from acting, or let it act again."""
    on = request.POST.get("on") == "true"
    try:
        switches.turn_kill_switch(viewer(request), on=on, reason=_text(request, "reason"))
    except Problem as problem:
        return _serving(request, problem=problem)
    if not on:  # while it is on, a notice says so
        messages.success(request, "Policies act again.")
    return redirect("runtime:serving")


@page("decisions.keep_texts", methods=("POST",))
def keep_texts(request: HttpRequest) -> HttpResponseBase:
    """Which share of decisions keep their texts, and how long."""
    share, days = request.POST.get("share", ""), request.POST.get("days", "")
    try:
        texts.keep_texts(
            viewer(request),
            share=float(share[:20]) / 100,
            days=int(days) if days.isdecimal() and len(days) < 5 else 0,
            for_owners=bool(request.POST.get("for_owners")),
        )
    except ValueError:
        return _serving(request, problem=Problem("Give the share in percent."))
    except Problem as problem:
        return _serving(request, problem=problem)
    messages.success(request, "Saved.")
    return redirect("runtime:serving")


@page("canaries.edit", methods=("POST",))
def add_canary(request: HttpRequest) -> HttpResponseBase:
    """A text whose action is known."""
    try:
        canaries.add_canary(
            viewer(request),
            stage=request.POST.get("stage", ""),
            text=_text(request, "text"),
            expected=request.POST.get("expected", ""),
        )
    except Problem as problem:
        return _serving(request, canary=request.POST, canary_problem=problem)
    messages.success(request, "It is sent every minute from now on.")
    return redirect("runtime:serving")


@page("canaries.edit", load=load_canary, methods=("POST",))
def remove_canary(request: HttpRequest, found: Canary) -> HttpResponseBase:
    canaries.remove_canary(viewer(request), canary=found)
    messages.success(request, "The canary is gone.")
    return redirect("runtime:serving")


def _decision(
    request: HttpRequest,
    found: Decision,
    *,
    problem: Problem | None = None,
    again: replaying.Replay | None = None,
) -> HttpResponseBase:
    actor = viewer(request)
    kept = kept_content(actor.workspace, found.pk)
    turns = _turns(kept) if kept else {}
    context = {
        "decision": found,
        "text": _text(request, "text"),
        "shape": request.POST.get("shape", "text"),
        "shapes": CONTENTS,
        "policies": _by_policy(found.receipt),
        "kept": kept,
        "turns": turns,
        "problem": problem,
        "again": again,
        "seen": _seen(actor, found),
        "explained": {},
        "exceptions": _exceptions(actor, found, turns),
        "guards": _guards_of(found),
        "said": Feedback.objects.filter(decision=found.pk, workspace=actor.workspace).order_by(
            "id"
        )[:_SAID],
        "incidents": Incident.objects.visible_to(actor)
        .filter(decision=found.pk)
        .select_related("policy")
        .order_by("id")[:_SAID],
    }
    status = problem.status if problem else 200
    return render(request, "runtime/decision.html", context, status=status)


def _guards_of(found: Decision) -> list[dict[str, Any]]:
    """As what each policy that had a part in a decision stands in its bundle."""
    bundle = ServedBundle.objects.filter(pk=found.bundle, workspace=found.workspace_id).first()
    judged = {entry["policy"] for entry in found.receipt}
    guards = bundle.manifest["guards"] if bundle else []
    return [guard for guard in guards if guard["policy"] in judged]


def _incident(
    request: HttpRequest, found: Incident, *, problem: Problem | None = None
) -> HttpResponseBase:
    history = incidents.history(found)
    context = {"incident": found, "life": _LIFE, "history": history, "problem": problem}
    status = problem.status if problem else 200
    return render(request, "runtime/incident.html", context, status=status)


def _serving(
    request: HttpRequest,
    *,
    problem: Problem | None = None,
    canary: Mapping[str, Any] = MappingProxyType({"stage": "output", "expected": "block"}),
    canary_problem: Problem | None = None,
) -> HttpResponseBase:
    """The page of all that is served; canary: what was written of one that was refused."""
    workspace = viewer(request).workspace
    found = traffic.summary(workspace)
    kept = Retention.objects.filter(workspace=workspace).first()
    hours, there = traffic.last_hours(), dict(found.hours)
    context = {
        "traffic": found,
        "hours": {
            "labels": [f"{hour:%H:00}" for hour in hours],
            "series": [
                {"name": action, "values": [there.get(hour, {}).get(action, 0) for hour in hours]}
                for action in found.actions
            ],
        },
        "switch": switches.kill_switch_of(workspace),
        "kept": kept,
        "kept_percent": f"{kept.share * 100 if kept else 0:.6g}",
        "canaries": Canary.objects.filter(workspace=workspace).order_by("pk"),
        "canary": canary,
        "canary_problem": canary_problem,
        "actions": ACTIONS,
        "stages": STAGES,
        "problem": problem,
    }
    refused = problem or canary_problem
    status = refused.status if refused else 200
    return render(request, "runtime/serving.html", context, status=status)


def _by_policy(receipt: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The receipt's entries, policy by policy."""
    return [(policy, list(entries)) for policy, entries in groupby(receipt, lambda e: e["policy"])]


def _seen(actor: Actor, decision: Decision) -> set[str]:
    """The policies that looked whose inner workings the actor may see."""
    return _allowed(actor, "models.view", {entry["policy"] for entry in decision.receipt})


def _explained(
    actor: Actor, checked: checking.Checked, text: str
) -> dict[str, tuple[list[Move], list[Move]]]:
    """The words that moved each classifier's score, by policy, of those whose models are theirs."""
    ran = {e["policy"] for e in checked.decision.receipt if e["kind"] == "classifier"}
    live = ModelVersion.objects.filter(
        policy__workspace=actor.workspace,
        policy__slug__in=_allowed(actor, "models.view", ran),
        status=ModelVersion.Status.LIVE,
    ).select_related("policy")
    explained = {}
    for version in live:
        try:
            explained[version.policy.slug] = moves(version, text)
        except ArtifactRefused:
            continue  # the receipt says that the model was refused
    return explained


def _exceptions(
    actor: Actor, decision: Decision, turns: dict[int, str]
) -> dict[int, dict[str, str]]:
    """The exception that would answer each reason, by its place, where the actor may make one."""
    editable = _allowed(actor, "guardrails.edit", {one["policy"] for one in decision.reasons})
    # a call stays in what is judged when its words are taken out of the text
    of_calls = {
        (entry["policy"], entry["check"])
        for entry in decision.receipt
        if entry["kind"] in KINDS and KINDS[entry["kind"]].needs_call
    }
    offers = {}
    for place, reason in enumerate(decision.reasons):
        # a gate's checks say themselves what they found
        if reason["policy"] not in editable or not stands(reason) or reason["check"] == GATE:
            continue
        text = turns.get(reason["turn"] or 0, "")
        of_call = (reason["policy"], reason["check"]) in of_calls
        phrase = "" if of_call else suggested(text, reason["spans"])
        offers[place] = {"phrase": phrase, "text": "" if phrase else text}
    return offers


def _allowed(actor: Actor, permission: str, slugs: set[str]) -> set[str]:
    """Those of the policies with which the actor may do this."""
    policies = Policy.objects.visible_to(actor).with_role_of(actor).filter(slug__in=slugs)
    return {policy.slug for policy in policies if allowed(actor, permission, policy)}


def _turns(content: dict[str, Any]) -> dict[int, str]:
    """Each text that is judged, by its place."""
    return {turn: subject.text for turn, subject in enumerate(subjects_of(content))}


def _given(request: HttpRequest) -> dict[str, Any] | None:
    """What somebody says was judged; None where they leave it to the record."""
    text = _text(request, "text")
    return written(request.POST.get("shape", "text"), text) if text else None


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").replace("\r\n", "\n")
