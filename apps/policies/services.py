"""Writing policies: create, edit the draft, publish, set targets and roles."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import IntegerField

from apps.accounts.actor import Actor
from apps.accounts.audit import record
from apps.accounts.models import Membership, Role
from apps.base.problems import FieldError, Problem
from apps.policies.approving import approved, note_author
from apps.policies.models import Policy, PolicyDraft, PolicyRole, PolicyVersion, Rule
from apps.policies.specification import Specification, compare, missing, parse
from apps.policies.taxonomies import known_categories

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}\Z")
_ADDRESSES = ("new",)  # /policies/new/ is a page
TARGETS = ("false_positive_rate", "recall", "cost_ratio")
NOTHING = Specification(stages=())

# Called before anything is held: what is slow about a policy is asked, and remembered.
before_holding: list[Callable[[Policy], object]] = []
# Called with a version before it is in force; one that may not be raises Problem, and nothing is
# published. wiring.py fills it.
before_publish: list[Callable[[Policy, PolicyVersion], None]] = []
# Called when a version is in force, and not committed yet.
after_publish: list[Callable[[Policy, PolicyVersion], None]] = []
SETTINGS = (
    "retrain_after",
    "retrain_every_hours",
    "audit_fraction",
    "audit_share",
    "level",
    "mode",
    "on_failure",
    "rollout",
    "safe_completion",
    "second_approver",
)
# Whose word a policy is, and whether its owners may publish alone, is not for its owners to say.
ADMIN_SETTINGS = ("level", "second_approver")


@transaction.atomic
def create_policy(
    actor: Actor,
    *,
    slug: str,
    name: str,
    specification: Mapping[str, Any],
    targets: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Policy:
    """Make a policy with its first draft; its creator owns it."""
    errors = []
    if not _SLUG.match(slug) or slug in _ADDRESSES:
        errors.append(
            FieldError("/slug", "1 to 60 lower-case letters, digits, hyphens and underscores.")
        )
    errors += _wrong_name(name)
    if errors:
        raise Problem("The policy was not created.", errors=errors)
    draft = parse(specification)
    policy = Policy(workspace=actor.workspace, slug=slug, name=name)
    _apply_settings(policy, targets or {}, settings or {})
    try:
        with transaction.atomic():
            policy.save()
    except IntegrityError:
        raise Problem(
            "Another policy has this slug; choose another.",
            code="slug_taken",
            status=409,
            errors=[FieldError("/slug", "Another policy has it; choose another.")],
        ) from None
    made = PolicyDraft.objects.create(
        policy=policy, content=draft.as_dict(), edited_by=actor.membership
    )
    note_author(actor, made, differs=True)
    if actor.membership is not None and not actor.is_admin:
        PolicyRole.objects.create(policy=policy, membership=actor.membership, role=Role.OWNER)
    policy.own_role = Role.OWNER
    record(actor, "policy.create", policy, slug=slug)
    return policy


@transaction.atomic
def save_draft(
    actor: Actor, *, policy: Policy, specification: Mapping[str, Any], revision: int | None
) -> PolicyDraft:
    """Replace the draft's content.

    Args:
        revision: the revision the writer started from; None writes over whatever is there.

    Raises:
        Problem: 412 when somebody else saved in between; nothing is written.
    """
    given = parse(specification)
    content = given.as_dict()
    draft = PolicyDraft.objects.select_for_update().get(policy=policy)
    told = "Somebody else changed this draft meanwhile; look at theirs before you save yours."
    hold_seen(revision, draft.revision, told)
    if content == draft.content:
        return draft
    draft.content = content
    draft.revision += 1
    draft.edited_by = actor.membership
    draft.save()
    note_author(actor, draft, differs=given != _in_force(policy))
    record(actor, "policy.save_draft", policy, revision=draft.revision)
    return draft


def hold_policy(policy: Policy) -> None:
    """Let nobody else change what guards a policy until the caller's transaction ends.

    What is judged before it goes live is judged after this call, against what stands then.
    """
    now = Policy.objects.select_for_update(no_key=True).get(pk=policy.pk)
    policy.current_version = now.current_version
    policy.status = now.status
    policy.second_approver = now.second_approver


def publish_version(actor: Actor, *, policy: Policy, revision: int | None = None) -> PolicyVersion:
    """Freeze the draft as the policy's next version and make it the one people label under.

    Args:
        revision: of the draft that is meant; another one is not published (412).

    Raises:
        Problem: 409 when it is what is in force already, when something holds it back, or when the
            policy wants a second person and the actor wrote some of it; 400 when it is unfinished.
    """
    for look_ahead in before_holding:
        look_ahead(policy)
    return _publish(actor, policy, revision)


@transaction.atomic
def _publish(actor: Actor, policy: Policy, revision: int | None) -> PolicyVersion:
    hold_policy(policy)
    draft = PolicyDraft.objects.select_for_update().get(policy=policy)
    hold_seen(revision, draft.revision)
    specification = draft.specification
    errors = missing(specification)
    if errors:
        raise Problem("The draft is not ready to be published.", code="incomplete", errors=errors)
    last = policy.versions.order_by("-number").first()
    if last is not None and not compare(last.specification, specification):
        raise Problem(
            f"The draft is the same as version {last.number}; edit it first.",
            code="unchanged",
            status=409,
        )
    written_by = approved(actor, policy=policy, draft=draft)
    version = PolicyVersion.objects.create(
        policy=policy,
        number=last.number + 1 if last else 1,
        stages=list(specification.stages),
        definition=specification.definition,
        scope=specification.scope,
        rationale=specification.rationale,
        written_by=written_by,
        published_by=actor.label,
    )
    draft.authors.clear()
    Rule.objects.bulk_create(
        Rule(version=version, position=position, **rule)
        for position, rule in enumerate(specification.as_dict()["rules"])
    )
    for look in before_publish:
        look(policy, version)
    policy.current_version = version
    if policy.status == Policy.Status.DRAFT:
        policy.status = Policy.Status.ACTIVE
    policy.save(update_fields=["current_version", "status"])
    record(actor, "policy.publish", policy, version=version.number)
    for tell in after_publish:
        tell(policy, version)
    return version


@transaction.atomic
def change_settings(
    actor: Actor,
    *,
    policy: Policy,
    targets: Mapping[str, Any],
    settings: Mapping[str, Any],
    name: str | None = None,
) -> None:
    """Set the name, targets and queue settings; what is not given stays."""
    if name is not None and (errors := _wrong_name(name)):
        raise Problem("Some settings are wrong.", errors=errors)
    changed = _apply_settings(policy, targets, settings)
    if name not in (None, policy.name):
        policy.name = changed["name"] = name
    if changed:
        policy.save(update_fields=list(changed))
        record(actor, "policy.change_settings", policy, **changed)


@transaction.atomic
def set_categories(actor: Actor, *, policy: Policy, categories: Sequence[str]) -> None:
    """Say which categories of taxonomies the policy stands for, as "openai/hate"."""
    known = known_categories(policy.workspace)
    errors = [
        FieldError(f"/categories/{place}", "No such category.")
        for place, name in enumerate(categories)
        if name not in known
    ]
    if errors:
        raise Problem("The categories were not changed.", errors=errors)
    policy.categories = sorted(set(categories))
    policy.save(update_fields=["categories"])
    record(actor, "policy.set_categories", policy, categories=policy.categories)


@transaction.atomic
def retire_policy(actor: Actor, *, policy: Policy, retired: bool) -> None:
    """Take a policy out of use, or bring it back; nothing of it is lost."""
    active = Policy.Status.ACTIVE if policy.current_version_id else Policy.Status.DRAFT
    policy.status = Policy.Status.RETIRED if retired else active
    policy.save(update_fields=["status"])
    record(actor, "policy.retire" if retired else "policy.restore", policy)


@transaction.atomic
def set_role(actor: Actor, *, policy: Policy, membership: Membership, role: str) -> None:
    """Give a member a role on the policy, or take it ("")."""
    if membership.workspace_id != policy.workspace_id:
        raise Problem("This person is not in the workspace.", code="not_a_member")
    hold_policy(policy)  # two owners who leave together come one after the other
    leaves = role != Role.OWNER and actor.membership == membership
    if leaves and not policy.roles.filter(role=Role.OWNER).exclude(membership=membership).exists():
        raise Problem(
            "The policy would have no owner: make somebody else an owner of it first.",
            code="last_owner",
            status=409,
        )
    if role == "":
        PolicyRole.objects.filter(policy=policy, membership=membership).delete()
    elif role in (Role.ANNOTATOR, Role.OWNER):
        if role == Role.OWNER and membership.role == Role.ANNOTATOR:
            raise Problem(
                "This person is an annotator in the workspace; an admin must make them an owner "
                "first.",
                code="role_too_low",
            )
        PolicyRole.objects.update_or_create(
            policy=policy, membership=membership, defaults={"role": role}
        )
    else:
        raise Problem("Roles on a policy are annotator and owner.", code="role")
    record(actor, "policy.set_role", policy, person=membership.user.email, role=role or "none")


def hold_seen(
    seen: int | None,
    now: int,
    told: str = "Somebody changed the draft since you looked; look at it again, then publish.",
) -> None:
    """Refuse what is meant for a draft that has changed since, where it is known which was meant.

    Args:
        seen, now: its revision as it was looked at, and as it is.
        told: what is said then.
    """
    if seen is not None and seen != now:
        raise Problem(
            told,
            code="precondition_failed",
            status=412,
            extra={"yours": seen, "current": now},
        )


def require_published(policy: Policy) -> None:
    """Refuse what needs a policy's rules while there are none.

    Raises:
        Problem: 409 before the first version.
    """
    if policy.current_version_id is None:
        raise Problem("Publish the policy first.", code="not_published", status=409)


def draft_changes(policy: Policy) -> list[Any]:
    """The draft against the published version (against nothing before the first)."""
    return compare(_in_force(policy), policy.draft.specification)


def _in_force(policy: Policy) -> Specification:
    return policy.current_version.specification if policy.current_version else NOTHING


def _no_choice(field: Any, value: Any) -> str:
    """What Django's fields let pass, or refuse without saying what they take."""
    choices = [str(choice) for choice, _ in field.choices or ()]
    if choices and value not in choices:
        return f"One of: {', '.join(choices)}."
    if isinstance(field, IntegerField) and isinstance(value, float) and not value.is_integer():
        return "Give a whole number."
    return ""


