"""The Evidence tab and the figures that follow by themselves."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from apps.accounts.pages import page
from apps.base.keyset import paginate, paginate_sequence
from apps.evidence import services
from apps.evidence.models import Evaluation
from apps.evidence.permissions import load_evaluation
from apps.labeling.labels import counts
from apps.policies.models import Policy
from apps.policies.permissions import load_policy


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


def figures_context(policy: Policy) -> dict[str, object]:
    """The newest evaluation of the live model, and a word that changes when it does."""
    newest = services.newest(policy)
    given = counts(policy)
    return {
        "evaluation": newest,
        "counts": given,
        "seen": str(newest.pk) if newest else "none",
    }
