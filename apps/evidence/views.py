"""The Evidence tab and the figures that follow by themselves."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render

from apps.accounts.pages import page, viewer
from apps.base.gate import whole_number
from apps.base.keyset import paginate, paginate_sequence
from apps.base.problems import Problem
from apps.evidence import cases, promoting, services
from apps.evidence.calibrating import calibrate_gate
from apps.evidence.effects import effect
from apps.evidence.models import Evaluation, MustPassCase
from apps.evidence.permissions import load_case, load_evaluation
from apps.guardrails import configuring
from apps.guardrails.assembling import configuration_of
from apps.guardrails.comparing import compare
from apps.guardrails.configuration import DEFAULT, parse
from apps.guardrails.forms import number_in
from apps.guardrails.models import ModelVersion
from apps.guardrails.permissions import load_model
from apps.guardrails.services import live_model, served_as
from apps.labeling.labels import counts
from apps.policies.approving import held_for, written_by
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.policies.services import require_published


@page("evidence.view", load=load_policy)
def evidence(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Precision and recall first, large, with intervals; then everything behind them."""
    rows = Evaluation.objects.filter(policy=policy).select_related("model_version")
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=20)
    context = {
        **figures_context(policy),
        "policy": policy,
        "tab": "evidence",
        "page": found,
    }
    return render(request, "evidence/evidence.html", context)