def _wrong_name(name: str) -> list[FieldError]:
    if name.strip() and len(name) <= 200:
        return []
    return [FieldError("/name", "Give it a name of at most 200 characters.")]


def _apply_settings(
    policy: Policy, targets: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Set the named fields on the instance; returns what changed. Raises Problem."""
    errors: list[FieldError] = []
    changed: dict[str, Any] = {}
    for group, known, prefix, given in (
        ("targets", TARGETS, "target_", targets),
        ("settings", SETTINGS, "", settings),
    ):
        for name, value in given.items():
            if name not in known:
                errors.append(FieldError(f"/{group}/{name}", f"Known are: {', '.join(known)}."))
                continue
            field = Policy._meta.get_field(prefix + name)
            if problem := _no_choice(field, value):
                errors.append(FieldError(f"/{group}/{name}", problem))
                continue
            try:
                value = field.clean(value, policy)  # type: ignore[union-attr]
            except ValidationError as error:
                errors += [FieldError(f"/{group}/{name}", text) for text in error.messages]
                continue
            if isinstance(value, float):
                if not math.isfinite(value):
                    errors.append(FieldError(f"/{group}/{name}", "Give a finite number."))
                    continue
                value += 0.0  # -0.0 is 0.0; PostgreSQL and JSON disagree about the other one
            if getattr(policy, prefix + name) != value:
                setattr(policy, prefix + name, value)
                changed[prefix + name] = value
    if errors:
        raise Problem("Some settings are wrong.", errors=errors)
    return changed
