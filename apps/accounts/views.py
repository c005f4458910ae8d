"""Signing in and out, the own password, people, tokens and the audit trail."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts import people as people_services
from apps.accounts import tokens
from apps.accounts.api import load_member, load_token
from apps.accounts.audit import actions_in
from apps.accounts.forms import MemberForm, PasswordForm, SignInForm, TokenForm
from apps.accounts.middleware import SESSION_KEY
from apps.accounts.models import ApiToken, Membership, Role, User
from apps.accounts.pages import page, viewer
from apps.base.keyset import paginate
from apps.base.problems import Problem

THEMES = ("", "light", "dark")


@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponseBase:
    """E-mail and password; ten wrong ones in a quarter of an hour close the door for a while."""
    target = _safe_next(request)
    if request.actor is not None:  # type: ignore[attr-defined]
        return redirect(target)
    form = SignInForm(request.POST or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        email, address = form.cleaned_data["email"].lower(), client_address(request)
        # one address for one person, one person from anywhere, and one address for anybody
        limits = {f"{address} {email}": 10, f"email {email}": 50, f"address {address}": 100}
        if not people_services.may_try(limits):
            form.add_error(None, "Too many failed sign-ins; try again in 15 minutes.")
            status = 429
        else:
            user = authenticate(request, username=email, password=form.cleaned_data["password"])
            if user is not None and Membership.objects.filter(user=user, is_active=True).exists():
                people_services.forgive(limits)
                login(request, user, backend="django.contrib.auth.backends.ModelBackend")
                return redirect(target)
            form.add_error(None, "E-mail and password do not match an active person.")
            status = 403
    context = {"form": form, "next": target}
    return render(request, "accounts/sign_in.html", context, status=status)


sign_in.reads_unknown = True  # type: ignore[attr-defined]


def client_address(request: HttpRequest) -> str:
    """Where a request comes from: of forwarded addresses the one that our own proxy wrote."""
    proxies = settings.PROXIES
    passed = request.headers.get("X-Forwarded-For", "").split(",") if proxies else []
    if len(passed) >= proxies > 0:
        return passed[-proxies].strip()
    return request.META.get("REMOTE_ADDR", "")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    logout(request)
    return redirect("accounts:sign_in")


@page("workspace.view", methods=("GET", "POST"), one_time_password=True)
def password(request: HttpRequest) -> HttpResponseBase:
    """Change the own password; every other session of the person ends."""
    form = PasswordForm(request.POST or None)
    user = request.user
    assert isinstance(user, User)
    if request.method == "POST" and form.is_valid():
        limits = {f"password {user.pk}": 10}
        if not people_services.may_try(limits):
            form.add_error(None, "Too many wrong passwords; try again in 15 minutes.")
        elif not user.check_password(form.cleaned_data["current"]):
            form.add_error("current", "This is not your password.")
        else:
            people_services.forgive(limits)
            try:
                people_services.change_password(user=user, password=form.cleaned_data["new"])
            except ValidationError as error:
                form.add_error("new", error)
            else:
                update_session_auth_hash(request, user)
                messages.success(request, "Your password is changed; other sessions ended.")
                return redirect("home")
    return render(request, "accounts/password.html", {"form": form})


@page("workspace.view", methods=("POST",))
def preferences(request: HttpRequest) -> HttpResponseBase:
    """How a person likes to work: the theme."""
    theme = request.POST.get("theme", "")
    if theme not in THEMES:
        raise Problem("Themes are light, dark, or nothing for the system's.")
    user = request.user
    assert isinstance(user, User)
    user.preferences = {**user.preferences, "theme": theme}
    user.save(update_fields=["preferences"])
    return HttpResponse(status=204)


@page("workspace.view", methods=("POST",))
def choose_workspace(request: HttpRequest) -> HttpResponseBase:
    """Go to another workspace one is a member of."""
    chosen = request.POST.get("workspace", "")
    memberships = Membership.objects.filter(user=viewer(request).user, is_active=True)
    if chosen in {str(row.workspace_id) for row in memberships}:
        request.session[SESSION_KEY] = chosen
    return redirect("home")


@page("people.manage", methods=("GET", "POST"))
def people(request: HttpRequest) -> HttpResponseBase:
    """Who is in the workspace, and their tokens; POST adds a person."""
    form = MemberForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            membership, one_time = people_services.add_member(viewer(request), **form.cleaned_data)
        except Problem as problem:
            form.add_error(None, problem.detail)
        else:
            # shown in this very answer and nowhere stored
            return _people(request, MemberForm(), added=membership, one_time=one_time)
    return _people(request, form, status=400 if form.errors else 200)


@page("people.manage", load=load_member, methods=("POST",))
def member(request: HttpRequest, membership: Membership) -> HttpResponseBase:
    """Change a member's role, or take their access away."""
    if request.POST.get("action") == "deactivate":
        people_services.deactivate_member(viewer(request), membership=membership)
        messages.success(request, f"{membership.user.email} has no access any more.")
    else:
        role = request.POST.get("role", "")
        people_services.change_role(viewer(request), membership=membership, role=role)
        messages.success(request, f"{membership.user.email} is now {role}.")
    return redirect("accounts:people")


@page("people.manage", load=load_member, methods=("POST",))
def issue_token(request: HttpRequest, membership: Membership) -> HttpResponseBase:
    """Make a token for a member and show it, this once."""
    form = TokenForm(request.POST)
    if form.is_valid():
        try:
            token, key = tokens.issue_token(
                viewer(request), membership=membership, **form.cleaned_data
            )
        except Problem as problem:
            for message in [error.message for error in problem.errors] or [problem.detail]:
                form.add_error(None, message)
        else:
            return _people(request, MemberForm(), token=token, key=key)
    return _people(request, MemberForm(), token_form=form, token_for=membership, status=400)


@page("people.manage", load=load_token, methods=("POST",))
def revoke_token(request: HttpRequest, token: ApiToken) -> HttpResponseBase:
    tokens.revoke_token(viewer(request), token=token)
    messages.success(request, f"The token {token.name} is revoked.")
    return redirect("accounts:people")


@page("audit.view")
def audit(request: HttpRequest) -> HttpResponseBase:
    """The audit trail, newest first."""
    actor = viewer(request)
    action = request.GET.get("action", "")[:60]
    rows = actor.workspace.audit_entries.all()
    if action:
        rows = rows.filter(action=action)
    found = paginate(rows, cursor=request.GET.get("cursor", ""), order=("-sequence",))
    query = f"action={action}" if action else ""
    context = {
        "page": found,
        "action": action,
        "actions": actions_in(actor.workspace),
        "query": query,
    }
    return render(request, "accounts/audit.html", context)


def _people(
    request: HttpRequest, form: MemberForm, *, status: int = 200, **more: object
) -> HttpResponse:
    actor = viewer(request)
    rows = Membership.objects.filter(workspace=actor.workspace).select_related("user")
    found = paginate(rows, cursor=request.GET.get("cursor", ""), order=("id",))
    live = (
        ApiToken.objects.usable()
        .filter(membership__workspace=actor.workspace)
        .select_related("membership__user")
        .order_by("-id")[:100]
    )
    context = {
        "form": form,
        "page": found,
        "tokens": live,
        "roles": Role.values,
        "token_form": TokenForm(),
        "token_for": None,
        **more,
    }
    return render(request, "accounts/people.html", context, status=status)


def _safe_next(request: HttpRequest) -> str:
    target = request.POST.get("next") or request.GET.get("next") or "/"
    allowed = url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()})
    return target if allowed and target.startswith("/") else "/"
