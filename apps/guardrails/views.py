"""The Guardrail tab: the live model, how its threshold came about, and all versions."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone

from apps.accounts.pages import page, viewer
from apps.base.gate import whole_number
from apps.base.keyset import paginate
from apps.base.problems import NotFound, Problem, by_field
from apps.guardrails import configuring, forms
from apps.guardrails.assembling import configuration_of
from apps.guardrails.checks import KINDS
from apps.guardrails.configuration import parse
from apps.guardrails.content_serializers import stage_in, written
from apps.guardrails.contents import CONTENTS
from apps.guardrails.gate import KINDS as GATES
from apps.guardrails.models import ModelVersion, RuleException
from apps.guardrails.permissions import load_exception
from apps.guardrails.services import held_back, live_model
from apps.guardrails.trying import try_out
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.policies.services import require_published
from apps.policies.specification import STAGES


@page("guardrails.edit", load=load_policy, methods=("GET", "POST"))
def checks(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The editor of the guardrail's draft: checks, gate, and a text to try them on."""
    require_published(policy)
    content, revision = configuring.draft_of(policy)
    if request.method == "GET":
        return _editor(request, policy, content, revision)
    if "adding" in request.POST:
        return _add(request, policy, request.POST.get("add", ""))
    content = forms.content_from(request.POST)
    if "try" in request.POST:
        return _try(request, policy, content)
    configuring.keep_calibration(policy, content)
    try:
        configuring.save_guardrail_draft(
            viewer(request), policy=policy, content=content, revision=_revision(request)
        )
    except Problem as problem:
        # whoever has seen that theirs is another one may put this one in its place
        theirs = problem.extra.get("current", _revision(request))
        return _editor(request, policy, content, theirs, problem=problem)
    messages.success(request, "The draft is saved; it guards once it is published.")
    onward = "evidence:publish_guardrail" if "publish" in request.POST else "guardrails:checks"
    return redirect(onward, policy.slug)


def _add(request: HttpRequest, policy: Policy, kind: str) -> HttpResponseBase:
    """The form with one more check; nothing is saved, and nothing is removed yet."""
    content = forms.content_from(request.POST, removing=False)
    if kind not in KINDS:
        problem = Problem("Choose a kind of check to add.")
        return _editor(request, policy, content, _revision(request), problem=problem)
    content["checks"].append(forms.new_check(kind, content))
    return _editor(request, policy, content, _revision(request), opened=len(content["checks"]))


@page("guardrails.edit", load=load_policy, methods=("POST",))
def restore(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Put an older version into the draft; it is published like any other."""
    number = whole_number(request.POST.get("version", ""))
    found = policy.guardrails.filter(number=number).first() if number is not None else None
    if found is None:
        raise NotFound
    configuring.save_guardrail_draft(
        viewer(request), policy=policy, content=found.content, revision=None
    )
    messages.success(request, f"Guardrail {found.number} is in the draft.")
    return redirect("guardrails:checks", policy.slug)


@page("guardrails.edit", load=load_policy, methods=("GET", "POST"))
def exceptions(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Phrases and texts that are let through for one rule until a day."""
    problem = None
    begun = "begin" in request.POST  # from a decision: shown first, filled in
    if request.method == "POST" and not begun:
        days = request.POST.get("days", "")
        try:
            configuring.make_exception(
                viewer(request),
                policy=policy,
                rule=request.POST.get("rule", ""),
                phrase=request.POST.get("phrase", "").replace("\r\n", "\n"),
                text=request.POST.get("text", "").replace("\r\n", "\n"),
                reason=request.POST.get("reason", "").replace("\r\n", "\n"),
                days=int(days) if days.isdecimal() and len(days) < 5 else 0,
            )
        except Problem as found:
            problem = found
        else:
            messages.success(request, "It is let through, within a second.")
            return redirect("guardrails:exceptions", policy.slug)
    page_of = paginate(policy.exceptions.all(), cursor=request.GET.get("cursor", ""), size=50)
    context = {
        "policy": policy,
        "tab": "guardrail",
        "page": page_of,
        "rules": configuring.rules_of(policy, configuring.current_guardrail(policy)),
        "problem": problem,
        "wrong": by_field(problem.errors) if problem else {},
        "given": request.POST if problem or begun else {},
        "now": timezone.now(),
    }
    return render(
        request, "guardrails/exceptions.html", context, status=problem.status if problem else 200
    )


@page("exceptions.end", load=load_exception, methods=("POST",))
def end_exception(request: HttpRequest, exception: RuleException) -> HttpResponseBase:
    """End an exception before its day."""
    configuring.end_exception(viewer(request), exception=exception)
    messages.success(request, "The exception has ended.")
    return redirect("guardrails:exceptions", exception.policy.slug)


def _editor(
    request: HttpRequest,
    policy: Policy,
    content: dict[str, Any],
    revision: int | None,
    *,
    problem: Problem | None = None,
    opened: int = 0,
) -> HttpResponseBase:
    current = configuring.current_guardrail(policy)
    context = {
        "policy": policy,
        "tab": "guardrail",
        "rows": forms.rows_of(content, problem.errors if problem else ()),
        "gate": forms.gate_of(content),
        "gates": GATES,
        "kinds": KINDS.values(),
        "rules": configuring.rules_of(policy),
        "revision": revision,
        "problem": problem,
        "wrong": by_field(problem.errors, "/gate/") if problem else {},
        "opened": opened,
        "stages": STAGES,
        "shapes": CONTENTS,
        "current": current,
        "drafted": configuring.is_drafted(policy, current),
        "versions": policy.guardrails.order_by("-number")[:10],
    }
    return render(
        request, "guardrails/checks.html", context, status=problem.status if problem else 200
    )


def _try(request: HttpRequest, policy: Policy, content: dict[str, Any]) -> HttpResponseBase:
    """What the draft as it stands in the form says of what is tried on it."""
    assert policy.current_version is not None
    context: dict[str, Any] = {"policy": policy, "tab": "guardrail"}
    text = request.POST.get("text", "").replace("\r\n", "\n")
    stage = request.POST.get("stage", "output")
    context["unguarded"] = "" if stage in policy.current_version.stages else stage
    try:
        if not text.strip():
            raise Problem("Give something to try.")
        configuration = parse(content, rules=configuring.rules_of(policy))
        context |= {"configuration": configuration, "stage": stage_in(stage)}
        context["tried"] = try_out(
            policy,
            written(request.POST.get("shape", "text"), text),
            stage=stage,
            configuration=configuration,
        )
    except Problem as problem:
        context["problem"] = problem
    template = (
        "guardrails/tried.html" if request.headers.get("HX-Request") else "guardrails/try.html"
    )
    return render(request, template, context)


def _revision(request: HttpRequest) -> int | None:
    return whole_number(request.POST.get("revision", ""))


@page("models.view", load=load_policy)
def guardrail(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Model versions, newest first, and the live one in full."""
    rows = ModelVersion.objects.filter(policy=policy).select_related("dataset", "policy_version")
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=20, order=("-number",))
    current = configuring.current_guardrail(policy)
    context = {
        "policy": policy,
        "tab": "guardrail",
        "page": found,
        "live": live_model(policy),
        "held_back": held_back(policy),
        "guardrail": current,
        "asks_classifier": configuration_of(current).asks_classifier,
        "drafted": configuring.is_drafted(policy, current),
        "exceptions": len(configuring.exceptions_in_force(policy)),
    }
    return render(request, "guardrails/guardrail.html", context)
