"""The list of policies, the Specification tab, its editor and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.forms import Form, ModelForm
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.accounts.api import load_member
from apps.accounts.models import Membership
from apps.accounts.pages import page, viewer
from apps.accounts.permissions import allowed
from apps.base.gate import uuid_in, whole_number
from apps.base.keyset import paginate
from apps.base.problems import NotFound, Problem
from apps.policies import forms, services, taxonomies
from apps.policies.api import load_version
from apps.policies.approving import held_for, written_by
from apps.policies.models import Policy, PolicyVersion
from apps.policies.permissions import load_policy
from apps.policies.specification import compare, missing


@page("policies.list")
def policy_list(request: HttpRequest) -> HttpResponseBase:
    """All policies one has a role on, with search and status filter."""
    actor = viewer(request)
    text, status = request.GET.get("q", "")[:200], request.GET.get("status", "")
    rows = Policy.objects.visible_to(actor).with_role_of(actor).select_related("current_version")
    if text:
        rows = rows.filter(name__icontains=text) | rows.filter(slug__icontains=text)
    if status in Policy.Status.values:
        rows = rows.filter(status=status)
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=24)
    context = {
        "page": found,
        "text": text,
        "status": status,
        "statuses": Policy.Status.values,
        "may_create": allowed(actor, "policies.create"),
        "query": urlencode({"q": text, "status": status}),
    }
    return render(request, "policies/list.html", context)


@page("policies.create", methods=("GET", "POST"))
def create(request: HttpRequest) -> HttpResponseBase:
    """Name a new policy; its first draft is written in the editor."""
    form = forms.NewPolicyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            policy = services.create_policy(
                viewer(request), **form.cleaned_data, specification={"stages": ["output"]}
            )
        except Problem as problem:
            _add_errors(form, problem)
        else:
            return redirect("policies:edit", policy.slug)
    return render(
        request, "policies/create.html", {"form": form}, status=400 if form.errors else 200
    )


@page("policies.view", load=load_policy)
def specification(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The published rules, the draft's changes and the history."""
    context = {
        "policy": policy,
        "tab": "specification",
        "specification": policy.current_version.specification if policy.current_version else None,
        "versions": policy.versions.order_by("-number")[:20],
    }
    if allowed(viewer(request), "policies.edit", policy):
        context |= _publishing_context(request, policy)
    return render(request, "policies/specification.html", context)