@page("evidence.view", load=load_policy)
def whole_guardrail(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """What the guardrail as a whole does to the audit labels, beside its classifier alone."""
    require_published(policy)
    found, newest = effect(policy), services.newest(policy)
    sides = [("all its checks", found.before.as_dict())] if found.before else []
    if sides and newest is not None:
        sides.append((f"model {newest.model_version.number} alone", newest.figures))
    context = {"effect": found, "sides": sides}
    return render(request, "evidence/whole_guardrail.html", context)


@page("evidence.view", load=load_policy)
def figures(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """What an open page polls: 204 while it has seen the newest evaluation."""
    context = figures_context(policy)
    if request.GET.get("seen", "") == context["seen"]:
        return HttpResponse(status=204)
    return render(request, "evidence/figures.html", {**context, "policy": policy})


@page("evaluation.view", load=load_evaluation)
def evaluation(request: HttpRequest, found: Evaluation) -> HttpResponseBase:
    """One evaluation and every item it counted, so that anyone can recompute it."""
    items = paginate_sequence(
        services.items_of(found), cursor=request.GET.get("cursor", ""), size=50
    )
    context = {"policy": found.policy, "tab": "evidence", "evaluation": found, "page": items}
    return render(request, "evidence/evaluation.html", context)


@page("guardrails.edit", load=load_policy, methods=("GET", "POST"))
def publish_guardrail(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """What the guardrail's draft would do, to audit labels, cases and traffic; then publish it."""
    require_published(policy)
    problem = None
    if "calibrate" in request.POST:
        try:
            fitted = calibrate_gate(viewer(request), policy=policy)
        except Problem as found:
            problem = found
        else:
            messages.success(request, f"Calibrated on {fitted.labels} audit labels.")
            return redirect("evidence:publish_guardrail", policy.slug)
    elif request.method == "POST":
        try:
            version = configuring.publish_guardrail(
                viewer(request),
                policy=policy,
                note=request.POST.get("note", ""),
                revision=whole_number(request.POST.get("revision", "")),
            )
        except Problem as found:
            problem = found
        else:
            messages.success(request, f"Guardrail {version.number} guards, within a second.")
            return redirect("guardrails:guardrail", policy.slug)
    content, revision = configuring.draft_of(policy)
    current = configuring.current_guardrail(policy)
    configuration = parse(content, rules=configuring.rules_of(policy))
    draft = configuring.saved_draft(policy)
    context = {
        "policy": policy,
        "tab": "guardrail",
        "problem": problem,
        "written_by": written_by(draft),
        "held_for": held_for(viewer(request), policy=policy, draft=draft),
        "configuration": configuration,
        "revision": revision,
        "changed": content != (current.content if current else DEFAULT.as_dict()),
        "changes": compare(configuration_of(current), configuration),
        "effect": effect(policy, configuration=configuration),
        "cases": cases.run_cases(policy, configuration=configuration),
    }
    return render(
        request,
        "evidence/publish_guardrail.html",
        context,
        status=problem.status if problem else 200,
    )


@page("models.promote", load=load_model, methods=("GET", "POST"))
def promote_model(request: HttpRequest, version: ModelVersion) -> HttpResponseBase:
    """What serving a model, or moving its threshold, would do to labels, cases and traffic."""
    policy, problem = version.policy, None
    given = (request.POST if request.method == "POST" else request.GET).get("threshold", "")
    tried = promoting.candidate(version)
    # the field shows four digits; who leaves them alone means the threshold as it is
    kept = given.strip() in ("", f"{version.threshold:.4g}")
    try:
        # what is no number is 0, which no threshold is
        threshold = number_in(given.replace(",", ".")) or 0.0
        tried = promoting.candidate(version, None if kept else threshold)
        if request.method == "POST":
            promoting.promote(
                viewer(request),
                policy=policy,
                version=version,
                threshold=tried.threshold,
                seen=request.POST.get("seen"),
            )
            messages.success(request, f"Model {version.number} guards, within a second.")
            return redirect("guardrails:guardrail", policy.slug)
    except Problem as found:
        problem = found
    live = live_model(policy)
    context = {
        "policy": policy,
        "tab": "guardrail",
        "problem": problem,
        "version": version,
        "live": live,
        "tried": tried,
        "seen": served_as(policy),
        "unheard": not configuring.hears_classifier(configuring.current_guardrail(policy)),
        "given": given if problem else "",
        "changed": live is None or (live.pk, live.threshold) != (version.pk, tried.threshold),
        "effect": effect(policy, model=tried),
        "cases": cases.run_cases(policy, model=tried),
    }
    return render(
        request, "evidence/promote.html", context, status=problem.status if problem else 200
    )


@page("cases.view", load=load_policy)
def case_list(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The must-pass cases, and what guards now says of each."""
    return _cases(request, policy)


@page("cases.view", load=load_policy)
def cases_state(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Whether what guards now passes its must-pass cases, in a few words."""
    results = cases.run_cases(policy) if policy.current_version_id else []
    unjudged = sum(result.fires is None for result in results)
    failing = sum(not result.passes for result in results) - unjudged
    context = {"policy": policy, "count": len(results), "failing": failing, "unjudged": unjudged}
    return render(request, "evidence/cases_state.html", context)


@page("cases.add", load=load_policy, methods=("POST",))
def add_case(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """A text whose verdict is known."""
    try:
        cases.add_case(
            viewer(request),
            policy=policy,
            text=request.POST.get("text", "").replace("\r\n", "\n"),
            expected=request.POST.get("expected", ""),
            why=request.POST.get("why", "").replace("\r\n", "\n"),
        )
    except Problem as problem:
        return _cases(request, policy, problem=problem)
    messages.success(request, "Every candidate has to pass it from now on.")
    return redirect("evidence:cases", policy.slug)


def _cases(
    request: HttpRequest, policy: Policy, *, problem: Problem | None = None
) -> HttpResponseBase:
    shown = paginate(cases.cases_of(policy), cursor=request.GET.get("cursor", ""), size=25)
    context = {
        "policy": policy,
        "tab": "evidence",
        "page": shown,
        "results": cases.run_cases(policy, cases=shown.rows) if policy.current_version_id else [],
        "problem": problem,
        "given": request.POST if problem else {},
    }
    status = problem.status if problem else 200
    return render(request, "evidence/cases.html", context, status=status)


@page("cases.withdraw", load=load_case, methods=("POST",))
def withdraw_case(request: HttpRequest, case: MustPassCase) -> HttpResponseBase:
    """Let a case hold nothing back any more."""
    cases.withdraw_case(viewer(request), case=case)
    messages.success(request, "The case counts no more; it stays in the audit trail.")
    return redirect("evidence:cases", case.policy.slug)


def figures_context(policy: Policy) -> dict[str, object]:
    """The newest evaluation of the live model, and a word that changes when it does."""
    newest = services.newest(policy)
    given = counts(policy)
    return {
        "evaluation": newest,
        "counts": given,
        "guardrail": configuring.current_guardrail(policy),
        "seen": str(newest.pk) if newest else "none",
    }
