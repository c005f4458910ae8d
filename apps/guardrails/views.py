"""The Guardrail tab: the live model, how its threshold came about, and all versions."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

from apps.accounts.pages import page
from apps.base.keyset import paginate
from apps.guardrails.models import ModelVersion
from apps.guardrails.services import live_model
from apps.policies.models import Policy
from apps.policies.permissions import load_policy


@page("models.view", load=load_policy)
def guardrail(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Model versions, newest first, and the live one in full."""
    rows = ModelVersion.objects.filter(policy=policy).select_related("dataset", "policy_version")
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=20, order=("-number",))
    context = {"policy": policy, "tab": "guardrail", "page": found, "live": live_model(policy)}
    return render(request, "guardrails/guardrail.html", context)
