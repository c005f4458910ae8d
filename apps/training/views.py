"""Training: runs with live progress, and for admins the workers and queues."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render

from apps.accounts.pages import page, viewer
from apps.accounts.permissions import allowed
from apps.base.keyset import paginate
from apps.policies.models import Policy
from apps.policies.permissions import load_policy
from apps.training import runs, system
from apps.training.models import TrainingRun
from apps.training.permissions import load_run


@page("runs.list")
def run_list(request: HttpRequest) -> HttpResponseBase:
    """Runs of all policies one owns, newest first."""
    actor = viewer(request)
    owned = Policy.objects.owned_by(actor)
    rows = TrainingRun.objects.filter(policy__in=owned).select_related("policy", "model_version")
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=25)
    context = {"page": found, "may_see_system": allowed(actor, "system.view")}
    template = "training/runs.html" if request.headers.get("HX-Request") else "training/list.html"
    return render(request, template, context)


@page("runs.view", load=load_run)
def run(request: HttpRequest, found: TrainingRun) -> HttpResponseBase:
    """One run: progress, log, dataset, result."""
    template = (
        "training/progress.html" if request.headers.get("HX-Request") else "training/run.html"
    )
    context = {"policy": found.policy, "run": found}
    return render(request, template, context)


@page("runs.start", load=load_policy, methods=("POST",))
def start(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Queue a retrain."""
    started = runs.request_run(viewer(request), policy=policy)
    return redirect("training:run", started.pk)


@page("runs.cancel", load=load_run, methods=("POST",))
def cancel(request: HttpRequest, found: TrainingRun) -> HttpResponseBase:
    runs.request_cancel(viewer(request), run=found)
    messages.success(request, "The run stops at its next step.")
    return redirect("training:run", found.pk)


@page("system.view")
def workers(request: HttpRequest) -> HttpResponseBase:
    """Workers and queue lengths, polled by the Training page of an admin, where they are shown."""
    if not request.headers.get("HX-Request"):
        return redirect("training:list")
    return render(
        request, "training/workers.html", {"system": system.look(viewer(request).workspace)}
    )