@page("policies.edit", load=load_policy, methods=("GET", "POST"))
def edit(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The editor of the draft. POST saves it: by itself as one types (htmx), or by the button."""
    draft = policy.draft
    if request.method == "GET":
        return _editor(request, policy, draft.specification.as_dict())
    content = forms.draft_from(request.POST)
    by_itself = bool(request.headers.get("HX-Request"))
    try:
        draft = services.save_draft(
            viewer(request),
            policy=policy,
            specification=content,
            revision=whole_number(request.POST.get("revision", "")),
        )
    except Problem as problem:
        if by_itself:
            context = {"policy": policy, "problem": problem}
            return render(request, "policies/saved.html", context)
        return _editor(request, policy, content, problem=problem)
    policy.draft = draft
    if by_itself:
        return render(request, "policies/saved.html", _draft_context(policy))
    if "add_rule" in request.POST:
        return redirect(reverse("policies:edit", args=[policy.slug]) + "?new=1#new-rule")
    messages.success(request, "The draft is saved.")
    return redirect("policies:edit", policy.slug)


@page("policies.edit", load=load_policy, methods=("GET", "POST"))
def publish(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Look at the difference once more, then publish the draft as the next version."""
    if request.method == "POST":
        try:
            seen = whole_number(request.POST.get("revision", ""))
            version = services.publish_version(viewer(request), policy=policy, revision=seen)
        except Problem as problem:
            context = _publishing_context(request, policy) | {"problem": problem}
            return render(request, "policies/publish.html", context, status=problem.status)
        told = f"Version {version.number} is published; people label under it."
        if version.number == 1:
            told = (
                "Version 1 is published. Next: import texts (Data), say who labels them (Settings)."
            )
        messages.success(request, told)
        return redirect("policies:specification", policy.slug)
    return render(request, "policies/publish.html", _publishing_context(request, policy))


@page("versions.view", load=load_version)
def version(request: HttpRequest, found: PolicyVersion) -> HttpResponseBase:
    """One version and what it changed, against the one before it or any other."""
    policy = found.policy
    against = whole_number(request.GET.get("against", ""))
    against = found.number - 1 if against is None else against
    other = policy.versions.filter(number=against).first()
    if other is None and against != 0:
        raise NotFound
    context = {
        "policy": policy,
        "tab": "specification",
        "version": found,
        "specification": found.specification,
        "against": against,
        "changes": compare(other.specification if other else services.NOTHING, found.specification),
        "versions": policy.versions.order_by("-number")[:100],
    }
    return render(request, "policies/version.html", context)


@page("policies.edit", load=load_policy, methods=("GET", "POST"))
def settings(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Targets, queue settings and the people on the policy."""
    form = forms.SettingsForm(
        request.POST if request.method == "POST" else None,
        instance=Policy.objects.get(pk=policy.pk),
        may_set_authority=allowed(viewer(request), "policies.set_authority"),
    )
    if request.method == "POST" and form.is_valid():
        try:
            services.change_settings(viewer(request), policy=policy, **form.split())
        except Problem as problem:
            _add_errors(form, problem)
        else:
            messages.success(request, "The settings are saved.")
            return redirect("policies:settings", policy.slug)
    context = {
        "policy": policy,
        "tab": "settings",
        "form": form,
        "people": _people(policy),
        "taxonomies": [
            (taxonomy, _chosen(taxonomy, policy.categories))
            for taxonomy in taxonomies.taxonomies_of(policy.workspace).values()
        ],
    }
    return render(request, "policies/settings.html", context, status=400 if form.errors else 200)


@page("policies.edit", load=load_policy, methods=("POST",))
def set_categories(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Say which categories of taxonomies the policy stands for."""
    services.set_categories(
        viewer(request), policy=policy, categories=request.POST.getlist("categories")
    )
    messages.success(request, "The categories are saved.")
    return redirect("policies:settings", policy.slug)


@page("policies.list")
def taxonomy_list(request: HttpRequest) -> HttpResponseBase:
    """The taxonomies, and what their categories mean in each other."""
    return _taxonomies(request)


@page("taxonomies.edit", methods=("POST",))
def add_taxonomy(request: HttpRequest) -> HttpResponseBase:
    """A taxonomy of the workspace's own: one category a line, `code` or `code = name`."""
    lines = request.POST.get("lines", "").replace("\r\n", "\n").split("\n")
    pairs = [line.partition("=") for line in lines if line.strip()]
    try:
        taxonomies.add_taxonomy(
            viewer(request),
            slug=request.POST.get("slug", ""),
            name=request.POST.get("name", "").replace("\r\n", "\n"),
            categories=[{"code": c.strip(), "name": n.strip()} for c, _, n in pairs],
        )
    except Problem as problem:
        return _taxonomies(request, problem)
    messages.success(request, "The taxonomy is added.")
    return redirect("policies:taxonomies")


@page("taxonomies.edit", methods=("POST",))
def map_category(request: HttpRequest) -> HttpResponseBase:
    """Say what a category means in other taxonomies."""
    try:
        taxonomies.map_category(
            viewer(request),
            source=request.POST.get("source", ""),
            targets=request.POST.getlist("targets"),
        )
    except Problem as problem:
        return _taxonomies(request, problem)
    messages.success(request, "The mapping is saved.")
    return redirect("policies:taxonomies")


def _taxonomies(request: HttpRequest, problem: Problem | None = None) -> HttpResponseBase:
    actor = viewer(request)
    context = {
        "taxonomies": taxonomies.taxonomies_of(actor.workspace).values(),
        "mappings": sorted(taxonomies.mappings_of(actor.workspace).items()),
        "known": sorted(taxonomies.known_categories(actor.workspace)),
        "may_edit": allowed(actor, "taxonomies.edit"),
        "problem": problem,
        "given": request.POST,
    }
    status = problem.status if problem else 200
    return render(request, "policies/taxonomies.html", context, status=status)


@page("policies.edit", load=load_policy, methods=("POST",))
def set_role(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Give a member a role on the policy, or take it."""
    actor = viewer(request)
    member = uuid_in(request.POST.get("member", ""))
    if member is None:
        raise NotFound
    membership = load_member(actor, member)
    services.set_role(
        actor, policy=policy, membership=membership, role=request.POST.get("role", "")
    )
    messages.success(request, f"{membership.user.email}: saved.")
    if not Policy.objects.owned_by(actor).filter(pk=policy.pk).exists():
        return redirect("policies:list")
    return redirect("policies:settings", policy.slug)


@page("policies.edit", load=load_policy, methods=("POST",))
def retire(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Take the policy out of use, or bring it back."""
    retired = request.POST.get("retired") == "true"
    services.retire_policy(viewer(request), policy=policy, retired=retired)
    messages.success(
        request, "The policy is retired." if retired else "The policy is active again."
    )
    return redirect("policies:settings", policy.slug)


def _editor(
    request: HttpRequest,
    policy: Policy,
    text: dict[str, Any],
    *,
    problem: Problem | None = None,
) -> HttpResponseBase:
    """The page of the editor; beside a problem it shows what was typed, however wrong it is."""
    context = {
        **_draft_context(policy),
        "tab": "specification",
        "text": text,
        "choices": forms.CHOICES,
        "problem": problem,
        "new_rule": "new" in request.GET or not text["rules"],
    }
    return render(request, "policies/edit.html", context, status=problem.status if problem else 200)


def _publishing_context(request: HttpRequest, policy: Policy) -> dict[str, object]:
    return {
        **_draft_context(policy),
        "tab": "specification",
        "written_by": written_by(policy.draft),
        "held_for": held_for(viewer(request), policy=policy, draft=policy.draft),
    }


def _draft_context(policy: Policy) -> dict[str, object]:
    return {
        "policy": policy,
        "draft": policy.draft,
        "changes": services.draft_changes(policy),
        "missing": missing(policy.draft.specification),
    }


def _add_errors(form: Form | ModelForm, problem: Problem) -> None:
    for error in problem.errors:
        form.add_error(error.pointer.strip("/") or None, error.message)


def _chosen(
    taxonomy: taxonomies.Categories, names: Sequence[str]
) -> list[tuple[str, taxonomies.Category, bool]]:
    """Each category, as a policy names it, and whether it is among the names."""
    each = [(f"{taxonomy.slug}/{category.code}", category) for category in taxonomy.categories]
    return [(name, category, name in names) for name, category in each]


def _people(policy: Policy) -> list[tuple[Membership, str]]:
    """The workspace's people who are not admins, each with their role on the policy ("" none)."""
    roles = dict(policy.roles.values_list("membership_id", "role"))
    rows = (
        Membership.objects.filter(workspace=policy.workspace, is_active=True)
        .exclude(role="admin")
        .select_related("user")
        .order_by("user__email")[:500]
    )
    return [(row, roles.get(row.pk, "")) for row in rows]
