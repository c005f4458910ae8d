"""The Label workspace and the Labels tab."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.accounts.pages import page, viewer
from apps.base.gate import uuid_in
from apps.base.keyset import paginate
from apps.base.problems import NotFound, Problem
from apps.labeling import labels, progress, queue
from apps.labeling.models import Label
from apps.labeling.permissions import load_own_lease
from apps.policies.models import Policy
from apps.policies.permissions import load_policy

SKIP_REASONS = (
    "I cannot judge this",
    "The text is broken or empty",
    "Another language than mine",
    "I do not want to read this",
)


@page("policies.list")
def choose(request: HttpRequest) -> HttpResponseBase:
    """Which policy to label."""
    actor = viewer(request)
    rows = Policy.objects.visible_to(actor).with_role_of(actor).filter(status=Policy.Status.ACTIVE)
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=24)
    context = {"page": found, "progress": progress.of_policies(found.rows, actor)}
    return render(request, "labeling/choose.html", context)


@page("labels.give", load=load_policy)
def workbench(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The item a person holds (or a fresh one), the next one ahead, and the rules."""
    if policy.current_version_id is None:
        return render(request, "labeling/nothing.html", {"policy": policy})
    actor = viewer(request)
    if "asked" in request.GET:  # what somebody asked for comes first, before what is held
        queue.release_beyond(actor, policy=policy, keep=0)
        return redirect("labeling:workbench", policy.slug)
    items = queue.held_items(actor, policy=policy)
    while len(items) < queue.MOST_LEASES:
        drawn = queue.draw(actor, policy=policy)
        if drawn is None:
            break
        items.append(drawn)
    if not items:
        return render(request, "labeling/nothing.html", {"policy": policy})
    items.sort(key=lambda item: str(item.lease) != request.GET.get("item"))
    context = {
        "policy": policy,
        "item": items[0],
        "ahead": items[1] if len(items) > 1 else None,
        "rules": labels.rules_of(items[0].version),
        "version": labels.number_of(items[0].version),
        "reasons": SKIP_REASONS,
        "pace": progress.pace(policy, actor),
        "counts": progress.of_policies([policy], actor)[policy.pk],
    }
    return render(request, "labeling/workbench.html", context)


@page("labels.give", load=load_policy, methods=("POST",))
def submit(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Save an answer; a script gets the item after the next, a plain form the page again."""
    actor = viewer(request)
    lease = load_own_lease(actor, _lease_id(request))
    labels.submit_label(
        actor,
        lease=lease,
        verdict=request.POST.get("verdict", ""),
        rules=request.POST.getlist("rules"),
        rationale=request.POST.get("rationale", "").replace("\r\n", "\n"),
        seconds=_seconds(request.POST.get("seconds", "")),
    )
    return _onward(request, policy)


@page("labels.give", load=load_policy, methods=("POST",))
def skip(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Pass an item on, with a reason."""
    actor = viewer(request)
    lease = load_own_lease(actor, _lease_id(request))
    reason = request.POST.get("reason", "") or request.POST.get("other", "")
    queue.skip(actor, lease=lease, reason=reason.replace("\r\n", "\n"))
    return _onward(request, policy)


@page("labels.give", load=load_policy, methods=("POST",))
def undo(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Take the last answer back and show its item again, as it was answered."""
    actor = viewer(request)
    item, label = labels.undo_label(actor, policy=policy)
    if not _by_script(request):
        # the item that came back stands first, before the one that was on the screen
        address = reverse("labeling:workbench", args=[policy.slug])
        return redirect(f"{address}?item={item.lease}")
    return render(request, "labeling/item.html", {"policy": policy, "item": item, "label": label})


@page("labels.give", load=load_policy)
def whole_text(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The whole text of an item one holds, when it is longer than what is shown."""
    actor = viewer(request)
    for item in queue.held_items(actor, policy=policy):
        if str(item.lease) == request.GET.get("lease"):
            context = {"policy": policy, "item": item, "whole": True}
            return render(request, "labeling/whole.html", context)
    raise NotFound


@page("labels.view", load=load_policy)
def label_list(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """Progress, people and every answer, newest first."""
    rows = Label.objects.filter(policy=policy).select_related(
        "policy_example__example", "annotator__user", "policy_version"
    )
    found = paginate(rows, cursor=request.GET.get("cursor", ""), size=25, order=("-sequence",))
    context = {
        "policy": policy,
        "tab": "labels",
        "page": found,
        "counts": labels.counts(policy),
        "pool": progress.pool(policy),
        # counted anew from all answers: not for each page of them
        "people": None if request.GET.get("cursor") else progress.people(policy),
        "waiting": progress.escalated(policy),
    }
    return render(request, "labeling/labels.html", context)


def _onward(request: HttpRequest, policy: Policy) -> HttpResponseBase:
    """The item after the one on screen, to be kept ahead; 204 when there is none."""
    if not _by_script(request):
        return redirect("labeling:workbench", policy.slug)
    actor = viewer(request)
    known = request.POST.get("ahead", "")
    held = [item for item in queue.held_items(actor, policy=policy) if str(item.lease) != known]
    item = held[0] if held else queue.draw(actor, policy=policy)
    if item is None:
        return HttpResponse(status=204)
    return render(request, "labeling/item.html", {"policy": policy, "item": item})


def _by_script(request: HttpRequest) -> bool:
    return request.headers.get("X-Requested-With") == "parapet"


def _lease_id(request: HttpRequest) -> UUID:
    lease = uuid_in(request.POST.get("lease", ""))
    if lease is None:
        raise Problem("This form has no item; reload the page.", code="lease")
    return lease


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 86_400 else None
